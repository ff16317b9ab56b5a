/* batch_line.c - see batch_line.h. */
#include "coordinator/batch/batch_line.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "coordinator/front/completion.h"
#include "coordinator/front/embedding.h"

struct line_job {
    struct batch_lines *x;
    struct batch *b;
    int64_t i;
    uint64_t hash;  /* of the line's name: ids and the seed follow from it */
    char *custom_id; /* owned; NULL: the line has none */
    size_t custom_id_len;
    struct completion *completion; /* at most one of the two */
    struct embedding *embedding;
};

static void job_free(struct line_job *j)
{
    free(j->custom_id);
    free(j);
}

/* ---- results --------------------------------------------------------------------------- */

static void put_head(struct line_job *j, struct buf *out)
{
    buf_clear(out);
    buf_printf(out, "{\"id\":\"batch_req_%016" PRIx64 "\",\"custom_id\":", j->hash);
    if (j->custom_id)
        buf_put_json(out, j->custom_id, j->custom_id_len, false);
    else
        buf_puts(out, "null");
}

static void finish(struct line_job *j, bool ok, const struct openai_usage *usage)
{
    const struct buf *line = &j->x->result;
    static const char lost[] = "{\"error\":{\"code\":\"no_memory\",\"message\":\"no memory for the answer\"}}";
    struct batch_result r = { .ok = ok && !line->failed, .line = line->data, .len = line->len };
    if (line->failed) {
        r.line = lost;
        r.len = sizeof lost - 1;
    }
    if (usage) {
        r.prompt_tokens = usage->prompt_tokens;
        r.completion_tokens = usage->completion_tokens;
        r.cached_tokens = usage->cached_tokens;
    }
    batch_finish(j->b, j->i, &r);
    job_free(j);
}

/* The request was not executed: {"response": null, "error": {...}}. */
static void finish_error(struct line_job *j, const char *code, const char *message)
{
    struct buf *out = &j->x->result;
    struct why where;
    why_set(&where, ERR_INVAL, "line %lld: %s", (long long)lines_number(j->x->lines, j->i), message);
    put_head(j, out);
    buf_printf(out, ",\"response\":null,\"error\":{\"code\":\"%s\",\"message\":", code);
    buf_put_json(out, where.text, strlen(where.text), false);
    buf_puts(out, "}}");
    finish(j, false, NULL);
}

static void finish_response(struct line_job *j, int status, const struct buf *body, const struct openai_usage *usage)
{
    struct buf *out = &j->x->result;
    put_head(j, out);
    buf_printf(out, ",\"response\":{\"status_code\":%d,\"request_id\":\"req_%016" PRIx64 "\",\"body\":", status,
               j->hash);
    buf_put(out, body->data, body->len);
    buf_puts(out, "},\"error\":null}");
    finish(j, status == 200, usage);
}

static void finish_fault(struct line_job *j, err code, const struct fault *fault)
{
    struct buf body = { 0 };
    openai_put_fault(&body, code, fault);
    finish_response(j, openai_status(code), &body, NULL);
    buf_fini(&body);
}

/* ---- endpoints --------------------------------------------------------------------------- */

/* Not the request's fault: it is asked again. */
static bool passing(int status)
{
    return status == 429 || status >= 500;
}

static void reply_cb(void *ctx, const struct completion_answer *a)
{
    struct line_job *j = ctx;
    j->completion = NULL;
    j->embedding = NULL;
    if (passing(a->status)) {
        batch_again(j->b, j->i, a->code, a->body->data);
        job_free(j);
        return;
    }
    finish_response(j, a->status, a->body, &a->usage);
}

static const struct completion_outlet outlet = { .reply = reply_cb };

/* Takes the request over, or leaves it to the caller with a fault. */
static err start(struct line_job *j, struct openai_completion *req, struct fault *fault)
{
    struct why *why = &fault->why;
    char id[48];
    if (req->stream) {
        fault->param = "stream";
        return why_set(why, ERR_INVAL, "a batch has no streams");
    }
    if (!completion_model_served(&front_backend(j->x->front)->facts, req->model, why)) {
        fault->param = "model";
        return ERR_NOTFOUND;
    }
    if (!req->have_seed) {
        req->have_seed = true;
        req->seed = (int64_t)(j->hash >> 1);
    }
    snprintf(id, sizeof id, "%s-%016" PRIx64, req->chat ? "chatcmpl" : "cmpl", j->hash);
    struct completion_options o = { .base = j->x->base, .front = j->x->front, .id = id, .key = "batch",
                                    .reproducible = true, .outlet = &outlet, .ctx = j };
    return completion_start(req, &o, &j->completion, why);
}

static err begin_completion(struct line_job *j, const char *body, size_t len, struct fault *fault)
{
    struct openai_completion req = { 0 };
    err e = openai_completion_parse(body, len, &req, fault);
    if (e == ERR_OK)
        e = start(j, &req, fault);
    openai_completion_fini(&req);
    return e;
}

static err begin_chat(struct line_job *j, const char *body, size_t len, struct fault *fault)
{
    struct openai_chat req = { 0 };
    err e = openai_chat_parse(body, len, &req, fault);
    if (e == ERR_OK)
        e = chat_prompt(j->x->chat, &req, fault);
    if (e == ERR_OK)
        e = start(j, &req.completion, fault);
    openai_chat_fini(&req);
    return e;
}

