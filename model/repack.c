/* repack.c - stored tensors into the order of their roles.
 *
 * Most roles are rows that lie together in the file and become views. The rest is
 * copied once while a stage loads and dropped when it is packed: fused matrices
 * whose rows are interleaved (a row map), Conv1D and expert weights stored
 * [in][out] (a transposition), experts in tensors of their own (stacking), and
 * codings that have no block format of ours (a decoder). Every step keeps the
 * values exactly.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/f16.h"
#include "model/bind.h"
#include "model/codec.h"
#include "model/gguf_types.h"

void tensor_view_fini(struct tensor_view *v)
{
    free(v->owned);
    v->owned = NULL;
    v->data = NULL;
}

/* Row of a grouped QKV matrix that holds row r of [Q | K | V]. */
static int64_t grouped_row(const struct hparams *hp, int64_t r)
{
    const int64_t hd = hp->head_dim_k, group = hp->n_head / hp->n_head_kv;
    const int64_t q = dim_value(hp, DIM_Q), k = dim_value(hp, DIM_K);
    const int64_t head = (r < q ? r : r < q + k ? r - q : r - q - k) / hd; /* among its kind */

    if (r < q)
        return (head / group * (group + 2) + head % group) * hd + r % hd;
    return (head * (group + 2) + group + (r >= q + k)) * hd + r % hd;
}

int64_t layout_stored_row(unsigned layout, const struct hparams *hp, int64_t r)
{
    switch (layout & PICK_MASK) {
    case PICK_GROUPED:
        return grouped_row(hp, r);
    case PICK_EVEN:
        return 2 * r;
    case PICK_ODD:
        return 2 * r + 1;
    default:
        return r;
    }
}

/* One role as [outer][rows][cols] over a stored [outer][s_rows][s_cols]; a vector
 * has cols 1, so that picks choose its elements. */
struct job {
    const struct bound *b;
    const struct hparams *hp;
    unsigned pick;
    bool transposed;
    int64_t outer, rows, cols, s_rows, s_cols;
    enum fmt work; /* type of stored rows once decoded: the file's, or F32 */
    size_t s_row_bytes, row_bytes;
};

static void job_init(struct job *j, const struct bound *b, const struct hparams *hp)
{
    const bool vector = weight_kind(b->spec->role) == WEIGHT_VECTOR;
    const int n = b->n_dims;

    *j = (struct job){.b = b, .hp = hp, .pick = b->layout & PICK_MASK, .outer = 1};
    j->cols = vector ? 1 : b->dims[n - 1];
    j->rows = vector ? b->dims[n - 1] : n >= 2 ? b->dims[n - 2] : 1;
    for (int i = 0; i < n - (vector ? 1 : 2); i++)
        j->outer *= b->dims[i];
    j->transposed = b->layout & LAYOUT_TRANSPOSED;
    j->s_rows = layout_stored_rows(b->layout, j->rows);
    j->s_cols = j->cols;
    if (j->transposed) {
        j->s_cols = j->s_rows;
        j->s_rows = j->cols;
    }
    j->work = b->fmt;
    j->s_row_bytes = fmt_row_bytes(j->work, j->s_cols);
    j->row_bytes = fmt_row_bytes(j->work, j->cols);
}

/* Safetensors may put a tensor at any byte; kernels read plain types by the element. */
static size_t alignment_of(enum fmt f)
{
    return f == FMT_F32 ? 4 : f == FMT_F16 || f == FMT_BF16 ? 2 : 1;
}

static bool is_view(const struct job *j)
{
    const struct bound *b = j->b;

    return j->pick == PICK_ALL && !j->transposed && !(b->layout & (LAYOUT_PLUS_ONE | LAYOUT_EACH)) &&
           b->t->codec == CODEC_PLAIN && (uintptr_t)b->t->data % alignment_of(b->fmt) == 0;
}

