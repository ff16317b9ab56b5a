/* mul_f32.tmpl.h - products with f32 activations, for every format.
 *
 * Columns are taken in panels of PANEL_COLS. Block formats are expanded to f32 in
 * scratch, once per panel for all activation rows, to the very values of
 * packed_dequant_row(); float formats are read as they lie. Inside a panel even
 * and odd columns have their own chain of additions, the panels' sums are added
 * to y in order. So the order along k is the same for any number of rows, and
 * rounding errors grow with the number of panels rather than of columns.
 */
#include <stdbool.h>

#include "kernels/kernels.h"
#include "kernels/x86/unpack.tmpl.h"

enum { PANEL_COLS = MUL_PANEL_BYTES / PACK_ROWS / sizeof(float) };
_Static_assert(CHUNK_COLS % PANEL_COLS == 0, "a panel lies inside one chunk");

/* panel[32][16] = the weights of one body entry. */
INLINE void expand_block(const struct pack_traits *t, float *panel, const uint8_t *head, const uint8_t *body, int col)
{
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        vf d, m, scale[2], offset[2];
        vi w[QUADS];
        unit_factors(t, head, h, &d, &m);
        factors(t, head, h, col, d, m, &scale[0], &offset[0]);
        scale[1] = scale[0];
        offset[1] = offset[0];
        if (t->factor == 16)
            factors(t, head, h, col + 16, d, m, &scale[1], &offset[1]);
        unpack(t, body, h, w);
        UNROLL
        for (int i = 0; i < SUB_COLS; i++) {
            vu code = (vu)w[i / 4] >> (i % 4 * 8) & 255;
            vf value = v_mul(v_from_int((vi)(code - t->bias)), scale[i / 16]);
            if (t->min != PACK_MIN_NONE)
                value = v_add(value, offset[i / 16]);
            v_storef(panel + i * PACK_ROWS + h * V_LANES, value);
        }
    }
}

/* Columns [col, col + cols) of a group as f32 [cols][16]; a panel lies inside one chunk. */
INLINE void expand(const struct pack_traits *t, float *panel, const uint8_t *group, int k, int col, int cols)
{
    int in_chunk = col % CHUNK_COLS, start = col - in_chunk;
    const uint8_t *head = pack_chunk(t, group, start), *body = head + pack_chunk_head(t, pack_chunk_cols(k, start));
    for (int c = in_chunk; c < in_chunk + cols; c += SUB_COLS, panel += SUB_COLS * PACK_ROWS)
        expand_block(t, panel, head + c / t->unit * t->head_bytes, body + c / SUB_COLS * t->body_bytes, c % t->unit);
}

/* Two neighbouring columns, c even, of a panel in the format's own storage. */
INLINE void load_pair(enum fmt f, const uint8_t *panel, int c, int h, vf *even, vf *odd)
{
    const uint8_t *p;
    switch (f) {
    case FMT_F16:
        p = panel + c * PACK_ROWS * 2 + h * V_LANES * 2;
        *even = v_load_f16(p);
        *odd = v_load_f16(p + PACK_ROWS * 2);
        break;
    case FMT_BF16: {
        vu both = (vu)v_load(panel + c * PACK_ROWS * 2 + h * V_BYTES);
        *even = v_as_float((vi)(both << 16));
        *odd = v_as_float((vi)(both & 0xffff0000u));
        break;
    }
    default:
        p = panel + c * PACK_ROWS * 4 + h * V_BYTES;
        *even = v_loadf((const float *)(const void *)p);
        *odd = v_loadf((const float *)(const void *)(p + PACK_ROWS * 4));
    }
}

/* Asks for a pair that comes later: near and early where there is little to do with it, as in mul_q8.tmpl.h. */
INLINE void prefetch_pair(enum fmt f, const uint8_t *panel, int c, int m)
{
    int bytes = f == FMT_F32 ? 4 : 2;
    bool near = m == 1 || m <= bytes;
    const char *p = (const char *)panel + c * PACK_ROWS * bytes + (near ? 4096 : 8192);
    UNROLL
    for (int line = 0; line < bytes / 2; line++)
        if (near)
            _mm_prefetch(p + 64 * line, _MM_HINT_T0);
        else
            _mm_prefetch(p + 64 * line, _MM_HINT_T1);
}

