/* encode.c - the way from text to ids, stage by stage.
 *
 * Where control tokens are allowed is a list of runs of the raw text. Matches
 * in the raw text are checked against it directly. In normalised text the runs
 * are found again by normalising each alone: if the results join to the whole,
 * the borders are known; if not, no control token is taken from that segment.
 * In doubt a user's text stays text.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/ids.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/text.h"

enum { MAX_TEXT_BYTES = 256 << 20 };

struct run { /* text[previous end, end) */
    size_t end;
    bool allow;
};

struct job {
    const struct tokenizer *t;
    struct scratch *s;
    const struct run *run; /* of the raw text */
    size_t n_runs;
    struct tok_ids *ids;
    struct why *why;
};

/* Control tokens of one stretch of text: by runs, relative to `base`. */
struct permit {
    const struct run *run;
    size_t n_runs, base;
};

static bool permitted(const void *ctx, size_t from, size_t to)
{
    const struct permit *p = ctx;
    size_t lo = 0, hi = p->n_runs;
    from += p->base;
    to += p->base;
    while (lo < hi) { /* first run that ends behind `from` */
        size_t mid = (lo + hi) / 2;
        if (p->run[mid].end <= from)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->n_runs && p->run[lo].allow && to <= p->run[lo].end;
}

static err model_word(struct job *j, const char *word, size_t len)
{
    const struct tokenizer *t = j->t;
    switch (t->model) {
    case TOK_UNIGRAM:
        return unigram_encode(&t->unigram, &j->s->unigram, word, len, j->ids, j->why);
    case TOK_WORDPIECE:
        return wordpiece_encode(&t->wordpiece, word, len, j->ids, j->why);
    default:
        return bpe_encode(&t->bpe, &j->s->bpe, word, len, j->ids, j->why);
    }
}

static err encode_word(struct job *j, const char *word, size_t len)
{
    uint64_t hash = text_hash(word, len);
    int hit = word_cache_get(j->s->cache, word, len, hash, j->ids);
    if (hit != 0)
        return hit > 0 ? ERR_OK : why_set(j->why, ERR_NOMEM, "tokenizer: %zu ids", j->ids->n);
    size_t first = j->ids->n;
    err e = model_word(j, word, len);
    if (e == ERR_OK && j->ids->n > first)
        word_cache_put(j->s->cache, word, len, hash, j->ids->id + first, j->ids->n - first);
    return e;
}

static err encode_words(struct job *j, const char *text, size_t len, bool at_start)
{
    err e;
    const struct pre_spans *words;
    const char *base;
    bool cuts = (j->t->model == TOK_SPM || j->t->model == TOK_BPE) && j->t->bpe.cut_at_meta;
    TRY(pretokenize(&j->t->pre, &j->s->pre, text, len, at_start, &base, &words, j->why));
    for (size_t i = 0; i < words->n; i++) {
        const char *word = base + words->span[i].at;
        size_t left = words->span[i].len;
        while (left > 0) {
            size_t n = cuts ? bpe_cut(&j->t->bpe, word, left) : left;
            TRY(encode_word(j, word, n));
            word += n;
            left -= n;
        }
    }
    e = ERR_OK;
out:
    return e;
}

/* Normalised text: its own added tokens, and words between them. */
static err encode_normalized(struct job *j, const char *text, size_t len, bool at_start, const struct permit *permit)
{
    err e = ERR_OK;
    size_t done = 0, scan = 0, start, end;
    const struct added_token *token;
    while (added_next(&j->t->normalized, text, len, done, &scan, &start, &end, &token, permitted, permit)) {
        if (start > done)
            TRY(encode_words(j, text + done, start - done, at_start && done == 0));
        TRY(tok_ids_put(j->ids, token->id, j->why));
        done = end;
    }
    if (len > done)
        TRY(encode_words(j, text + done, len - done, at_start && done == 0));
out:
    return e;
}

/* The runs of segment raw[at, at + len) in normalised text of out_len bytes. */
static err runs_of_segment(struct job *j, const char *raw, size_t at, size_t len, const char *out, size_t out_len,
                           struct run *to, size_t *n, struct why *why)
{
    err e = ERR_OK;
    struct buf *joined = &j->s->runs;
    struct norm_scratch own = {0};
    buf_clear(joined);
    *n = 0;
    for (size_t i = 0, from = at; i < j->n_runs && from < at + len; i++) {
        size_t end = j->run[i].end < at + len ? j->run[i].end : at + len, part_len;
        if (end <= from)
            continue;
        const char *part;
        TRY(normalize(&j->t->norm, &own, raw + from, end - from, from == at, &part, &part_len, why));
        buf_put(joined, part, part_len);
        to[(*n)++] = (struct run){joined->len, j->run[i].allow};
        from = end;
    }
    if (joined->failed)
        FAIL(ERR_NOMEM, "tokenizer: normalising %zu bytes", len);
    if (joined->len != out_len || (out_len > 0 && memcmp(joined->data, out, out_len) != 0))
        *n = 0; /* borders unknown: allow nothing */
out:
    norm_scratch_fini(&own);
    return e;
}

/* raw[at, at + len): text between added tokens of the raw text. */
static err encode_segment(struct job *j, const char *raw, size_t at, size_t len)
{
    err e;
    const char *text;
    size_t text_len;
    struct run one, *runs = NULL;
    struct permit permit = {0};

    TRY(normalize(&j->t->norm, &j->s->norm, raw + at, len, true, &text, &text_len, j->why));
    if (j->t->normalized_special) {
        struct permit whole = {j->run, j->n_runs, at};
        if (permitted(&whole, 0, len)) {
            one = (struct run){text_len, true};
            permit = (struct permit){&one, 1, 0};
        } else {
            runs = malloc(j->n_runs * sizeof *runs);
            if (!runs) {
                e = why_set(j->why, ERR_NOMEM, "tokenizer: %zu spans", j->n_runs);
                goto out;
            }
            TRY(runs_of_segment(j, raw, at, len, text, text_len, runs, &permit.n_runs, j->why));
            permit.run = runs;
        }
    }
    e = encode_normalized(j, text, text_len, at == 0, &permit);
out:
    free(runs);
    return e;
}

static err encode_text(struct job *j, const char *text, size_t len, unsigned flags)
{
    err e = ERR_OK;
    const struct tokenizer *t = j->t;
    struct permit permit = {j->run, j->n_runs, 0};
    size_t done = 0, scan = 0, start, end;
    const struct added_token *token;

    for (size_t i = 0; (flags & ENCODE_ADD_SPECIAL) && i < t->n_before; i++)
        TRY(tok_ids_put(j->ids, t->before[i], j->why));
    while (added_next(&t->raw, text, len, done, &scan, &start, &end, &token, permitted, &permit)) {
        if (start > done)
            TRY(encode_segment(j, text, done, start - done));
        TRY(tok_ids_put(j->ids, token->id, j->why));
        done = end;
    }
    if (len > done)
        TRY(encode_segment(j, text, done, len - done));
    for (size_t i = 0; (flags & ENCODE_ADD_SPECIAL) && i < t->n_after; i++)
        TRY(tok_ids_put(j->ids, t->after[i], j->why));
out:
    return e;
}

static err check_text(const char *text, size_t len, struct why *why)
{
    if (len > MAX_TEXT_BYTES)
        return why_set(why, ERR_LIMIT, "text of %zu bytes; at most %d can be tokenized at once", len, MAX_TEXT_BYTES);
    size_t valid = len > 0 ? utf8_valid_prefix(text, len) : 0;
    if (valid != len)
        return why_set(why, ERR_INVAL, "text is not UTF-8 at byte %zu", valid);
    return ERR_OK;
}

static err encode_runs(const struct tokenizer *t, struct scratch *s, const char *text, size_t len,
                       const struct run *run, size_t n_runs, unsigned flags, struct tok_ids *ids, struct why *why)
{
    size_t before = ids->n;
    err e = check_text(text, len, why);
    if (e != ERR_OK)
        return e;
    struct job j = {.t = t, .s = s, .run = run, .n_runs = n_runs, .ids = ids, .why = why};
    e = encode_text(&j, text, len, flags);
    if (e != ERR_OK)
        ids->n = before;
    return e;
}

err tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags, struct tok_ids *ids,
                     struct why *why)
{
    struct scratch *s;
    struct run run = {len, flags & ENCODE_PARSE_SPECIAL};
    err e = scratch_begin(t, &s, why);
    if (e != ERR_OK)
        return e;
    e = encode_runs(t, s, text, len, &run, 1, flags, ids, why);
    scratch_end(t, s);
    return e;
}

err tokenizer_encode_spans(const struct tokenizer *t, const struct tok_span *spans, size_t n, unsigned flags,
                           struct tok_ids *ids, struct why *why)
{
    err e;
    struct scratch *s = NULL;
    struct run *run = NULL;
    size_t n_runs = 0;

    TRY(scratch_begin(t, &s, why));
    run = malloc((n + 1) * sizeof *run);
    if (!run)
        FAIL(ERR_NOMEM, "tokenizer: %zu spans", n);
    buf_clear(&s->joined);
    for (size_t i = 0; i < n; i++) {
        if (spans[i].len == 0)
            continue;
        buf_put(&s->joined, spans[i].text, spans[i].len);
        if (n_runs > 0 && run[n_runs - 1].allow == spans[i].parse_special)
            n_runs--;
        run[n_runs++] = (struct run){s->joined.len, spans[i].parse_special};
    }
    if (s->joined.failed)
        FAIL(ERR_NOMEM, "tokenizer: text of %zu spans", n);
    e = encode_runs(t, s, s->joined.len > 0 ? s->joined.data : "", s->joined.len, run, n_runs, flags, ids, why);
out:
    free(run);
    if (s)
        scratch_end(t, s);
    return e;
}
