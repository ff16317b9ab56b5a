/* embedding.c - see embedding.h.
 *
 * At most WINDOW inputs are with the front at once; a timer of the request's own
 * submits them, never from inside an event of the front.
 */
#include "coordinator/front/embedding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/timer.h"
#include "coordinator/front/served.h"

enum {
    WINDOW = 64,
    RETRY_US = 50000, /* after the queue was full in the middle of a request */
};

struct text { /* one input */
    struct embedding *x;
    int i;
    uint64_t handle;
    bool live;
};

struct embedding {
    struct front *front;
    const struct completion_outlet *outlet;
    void *ctx;
    struct openai_embed req;
    char key[64];
    struct timer *timer;
    struct text *texts; /* [n_inputs] */
    float *vectors;     /* [n_inputs][n_dim] */
    int n_dim;
    int next, n_live, n_done;
    struct openai_usage usage;
};

static void embedding_free(struct embedding *x)
{
    for (int i = 0; x->texts && i < x->req.n_inputs; i++)
        if (x->texts[i].live)
            front_cancel(x->front, x->texts[i].handle);
    timer_close(x->timer);
    free(x->texts);
    free(x->vectors);
    openai_embed_fini(&x->req);
    free(x);
}

void embedding_cancel(struct embedding *x)
{
    embedding_free(x);
}

static void answer(struct embedding *x, err code, const struct buf *body)
{
    struct completion_answer a = { .status = code == ERR_OK ? 200 : openai_status(code), .code = code, .body = body,
                                   .usage = x->usage };
    x->outlet->reply(x->ctx, &a);
    embedding_free(x);
}

static void embedding_fail(struct embedding *x, err code, const char *reason)
{
    struct buf body = { 0 };
    struct fault fault = { .param = code == ERR_INVAL || code == ERR_LIMIT ? "input" : NULL };
    why_set(&fault.why, code, "%s", reason);
    openai_put_fault(&body, code, &fault);
    answer(x, code, &body);
    buf_fini(&body);
}

static void embedding_done(struct embedding *x)
{
    struct buf body = { 0 };
    openai_put_embeddings(&body, front_backend(x->front)->facts.name, x->vectors, x->req.n_inputs, x->n_dim,
                          x->req.base64, x->usage.prompt_tokens);
    answer(x, ERR_OK, &body);
    buf_fini(&body);
}

/* dst = src scaled to length 1; zeroes stay zeroes. */
static void normalise(float *dst, const float *src, int n)
{
    double square = 0;
    for (int i = 0; i < n; i++)
        square += (double)src[i] * (double)src[i];
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int i = 0; i < n; i++)
        dst[i] = (float)((double)src[i] * scale);
}

static void on_finished(struct text *t, const struct front_event *ev)
{
    struct embedding *x = t->x;
    if (ev->finish == FINISH_CANCELLED) {
        embedding_fail(x, ERR_CANCELLED, "the cluster gave the request up");
        return;
    }
    if (ev->n_embedding != x->n_dim) {
        embedding_fail(x, ERR_PEER, "an embedding of another length came back");
        return;
    }
    normalise(x->vectors + (size_t)t->i * (size_t)x->n_dim, ev->embedding, x->n_dim);
    x->usage.prompt_tokens += (uint64_t)ev->n_prompt;
    x->n_live--;
    x->n_done++;
    if (x->n_done == x->req.n_inputs)
        embedding_done(x);
    else if (x->next < x->req.n_inputs)
        timer_start(x->timer, 0);
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct text *t = ctx;
    if (ev->kind == FRONT_TOKEN)
        return;
    t->live = false;
    if (ev->kind == FRONT_FAILED)
        embedding_fail(t->x, ev->code, ev->reason);
    else
        on_finished(t, ev);
}

static err text_submit(struct embedding *x, struct text *t, struct why *why)
{
    const struct openai_prompt *p = &x->req.inputs[t->i];
    struct front_request f = {
        .text = p->text.text, .text_len = p->text.len, .ids = p->ids, .n_ids = p->n_ids,
        .add_special = x->req.add_special_tokens, .embed = true, .n_choices = 1, .have_seed = true,
        .sampling = { .top_p = 1, .repetition_penalty = 1 }, .priority = x->req.priority, .key = x->key,
    };
    err e = served_find(&front_backend(x->front)->facts, x->req.model.text, x->req.model.len, &f.adapter, why);
    if (e == ERR_OK)
        e = front_submit(x->front, &f, on_event, t, &t->handle, why);
    if (e == ERR_OK) {
        t->live = true;
        x->n_live++;
    }
    return e;
}

/* Submits as many inputs as fit the window. The request may be gone afterwards. */
static void timer_cb(void *ctx)
{
    struct embedding *x = ctx;
    struct why why;
    while (x->next < x->req.n_inputs && x->n_live < WINDOW) {
        err e = text_submit(x, &x->texts[x->next], &why);
        if (e == ERR_FULL && x->n_live + x->n_done > 0) { /* what is under way makes room */
            if (x->n_live == 0)
                timer_start(x->timer, RETRY_US);
            return;
        }
        if (e != ERR_OK) {
            embedding_fail(x, e, why.text);
            return;
        }
        x->next++;
    }
}

static err check(const struct openai_embed *req, const struct model_facts *facts, struct fault *fault)
{
    err e = ERR_OK;
    struct why *why = &fault->why;
    fault->param = "model";
    if (!completion_model_served(facts, req->model, why))
        return ERR_NOTFOUND;
    fault->param = NULL;
    if (facts->n_embedding == 0)
        FAIL(ERR_UNSUPPORTED, "the model generates text; it gives no embeddings");
    fault->param = "dimensions";
    if (req->dimensions && req->dimensions != facts->n_embedding)
        FAIL(ERR_INVAL, "dimensions: the model's embeddings have %d, not %d", facts->n_embedding, req->dimensions);
    fault->param = NULL;
out:
    return e;
}

err embedding_start(struct openai_embed *req, const struct completion_options *o, struct embedding **out,
                    struct fault *fault)
{
    const struct model_facts *facts = &front_backend(o->front)->facts;
    struct embedding *x = NULL;
    struct why *why = &fault->why;
    err e;
    TRY(check(req, facts, fault));
    if (!(x = calloc(1, sizeof *x)))
        FAIL(ERR_NOMEM, "no memory for the request");
    *x = (struct embedding){ .front = o->front, .outlet = o->outlet, .ctx = o->ctx, .req = *req,
                             .n_dim = facts->n_embedding };
    *req = (struct openai_embed){ 0 };
    snprintf(x->key, sizeof x->key, "%s", o->key ? o->key : "");
    x->timer = timer_open(o->base, timer_cb, x);
    x->texts = calloc((size_t)x->req.n_inputs, sizeof *x->texts);
    x->vectors = calloc((size_t)x->req.n_inputs * (size_t)x->n_dim, sizeof *x->vectors);
    if (!x->timer || !x->texts || !x->vectors)
        FAIL(ERR_NOMEM, "no memory for the request");
    for (int i = 0; i < x->req.n_inputs; i++)
        x->texts[i] = (struct text){ .x = x, .i = i };
    timer_start(x->timer, 0);
    *out = x;
    x = NULL;
out:
    if (x)
        embedding_free(x);
    if (e != ERR_OK)
        openai_embed_fini(req);
    return e;
}
