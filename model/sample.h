/* sample.h - choosing the next token and pricing tokens.
 *
 * Order of the steps: logit_bias, repetition / presence / frequency penalties,
 * min_tokens (end tokens masked), temperature, top-k, top-p, min-p, draw.
 * Temperature 0 is argmax (lowest id on ties). The draw uses a counter-based
 * generator keyed by (seed, choice, position): a replay draws the same token.
 * Log-probabilities are those of the model (before the steps above), natural log.
 */
#ifndef CORDEE_MODEL_SAMPLE_H
#define CORDEE_MODEL_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SAMPLE_MAX_TOP 20

struct sample_params {
    float temperature;                         /* 0: greedy */
    int top_k;                                 /* 0: off */
    float top_p;                               /* 1: off */
    float min_p;                               /* 0: off */
    float repetition_penalty;                  /* 1: off; over prompt and output */
    float presence_penalty, frequency_penalty; /* 0: off; over the output */
    uint64_t seed;
    uint32_t choice;
    int min_tokens;
    int n_bias;
    const struct token_bias {
        int32_t token;
        float bias;
    } * bias; /* [n_bias] */
    int n_end;
    const int32_t *end; /* [n_end] tokens that end the text (masked until min_tokens) */
};

struct token_logprob {
    int32_t token;
    float logprob;
};

/* What a row asked for. top is sorted, best first, ties by lower id. */
struct row_result {
    uint32_t slot;
    int32_t pos;   /* of the row: the token belongs to pos + 1 */
    int32_t token; /* sampled, or the row's target when scored */
    float logprob;
    uint8_t flags; /* ROW_SAMPLE / ROW_SCORE / ROW_DEAD, and: */
    uint8_t n_top;
    int32_t argmax; /* of the model's own distribution */
    struct token_logprob top[SAMPLE_MAX_TOP];
};

/* ---- the sampler of one sequence, on the stage that holds the head ---- */

struct sampler;

/* prompt [n_prompt] is copied as far as penalties need it; params (with bias and
 * end) is copied. max_context bounds how many different tokens may ever be seen.
 * ERR_INVAL: a parameter or token is out of range. Close with sampler_close(). */
MUST_CHECK err sampler_open(const struct sample_params *params, const int32_t *prompt, int n_prompt,
                            int n_vocab, int max_context, struct sampler **out, struct why *why);
void sampler_close(struct sampler *s); /* NULL is fine */

/* A generated token passed at `pos`: part of the output from now on. Positions
 * are consecutive; one that is not beyond the last is a repetition of a step and
 * changes nothing. */
void sampler_push(struct sampler *s, int32_t token, int32_t pos);

/* Draws are made as of a position: tokens pushed beyond it do not count yet, so
 * many rows of a sequence may pass at once. */

/* True if the draw after pos is the argmax of the model's own logits, so that
 * nobody needs to keep the whole row. */
bool sampler_is_argmax(const struct sampler *s, int32_t pos);

/* What a draw needs beside the row; one per thread. */
struct sample_scratch {
    uint32_t count[4096];
    double mass[4096];
};

/* Draws the token that follows position pos. logits [n_vocab] are the model's own;
 * work [n_vocab] is overwritten. */
int32_t sampler_draw(const struct sampler *s, const float *logits, float *work, int32_t pos,
                     struct sample_scratch *scratch);

#endif
