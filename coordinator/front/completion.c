/* completion.c - see completion.h.
 *
 * A completion is P prompts with best_of choices each, one front request ("run") per
 * prompt. At most WINDOW runs are with the front at once, so one request with
 * thousands of prompts neither fills the queue nor starves the others; a timer of the
 * completion's own submits them (never from inside an event of the front).
 *
 * A whole answer is collected per choice and written at the end. A streamed one is
 * written token by token, and its status line goes out with the first chunk, so that
 * whatever fails before it still has its own HTTP status.
 */
#include "coordinator/front/completion.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/openai_chat.h"
#include "api/timer.h"
#include "base/log.h"
#include "coordinator/front/served.h"

enum {
    WINDOW = 64,      /* runs with the front at once */
    RETRY_US = 50000, /* after the queue was full in the middle of a request */
    OPEN_STREAM_US = 15000000, /* a stream starts by then even without a token: proxies give up on silence */
};

/* Completions and chats differ in what is written, not in what is done. */
typedef void put_answer_fn(struct buf *out, const struct openai_head *head, const struct openai_choice *choices,
                           int n_choices, const struct openai_usage *usage);
struct shape {
    const char *whole, *chunk; /* "object" */
    put_answer_fn *put_whole, *put_chunk;
    void (*add_logprobs)(struct openai_logprobs *lp, const struct openai_token *t);
    bool roles;        /* a choice's stream begins with a chunk of its role */
    const char *input; /* the field that a bad prompt came from */
};
static const struct shape text_shape = { "text_completion", "text_completion", openai_put_completion,
                                         openai_put_completion, openai_logprobs_add, false, "prompt" };
static const struct shape chat_shape = { "chat.completion", "chat.completion.chunk", openai_put_chat,
                                         openai_put_chat_chunk, openai_chat_logprobs_add, true, "messages" };

struct outcome { /* of one choice */
    struct buf text;
    struct openai_logprobs logprobs;
    int32_t *ids;
    int n_ids, cap_ids;
    const char *finish; /* NULL: running */
    struct buf stop;
    int32_t stop_id;
    double sum_logprob;
    int n_generated;
    bool begun; /* streaming: a chunk of it went out */
};

struct run {
    struct completion *c;
    int i; /* prompt number */
    uint64_t handle;
    bool live;
    int n_done; /* choices */
    int32_t *prompt_ids; /* with return_token_ids */
    int n_prompt_ids;
};

struct completion {
    struct front *front;
    const struct completion_outlet *outlet;
    void *ctx;
    struct openai_completion req;
    const struct shape *shape;
    struct openai_head head;
    char id[64], key[64];
    char adapter[FACTS_NAME_BYTES];   /* "": none */
    char model[SERVED_NAME_BYTES];    /* as it is served: with the adapter */
    bool reproducible;
    struct timer *timer;
    struct run *runs;         /* [n_prompts] */
    struct outcome *outcomes; /* [n_prompts][best_of] */
    int next, n_live, n_done; /* runs */
    bool streaming;           /* headers are out */
    struct openai_usage usage;
    struct buf scratch; /* for one chunk; empty between calls */
};

/* ---- life ---------------------------------------------------------------------------- */

static void completion_free(struct completion *c)
{
    int n = c->outcomes ? c->req.n_prompts * c->req.best_of : 0;
    for (int i = 0; c->runs && i < c->req.n_prompts; i++) {
        if (c->runs[i].live)
            front_cancel(c->front, c->runs[i].handle);
        free(c->runs[i].prompt_ids);
    }
    for (int i = 0; i < n; i++) {
        struct outcome *o = &c->outcomes[i];
        buf_fini(&o->text);
        buf_fini(&o->stop);
        openai_logprobs_fini(&o->logprobs);
        free(o->ids);
    }
    timer_close(c->timer);
    free(c->runs);
    free(c->outcomes);
    buf_fini(&c->scratch);
    openai_completion_fini(&c->req);
    free(c);
}

void completion_cancel(struct completion *c)
{
    completion_free(c);
}

