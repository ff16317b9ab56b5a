/* bind.h - which tensor of the files plays which role of the family.
 *
 * The family's tensor table is walked once for the model and once for each layer;
 * every name is looked up, every shape compared with what the hyper-parameters
 * demand, and what nobody claims is refused (unless the family ignores it), so
 * that an unknown bias cannot silently be left out. No weight is read.
 */
#ifndef CORDEE_MODEL_BIND_H
#define CORDEE_MODEL_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/catalog.h"
#include "model/desc.h"
#include "model/hparams.h"
#include "model/source.h"

struct bound {
    const struct tensor_spec *spec; /* NULL: the model has no such tensor */
    const struct file_tensor *t;    /* LAYOUT_EACH: the first */
    const struct file_tensor **each; /* LAYOUT_EACH: [dims[0]]; NULL otherwise */
    unsigned layout;
    enum fmt fmt; /* of the rows that bound_read() gives; FMT_COUNT: not computable */
    int n_dims;
    int64_t dims[4]; /* of the role, slowest first */
    size_t row_bytes;
};

struct binding {
    struct bound model[W_COUNT]; /* roles of the whole model */
    struct bound *layers;        /* [n_layer][W_COUNT], in the arena */
};

enum name_style { NAMES_GGUF, NAMES_HF };

/* what: the file or directory, for reasons. arena and catalog must outlive *out.
 * ERR_SHAPE, ERR_UNSUPPORTED: the reason names tensor, role, both shapes. */
MUST_CHECK err bind_tensors(const struct catalog *c, enum name_style style, const struct arch_desc *arch,
                            const struct hparams *hp, const char *what, struct arena *arena,
                            struct binding *out, struct why *why);

/* Rows of the token embedding; 0 if the files have none. */
int64_t bind_vocab(const struct catalog *c, enum name_style style, const struct arch_desc *arch);

static inline const struct bound *binding_at(const struct binding *b, enum weight_role role, int layer)
{
    return weight_is_layer(role) ? &b->layers[(size_t)layer * W_COUNT + role] : &b->model[role];
}

/* The bytes, brought into the role's order (repack.c): a view where they lie so
 * already, else a copy owned by the view. ERR_UNSUPPORTED: a type without kernels. */
MUST_CHECK err bound_read(const struct bound *b, const struct hparams *hp, struct tensor_view *out,
                          struct why *why);

/* The same without the bytes: data is NULL. */
MUST_CHECK err bound_shape(const struct bound *b, struct tensor_view *out, struct why *why);

/* Rows that the file must hold for role_rows of the role. */
int64_t layout_stored_rows(unsigned layout, int64_t role_rows);
/* Row of the stored matrix that holds row r of the role. */
int64_t layout_stored_row(unsigned layout, const struct hparams *hp, int64_t r);

#endif
