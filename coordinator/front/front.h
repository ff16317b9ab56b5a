/* front.h - requests in text: tokenise, submit, decode, stop strings, choices.
 *
 * Sits on any backend. One front_request may become several id-level requests
 * (n choices); events come back per choice with whole UTF-8 text. Text that could
 * still become a stop string is held back; the stop string itself is not sent.
 *
 * Threads: the backend's owner thread calls everything and gets all events, never
 *          from inside front_submit().
 * Memory:  a request lives until the backend has ended all of its choices, even
 *          when it was cancelled or the front is closed: close the backend last.
 */
#ifndef CORDEE_COORDINATOR_FRONT_H
#define CORDEE_COORDINATOR_FRONT_H

#include "base/buf.h"
#include "coordinator/backend.h"
#include "coordinator/front/stop.h"
#include "tokenizer/tokenizer.h"

struct front;

struct front_request {
    const char *text; /* either text ... */
    size_t text_len;
    const int32_t *ids; /* ... or ids, used as they are */
    int n_ids;
    bool add_special, parse_special; /* for text */
    struct sample_params sampling;   /* end and min_tokens are filled by the front; choice is the
                                        first one's number (0 but in recovery and between ranks) */
    bool have_seed;                  /* sampling.seed counts; else the front draws one */
    int n_choices;                   /* >= 1 */
    int max_tokens;                  /* -1: up to the context; 0: the prompt only */
    int min_tokens;
    const struct stop_string *stop; /* [n_stop] */
    int n_stop;
    const int32_t *stop_ids; /* [n_stop_ids] besides the model's own end tokens */
    int n_stop_ids;
    bool ignore_eos; /* the model's own end tokens do not end the text */
    bool logprobs; /* of generated tokens, and of the prompt with echo */
    int n_top;
    bool echo;
    int echo_from; /* with echo: the first prompt token that is told */
    int priority;
    const char *key;
    const char *adapter;             /* NULL: the model as it is */
    const int32_t *resume; /* recovery, id-level requests only */
    int n_resume;
    bool embed;            /* encoders: FINISHED brings the text's embedding; max_tokens is 0 */
    bool no_text;          /* ids only: no decoding, no stop strings */
};

enum front_kind { FRONT_TOKEN, FRONT_FINISHED, FRONT_FAILED };
struct front_event {
    enum front_kind kind;
    int choice;
    bool prompt;   /* TOKEN: an echoed prompt token */
    int32_t token;
    const char *text; /* what may be shown now: whole characters, may be empty; FINISHED: the held tail */
    size_t text_len;
    const char *raw;  /* TOKEN: this token's own bytes (a control token: its name) */
    size_t raw_len;
    size_t offset;    /* TOKEN: where it starts in the choice's text, characters */
    bool has_logprob;
    float logprob;    /* NAN: the first token of a prompt has none */
    int n_top;
    const struct token_logprob *top;
    enum finish finish;
    const int32_t *prompt_ids; /* [n_prompt], in every event */
    int n_prompt, n_generated, n_cached; /* the last one only in FINISHED */
    const char *stop; /* the stop string that matched, or NULL */
    size_t stop_len;
    int32_t stop_id;  /* the end token that matched, or -1 */
    uint64_t seed;
    int n_embedding;        /* FINISHED of an embed request */
    const float *embedding; /* [n_embedding] as pooled */
    err code;
    const char *reason;
};
typedef void front_event_fn(void *ctx, const struct front_event *ev);

/* Both borrowed. tok may be NULL for a front that only passes ids (no_text). */
MUST_CHECK err front_open(struct backend *b, const struct tokenizer *tok, struct front **out,
                          struct why *why);
void front_close(struct front *f); /* cancels what is left, without events */

/* ERR_INVAL (not UTF-8, empty prompt, ...), ERR_LIMIT, ERR_FULL: nothing was submitted. */
MUST_CHECK err front_submit(struct front *f, const struct front_request *req, front_event_fn *fn,
                            void *ctx, uint64_t *handle, struct why *why);
/* All choices. No events follow. */
void front_cancel(struct front *f, uint64_t handle);

/* The bytes that a token shows as: its own, or the name of a control token. Appends. */
MUST_CHECK err front_token_bytes(const struct front *f, int32_t token, struct buf *out, struct why *why);
const struct tokenizer *front_tokenizer(const struct front *f);
struct backend *front_backend(const struct front *f);

#endif