static void answer(struct completion *c, int status, err code, const struct buf *body)
{
    struct completion_answer a = { .status = status, .code = code, .body = body, .usage = c->usage };
    c->outlet->reply(c->ctx, &a);
    completion_free(c);
}

/* Status line, or an event when the stream runs already; ends the completion. */
static void completion_fail(struct completion *c, err code, const char *reason, const char *param)
{
    struct buf *out = &c->scratch;
    struct fault fault = { .param = param };
    why_set(&fault.why, code, "%s", reason);
    buf_clear(out);
    if (!c->streaming) {
        openai_put_fault(out, code, &fault);
        answer(c, openai_status(code), code, out);
        return;
    }
    buf_puts(out, "data: ");
    openai_put_error(out, openai_status(code), fault.why.text, param, NULL);
    buf_puts(out, "\n\ndata: [DONE]\n\n");
    c->outlet->put(c->ctx, out->data, out->failed ? 0 : out->len);
    c->outlet->end(c->ctx);
    completion_free(c);
}

/* ---- streamed answers --------------------------------------------------------------------- */

static void stream_open(struct completion *c)
{
    if (!c->streaming)
        c->outlet->begin(c->ctx);
    c->streaming = true;
}

static void stream_event(struct completion *c, const struct openai_choice *choice,
                         const struct openai_usage *usage)
{
    struct buf *out = &c->scratch;
    stream_open(c);
    buf_clear(out);
    buf_puts(out, "data: ");
    c->shape->put_chunk(out, &c->head, choice, choice ? 1 : 0, usage);
    buf_puts(out, "\n\n");
    if (out->failed)
        log_error("completion: no memory for a chunk");
    else
        c->outlet->put(c->ctx, out->data, out->len);
}

/* How a choice stands: its number in the answer and what it has. */
static struct openai_choice choice_of(const struct completion *c, const struct run *r,
                                      const struct outcome *o, int number, struct openai_text *stop)
{
    struct openai_choice out = {
        .index = r->i * c->req.n + number,
        .text = { o->text.data, o->text.len },
        .logprobs = c->req.logprobs >= 0 ? &o->logprobs : NULL,
        .finish_reason = o->finish,
        .stop_id = o->finish ? o->stop_id : -1,
    };
    *stop = (struct openai_text){ o->stop.data, o->stop.len };
    if (o->finish && o->stop.len)
        out.stop = stop;
    if (c->req.return_token_ids) {
        static const int32_t none = 0;
        out.token_ids = o->ids ? o->ids : &none;
        out.n_token_ids = o->n_ids;
        if (!o->begun) {
            out.prompt_ids = r->prompt_ids ? r->prompt_ids : &none;
            out.n_prompt_ids = r->n_prompt_ids;
        }
    }
    return out;
}

/* Sends what came since the last chunk, if there is anything to see. */
static void stream_choice(struct completion *c, const struct run *r, struct outcome *o, int number)
{
    struct openai_text stop;
    if (o->text.len == 0 && o->logprobs.tokens.len == 0 && o->n_ids == 0 && !o->finish)
        return;
    struct openai_choice choice = choice_of(c, r, o, number, &stop);
    if (c->shape->roles && !o->begun) {
        struct openai_choice first = { .index = choice.index, .role = true, .stop_id = -1,
                                       .prompt_ids = choice.prompt_ids, .n_prompt_ids = choice.n_prompt_ids };
        stream_event(c, &first, NULL);
        choice.prompt_ids = NULL;
    }
    stream_event(c, &choice, NULL);
    o->begun = true;
    o->n_ids = 0;
    buf_clear(&o->text);
    openai_logprobs_clear(&o->logprobs);
}

static void stream_done(struct completion *c)
{
    if (c->req.include_usage)
        stream_event(c, NULL, &c->usage);
    stream_open(c);
    c->outlet->put(c->ctx, "data: [DONE]\n\n", 14);
    c->outlet->end(c->ctx);
    completion_free(c);
}

/* ---- whole answers ---------------------------------------------------------------------------- */

