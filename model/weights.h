/* weights.h - the weights of a range of layers, bound by role and packed.
 *
 * Every matrix of the range is packed for the kernels and every vector widened
 * to f32, all in one 64-byte aligned block (huge pages where the system has
 * them), filled in parallel; those of a directory of shards, which lie in their files
 * that way, are mapped and not copied. A tied head shares the
 * embedding's packed matrix when both are in the range. Block functions find a weight as
 * `weights_layer(w, l)[W_Q]`; an absent one has n == 0.
 *
 * Two things differ from the file. Routers are packed as f32 whatever the file
 * holds, because a rounded router flips experts. And latent attention's KV_B
 * is split per head into K_B_PROJ (transposed) and V_B_PROJ, the two halves that
 * weight absorption multiplies with.
 *
 * Threads: immutable once loaded. Memory: fixed at weights_load().
 */
#ifndef CORDEE_MODEL_WEIGHTS_H
#define CORDEE_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "kernels/format.h"
#include "model/desc.h"
#include "model/source.h"

struct weight_range {
    int first, last; /* layers [first, last) */
    bool embed;      /* token (and position) embedding */
    bool head;       /* final norm and head */
};

/* A stack of n_stack equal matrices (experts, heads; usually 1), or a vector. */
struct weight {
    struct packed w; /* matrix 0 of the stack; k == 0 for a vector */
    int n_stack;
    size_t stack_bytes; /* from one matrix of the stack to the next */
    const float *v;     /* [n]; NULL for a matrix */
    int64_t n;          /* elements of the vector / rows of a matrix; 0: absent */
};

struct weights;

/* Binds the range's weights by shape alone: sizes and formats are known, nothing
 * is read (no `data`, no `v`). What the planner asks, and the first half of loading.
 *
 * out  release with weights_close()
 *
 * ERR_SHAPE  a tensor's format or shape cannot be multiplied with */
MUST_CHECK err weights_open(const struct source *src, struct weight_range r, struct weights **out,
                            struct why *why);
/* Allocates and fills, or maps and checks sums. src: the one given to weights_open(); nothing
 * points into it afterwards. ERR_NOMEM: the reason gives what is needed and what there is;
 * ERR_NOTFOUND, ERR_FORMAT: a file of shards is missing or damaged. */
MUST_CHECK err weights_load(struct weights *w, struct pool *pool, struct why *why);
/* Writes what weights_load() would make to a file (packed_file.h) instead. sample: source_sample(). */
MUST_CHECK err weights_write(const struct weights *w, const char *sample, const char *path, struct pool *pool,
                             struct why *why);
/* How long that file is. */
uint64_t weights_file_bytes(const struct weights *w);
void weights_close(struct weights *w); /* NULL is fine */

uint64_t weights_bytes(const struct weights *w);
/* Whether they are views of files: the page cache's memory, not the rank's. */
bool weights_mapped(const struct weights *w);
/* [W_COUNT], for first <= layer < last. */
const struct weight *weights_layer(const struct weights *w, int layer);
/* [W_COUNT], the roles of the whole model. */
const struct weight *weights_model(const struct weights *w);

/* Matrix i of a stack. */
static inline struct packed weight_at(const struct weight *w, int i)
{
    struct packed p = w->w;
    p.data = (const char *)p.data + (size_t)i * w->stack_bytes;
    return p;
}

static inline bool weight_has(const struct weight *w)
{
    return w->n > 0;
}

#endif
