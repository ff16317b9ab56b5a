/* gateway_route.h - what the gateway's endpoint files share. */
#ifndef CORDEE_COORDINATOR_GATEWAY_ROUTE_H
#define CORDEE_COORDINATOR_GATEWAY_ROUTE_H

#include <sys/queue.h>

#include "api/openai.h"
#include "coordinator/front/gateway.h"

struct chat;
struct http_embedding;
struct http_completion; /* gateway_completions.c */

struct gateway {
    struct event_base *base;
    struct gateway_options o;
    struct chat *chat; /* the model's template */
    struct http *http;
    int64_t created;   /* Unix seconds */
    uint64_t n_ids;    /* answers numbered so far */
    uint32_t id_salt;  /* so that ids of two runs differ */
    LIST_HEAD(, http_completion) completions;
    LIST_HEAD(, http_embedding) embeddings;
    int n_running;
    struct buf scratch; /* for building one answer; empty between calls */
};

/* One request on its way to an endpoint. */
struct route_request {
    struct gateway *g;
    struct http_exchange *x;
    const char *rest; /* of the path, for routes that end in a slash */
    int key;          /* number of the API key */
};
typedef void route_fn(const struct route_request *r);

route_fn route_chat, route_apply_template, route_embeddings;
route_fn route_completions, route_models, route_model, route_health, route_stats, route_metrics;
route_fn route_tokenize, route_detokenize, route_tokenizer_info;

/* Ends the exchange with the bytes of `body` (status 500 when it has `failed`). */
void gateway_reply_json(struct http_exchange *x, int status, const struct buf *body);
/* Ends it with an error object; 429 carries Retry-After. param, code: may be NULL. */
void gateway_reply_error(struct http_exchange *x, int status, const char *message, const char *param,
                         const char *code);
void gateway_reply_fault(struct http_exchange *x, err code, const struct fault *fault);

/* False (and answered 404) when a request names a model that is not served. */
bool gateway_model_known(const struct route_request *r, struct openai_text model);

/* Who asks, for fairness: the number of the API key, or the client's address. */
void gateway_key(const struct route_request *r, char *out, size_t size);

/* Starts what answers the exchange. Takes the request over, also when it fails: ERR_NOMEM. */
MUST_CHECK err gateway_start_completion(const struct route_request *r, struct openai_completion *req,
                                        struct why *why);
/* Cancels and frees every completion, without answers. */
void completions_close(struct gateway *g);
void embeddings_close(struct gateway *g);

#endif
