/* spm_steps.h - what every SentencePiece model has around it, whether it came in
 * a GGUF file or as tokenizer.model. */
#ifndef CORDEE_TOKENIZER_SPM_STEPS_H
#define CORDEE_TOKENIZER_SPM_STEPS_H

#include "tokenizer/pipeline.h"

struct spm_steps {
    bool trim_spaces, prefix, escape; /* as in norm_step */
    const void *charsmap;             /* may be NULL; copied */
    size_t charsmap_bytes;
    const struct trie *keep; /* user-defined pieces; borrowed, may be NULL */
};

/* The normaliser in front, the decoder behind. */
MUST_CHECK err spm_add_steps(struct tokenizer *t, const struct spm_steps *s, struct why *why);

/* The BPE model that the vocabulary's scores imply. */
MUST_CHECK err spm_open_scores(struct tokenizer *t, int32_t unk, bool byte_fallback, struct why *why);

#endif
