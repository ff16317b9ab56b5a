/* front.c - see front.h.
 *
 * A call is one front_request, a choice is one id-level request of it. A choice is
 * `done` when its last event went out (or will never), and `ended` when the backend
 * has said its last word; a stop string makes it done before it is ended. The call
 * goes when all its choices have ended and none of its functions is on the stack
 * (a callback may cancel its own request).
 */
#include "coordinator/front/front.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "coordinator/front/front_prompt.h"
#include "coordinator/front/stop.h"

struct choice {
    struct call *call;
    int index;
    uint64_t handle; /* the backend's, once submitted */
    bool submitted, done, ended, echoed;
    struct tok_stream stream;
    uint32_t stop_at; /* position in the stop automaton */
    struct buf held;  /* text that may become a stop string */
    int n_generated;
    int32_t last;     /* token generated, -1: none */
    size_t n_chars;   /* decoded so far, held ones too */
};

struct call {
    LIST_ENTRY(call) link;
    struct front *front; /* NULL: the front is closed */
    uint64_t handle;
    front_event_fn *fn;
    void *ctx;
    struct tok_ids prompt;
    int32_t *end; /* [n_end] */
    int n_end;
    struct stop_set *stops; /* NULL: none */
    struct gen_request gen; /* what all choices share; arrays are the caller's, for submit only */
    uint64_t seed;
    int min_tokens;
    bool echo, no_text, dead;
    int echo_from;
    int n_choices, n_open, busy;
    struct choice choice[]; /* [n_choices] */
};

struct front {
    struct backend *backend;
    const struct tokenizer *tok;
    uint64_t next;
    struct buf raw, text; /* of the event that is being built */
    LIST_HEAD(, call) calls;
};

/* ---- life of a call ------------------------------------------------------------------ */

static void call_free(struct call *c)
{
    for (int i = 0; i < c->n_choices; i++) {
        if (!c->no_text)
            tok_stream_fini(&c->choice[i].stream);
        buf_fini(&c->choice[i].held);
    }
    stop_close(c->stops);
    tok_ids_fini(&c->prompt);
    free(c->end);
    free(c);
}

static void call_release(struct call *c)
{
    if (--c->busy > 0 || c->n_open > 0)
        return;
    if (c->front)
        LIST_REMOVE(c, link);
    call_free(c);
}

/* Tells the backend to stop what still runs; no events follow. */
static void call_kill(struct call *c)
{
    struct backend *b = c->front->backend;
    c->dead = true;
    c->busy++;
    for (int i = 0; i < c->n_choices; i++)
        if (c->choice[i].submitted && !c->choice[i].ended)
            backend_cancel(b, c->choice[i].handle);
    call_release(c);
}

/* ---- events go out -------------------------------------------------------------------- */

static struct front_event event_make(const struct choice *ch, enum front_kind kind)
{
    const struct call *c = ch->call;
    return (struct front_event){
        .kind = kind, .choice = ch->index, .token = -1, .text = "", .raw = "", .logprob = NAN,
        .prompt_ids = c->prompt.id, .n_prompt = (int)c->prompt.n, .n_generated = ch->n_generated,
        .stop_id = -1, .seed = c->seed,
    };
}

static void event_send(struct choice *ch, const struct front_event *ev)
{
    if (ev->kind != FRONT_TOKEN)
        ch->done = true;
    ch->call->fn(ch->call->ctx, ev);
}

static void choice_fail(struct choice *ch, err code, const char *reason)
{
    struct front_event ev = event_make(ch, FRONT_FAILED);
    ev.code = code;
    ev.reason = reason ? reason : err_text(code);
    event_send(ch, &ev);
}

static size_t count_chars(const struct buf *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += ((unsigned char)b->data[i] & 0xc0) != 0x80;
    return n;
}

/* Takes new text through the stop automaton. Sets ev->text to what may be shown
 * (in ch->held until text_shown()) and returns the stop string that matched, or -1. */
static int text_filter(struct choice *ch, const struct buf *text, bool last, struct front_event *ev)
{
    const struct call *c = ch->call;
    int match = -1;
    size_t keep = 0;
    if (c->stops && ch->n_generated >= c->min_tokens) {
        size_t used = stop_feed(c->stops, &ch->stop_at, text->data, text->len, &match);
        buf_put(&ch->held, text->data, used);
        keep = match >= 0 ? stop_length(c->stops, match) : last ? 0 : stop_held(c->stops, ch->stop_at);
    } else {
        buf_put(&ch->held, text->data, text->len);
    }
    ev->text = ch->held.data ? ch->held.data : "";
    ev->text_len = ch->held.len - keep;
    return match;
}

