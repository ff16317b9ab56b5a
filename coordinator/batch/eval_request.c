/* eval_request.c - see eval_request.h. */
#include "coordinator/batch/eval_request.h"

static void take_token(struct eval_request *q, const struct front_event *ev)
{
    if (!ev->prompt)
        return;
    q->logprob += (double)ev->logprob;
    q->n_scored++;
    q->greedy = q->greedy && ev->n_top > 0 && ev->top[0].token == ev->token;
}

static void on_event(void *ctx, const struct front_event *ev)
{
    struct eval_request *q = ctx;
    switch (ev->kind) {
    case FRONT_TOKEN:
        take_token(q, ev);
        break;
    case FRONT_FINISHED:
        q->live = false;
        q->n_prompt = ev->n_prompt;
        q->n_cached = ev->n_cached;
        if (ev->finish == FINISH_CANCELLED)
            q->done(q->ctx, q, ERR_CANCELLED, "the cluster gave the request up");
        else
            q->done(q->ctx, q, ERR_OK, NULL);
        break;
    case FRONT_FAILED:
        q->live = false;
        q->done(q->ctx, q, ev->code, ev->reason);
        break;
    }
}

err eval_request_send(struct eval_request *q, const struct eval_question *x, eval_done_fn *done, void *ctx,
                      struct why *why)
{
    struct front_request req = {
        .ids = x->ids, .n_ids = x->n_ids, .n_choices = 1, .max_tokens = 0, .echo = true, .echo_from = x->from,
        .logprobs = true, .n_top = 1, .no_text = true, .key = "eval", .have_seed = true, .adapter = x->adapter,
        .sampling = { .top_p = 1, .repetition_penalty = 1 },
    };
    *q = (struct eval_request){ .front = x->front, .greedy = true, .done = done, .ctx = ctx };
    err e = front_submit(x->front, &req, on_event, q, &q->handle, why);
    q->live = e == ERR_OK;
    return e;
}

void eval_request_cancel(struct eval_request *q)
{
    if (q->live)
        front_cancel(q->front, q->handle);
    q->live = false;
}

bool eval_passing(err code)
{
    return code == ERR_FULL || code == ERR_AGAIN || code == ERR_PEER || code == ERR_TIMEOUT ||
           code == ERR_CANCELLED || code == ERR_NOMEM || code == ERR_IO;
}