static double mean_logprob(const struct outcome *o)
{
    return o->n_generated ? o->sum_logprob / o->n_generated : -HUGE_VAL;
}

/* best_of: the order of a prompt's choices, best first; equal ones keep theirs. */
static void best_first(const struct outcome *all, int n, int *order)
{
    for (int i = 0; i < n; i++) {
        int at = i;
        while (at > 0 && mean_logprob(&all[order[at - 1]]) < mean_logprob(&all[i])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}

static void answer_whole(struct completion *c)
{
    int n = c->req.n, best_of = c->req.best_of, at = 0;
    int order[OPENAI_MAX_CHOICES];
    size_t total = (size_t)c->req.n_prompts * (size_t)n;
    struct openai_choice *choices = calloc(total, sizeof *choices);
    struct openai_text *stops = calloc(total, sizeof *stops);
    struct buf body = { 0 };
    if (!choices || !stops) {
        free(choices);
        free(stops);
        completion_fail(c, ERR_NOMEM, "no memory for the answer", NULL);
        return;
    }
    for (int i = 0; i < c->req.n_prompts; i++) {
        const struct outcome *all = &c->outcomes[i * best_of];
        for (int k = 0; k < best_of; k++)
            order[k] = k;
        if (best_of > n)
            best_first(all, best_of, order);
        for (int k = 0; k < n; k++, at++)
            choices[at] = choice_of(c, &c->runs[i], &all[order[k]], k, &stops[at]);
    }
    struct openai_usage shown = c->usage;
    if (c->reproducible)
        shown.cached_tokens = 0;
    c->shape->put_whole(&body, &c->head, choices, (int)total, &shown);
    free(choices);
    free(stops);
    answer(c, 200, ERR_OK, &body);
    buf_fini(&body);
}

/* ---- events of the front --------------------------------------------------------------------- */

static err outcome_id(struct outcome *o, int32_t id)
{
    if (o->n_ids == o->cap_ids) {
        int cap = o->cap_ids ? o->cap_ids * 2 : 32;
        int32_t *ids = realloc(o->ids, (size_t)cap * sizeof *ids);
        if (!ids)
            return ERR_NOMEM;
        o->ids = ids;
        o->cap_ids = cap;
    }
    o->ids[o->n_ids++] = id;
    return ERR_OK;
}

/* One entry of the four logprobs lists; alternatives get their texts here. */
static err outcome_logprob(struct completion *c, struct outcome *o, const struct front_event *ev)
{
    err e = ERR_OK;
    struct openai_top top[SAMPLE_MAX_TOP];
    size_t at[SAMPLE_MAX_TOP + 1] = { 0 };
    struct buf *texts = &c->scratch;
    int n = ev->n_top < SAMPLE_MAX_TOP ? ev->n_top : SAMPLE_MAX_TOP;
    buf_clear(texts);
    for (int i = 0; i < n && e == ERR_OK; i++) {
        e = front_token_bytes(c->front, ev->top[i].token, texts, NULL);
        at[i + 1] = texts->len;
    }
    if (e != ERR_OK || texts->failed)
        return e != ERR_OK ? e : ERR_NOMEM;
    for (int i = 0; i < n; i++)
        top[i] = (struct openai_top){ ev->top[i].token, ev->top[i].logprob,
                                      { texts->data ? texts->data + at[i] : "", at[i + 1] - at[i] } };
    c->shape->add_logprobs(&o->logprobs, &(struct openai_token){
                                             .id = ev->token, .bytes = { ev->raw, ev->raw_len },
                                             .logprob = ev->logprob, .offset = ev->offset,
                                             .n_top = n, .top = top });
    return ERR_OK;
}

static err outcome_token(struct run *r, struct outcome *o, const struct front_event *ev)
{
    struct completion *c = r->c;
    err e = ERR_OK;
    buf_put(&o->text, ev->text, ev->text_len);
    if (c->req.logprobs >= 0)
        e = outcome_logprob(c, o, ev);
    if (!ev->prompt) {
        o->sum_logprob += ev->has_logprob ? (double)ev->logprob : 0;
        o->n_generated = ev->n_generated;
        if (e == ERR_OK && c->req.return_token_ids)
            e = outcome_id(o, ev->token);
    }
    return o->text.failed ? ERR_NOMEM : e;
}

static void outcome_finish(struct outcome *o, const struct front_event *ev)
{
    buf_put(&o->text, ev->text, ev->text_len);
    o->finish = ev->finish == FINISH_STOP ? "stop" : "length";
    o->stop_id = ev->stop_id;
    if (ev->stop)
        buf_put(&o->stop, ev->stop, ev->stop_len);
}

static void run_done(struct run *r, const struct front_event *ev)
{
    struct completion *c = r->c;
    r->live = false;
    c->n_live--;
    c->n_done++;
    c->usage.prompt_tokens += (uint64_t)ev->n_prompt;
    if (c->n_done == c->req.n_prompts) {
        if (c->req.stream)
            stream_done(c);
        else
            answer_whole(c);
    } else if (c->next < c->req.n_prompts) {
        timer_start(c->timer, 0);
    }
}

static void keep_prompt_ids(struct run *r, const struct front_event *ev)
{
    if (!r->c->req.return_token_ids || r->prompt_ids || ev->n_prompt <= 0)
        return;
    r->prompt_ids = malloc((size_t)ev->n_prompt * sizeof *r->prompt_ids);
    if (!r->prompt_ids)
        return;
    memcpy(r->prompt_ids, ev->prompt_ids, (size_t)ev->n_prompt * sizeof *r->prompt_ids);
    r->n_prompt_ids = ev->n_prompt;
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct run *r = ctx;
    struct completion *c = r->c;
    struct outcome *o = &c->outcomes[r->i * c->req.best_of + ev->choice];
    err e;
    keep_prompt_ids(r, ev);
    switch (ev->kind) {
    case FRONT_TOKEN:
        e = outcome_token(r, o, ev);
        if (e != ERR_OK)
            completion_fail(c, e, err_text(e), NULL);
        else if (c->req.stream && !ev->prompt)
            stream_choice(c, r, o, ev->choice);
        break;
    case FRONT_FINISHED:
        if (ev->finish == FINISH_CANCELLED) {
            completion_fail(c, ERR_CANCELLED, "the cluster gave the request up", NULL);
            break;
        }
        outcome_finish(o, ev);
        c->usage.completion_tokens += (uint64_t)ev->n_generated;
        if (++r->n_done == 1) /* a prompt counts once, whatever its number of choices */
            c->usage.cached_tokens += (uint64_t)ev->n_cached;
        if (c->req.stream)
            stream_choice(c, r, o, ev->choice);
        if (r->n_done == c->req.best_of)
            run_done(r, ev);
        break;
    case FRONT_FAILED:
        completion_fail(c, ev->code, ev->reason, NULL);
        break;
    }
}

/* ---- submit ------------------------------------------------------------------------------------- */

static err run_submit(struct completion *c, struct run *r, struct why *why)
{
    const struct openai_completion *q = &c->req;
    const struct openai_prompt *p = &q->prompts[r->i];
    _Static_assert(sizeof(struct stop_string) == sizeof(struct openai_text) &&
                       sizeof(struct token_bias) == sizeof(struct openai_bias),
                   "api's structs are passed on as they are");
    struct front_request f = {
        .text = p->text.text, .text_len = p->text.len, .ids = p->ids, .n_ids = p->n_ids,
        /* A raw completion's sender writes the whole prompt, control tokens included. */
        .add_special = q->add_special_tokens, .parse_special = true,
        .sampling = {
            .temperature = q->temperature, .top_k = q->top_k, .top_p = q->top_p, .min_p = q->min_p,
            .repetition_penalty = q->repetition_penalty, .presence_penalty = q->presence_penalty,
            .frequency_penalty = q->frequency_penalty, .seed = (uint64_t)q->seed,
            .n_bias = q->n_bias, .bias = (const struct token_bias *)q->bias,
        },
        .have_seed = q->have_seed, .n_choices = q->best_of, .max_tokens = q->max_tokens,
        .min_tokens = q->min_tokens, .stop = (const struct stop_string *)q->stop, .n_stop = q->n_stop,
        .stop_ids = q->stop_token_ids, .n_stop_ids = q->n_stop_token_ids, .ignore_eos = q->ignore_eos,
        .logprobs = q->logprobs >= 0 || q->best_of > q->n, .n_top = q->logprobs > 0 ? q->logprobs : 0,
        .echo = q->echo, .priority = q->priority, .key = c->key,
        .adapter = c->adapter[0] ? c->adapter : NULL,
    };
    err e = front_submit(c->front, &f, on_event, r, &r->handle, why);
    if (e == ERR_OK) {
        r->live = true;
        c->n_live++;
    }
    return e;
}

/* Submits as many runs as fit the window. The completion may be gone afterwards. */
static void completion_pump(struct completion *c)
{
    struct why why;
    while (c->next < c->req.n_prompts && c->n_live < WINDOW) {
        err e = run_submit(c, &c->runs[c->next], &why);
        if (e == ERR_FULL && c->n_live + c->n_done > 0) { /* what is under way makes room */
            if (c->n_live == 0)
                timer_start(c->timer, RETRY_US);
            return;
        }
        if (e != ERR_OK) {
            completion_fail(c, e, why.text, e == ERR_INVAL || e == ERR_LIMIT ? c->shape->input : NULL);
            return;
        }
        c->next++;
    }
    if (c->req.stream && !c->streaming && c->next == c->req.n_prompts)
        timer_start(c->timer, OPEN_STREAM_US);
}

static void timer_cb(void *ctx)
{
    struct completion *c = ctx;
    if (c->next < c->req.n_prompts)
        completion_pump(c);
    else if (c->req.stream)
        stream_open(c);
}

bool completion_model_served(const struct model_facts *facts, struct openai_text model, struct why *why)
{
    const char *adapter;
    return served_find(facts, model.text, model.len, &adapter, why) == ERR_OK;
}

/* What the request's model name says; a name that is not served was refused before. */
static void take_model(struct completion *c, const struct model_facts *facts)
{
    const char *adapter = NULL;
    if (served_find(facts, c->req.model.text, c->req.model.len, &adapter, NULL) != ERR_OK)
        adapter = NULL;
    snprintf(c->adapter, sizeof c->adapter, "%s", adapter ? adapter : "");
    served_name(facts, adapter, c->model, sizeof c->model);
}

err completion_start(struct openai_completion *req, const struct completion_options *o, struct completion **out,
                     struct why *why)
{
    const struct model_facts *facts = &front_backend(o->front)->facts;
    struct completion *c = calloc(1, sizeof *c);
    if (!c)
        return why_set(why, ERR_NOMEM, "no memory for the request");
    c->front = o->front;
    c->outlet = o->outlet;
    c->ctx = o->ctx;
    c->reproducible = o->reproducible;
    c->req = *req;
    *req = (struct openai_completion){ 0 };
    snprintf(c->id, sizeof c->id, "%s", o->id);
    snprintf(c->key, sizeof c->key, "%s", o->key ? o->key : "");
    take_model(c, facts);
    c->shape = c->req.chat ? &chat_shape : &text_shape;
    c->head = (struct openai_head){ .id = c->id, .object = c->req.stream ? c->shape->chunk : c->shape->whole,
                                    .created = o->created,
                                    .model = c->model, .fingerprint = facts->fingerprint };
    c->timer = timer_open(o->base, timer_cb, c);
    c->runs = calloc((size_t)c->req.n_prompts, sizeof *c->runs);
    c->outcomes = calloc((size_t)c->req.n_prompts * (size_t)c->req.best_of, sizeof *c->outcomes);
    if (!c->timer || !c->runs || !c->outcomes) {
        completion_free(c);
        return why_set(why, ERR_NOMEM, "no memory for the request");
    }
    for (int i = 0; i < c->req.n_prompts; i++)
        c->runs[i] = (struct run){ .c = c, .i = i };
    timer_start(c->timer, 0);
    *out = c;
    return ERR_OK;
}
