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
    float temperature; /* 0: greedy */
    int top_k;         /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    float repetition_penalty; /* 1: off; over prompt and output */
    float presence_penalty, frequency_penalty; /* 0: off; over the output */
    uint64_t seed;
    uint32_t choice;
    int min_tokens;
    int n_bias;
    const struct token_bias { int32_t token; float bias; } *bias; /* [n_bias] */
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
    int32_t pos;    /* of the row: the token belongs to pos + 1 */
    int32_t token;  /* sampled, or the row's target when scored */
    float logprob;
    uint8_t flags;  /* ROW_SAMPLE / ROW_SCORE / ROW_DEAD, and: */
    uint8_t n_top;
    int32_t argmax; /* of the model's own distribution */
    struct token_logprob top[SAMPLE_MAX_TOP];
};

#endif