static void text_shown(struct choice *ch, size_t len)
{
    buf_drop(&ch->held, len);
}

/* The last event of a choice that did not fail. in: the backend's; NULL when a stop
 * string came first. */
static void choice_finish(struct choice *ch, enum finish finish, int match, int32_t stop_id,
                          const struct gen_event *in)
{
    const struct call *c = ch->call;
    struct front_event ev = event_make(ch, FRONT_FINISHED);
    struct why why;
    ev.finish = finish;
    ev.stop_id = stop_id;
    if (in) {
        ev.n_cached = in->n_cached;
        ev.embedding = in->embedding;
        ev.n_embedding = in->n_embedding;
    }
    if (!c->no_text && match < 0) { /* what is held can become nothing more */
        struct buf *tail = &c->front->text;
        buf_clear(tail);
        if (tok_stream_end(&ch->stream, tail, &why) != ERR_OK) {
            choice_fail(ch, ERR_NOMEM, why.text);
            return;
        }
        match = text_filter(ch, tail, true, &ev);
    }
    if (match >= 0) {
        ev.finish = FINISH_STOP;
        ev.stop = stop_text(c->stops, match);
        ev.stop_len = stop_length(c->stops, match);
        ev.stop_id = -1;
    }
    event_send(ch, &ev);
}

/* ---- tokens come in ---------------------------------------------------------------------- */

/* Models pad their vocabulary: ids behind the tokenizer's last piece are valid and
 * stand for no text. */
static bool has_piece(const struct front *f, int32_t token)
{
    return token < tokenizer_size(f->tok);
}

static bool is_end(const struct call *c, int32_t token)
{
    for (int i = 0; i < c->n_end; i++)
        if (c->end[i] == token)
            return true;
    return false;
}

/* Decodes one token into the front's scratch and the event. Returns the stop string
 * that it completed, -1, or -2 after a failure (the event for it went out). */
static int token_decode(struct choice *ch, bool prompt, struct front_event *ev)
{
    struct call *c = ch->call;
    struct front *f = c->front;
    struct why why;
    int match = -1;
    buf_clear(&f->raw);
    buf_clear(&f->text);
    ev->offset = ch->n_chars;
    err e = front_token_bytes(f, ev->token, &f->raw, &why);
    /* A token that ends the text is no part of it. */
    if (e == ERR_OK && (prompt || !is_end(c, ev->token)) && has_piece(f, ev->token))
        e = tok_stream_push(&ch->stream, ev->token, &f->text, &why);
    if (e == ERR_OK && (f->raw.failed || f->text.failed))
        e = why_set(&why, ERR_NOMEM, "no memory for a token's text");
    if (e != ERR_OK) {
        choice_fail(ch, e, why.text);
        if (!ch->ended)
            backend_cancel(f->backend, ch->handle);
        return -2;
    }
    ev->raw = f->raw.data ? f->raw.data : "";
    ev->raw_len = f->raw.len;
    ch->n_chars += count_chars(&f->text);
    if (prompt) {
        ev->text = f->text.data ? f->text.data : "";
        ev->text_len = f->text.len;
    } else {
        match = text_filter(ch, &f->text, false, ev);
    }
    return match;
}

static void choice_token(struct choice *ch, const struct gen_event *in, bool prompt, int32_t token)
{
    struct call *c = ch->call;
    int match = -1;
    if (!prompt) {
        ch->n_generated++;
        ch->last = token;
    }
    struct front_event ev = event_make(ch, FRONT_TOKEN);
    ev.prompt = prompt;
    ev.token = token;
    ev.has_logprob = in && c->gen.logprobs;
    if (ev.has_logprob) {
        ev.logprob = in->logprob;
        ev.n_top = in->n_top;
        ev.top = in->top;
    }
    if (!c->no_text && (match = token_decode(ch, prompt, &ev)) == -2)
        return;
    event_send(ch, &ev);
    if (c->dead)
        return;
    if (!prompt)
        text_shown(ch, ev.text_len);
    if (match >= 0) {
        choice_finish(ch, FINISH_STOP, match, -1, NULL);
        if (!ch->ended && !c->dead)
            backend_cancel(c->front->backend, ch->handle);
    }
}

