/* rope.h - rotary angles: frequencies of a model, cosines and sines of a position.
 *
 * Frequencies are made once, in the arithmetic of the reference implementation
 * (f32), with whatever scaling the model has. A step asks for one table of cos
 * and sin per row and kind of layer, shared by all layers.
 *
 * Cosines are taken in double and rounded, so that their bits do not depend on
 * which variant of the C library's f32 function a machine picks.
 */
#ifndef CORDEE_MODEL_ROPE_H
#define CORDEE_MODEL_ROPE_H

#include <stdbool.h>

#include "base/err.h"
#include "model/desc.h"
#include "model/hparams.h"

enum rope_table_kind {
    ROPE_GLOBAL,
    ROPE_LOCAL, /* sliding-window layers with a base of their own (Gemma 3) */
    ROPE_LONG,  /* longrope beyond the original context; ROPE_GLOBAL is the short one */
    ROPE_TABLES
};

struct rope_table {
    int n_half;   /* pairs of a head; 0: table not used */
    float mscale; /* multiplies cos and sin */
    float *freq;  /* [n_half], inside struct rope's block */
};

struct rope {
    struct rope_table table[ROPE_TABLES];
    int long_from; /* position from which a row uses ROPE_LONG; 0: never */
    float *block;  /* owned */
};

/* Pairs that rotate in a head; 0: the model has no rope. */
static inline int rope_pairs(const struct arch_desc *desc, const struct hparams *hp)
{
    return hp->rope_kind == ROPE_NONE ? 0 : (desc->attn.latent ? hp->qk_rope : hp->n_rot) / 2;
}

/* factors: [n_rot/2] divisors from the file (llama 3 as GGUF stores it), or NULL;
 * file_short, file_long: the same for longrope when not in hp. */
MUST_CHECK err rope_init(struct rope *r, const struct arch_desc *desc, const struct hparams *hp,
                         const float *factors, const float *file_short, const float *file_long,
                         struct why *why);
void rope_fini(struct rope *r); /* fine on a zeroed one */

/* cs [n_half][2]: cos, sin of a position. */
void rope_angles(const struct rope_table *t, int pos, float *cs);

#endif
