/* pretok.c - running the steps.
 *
 * A cutting step first lists the matches and gaps of a span, then applies the
 * behaviour; with PRE_ISOLATED, by far the commonest, both are one.
 */
#include "tokenizer/pretok.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/text.h"

/* Gap or match inside one span; the flag rides in the top bit of len. */
#define IS_MATCH 0x80000000u
#define LEN(s) ((s).len & ~IS_MATCH)

void pre_list_fini(struct pre_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        regex_close(l->step[i].regex);
        free(l->step[i].text);
    }
    *l = (struct pre_list){0};
}

void pre_scratch_fini(struct pre_scratch *s)
{
    for (int i = 0; i < 2; i++) {
        buf_fini(&s->text[i]);
        free(s->spans[i].span);
    }
    free(s->found.span);
    regex_scratch_fini(&s->regex);
}

err pre_list_add(struct pre_list *l, struct pre_step step, struct why *why)
{
    if (l->n == PRE_MAX_STEPS) {
        regex_close(step.regex);
        free(step.text);
        return why_set(why, ERR_UNSUPPORTED, "tokenizer: more than %d pre-tokenizer steps", PRE_MAX_STEPS);
    }
    l->step[l->n++] = step;
    return ERR_OK;
}

err pre_list_add_regex(struct pre_list *l, const char *pattern, size_t len, enum pre_behavior behavior, bool invert,
                       struct why *why)
{
    struct pre_step step = {.kind = PRE_REGEX, .behavior = behavior, .invert = invert};
    err e = regex_open(pattern, len, &step.regex, why);
    return e == ERR_OK ? pre_list_add(l, step, why) : e;
}

static err grow(struct pre_spans *l, struct why *why)
{
    size_t cap = l->cap ? l->cap * 2 : 64;
    struct pre_span *span = realloc(l->span, cap * sizeof *span);
    if (!span)
        return why_set(why, ERR_NOMEM, "tokenizer: %zu words", cap);
    l->span = span;
    l->cap = cap;
    return ERR_OK;
}

static inline err put(struct pre_spans *l, size_t at, size_t len, uint32_t flag, struct why *why)
{
    if (len == 0)
        return ERR_OK;
    if (l->n == l->cap) {
        err e = grow(l, why);
        if (e != ERR_OK)
            return e;
    }
    l->span[l->n++] = (struct pre_span){(uint32_t)at, (uint32_t)len | flag};
    return ERR_OK;
}

static err find_regex(const struct pre_step *st, struct regex_scratch *rs, const char *text, struct pre_span in,
                      struct pre_spans *out, uint32_t flag, struct why *why)
{
    err e;
    const char *s = text + in.at;
    size_t done = 0, from = 0;
    while (from <= in.len) {
        size_t start, end;
        bool found;
        TRY(regex_find(st->regex, rs, s, in.len, from, &start, &end, &found, why));
        if (!found)
            break;
        TRY(put(out, in.at + done, start - done, flag ^ IS_MATCH, why));
        TRY(put(out, in.at + start, end - start, flag, why));
        done = end;
        from = end > start ? end : end < in.len ? end + utf8_size((unsigned char)s[end]) : in.len + 1;
    }
    TRY(put(out, in.at + done, in.len - done, flag ^ IS_MATCH, why));
out:
    return e;
}

static err find_string(const struct pre_step *st, const char *text, struct pre_span in, struct pre_spans *out,
                       uint32_t flag, struct why *why)
{
    err e = ERR_OK;
    size_t done = 0;
    while (st->text_len > 0) {
        const char *at = memmem(text + in.at + done, in.len - done, st->text, st->text_len);
        if (!at)
            break;
        size_t start = (size_t)(at - text) - in.at;
        TRY(put(out, in.at + done, start - done, flag ^ IS_MATCH, why));
        TRY(put(out, in.at + start, st->text_len, flag, why));
        done = start + st->text_len;
    }
    TRY(put(out, in.at + done, in.len - done, flag ^ IS_MATCH, why));
out:
    return e;
}

/* Each character of the class is a match of its own; behaviours join them. */
static err find_class(const struct pre_step *st, const char *text, struct pre_span in, struct pre_spans *out,
                      uint32_t flag, struct why *why)
{
    err e = ERR_OK;
    size_t done = 0;
    for (size_t i = 0, n; i < in.len; i += n) {
        uint32_t cp = utf8_get(text + in.at + i, &n);
        bool hit = st->kind == PRE_DIGITS  ? cp_is_numeric(cp)
                   : st->kind == PRE_PUNCT ? cp_is_punct(cp)
                                           : cp_is_space(cp);
        if (!hit)
            continue;
        TRY(put(out, in.at + done, i - done, flag ^ IS_MATCH, why));
        TRY(put(out, in.at + i, n, flag, why));
        done = i + n;
    }
    TRY(put(out, in.at + done, in.len - done, flag ^ IS_MATCH, why));
out:
    return e;
}

static err find(const struct pre_step *st, struct regex_scratch *rs, const char *text, struct pre_span in,
                struct pre_spans *out, struct why *why)
{
    uint32_t flag = st->invert ? 0 : IS_MATCH;
    switch (st->kind) {
    case PRE_REGEX:
        return find_regex(st, rs, text, in, out, flag, why);
    case PRE_STRING:
        return find_string(st, text, in, out, flag, why);
    default:
        return find_class(st, text, in, out, flag, why);
    }
}

