/* mul_q8.tmpl.h - products of packed block formats with int8 activations.
 *
 * The including file chose the vector words and defines
 *   void dot_quads(const struct pack_traits *t, const vi *w, const char *a, size_t lda, int rows, int from, int n,
 *                  vi *sum)
 * sum[i] = the exact integer sum of value * q over the quads [from, from + n) of
 * activation block i (lda bytes apart), one lane a row of weights.
 * Integer sums are exact in any order, so a result's bits depend only on the
 * order of the float additions, and that is block by block along k for every
 * tile height: the contract of kernels.h holds whatever m is.
 *
 * A block of weights is unpacked into registers once and multiplied with M
 * activation rows, whose columns come as four broadcast bytes.
 */
#include <stdbool.h>

#include "kernels/act.h"
#include "kernels/kernels.h"
#include "kernels/x86/unpack.tmpl.h"

/* Rows whose dot products are interleaved: one chain of dependent instructions
 * would leave the multiplier waiting for itself. */
#ifndef ROWS_ABREAST
#define ROWS_ABREAST 4
#endif

/* How far ahead weights are asked for: where there is little to do with a line, for
 * one row (two of 8 bits), into the first-level cache, else into the second and twice
 * as far. Measured, not derived: 4 rows from memory are 1.3 to 1.7 times as fast so,
 * while from the second level they were fast before. */
#define PREFETCH_NEAR(t, m) ((m) == 1 || 4 * (m) <= (t)->lo_bits + (t)->hi_bits)
/* Where a kernel is so fast that it outruns what it asks for, it leaves that to the hardware. */
#ifndef PREFETCH_NONE
#define PREFETCH_NONE(t, m) false
#endif
#define PREFETCH_BYTES(t, m) (PREFETCH_NEAR(t, m) ? 4096 : 8192)

/* Cache lines to ask for with each body entry, so that a whole chunk, its head
 * included, has been asked for when the chunk is done: a hole in every chunk
 * costs a full memory latency there, and halves the speed. */
#define PREFETCH_LINES(t) ((int)(pack_chunk_bytes(t, CHUNK_COLS) / 64 + 7) / 8)

INLINE void prefetch(const uint8_t *p, int lines, bool near)
{
    UNROLL
    for (int i = 0; i < lines; i++)
        if (near)
            _mm_prefetch((const char *)p + i * 64, _MM_HINT_T0);
        else
            _mm_prefetch((const char *)p + i * 64, _MM_HINT_T1);
}

INLINE const struct act_q8 *block_at(const char *a, size_t lda, int i)
{
    return (const void *)(a + (size_t)i * lda);
}

/* -bias * sum of the quads in every lane: what unsigned codes add too much. */
INLINE vi bias_start(const struct pack_traits *t, const struct act_q8 *a, int from, int n)
{
    int neg_sum = n == QUADS ? a->neg_sum : a->neg_half[from / 4];
    return t->bias ? (vi)((vu)v_set32(neg_sum) << __builtin_ctz(t->bias)) : v_set32(0);
}

INLINE vi bcast_quad(const struct act_q8 *a, int quad)
{
    int32_t four;
    memcpy(&four, a->q + 4 * quad, 4);
    return v_set32(four);
}

static inline void dot_quads(const struct pack_traits *t, const vi *w, const char *a, size_t lda, int rows, int from,
                             int n, vi *sum);

/* acc + 32 weight columns times an activation block, of which low and high are the
 * integer sums (low alone where one sub-scale covers all 32). */
INLINE vf add_block(const struct pack_traits *t, vi low, vi high, const vf *scale, const vf *offset,
                    const struct act_q8 *b, vf acc)
{
    if (t->factor != 16) {
        acc = v_fma(v_from_int(low), v_mul(scale[0], v_set(b->scale)), acc);
        return t->min == PACK_MIN_NONE ? acc : v_fma(offset[0], v_set(b->scaled_sum), acc);
    }
    vf sum = v_fma(v_from_int(high), scale[1], v_mul(v_from_int(low), scale[0]));
    if (t->min != PACK_MIN_NONE)
        sum = v_fma(v_from_int(v_set32(-b->neg_half[1])), offset[1],
                    v_fma(v_from_int(v_set32(-b->neg_half[0])), offset[0], sum));
    return v_fma(sum, v_set(b->scale), acc);
}

