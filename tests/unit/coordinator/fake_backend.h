/* fake_backend.h - a backend without a model, and a tokenizer of a few hundred
 * pieces, for tests of everything above the pipeline.
 *
 * What a token is followed by depends on the prompt, the position, the choice and
 * adapter, (unless greedy) the seed, and on nothing else, so a replay or another batch must
 * give the same tokens: the promise that the real one makes. Each fake_turn() gives
 * every live request one event.
 */
#ifndef CORDEE_TESTS_FAKE_BACKEND_H
#define CORDEE_TESTS_FAKE_BACKEND_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/backend.h"
#include "tokenizer/tokenizer.h"

/* ---- the tokenizer: SentencePiece style, byte fallback, letters and a few words ------ */

enum { FAKE_UNK, FAKE_BOS, FAKE_EOS, FAKE_BYTE0, FAKE_LETTER0 = FAKE_BYTE0 + 256 };

static inline struct tokenizer *fake_tokenizer(void)
{
    static const char *const words[] = { "\xe2\x96\x81", "\xe2\x96\x81t", "he", "\xe2\x96\x81the", "er", "in", "on" };
    static char names[512][12];
    struct tok_piece pieces[512];
    size_t n = 0;
#define PIECE(s, sc, ty) (pieces[n] = (struct tok_piece){ (s), (uint32_t)strlen(s), (sc), (ty) }, n++)
    PIECE("<unk>", 0, TOKEN_UNKNOWN);
    PIECE("<s>", 0, TOKEN_CONTROL);
    PIECE("</s>", 0, TOKEN_CONTROL);
    for (int i = 0; i < 256; i++) {
        snprintf(names[i], sizeof names[i], "<0x%02X>", i);
        PIECE(names[i], 0, TOKEN_BYTE);
    }
    for (int c = 33; c < 127; c++) {
        names[256 + c][0] = (char)c;
        names[256 + c][1] = 0;
        PIECE(names[256 + c], -100, TOKEN_NORMAL);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        PIECE(words[i], -(float)i - 1, TOKEN_NORMAL);
#undef PIECE
    struct tok_tables t = { .model = TOK_SPM, .pieces = pieces, .n_pieces = n, .bos = FAKE_BOS, .eos = FAKE_EOS,
                            .unk = FAKE_UNK, .pad = -1, .sep = -1, .cls = -1, .mask = -1, .add_bos = true,
                            .add_space_prefix = false, .escape_spaces = true };
    struct tokenizer *out = NULL;
    struct why why;
    if (tokenizer_open(&t, &out, &why) != ERR_OK) {
        fprintf(stderr, "fake tokenizer: %s\n", why.text);
        abort();
    }
    return out;
}

/* ---- the backend ------------------------------------------------------------------------ */

struct fake_request {
    struct fake_request *next;
    uint64_t handle;
    struct gen_request req;
    int32_t *ids, *end, *made;
    int n_made, n_told; /* n_told: prompt scores */
    gen_event_fn *fn;
    void *ctx;
    uint64_t adapter; /* a hash of its name, 0: none */
    int wait; /* turns before the first event */
    bool cancelled, dead;
};

struct fake_backend {
    struct backend backend; /* first */
    struct fake_request *list;
    uint64_t next;
    bool ready;
    int max_queue, n_live, n_submitted, n_cancelled, delay;
    const int32_t *script; /* [n_script] what is generated, over and over; NULL: from the hash */
    int n_script;
    int eos_at; /* the token with this number is EOS; 0: never */
    err refuse; /* submit fails with it */
};

static inline uint64_t fake_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline float fake_logprob(int32_t token, int pos)
{
    return -0.01f - (float)(fake_mix((uint64_t)token * 7919u + (uint64_t)pos) % 100000) / 31415.0f;
}

static inline int32_t fake_next(const struct fake_backend *b, const struct fake_request *r)
{
    const struct sample_params *p = &r->req.sampling;
    uint64_t h = r->adapter;
    if (b->eos_at && r->n_made + 1 == b->eos_at && r->n_made >= p->min_tokens)
        return FAKE_EOS;
    if (b->script)
        return b->script[(r->n_made + (int)p->choice) % b->n_script];
    for (int i = 0; i < r->req.n_ids; i++)
        h = fake_mix(h ^ (uint64_t)(r->ids[i] + 1));
    h = fake_mix(h ^ (uint64_t)(r->req.n_ids + r->n_made));
    if (p->temperature > 0)
        h = fake_mix(h ^ p->seed ^ ((uint64_t)p->choice << 32));
    return FAKE_LETTER0 + (int32_t)(h % 94);
}

static inline err fake_submit(struct backend *bb, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                              uint64_t *handle, struct why *why)
{
    struct fake_backend *b = (struct fake_backend *)bb;
    if (b->refuse != ERR_OK)
        return why_set(why, b->refuse, "the fake refuses");
    if (b->max_queue && b->n_live >= b->max_queue)
        return why_set(why, ERR_FULL, "%d requests are running", b->n_live);
    struct fake_request *r = calloc(1, sizeof *r), **at = &b->list;
    r->req = *req;
    r->ids = malloc((size_t)req->n_ids * sizeof *r->ids);
    memcpy(r->ids, req->ids, (size_t)req->n_ids * sizeof *r->ids);
    r->end = malloc((size_t)(req->sampling.n_end + 1) * sizeof *r->end);
    if (req->sampling.n_end)
        memcpy(r->end, req->sampling.end, (size_t)req->sampling.n_end * sizeof *r->end);
    r->made = malloc((size_t)(req->n_resume + 1) * sizeof *r->made);
    if (req->n_resume)
        memcpy(r->made, req->resume, (size_t)req->n_resume * sizeof *r->made);
    r->n_made = req->n_resume;
    r->n_told = req->score_from;
    for (const char *s = req->adapter; s && *s; s++)
        r->adapter = fake_mix(r->adapter ^ (uint64_t)*s);
    r->fn = fn;
    r->ctx = ctx;
    r->wait = b->delay;
    r->handle = *handle = ++b->next;
    b->n_live++;
    b->n_submitted++;
    while (*at)
        at = &(*at)->next;
    *at = r;
    return ERR_OK;
}

static inline void fake_cancel(struct backend *bb, uint64_t handle)
{
    struct fake_backend *b = (struct fake_backend *)bb;
    for (struct fake_request *r = b->list; r; r = r->next)
        if (r->handle == handle && !r->cancelled && !r->dead) {
            r->cancelled = true;
            b->n_cancelled++;
        }
}

static inline bool fake_ready(const struct backend *bb)
{
    return ((const struct fake_backend *)bb)->ready;
}

static inline void fake_init(struct fake_backend *b, const struct tokenizer *tok)
{
    static const struct backend_ops ops = { fake_submit, fake_cancel, fake_ready };
    *b = (struct fake_backend){ .backend = { .ops = &ops }, .ready = true };
    snprintf(b->backend.facts.name, sizeof b->backend.facts.name, "fake");
    snprintf(b->backend.facts.family, sizeof b->backend.facts.family, "none");
    snprintf(b->backend.facts.fingerprint, sizeof b->backend.facts.fingerprint, "fake-ref");
    b->backend.facts.n_vocab = tok ? tokenizer_size(tok) : 1000;
    b->backend.facts.max_context = 4096;
}

static inline void fake_end(struct fake_backend *b, struct fake_request *r, enum gen_kind kind, enum finish f,
                            err code)
{
    struct gen_event ev = { .kind = kind, .finish = f, .n_prompt = r->req.n_ids, .n_generated = r->n_made,
                            .code = code, .reason = "the fake failed" };
    float embedding[4] = { (float)r->req.n_ids, (float)(r->ids[0] + 1), 0, -1 };
    if (r->req.embed && kind == GEN_FINISHED && f != FINISH_CANCELLED) {
        ev.embedding = embedding;
        ev.n_embedding = 4;
    }
    r->dead = true;
    b->n_live--;
    r->fn(r->ctx, &ev);
}

static inline void fake_step(struct fake_backend *b, struct fake_request *r)
{
    struct gen_event ev = { .n_prompt = r->req.n_ids };
    struct token_logprob top[SAMPLE_MAX_TOP];
    if (r->cancelled) {
        fake_end(b, r, GEN_FINISHED, FINISH_CANCELLED, ERR_OK);
        return;
    }
    if (r->wait-- > 0)
        return;
    bool prompt = r->req.score_prompt && r->n_told < r->req.n_ids;
    if (!prompt && r->n_made > 0)
        for (int i = 0; i < r->req.sampling.n_end; i++)
            if (r->end[i] == r->made[r->n_made - 1]) {
                fake_end(b, r, GEN_FINISHED, FINISH_STOP, ERR_OK);
                return;
            }
    if (!prompt && r->n_made >= r->req.max_tokens) {
        fake_end(b, r, GEN_FINISHED, FINISH_LENGTH, ERR_OK);
        return;
    }
    ev.kind = prompt ? GEN_PROMPT : GEN_TOKEN;
    ev.pos = prompt ? r->n_told : r->req.n_ids + r->n_made;
    ev.token = prompt ? r->ids[r->n_told] : fake_next(b, r);
    ev.logprob = prompt && r->n_told == 0 ? NAN : fake_logprob(ev.token, ev.pos);
    if (!isnan(ev.logprob) && (r->req.logprobs || prompt)) {
        for (int i = 0; i < r->req.n_top; i++) { /* the token itself is the best one at even positions */
            int32_t other = FAKE_LETTER0 + (ev.token + 1 + i) % 94;
            top[i] = (struct token_logprob){ other, ev.logprob - 0.5f * (float)(i + 1) + (float)(ev.pos % 2) };
        }
        if (ev.pos % 2 == 0 && r->req.n_top > 0)
            top[0] = (struct token_logprob){ ev.token, ev.logprob };
        ev.n_top = r->req.n_top;
    }
    ev.top = top;
    if (prompt) {
        r->n_told++;
    } else {
        r->made = realloc(r->made, (size_t)(r->n_made + 2) * sizeof *r->made);
        r->made[r->n_made++] = ev.token;
        ev.n_generated = r->n_made;
    }
    r->fn(r->ctx, &ev);
}

static inline void fake_reap(struct fake_backend *b)
{
    for (struct fake_request **at = &b->list, *r; (r = *at);) {
        if (!r->dead) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        free(r->ids);
        free(r->end);
        free(r->made);
        free(r);
    }
}

/* One event for every live request. False: there was none. */
static inline bool fake_turn(struct fake_backend *b)
{
    bool any = b->list != NULL;
    for (struct fake_request *r = b->list; r; r = r->next)
        if (!r->dead)
            fake_step(b, r);
    fake_reap(b);
    return any;
}

/* What an engine does at its end: everything fails. */
static inline void fake_fail_all(struct fake_backend *b, err code)
{
    for (struct fake_request *r = b->list; r; r = r->next)
        if (!r->dead)
            fake_end(b, r, GEN_FAILED, FINISH_CANCELLED, code);
    fake_reap(b);
}

#endif
