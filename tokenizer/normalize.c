/* normalize.c - one function a step, each appending to a buffer. */
#include "tokenizer/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizer/text.h"

void norm_list_fini(struct norm_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->step[i].text);
        free(l->step[i].with);
        regex_close(l->step[i].regex);
        charsmap_fini(&l->step[i].map);
    }
    *l = (struct norm_list){0};
}

void norm_scratch_fini(struct norm_scratch *s)
{
    buf_fini(&s->text[0]);
    buf_fini(&s->text[1]);
    regex_scratch_fini(&s->regex);
}

static void put_cp(struct buf *out, uint32_t cp)
{
    char u[4];
    buf_put(out, u, utf8_put(u, cp));
}

static void put_lower(struct buf *out, uint32_t cp)
{
    if (cp < 0x80) {
        buf_putc(out, cp >= 'A' && cp <= 'Z' ? (char)(cp + 32) : (char)cp);
    } else if (cp == 0x130) { /* the one full mapping that is longer */
        buf_puts(out, "i\xcc\x87");
    } else {
        put_cp(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
}

static void lowercase(const char *s, size_t len, struct buf *out)
{
    for (size_t i = 0, n; i < len; i += n)
        put_lower(out, utf8_get(s + i, &n));
}

static void drop_marks(const char *s, size_t len, bool all, struct buf *out)
{
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t cp = utf8_get(s + i, &n);
        if (cp < 0x300 || !(all ? cp_is_mark(cp) : cp_is_mark_nonspacing(cp)))
            buf_put(out, s + i, n);
    }
}

/* BERT's own order: clean, ideographs, accents, case. */
static err bert(const struct norm_step *st, const char *s, size_t len, struct buf *out, struct why *why)
{
    err e;
    struct buf a, b;
    buf_init(&a);
    buf_init(&b);
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t cp = utf8_get(s + i, &n);
        if (st->clean) {
            bool blank = cp == '\t' || cp == '\n' || cp == '\r';
            if (cp == 0 || cp == 0xfffd || (!blank && cp_is_other(cp)))
                continue;
            if (blank || cp_is_space(cp)) {
                buf_putc(&a, ' ');
                continue;
            }
        }
        bool apart = st->ideographs && cp_is_cjk(cp);
        if (apart)
            buf_putc(&a, ' ');
        buf_put(&a, s + i, n);
        if (apart)
            buf_putc(&a, ' ');
    }
    if (st->accents) {
        TRY(unicode_form_put((struct unicode_form){0}, a.data, a.len, &b, why));
        buf_clear(&a);
        drop_marks(b.data, b.len, false, &a);
    }
    if (st->lower)
        lowercase(a.data, a.len, out);
    else if (a.len > 0)
        buf_put(out, a.data, a.len);
    e = a.failed || b.failed ? why_set(why, ERR_NOMEM, "tokenizer: normalising %zu bytes", len) : ERR_OK;
out:
    buf_fini(&a);
    buf_fini(&b);
    return e;
}

static err replace(const struct norm_step *st, struct regex_scratch *rs, const char *s, size_t len, struct buf *out,
                   struct why *why)
{
    size_t i = 0;
    while (i <= len) {
        size_t start = len, end = len;
        bool found;
        if (st->regex) {
            err e = regex_find(st->regex, rs, s, len, i, &start, &end, &found, why);
            if (e != ERR_OK)
                return e;
        } else {
            const char *at = memmem(s + i, len - i, st->text, st->text_len);
            found = at != NULL && st->text_len > 0;
            if (found) {
                start = (size_t)(at - s);
                end = start + st->text_len;
            }
        }
        if (!found) {
            buf_put(out, s + i, len - i);
            break;
        }
        buf_put(out, s + i, start - i);
        buf_put(out, st->with, st->with_len);
        if (end == start) { /* an empty match: step over one character */
            if (start == len)
                break;
            size_t n = utf8_size((unsigned char)s[start]);
            buf_put(out, s + start, n);
            end = start + n;
        }
        i = end;
    }
    return ERR_OK;
}

static void strip(const struct norm_step *st, const char *s, size_t len, struct buf *out)
{
    size_t first = 0, n;
    while (st->left && first < len && cp_is_space(utf8_get(s + first, &n)))
        first += n;
    while (st->right && len > first) {
        size_t last = utf8_last(s, len);
        if (!cp_is_space(utf8_get(s + last, &n)))
            break;
        len = last;
    }
    buf_put(out, s + first, len - first);
}

static void nmt(const char *s, size_t len, struct buf *out)
{
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t cp = utf8_get(s + i, &n);
        if ((cp >= 1 && cp <= 8) || cp == 0xb || (cp >= 0xe && cp <= 0x1f) || cp == 0x7f || cp == 0x8f || cp == 0x9f)
            continue;
        bool blank = cp == 9 || cp == 0xa || cp == 0xc || cp == 0xd || cp == 0x1680 || (cp >= 0x200b && cp <= 0x200f) ||
                     cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xfeff || cp == 0xfffd;
        if (blank)
            buf_putc(out, ' ');
        else
            buf_put(out, s + i, n);
    }
}

/* A grapheme of fewer than 6 bytes is looked up whole, else its characters one
 * by one; a key that is only a prefix of what was looked up replaces all of it.
 * That is what models were trained with, so it is what we do. */