/* acc[i] += 32 weight columns times activation block i. */
INLINE void mul_blocks(const struct pack_traits *t, const vi *w, const vf *scale, const vf *offset, const char *a,
                       size_t lda, int rows, int h, vf acc[][HALVES])
{
    vi low[ROWS_ABREAST], high[ROWS_ABREAST];
    dot_quads(t, w, a, lda, rows, 0, t->factor == 16 ? 4 : 8, low);
    if (t->factor == 16)
        dot_quads(t, w, a, lda, rows, 4, 4, high);
    UNROLL
    for (int i = 0; i < rows; i++)
        acc[i][h] = add_block(t, low[i], high[i], scale, offset, block_at(a, lda, i), acc[i][h]);
}

/* One body entry times m activation blocks lda bytes apart. */
INLINE void mul_columns(const struct pack_traits *t, const uint8_t *head, const uint8_t *body,
                        const uint8_t *ahead, int col, const vf *d, const vf *min, const char *a, size_t lda, int m,
                        vf acc[MAX_TILE][HALVES])
{
    if (!PREFETCH_NONE(t, m))
        prefetch(ahead, PREFETCH_LINES(t), PREFETCH_NEAR(t, m));
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        vi w[QUADS];
        vf scale[2], offset[2];
        unpack(t, body, h, w);
        factors(t, head, h, col, d[h], min[h], &scale[0], &offset[0]);
        if (t->factor == 16)
            factors(t, head, h, col + 16, d[h], min[h], &scale[1], &offset[1]);
        UNROLL
        for (int i = 0; i < m; i += ROWS_ABREAST)
            mul_blocks(t, w, scale, offset, a + (size_t)i * lda, lda, m < ROWS_ABREAST ? m : ROWS_ABREAST, h, acc + i);
    }
}

/* m rows of y for one group; m is a constant where this is inlined. */
INLINE void mul_tile(const struct pack_traits *t, float *y, size_t ldy, const uint8_t *group, int k, const char *a,
                     size_t lda, int m, int n_out)
{
    vf acc[MAX_TILE][HALVES];
    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            acc[i][h] = v_zero();
    }
    for (int start = 0; start < k; start += CHUNK_COLS) {
        int cols = pack_chunk_cols(k, start);
        const uint8_t *head = pack_chunk(t, group, start), *body = head + pack_chunk_head(t, cols);
        const uint8_t *ahead = head + PREFETCH_BYTES(t, m), *end = body + (size_t)(cols / SUB_COLS * t->body_bytes);
        for (; body < end; head += t->head_bytes) {
            vf d[HALVES], min[HALVES];
            UNROLL
            for (int h = 0; h < HALVES; h++)
                unit_factors(t, head, h, &d[h], &min[h]);
            for (int col = 0; col < t->unit; col += SUB_COLS, body += t->body_bytes, a += sizeof(struct act_q8)) {
                mul_columns(t, head, body, ahead, col, d, min, a, lda, m, acc);
                ahead += PREFETCH_LINES(t) * 64;
            }
        }
    }
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        int left = n_out - h * V_LANES, n = left < 0 ? 0 : left < V_LANES ? left : V_LANES;
        UNROLL
        for (int i = 0; i < m; i++)
            v_storef_n(y + (size_t)i * ldy + h * V_LANES, acc[i][h], n);
    }
}

INLINE void mul_q8(const struct pack_traits *t, float *y, size_t ldy, const struct packed *w, const void *a, int m,
                   int g0, int g1)
{
    size_t lda = act_row_bytes(ACT_Q8, w->k);
    for (int g = g0; g < g1; g++) {
        const uint8_t *group = (const uint8_t *)w->data + (size_t)g * w->group_bytes;
        int n_out = w->n - g * PACK_ROWS;
        for (int i = 0, step; i < m; i += step) {
            float *to = y + (size_t)i * ldy + (size_t)g * PACK_ROWS;
            const char *from = (const char *)a + (size_t)i * lda;
#define TILE(rows)                                                          \
    if (m - i >= rows) {                                                    \
        mul_tile(t, to, ldy, group, w->k, from, lda, rows, n_out);          \
        step = rows;                                                        \
        continue;                                                           \
    }
#if MAX_TILE >= 16
            TILE(16)
#endif
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
}

#define MUL_Q8(function, format)                                                                             \
    void function(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1,        \
                  void *scratch)                                                                             \
    {                                                                                                        \
        (void)scratch;                                                                                       \
        mul_q8(&pack_traits[format], y, ldy, w, a, m, g0, g1);                                               \
    }