/* The last of an odd number of columns. */
INLINE vf load_last(enum fmt f, const uint8_t *panel, int c, int h)
{
    vf even, odd;
    if (f == FMT_BF16) {
        load_pair(f, panel, c, h, &even, &odd);
        return even;
    }
    if (f == FMT_F16)
        return v_load_f16(panel + c * PACK_ROWS * 2 + h * V_LANES * 2);
    return v_loadf((const float *)(const void *)(panel + c * PACK_ROWS * 4 + h * V_BYTES));
}

/* y (+)= panel times m activation rows; m is a constant where this is inlined. */
INLINE void panel_tile(enum fmt f, float *y, size_t ldy, const uint8_t *panel, int cols, const float *x, size_t ldx,
                       int m, int n_out, bool first)
{
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        vf acc[MAX_TILE][2], even, odd;
        UNROLL
        for (int i = 0; i < m; i++)
            acc[i][0] = acc[i][1] = v_zero();
        for (int c = 0; c + 1 < cols; c += 2) {
            load_pair(f, panel, c, h, &even, &odd);
            if (h == 0 && pack_traits[f].unit == 0) /* the weights themselves, not scratch */
                prefetch_pair(f, panel, c, m);
            UNROLL
            for (int i = 0; i < m; i++) {
                acc[i][0] = v_fma(even, v_set(x[(size_t)i * ldx + (size_t)c]), acc[i][0]);
                acc[i][1] = v_fma(odd, v_set(x[(size_t)i * ldx + (size_t)c + 1]), acc[i][1]);
            }
        }
        int left = n_out - h * V_LANES, n = left < 0 ? 0 : left < V_LANES ? left : V_LANES;
        UNROLL
        for (int i = 0; i < m; i++) {
            if (cols % 2)
                acc[i][0] = v_fma(load_last(f, panel, cols - 1, h), v_set(x[(size_t)i * ldx + (size_t)cols - 1]), acc[i][0]);
            float *to = y + (size_t)i * ldy + h * V_LANES;
            vf sum = v_add(acc[i][0], acc[i][1]);
            v_storef_n(to, first ? sum : v_add(v_loadf_n(to, n), sum), n);
        }
    }
}

INLINE void mul_panel(enum fmt f, float *y, size_t ldy, const uint8_t *panel, int cols, const float *x, size_t ldx,
                      int m, int n_out, bool first)
{
    for (int i = 0, step; i < m; i += step, y += (size_t)step * ldy, x += (size_t)step * ldx) {
#define TILE(rows)                                                          \
    if (m - i >= rows) {                                                    \
        panel_tile(f, y, ldy, panel, cols, x, ldx, rows, n_out, first);     \
        step = rows;                                                        \
        continue;                                                           \
    }
#if MAX_TILE >= 8
        TILE(8)
#endif
        TILE(4)
        TILE(2)
        TILE(1)
#undef TILE
        step = 1; /* not reached: m - i >= 1 */
    }
}

INLINE void mul_f32(enum fmt f, float *y, size_t ldy, const struct packed *w, const float *x, int m, int g0, int g1,
                    float *scratch)
{
    const struct pack_traits *t = &pack_traits[f];
    size_t ldx = act_row_bytes(ACT_F32, w->k) / sizeof *x;
    for (int g = g0; g < g1; g++) {
        const uint8_t *group = (const uint8_t *)w->data + (size_t)g * w->group_bytes;
        for (int c = 0; c < w->k; c += PANEL_COLS) {
            int cols = w->k - c < PANEL_COLS ? w->k - c : PANEL_COLS;
            const uint8_t *panel = (const uint8_t *)scratch;
            if (t->unit)
                expand(t, scratch, group, w->k, c, cols);
            else
                panel = group + (size_t)c * PACK_ROWS * (f == FMT_F32 ? sizeof(float) : sizeof(uint16_t));
            mul_panel(f, y + (size_t)g * PACK_ROWS, ldy, panel, cols, x + c, ldx, m, w->n - g * PACK_ROWS, c == 0);
        }
    }
}

#define MUL_F32(function, format)                                                                            \
    void function(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1,        \
                  void *scratch)                                                                             \
    {                                                                                                        \
        mul_f32(format, y, ldy, w, a, m, g0, g1, scratch);                                                   \
    }