static err begin_embedding(struct line_job *j, const char *body, size_t len, struct fault *fault)
{
    struct openai_embed req = { 0 };
    struct completion_options o = { .base = j->x->base, .front = j->x->front, .id = "", .key = "batch",
                                    .reproducible = true, .outlet = &outlet, .ctx = j };
    err e = openai_embed_parse(body, len, &req, fault);
    if (e == ERR_OK)
        e = embedding_start(&req, &o, &j->embedding, fault);
    openai_embed_fini(&req);
    return e;
}

/* A new endpoint is a row here. */
static const struct endpoint {
    const char *url;
    err (*begin)(struct line_job *j, const char *body, size_t len, struct fault *fault);
} endpoints[] = {
    { "/v1/completions", begin_completion },
    { "/v1/chat/completions", begin_chat },
    { "/v1/embeddings", begin_embedding },
};

static const struct endpoint *endpoint_of(const char *url)
{
    for (size_t i = 0; url && i < sizeof endpoints / sizeof *endpoints; i++)
        if (strcmp(endpoints[i].url, url) == 0)
            return &endpoints[i];
    return NULL;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static err take_name(struct line_job *j, const json_t *root, struct why *why)
{
    const json_t *id = json_object_get(root, "custom_id");
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)lines_number(j->x->lines, j->i));
    j->hash = XXH3_64bits_withSeed(number, strlen(number), ~j->x->salt);
    if (!json_is_string(id))
        return ERR_OK;
    j->custom_id_len = json_string_length(id);
    j->custom_id = malloc(j->custom_id_len + 1);
    if (!j->custom_id)
        return why_set(why, ERR_NOMEM, "batch line");
    memcpy(j->custom_id, json_string_value(id), j->custom_id_len + 1);
    j->hash = XXH3_64bits_withSeed(j->custom_id, j->custom_id_len, j->x->salt);
    return ERR_OK;
}

/* What is wrong with a line's envelope; NULL: nothing. *code: OpenAI-style. */
static const char *envelope_fault(const json_t *root, const char **code)
{
    const char *method = json_string_value(json_object_get(root, "method"));
    *code = "invalid_request";
    if (!json_is_object(root)) {
        *code = "invalid_json";
        return "not a JSON object";
    }
    if (!json_is_string(json_object_get(root, "custom_id")))
        return "custom_id must be a string";
    if (method && strcmp(method, "POST") != 0)
        return "method must be POST";
    if (!json_is_string(json_object_get(root, "url")))
        return "url must be a string";
    const struct endpoint *p = endpoint_of(json_string_value(json_object_get(root, "url")));
    if (!p) {
        *code = "unsupported_url";
        return "unknown url; /v1/completions, /v1/chat/completions and /v1/embeddings are answered";
    }
    if (!json_is_object(json_object_get(root, "body")))
        return "body must be an object";
    return NULL;
}

static err begin_line(struct line_job *j, json_t *root, const json_error_t *where, void **job, struct why *why)
{
    struct fault fault = { 0 };
    const char *code, *wrong = envelope_fault(root, &code);
    if (wrong) {
        struct why text;
        if (!root)
            why_set(&text, ERR_FORMAT, "not JSON: %s, column %d", where->text, where->column);
        else
            why_set(&text, ERR_FORMAT, "%s", wrong);
        finish_error(j, code, text.text);
        return ERR_OK;
    }
    char *body = json_dumps(json_object_get(root, "body"), JSON_COMPACT);
    if (!body) {
        job_free(j);
        return why_set(why, ERR_NOMEM, "batch line");
    }
    const struct endpoint *p = endpoint_of(json_string_value(json_object_get(root, "url")));
    err e = p->begin(j, body, strlen(body), &fault);
    free(body);
    if (e == ERR_NOMEM) {
        job_free(j);
        return why_set(why, e, "%s", fault.why.text);
    }
    if (e != ERR_OK) {
        finish_fault(j, e, &fault);
        return ERR_OK;
    }
    *job = j;
    return ERR_OK;
}

static err work_begin(void *ctx, struct batch *b, int64_t i, void **job, struct why *why)
{
    struct batch_lines *x = ctx;
    json_error_t where = { 0 };
    json_t *root = NULL;
    struct line_job *j = calloc(1, sizeof *j);
    err e;
    if (!j)
        return why_set(why, ERR_NOMEM, "batch line");
    *j = (struct line_job){ .x = x, .b = b, .i = i };
    TRY(lines_get(x->lines, i, &x->text, why));
    root = json_loadb(x->text.data ? x->text.data : "", x->text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
                      &where);
    TRY(take_name(j, root, why));
    struct line_job *mine = j;
    j = NULL;
    e = begin_line(mine, root, &where, job, why);
out:
    json_decref(root);
    if (j)
        job_free(j);
    return e;
}

static void work_cancel(void *ctx, void *job)
{
    struct line_job *j = job;
    (void)ctx;
    if (j->completion)
        completion_cancel(j->completion);
    if (j->embedding)
        embedding_cancel(j->embedding);
    job_free(j);
}

void batch_lines_init(struct batch_lines *x, struct event_base *base, struct front *front, const struct chat *chat,
                      struct lines *lines)
{
    const char *sha = lines_sha256(lines);
    *x = (struct batch_lines){ .base = base, .front = front, .chat = chat, .lines = lines,
                               .salt = XXH3_64bits(sha, strlen(sha)) };
}

void batch_lines_fini(struct batch_lines *x)
{
    buf_fini(&x->text);
    buf_fini(&x->result);
}

struct batch_work batch_lines_work(struct batch_lines *x)
{
    return (struct batch_work){ .begin = work_begin, .cancel = work_cancel, .ctx = x };
}
