/* openai_embed.h - the shapes of POST /v1/embeddings. Pure, like openai.h. */
#ifndef CORDEE_API_OPENAI_EMBED_H
#define CORDEE_API_OPENAI_EMBED_H

#include "api/openai.h"

struct openai_embed {
    struct openai_text model, user;
    struct openai_prompt *inputs; /* [n_inputs], n_inputs >= 1 */
    int n_inputs;
    bool base64; /* encoding_format; else lists of numbers */
    int dimensions; /* 0: the model's */
    bool add_special_tokens;
    int priority;
    struct arena arena; /* owns all of the above */
};

/* ERR_FORMAT, ERR_INVAL, ERR_LIMIT: as openai_completion_parse(). */
MUST_CHECK err openai_embed_parse(const char *body, size_t len, struct openai_embed *out, struct fault *fault);
void openai_embed_fini(struct openai_embed *r);

/* vectors: [n][dimensions]. Numbers have nine digits; base64 is of little-endian floats. */
void openai_put_embeddings(struct buf *out, const char *model, const float *vectors, int n, int dimensions,
                           bool base64, uint64_t prompt_tokens);

#endif