/* Stored row r of slice o, in the work format. */
static void read_row(const struct job *j, int64_t o, int64_t r, void *dst)
{
    const struct bound *b = j->b;
    const struct file_tensor *t = b->each ? b->each[o] : b->t;
    const int64_t at = (b->each ? 0 : o * j->s_rows) + r;

    if (j->work == t->fmt)
        codec_row(t, at, j->s_cols, dst);
    else /* F32 wanted, something else stored; codecs decode to plain types or blocks */
        codec_row_f32(t, at, j->s_cols, dst);
}

static void gather_rows(const struct job *j, int64_t o, uint8_t *dst)
{
    for (int64_t r = 0; r < j->rows; r++)
        read_row(j, o, layout_stored_row(j->pick, j->hp, r), dst + (size_t)r * j->row_bytes);
}

/* dst[r][c] = stored[c][pick(r)], through a decoded copy of the slice. */
static void gather_transposed(const struct job *j, int64_t o, uint8_t *slice, uint8_t *dst)
{
    const size_t each = (size_t)fmt_traits[j->work].block_bytes;

    for (int64_t r = 0; r < j->s_rows; r++)
        read_row(j, o, r, slice + (size_t)r * j->s_row_bytes);
    for (int64_t r = 0; r < j->rows; r++) {
        const uint8_t *from = slice + (size_t)layout_stored_row(j->pick, j->hp, r) * each;
        uint8_t *to = dst + (size_t)r * j->row_bytes;
        for (int64_t c = 0; c < j->cols; c++, from += j->s_row_bytes, to += each)
            memcpy(to, from, each);
    }
}

static err copy_role(const struct job *j, void **out, struct why *why)
{
    err e;
    const size_t slice_bytes = (size_t)j->rows * j->row_bytes;
    uint8_t *made = mem_alloc((size_t)j->outer, slice_bytes), *slice = NULL;

    if (!made)
        FAIL(ERR_NOMEM, "%" PRId64 " x %zu bytes to bring tensor %s into order", j->outer, slice_bytes,
             j->b->t->name);
    if (j->transposed) {
        slice = mem_alloc((size_t)j->s_rows, j->s_row_bytes);
        if (!slice)
            FAIL(ERR_NOMEM, "%" PRId64 " x %zu bytes to transpose tensor %s", j->s_rows, j->s_row_bytes,
                 j->b->t->name);
    }
    for (int64_t o = 0; o < j->outer; o++) {
        if (j->transposed)
            gather_transposed(j, o, slice, made + (size_t)o * slice_bytes);
        else
            gather_rows(j, o, made + (size_t)o * slice_bytes);
    }
    if (j->b->layout & LAYOUT_PLUS_ONE)
        for (int64_t i = 0; i < j->outer * j->rows * j->cols; i++)
            ((float *)(void *)made)[i] += 1.0f;
    *out = made;
    made = NULL;
    e = ERR_OK;
out:
    free(slice);
    free(made);
    return e;
}

err bound_shape(const struct bound *b, struct tensor_view *out, struct why *why)
{
    struct tensor_view v = {.name = b->t->name,
                            .type_name = b->t->type_name,
                            .fmt = b->fmt,
                            .n_dims = b->n_dims,
                            .row_bytes = b->row_bytes,
                            .bytes = b->row_bytes};

    if (b->fmt == FMT_COUNT)
        return why_set(why, ERR_UNSUPPORTED,
                       "tensor %s has type %s, which cannot be computed with; supported: %s", b->t->name,
                       b->t->type_name, fmt_names());
    for (int i = 0; i < 4; i++)
        v.dims[i] = i < b->n_dims ? b->dims[i] : 1;
    for (int i = 0; i < b->n_dims - 1; i++)
        v.bytes *= (uint64_t)b->dims[i];
    *out = v;
    return ERR_OK;
}

err bound_read(const struct bound *b, const struct hparams *hp, struct tensor_view *out, struct why *why)
{
    err e;
    struct job j;
    struct tensor_view v;

    TRY(bound_shape(b, &v, why));
    job_init(&j, b, hp);
    if (is_view(&j)) {
        v.data = b->t->data;
    } else {
        TRY(copy_role(&j, &v.owned, why));
        v.data = v.owned;
    }
    *out = v;
out:
    return e;
}
