/* openai.h - OpenAI's JSON shapes: requests in, responses, chunks and errors out.
 *
 * Pure: bytes to structs and structs to bytes, no sockets. Output is written with
 * an own escaper and %.9g for log-probabilities (nine digits name a float exactly),
 * so the same float reads the same wherever it stands in an answer.
 *
 * Memory: a parsed request owns everything it points to; release with its _fini.
 */
#ifndef CORDEE_API_OPENAI_H
#define CORDEE_API_OPENAI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/fault.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

/* ---- POST /v1/completions: the request -------------------------------------- */

enum {
    OPENAI_MAX_TOP = 20,       /* `logprobs` */
    OPENAI_MAX_CHOICES = 128,  /* `n`, `best_of` */
    OPENAI_MAX_PROMPTS = 4096, /* in one request */
    OPENAI_MAX_STOP_BYTES = 65536, /* of all stop strings together; their number is free */
};

struct openai_text {
    const char *text;
    size_t len; /* may contain NUL */
};
struct openai_prompt {
    struct openai_text text; /* text.text NULL: ids */
    const int32_t *ids;
    int n_ids;
};
struct openai_bias {
    int32_t token;
    float bias;
};

/* Absent fields have OpenAI's defaults. */
struct openai_completion {
    bool chat; /* the answer takes the shape of /v1/chat/completions (openai_chat.h) */
    struct openai_text model; /* text NULL: absent */
    struct openai_text user;
    struct openai_prompt *prompts; /* [n_prompts], n_prompts >= 1 */
    int n_prompts;
    int n, best_of; /* best_of >= n */
    int max_tokens, min_tokens; /* max_tokens -1 (chats): up to the context */
    bool echo, stream, include_usage;
    int logprobs; /* alternatives; -1: no log-probabilities */
    struct openai_text *stop; /* [n_stop], none empty */
    int n_stop;
    bool have_seed;
    int64_t seed;
    float temperature, top_p, min_p;
    float presence_penalty, frequency_penalty, repetition_penalty;
    int top_k; /* 0: off */
    struct openai_bias *bias; /* [n_bias] */
    int n_bias;
    /* vLLM's names */
    bool ignore_eos, return_token_ids, add_special_tokens;
    int32_t *stop_token_ids; /* [n_stop_token_ids] */
    int n_stop_token_ids;
    int priority;

    struct arena arena; /* owns all of the above */
};

/* ERR_FORMAT  not JSON (line and column) or not an object
 * ERR_INVAL   a field of the wrong type or out of range; fault->param names it
 * ERR_UNSUPPORTED  `suffix` */
MUST_CHECK err openai_completion_parse(const char *body, size_t len, struct openai_completion *out,
                                       struct fault *fault);
void openai_completion_fini(struct openai_completion *r);

/* ---- its answer --------------------------------------------------------------- */

/* One token of a choice, for the legacy `logprobs` object. */
struct openai_top {
    int32_t id;
    float logprob;
    struct openai_text bytes;
};
struct openai_token {
    int32_t id;
    struct openai_text bytes; /* what the token stands for; half a character is fine */
    float logprob;            /* NAN: null (the first token of a prompt) */
    size_t offset;            /* in the choice's text, characters */
    int n_top;
    const struct openai_top *top; /* best first; the token itself need not be in it */
};

/* The four lists of a legacy logprobs object, as JSON without the brackets. */
struct openai_logprobs {
    struct buf tokens, values, tops, offsets;
};
void openai_logprobs_add(struct openai_logprobs *lp, const struct openai_token *t);
void openai_logprobs_clear(struct openai_logprobs *lp);
void openai_logprobs_fini(struct openai_logprobs *lp);

struct openai_usage {
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
};

/* What all chunks of an answer share. */
struct openai_head {
    const char *id;     /* "cmpl-..." */
    const char *object; /* "text_completion" */
    int64_t created;    /* Unix seconds */
    const char *model, *fingerprint;
};

struct openai_choice {
    int index;
    bool role; /* chat chunk: the choice's first */
    struct openai_text text;
    const struct openai_logprobs *logprobs; /* NULL: null */
    const char *finish_reason;              /* "stop", "length"; NULL: null */
    const struct openai_text *stop;         /* the stop string that matched, or NULL */
    int32_t stop_id;                        /* the end token that matched, or -1 */
    const int32_t *token_ids, *prompt_ids;  /* NULL: not asked for */
    int n_token_ids, n_prompt_ids;
};

/* One JSON object: {"id": ..., "choices": [...], "usage": ...}; usage may be NULL
 * (left out). Used for whole answers and for stream chunks alike. */
void openai_put_completion(struct buf *out, const struct openai_head *head,
                           const struct openai_choice *choices, int n_choices,
                           const struct openai_usage *usage);

/* A token's bytes as a JSON string: as they are when they are UTF-8, else
 * "bytes:\\xe2\\x96", OpenAI's way to show half a character. */
void openai_put_token_text(struct buf *out, struct openai_text bytes);

/* -9999 for -inf (JSON has no infinity), null for NAN. */
void openai_put_logprob(struct buf *out, float logprob);

/* ---- errors -------------------------------------------------------------------- */

/* HTTP status for a failure: 400, 404, 429, 500, 503. */
int openai_status(err code);
/* {"error": {"message", "type", "param", "code"}}; param and code may be NULL. */
void openai_put_error(struct buf *out, int status, const char *message, const char *param, const char *code);

/* The same for a refused request: status, type and code follow from `code` and param; without a
 * reason its general text is shown. */
void openai_put_fault(struct buf *out, err code, const struct fault *fault);

/* ---- GET /v1/models ---------------------------------------------------------------- */
struct openai_model {
    const char *id, *family, *hash;
    const char *parent; /* of an adapter: the model it changes; NULL: a model itself */
    int64_t created;
    uint64_t n_params;
    int max_context;
};
void openai_put_model(struct buf *out, const struct openai_model *m);
void openai_put_models(struct buf *out, const struct openai_model *m, int n);

/* ---- POST /tokenize, /detokenize; GET /tokenizer_info (vLLM's shapes) ---------------- */
struct openai_tokenize {
    struct openai_text model, prompt;
    bool add_special_tokens, return_token_strs;
    struct arena arena;
};
struct openai_detokenize {
    struct openai_text model;
    int32_t *tokens; /* [n_tokens] */
    int n_tokens;
    struct arena arena;
};
MUST_CHECK err openai_tokenize_parse(const char *body, size_t len, struct openai_tokenize *out,
                                     struct fault *fault);
void openai_tokenize_fini(struct openai_tokenize *r);
MUST_CHECK err openai_detokenize_parse(const char *body, size_t len, struct openai_detokenize *out,
                                       struct fault *fault);
void openai_detokenize_fini(struct openai_detokenize *r);

/* strs: [n] or NULL. */
void openai_put_tokenized(struct buf *out, const int32_t *ids, const struct openai_text *strs, int n,
                          int max_context);
void openai_put_detokenized(struct buf *out, struct openai_text text);
/* Token texts; text NULL prints null. */
void openai_put_tokenizer_info(struct buf *out, struct openai_text bos, struct openai_text eos,
                               struct openai_text pad, struct openai_text chat_template, int max_context);

#endif