/* An echo without log-probabilities needs nothing from the backend. */
static void choice_echo(struct choice *ch)
{
    struct call *c = ch->call;
    if (ch->echoed || !c->echo || c->gen.score_prompt)
        return;
    ch->echoed = true;
    for (size_t i = (size_t)c->echo_from; i < c->prompt.n && !c->dead && !ch->done; i++)
        choice_token(ch, NULL, true, c->prompt.id[i]);
}

static void on_gen(void *ctx, const struct gen_event *in)
{
    struct choice *ch = ctx;
    struct call *c = ch->call;
    bool last = in->kind == GEN_FINISHED || in->kind == GEN_FAILED;
    c->busy++;
    if (last && !ch->ended) {
        ch->ended = true;
        c->n_open--;
    }
    if (!c->dead && !ch->done && (in->kind == GEN_TOKEN || in->kind == GEN_FINISHED))
        choice_echo(ch);
    if (!c->dead && !ch->done) {
        switch (in->kind) {
        case GEN_PROMPT:
            if (c->echo)
                choice_token(ch, in, true, in->token);
            break;
        case GEN_TOKEN:
            choice_token(ch, in, false, in->token);
            break;
        case GEN_FINISHED:
            choice_finish(ch, in->finish, -1, in->finish == FINISH_STOP ? ch->last : -1, in);
            break;
        case GEN_FAILED:
            choice_fail(ch, in->code, in->reason);
            break;
        }
    }
    call_release(c);
}

/* ---- submit ---------------------------------------------------------------------------------- */

/* The model's own end tokens and the request's. */
static err ends_make(const struct front *f, const struct front_request *req, struct call *c, struct why *why)
{
    const int32_t *eog = NULL;
    size_t n_eog = f->tok && !req->ignore_eos ? tokenizer_eog(f->tok, &eog) : 0;
    if (req->n_stop_ids < 0 || n_eog + (size_t)req->n_stop_ids > INT_MAX)
        return why_set(why, ERR_LIMIT, "too many stop ids");
    c->end = calloc(n_eog + (size_t)req->n_stop_ids + 1, sizeof *c->end);
    if (!c->end)
        return why_set(why, ERR_NOMEM, "no memory for stop ids");
    for (size_t i = 0; i < n_eog; i++)
        c->end[c->n_end++] = eog[i];
    for (int i = 0; i < req->n_stop_ids; i++)
        c->end[c->n_end++] = req->stop_ids[i];
    return ERR_OK;
}

static err seed_make(const struct front_request *req, uint64_t *seed, struct why *why)
{
    if (req->have_seed) {
        *seed = req->sampling.seed;
        return ERR_OK;
    }
    if (getrandom(seed, sizeof *seed, 0) != (ssize_t)sizeof *seed)
        return why_set(why, ERR_IO, "no random bytes for a seed");
    *seed >>= 1; /* JSON readers know signed 64-bit integers */
    return ERR_OK;
}

/* What the choices' id-level requests have in common. */
static err call_fill(const struct front *f, const struct front_request *req, struct call *c, struct why *why)
{
    err e;
    bool encoder = f->backend->facts.n_embedding > 0;
    if (encoder != req->embed)
        FAIL(ERR_UNSUPPORTED, encoder ? "the model is an encoder: it gives embeddings, not text"
                                      : "the model generates text; it gives no embeddings");
    TRY(front_sampling_check(req, f->backend->facts.n_vocab, why));
    TRY(front_prompt_make(req, f->tok, f->backend->facts.n_vocab, &c->prompt, why));
    if (req->echo_from < 0 || (size_t)req->echo_from >= c->prompt.n)
        FAIL(ERR_INVAL, "echo from prompt token %d on, the prompt has %zu", req->echo_from, c->prompt.n);
    TRY(ends_make(f, req, c, why));
    TRY(seed_make(req, &c->seed, why));
    if (req->n_stop > 0 && !req->no_text)
        TRY(stop_open(req->stop, req->n_stop, &c->stops, why));
    c->gen = (struct gen_request){
        .ids = c->prompt.id, .n_ids = (int)c->prompt.n, .resume = req->resume, .n_resume = req->n_resume,
        .sampling = req->sampling, .logprobs = req->logprobs, .n_top = req->logprobs ? req->n_top : 0,
        .score_prompt = req->echo && req->logprobs, .score_from = req->echo && req->logprobs ? req->echo_from : 0,
        .embed = req->embed, .priority = req->priority, .key = req->key,
        .adapter = req->adapter,
    };
    TRY(front_room(req, c->prompt.n, f->backend->facts.max_context, &c->gen.max_tokens, why));
    c->gen.sampling.seed = c->seed;
    c->gen.sampling.min_tokens = req->min_tokens;
    c->gen.sampling.end = c->end;
    c->gen.sampling.n_end = c->n_end;
    c->min_tokens = req->min_tokens;
    c->echo = req->echo;
    c->echo_from = req->echo_from;
    c->no_text = req->no_text; /* from here on streams exist */
    for (int i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choice[i];
        ch->call = c;
        ch->index = i;
        ch->n_generated = req->n_resume;
        ch->last = req->n_resume > 0 ? req->resume[req->n_resume - 1] : -1;
        if (!req->no_text)
            tok_stream_init(&ch->stream, f->tok, true, req->echo);
    }
out:
    return e;
}

