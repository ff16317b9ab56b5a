/* unicode_form.c - normal forms from utf8proc's tables, without its quadratic
 * reordering: a megabyte of combining marks must not stop the server.
 *
 * Two ASCII characters in a row never interact, so only the stretches around
 * non-ASCII text go through the code points. Marks are put in canonical order
 * by a stable sort of each run.
 */
#include "tokenizer/unicode_form.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizer/text.h"

struct points {
    utf8proc_int32_t *cp;
    size_t n, cap;
};

static err points_room(struct points *p, size_t more, struct why *why)
{
    if (p->cap - p->n >= more)
        return ERR_OK;
    size_t cap = (p->cap + more) * 2;
    utf8proc_int32_t *cp = realloc(p->cp, cap * sizeof *cp);
    if (!cp)
        return why_set(why, ERR_NOMEM, "tokenizer: normal form of %zu characters", p->n);
    p->cp = cp;
    p->cap = cap;
    return ERR_OK;
}

static int combining(utf8proc_int32_t cp)
{
    return cp < 0x300 ? 0 : (int)utf8proc_get_property(cp)->combining_class;
}

/* Stable: by class, then by place. Classes are 8 bits, so counting does it. */
static err sort_run(utf8proc_int32_t *cp, size_t n, struct why *why)
{
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t x = cp[i];
            size_t j = i;
            for (; j > 0 && combining(cp[j - 1]) > combining(x); j--)
                cp[j] = cp[j - 1];
            cp[j] = x;
        }
        return ERR_OK;
    }
    size_t at[257] = {0};
    utf8proc_int32_t *copy = malloc(n * sizeof *copy);
    if (!copy)
        return why_set(why, ERR_NOMEM, "tokenizer: normal form of %zu marks", n);
    memcpy(copy, cp, n * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        at[combining(copy[i]) + 1]++;
    for (int c = 0; c < 256; c++)
        at[c + 1] += at[c];
    for (size_t i = 0; i < n; i++)
        cp[at[combining(copy[i])]++] = copy[i];
    free(copy);
    return ERR_OK;
}

static err sort_marks(struct points *p, struct why *why)
{
    for (size_t i = 0; i < p->n;) {
        size_t j = i;
        while (j < p->n && combining(p->cp[j]) != 0)
            j++;
        if (j - i > 1) {
            err e = sort_run(p->cp + i, j - i, why);
            if (e != ERR_OK)
                return e;
        }
        i = j + 1;
    }
    return ERR_OK;
}

static err decompose(struct unicode_form form, const char *s, size_t len, struct points *p, struct why *why)
{
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | (form.compatibility ? UTF8PROC_COMPAT : 0);
    for (size_t i = 0, size; i < len; i += size) {
        utf8proc_int32_t cp = (utf8proc_int32_t)utf8_get(s + i, &size);
        err e = points_room(p, 32, why); /* the longest decomposition has 18 */
        if (e != ERR_OK)
            return e;
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, p->cp + p->n, 32, options, &boundary);
        if (n < 0 || n > 32)
            return why_set(why, ERR_INVAL, "tokenizer: U+%04X has no normal form", (unsigned)cp);
        p->n += (size_t)n;
    }
    return ERR_OK;
}

/* A stretch that does not interact with its neighbours. */
static err put_stretch(struct unicode_form form, const char *s, size_t len, struct points *p, struct buf *out,
                       struct why *why)
{
    err e;
    p->n = 0;
    TRY(decompose(form, s, len, p, why));
    TRY(sort_marks(p, why));
    if (form.compose) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(p->cp, (utf8proc_ssize_t)p->n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n < 0)
            FAIL(ERR_INVAL, "tokenizer: text has no normal form");
        p->n = (size_t)n;
    }
    for (size_t i = 0; i < p->n; i++) {
        char u[4];
        buf_put(out, u, utf8_put(u, (uint32_t)p->cp[i]));
    }
    e = ERR_OK;
out:
    return e;
}

err unicode_form_put(struct unicode_form form, const char *s, size_t len, struct buf *out, struct why *why)
{
    err e;
    struct points p = {0};
    size_t i = 0;
    while (i < len) {
        size_t plain = i;
        while (plain < len && (unsigned char)s[plain] < 0x80)
            plain++;
        size_t start = plain; /* the last ASCII character may take a mark */
        if (plain < len && plain > i)
            start--;
        buf_put(out, s + i, start - i);
        if (plain == len)
            break;
        size_t end = plain;
        while (end < len && (unsigned char)s[end] >= 0x80)
            end++;
        TRY(put_stretch(form, s + start, end - start, &p, out, why));
        i = end;
    }
    e = out->failed ? why_set(why, ERR_NOMEM, "tokenizer: normal form of %zu bytes", len) : ERR_OK;
out:
    free(p.cp);
    return e;
}