static void charsmap_by_grapheme(const struct charsmap *m, const char *s, size_t len, struct buf *out)
{
    const char *to;
    size_t to_len;
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t state = 0;
        size_t n, end;
        uint32_t cp = utf8_get(s + i, &n);
        for (end = i + n; end < len; end += n) {
            uint32_t next = utf8_get(s + end, &n);
            if (cp < 0x300 && next < 0x300 ? !(cp == '\r' && next == '\n')
                                           : utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp,
                                                                              (utf8proc_int32_t)next, &state))
                break;
            cp = next;
        }
        if (end - i < 6 && charsmap_find(m, s + i, end - i, 0, &to, &to_len) > 0) {
            buf_put(out, to, to_len);
        } else {
            for (size_t j = i; j < end; j += n) {
                n = utf8_size((unsigned char)s[j]);
                if (charsmap_find(m, s + j, n, 0, &to, &to_len) > 0)
                    buf_put(out, to, to_len);
                else
                    buf_put(out, s + j, n);
            }
        }
        i = end;
    }
}

/* What SentencePiece sees at s: a user-defined piece as it is, else the longest
 * rule, else one character. Returns the bytes consumed. */
static size_t sentencepiece_prefix(const struct norm_step *st, const char *s, size_t len, const char **to,
                                   size_t *to_len)
{
    int32_t ignored;
    size_t n = st->keep ? trie_longest(st->keep, s, len, &ignored) : 0;
    if (n == 0 && st->map.unit) {
        n = charsmap_find(&st->map, s, len, 1, to, to_len);
        if (n > 0)
            return n;
    }
    if (n == 0)
        n = utf8_size((unsigned char)s[0]);
    *to = s;
    *to_len = n;
    return n;
}

static void sentencepiece(const struct norm_step *st, const char *s, size_t len, bool first, struct buf *out)
{
    const char *space = st->escape ? META : " ", *to;
    size_t space_len = strlen(space), to_len, i = 0, n, begin = out->len;

    while (st->trim_spaces && i < len) {
        n = sentencepiece_prefix(st, s + i, len - i, &to, &to_len);
        if (to_len != 1 || *to != ' ')
            break;
        i += n;
    }
    if (i == len)
        return;
    if (st->prefix && first)
        buf_put(out, space, space_len);
    bool after_space = st->trim_spaces;
    for (; i < len; i += n) {
        n = sentencepiece_prefix(st, s + i, len - i, &to, &to_len);
        while (after_space && to_len > 0 && *to == ' ') {
            to++;
            to_len--;
        }
        if (to_len == 0)
            continue;
        for (size_t j = 0; j < to_len; j++) {
            if (to[j] == ' ')
                buf_put(out, space, space_len);
            else
                buf_putc(out, to[j]);
        }
        after_space = st->trim_spaces && to[to_len - 1] == ' ';
    }
    while (st->trim_spaces && !out->failed && out->len - begin >= space_len &&
           memcmp(out->data + out->len - space_len, space, space_len) == 0)
        out->len -= space_len;
}

static err apply(const struct norm_step *st, struct regex_scratch *rs, const char *s, size_t len, bool first,
                 struct buf *out, struct why *why)
{
    switch (st->kind) {
    case NORM_FORM:
        return unicode_form_put(st->form, s, len, out, why);
    case NORM_LOWERCASE:
        lowercase(s, len, out);
        return ERR_OK;
    case NORM_STRIP_ACCENTS:
        drop_marks(s, len, true, out);
        return ERR_OK;
    case NORM_BERT:
        return bert(st, s, len, out, why);
    case NORM_PREPEND:
        if (first && len > 0)
            buf_put(out, st->text, st->text_len);
        buf_put(out, s, len);
        return ERR_OK;
    case NORM_REPLACE:
        return replace(st, rs, s, len, out, why);
    case NORM_STRIP:
        strip(st, s, len, out);
        return ERR_OK;
    case NORM_NMT:
        nmt(s, len, out);
        return ERR_OK;
    case NORM_CHARSMAP:
        charsmap_by_grapheme(&st->map, s, len, out);
        return ERR_OK;
    case NORM_SENTENCEPIECE:
        sentencepiece(st, s, len, first, out);
        return ERR_OK;
    }
    return why_set(why, ERR_UNSUPPORTED, "tokenizer: normaliser %d", (int)st->kind);
}

err normalize(const struct norm_list *l, struct norm_scratch *s, const char *text, size_t len, bool first,
              const char **out, size_t *out_len, struct why *why)
{
    const size_t given = len, most = text_growth_limit(len, NORM_MAX_GROWTH);
    for (size_t i = 0; i < l->n; i++) {
        struct buf *to = &s->text[i & 1];
        buf_clear(to);
        to->limit = most;
        err e = apply(&l->step[i], &s->regex, text, len, first, to, why);
        if (e != ERR_OK)
            return e;
        if (to->failed)
            return why_set(why, ERR_LIMIT, "tokenizer: the normalizer makes more than %zu bytes of %zu, or memory is out",
                           most, given);
        text = to->len > 0 ? to->data : "";
        len = to->len;
    }
    *out = text;
    *out_len = len;
    return ERR_OK;
}