static err call_submit(struct front *f, struct call *c, struct why *why)
{
    err e = ERR_OK;
    uint32_t first = c->gen.sampling.choice;
    for (int i = 0; i < c->n_choices; i++) {
        struct gen_request gen = c->gen;
        gen.sampling.choice = first + (uint32_t)i;
        e = backend_submit(f->backend, &gen, on_gen, &c->choice[i], &c->choice[i].handle, why);
        if (e != ERR_OK)
            break;
        c->choice[i].submitted = true;
        c->n_open++;
    }
    return e;
}

err front_submit(struct front *f, const struct front_request *req, front_event_fn *fn, void *ctx,
                 uint64_t *handle, struct why *why)
{
    err e;
    struct call *c = NULL;
    if (req->n_choices < 1 || req->n_choices > 4096)
        FAIL(ERR_INVAL, "n must be between 1 and 4096, not %d", req->n_choices);
    if (!req->no_text && !f->tok)
        FAIL(ERR_UNSUPPORTED, "text needs a tokenizer");
    c = calloc(1, sizeof *c + (size_t)req->n_choices * sizeof c->choice[0]);
    if (!c)
        FAIL(ERR_NOMEM, "no memory for a request");
    c->no_text = true; /* no streams to free yet */
    c->n_choices = req->n_choices;
    c->fn = fn;
    c->ctx = ctx;
    TRY(call_fill(f, req, c, why));
    c->front = f;
    c->handle = ++f->next;
    LIST_INSERT_HEAD(&f->calls, c, link);
    e = call_submit(f, c, why);
    c->gen.resume = NULL; /* the caller's */
    if (e != ERR_OK) {
        call_kill(c);
        c = NULL;
        goto out;
    }
    *handle = c->handle;
    return ERR_OK;
out:
    if (c)
        call_free(c);
    return e;
}

/* ---- the rest ------------------------------------------------------------------------------------ */

void front_cancel(struct front *f, uint64_t handle)
{
    struct call *c;
    LIST_FOREACH(c, &f->calls, link)
        if (c->handle == handle && !c->dead) {
            call_kill(c);
            return;
        }
}

err front_open(struct backend *b, const struct tokenizer *tok, struct front **out, struct why *why)
{
    struct front *f = calloc(1, sizeof *f);
    if (!f)
        return why_set(why, ERR_NOMEM, "no memory for the front");
    f->backend = b;
    f->tok = tok;
    *out = f;
    return ERR_OK;
}

void front_close(struct front *f)
{
    struct call *c, *next;
    if (!f)
        return;
    for (c = LIST_FIRST(&f->calls); c; c = next) {
        next = LIST_NEXT(c, link);
        c->busy++;
        call_kill(c);
        LIST_REMOVE(c, link);
        c->front = NULL;
        call_release(c);
    }
    buf_fini(&f->raw);
    buf_fini(&f->text);
    free(f);
}

err front_token_bytes(const struct front *f, int32_t token, struct buf *out, struct why *why)
{
    if (!has_piece(f, token))
        return ERR_OK;
    if (tokenizer_type(f->tok, token) != TOKEN_CONTROL)
        return tokenizer_token_bytes(f->tok, token, out, why);
    size_t len = 0;
    const char *name = tokenizer_piece(f->tok, token, &len);
    if (!name)
        return why_set(why, ERR_INVAL, "token id %d is not in the vocabulary", token);
    buf_put(out, name, len);
    return ERR_OK;
}

const struct tokenizer *front_tokenizer(const struct front *f)
{
    return f->tok;
}

struct backend *front_backend(const struct front *f)
{
    return f->backend;
}