/* Turns the gaps and matches of one span into words. */
static err join(enum pre_behavior behavior, const struct pre_spans *in, struct pre_spans *out, struct why *why)
{
    err e = ERR_OK;
    uint32_t before = 0;
    size_t first = out->n;
    for (size_t i = 0; i < in->n; i++) {
        struct pre_span x = in->span[i];
        uint32_t match = x.len & IS_MATCH;
        bool glue = false; /* to the word before */
        switch (behavior) {
        case PRE_REMOVED:
            if (match)
                continue;
            break;
        case PRE_CONTIGUOUS:
            glue = i > 0 && match == before;
            break;
        case PRE_MERGED_PREVIOUS:
            glue = match && !before && out->n > first;
            break;
        case PRE_MERGED_NEXT: /* a match and the gap behind it; of a run of matches, the last */
            glue = i > 0 && before && !match;
            break;
        case PRE_ISOLATED:
            break;
        }
        if (glue)
            out->span[out->n - 1].len += LEN(x);
        else
            TRY(put(out, x.at, LEN(x), 0, why));
        before = match;
    }
out:
    return e;
}

static err cut(const struct pre_step *st, struct pre_scratch *s, const char *text, const struct pre_spans *in,
               struct pre_spans *out, struct why *why)
{
    err e = ERR_OK;
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        if (st->behavior == PRE_ISOLATED) { /* matches and gaps are the words */
            size_t first = out->n;
            TRY(find(st, &s->regex, text, in->span[i], out, why));
            for (size_t j = first; j < out->n; j++)
                out->span[j].len &= ~IS_MATCH;
        } else {
            s->found.n = 0;
            TRY(find(st, &s->regex, text, in->span[i], &s->found, why));
            TRY(join(st->behavior, &s->found, out, why));
        }
    }
out:
    return e;
}

/* Rewrites s[0..len) in the printable alphabet, in pieces through the stack. */
static void put_printable(const char *s, size_t len, struct buf *to)
{
    char part[512];
    for (size_t i = 0; i < len;) {
        size_t n = 0;
        for (; i < len && n + 2 <= sizeof part; i++) {
            unsigned char b = (unsigned char)s[i];
            if (b > 0x20 && b < 0x7f)
                part[n++] = (char)b;
            else
                n += utf8_put(part + n, byte_level_char(b));
        }
        buf_put(to, part, n);
    }
}

static err byte_level(const struct pre_step *st, const char *text, const struct pre_spans *in, struct buf *to,
                      struct pre_spans *out, struct why *why)
{
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        const char *s = text + in->span[i].at;
        size_t at = to->len;
        if (st->add_space && s[0] != ' ')
            put_printable(" ", 1, to);
        put_printable(s, in->span[i].len, to);
        err e = put(out, at, to->len - at, 0, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static err metaspace(const struct pre_step *st, const char *text, const struct pre_spans *in, bool at_start,
                     struct buf *to, struct pre_spans *out, struct why *why)
{
    err e = ERR_OK;
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        const char *s = text + in->span[i].at;
        size_t len = in->span[i].len, at = to->len;
        bool has = s[0] == ' ' || (len >= st->text_len && memcmp(s, st->text, st->text_len) == 0);
        bool here = st->prepend == PREPEND_ALWAYS || (st->prepend == PREPEND_FIRST && at_start && in->span[i].at == 0);
        if (here && !has)
            buf_put(to, st->text, st->text_len);
        for (size_t j = 0; j < len;) {
            size_t k = j;
            while (k < len && s[k] != ' ')
                k++;
            buf_put(to, s + j, k - j);
            if (k < len)
                buf_put(to, st->text, st->text_len);
            j = k + 1;
        }
        if (to->failed)
            return why_set(why, ERR_LIMIT, "tokenizer: the pre-tokenizer makes more than %zu bytes", to->len);
        if (!st->split) {
            TRY(put(out, at, to->len - at, 0, why));
            continue;
        }
        while (at < to->len) { /* a word is a replacement and what follows it */
            size_t lead = to->len - at >= st->text_len && memcmp(to->data + at, st->text, st->text_len) == 0
                              ? st->text_len : 0;
            const char *next = memmem(to->data + at + lead, to->len - at - lead, st->text, st->text_len);
            size_t end = next ? (size_t)(next - to->data) : to->len;
            TRY(put(out, at, end - at, 0, why));
            at = end;
        }
    }
out:
    return e;
}

err pretokenize(const struct pre_list *l, struct pre_scratch *s, const char *text, size_t len, bool at_start,
                const char **out, const struct pre_spans **words, struct why *why)
{
    err e = ERR_OK;
    int now = 0, texts = 0;
    s->spans[0].n = 0;
    TRY(put(&s->spans[0], 0, len, 0, why));
    for (size_t i = 0; i < l->n; i++, now ^= 1) {
        const struct pre_step *st = &l->step[i];
        const struct pre_spans *in = &s->spans[now];
        struct pre_spans *to = &s->spans[now ^ 1];
        if (st->kind != PRE_BYTE_LEVEL && st->kind != PRE_METASPACE) {
            TRY(cut(st, s, text, in, to, why));
            continue;
        }
        struct buf *b = &s->text[texts ^= 1];
        buf_clear(b);
        b->limit = text_growth_limit(len, PRE_MAX_GROWTH);
        if (st->kind == PRE_BYTE_LEVEL)
            TRY(byte_level(st, text, in, b, to, why));
        else
            TRY(metaspace(st, text, in, at_start, b, to, why));
        if (b->failed || b->len >= IS_MATCH)
            FAIL(ERR_LIMIT, "tokenizer: text of %zu bytes is too long", len);
        text = b->len > 0 ? b->data : "";
    }
    *out = text;
    *words = &s->spans[now];
out:
    return e;
}
