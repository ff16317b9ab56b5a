/* err.c - names of the error codes and the writing of reasons.
 *
 * A reason is one line for a person: what, where, what to do. It is written by
 * the function that knows it and only ever grows a prefix on its way up, so the
 * text reads from the general to the particular: "model.gguf: tensor
 * blk.3.attn_q.weight: 4096 columns, expected 2048".
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In brackets, so that the macros of these names do not apply. */
err(why_set)(struct why *why, err code, const char *fmt, ...)
{
    if (!why)
        return code;
    /* Formatted aside first: an argument may be why->text itself. */
    struct why fresh;
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(fresh.text, sizeof fresh.text, fmt, args) < 0)
        fresh.text[0] = '\0';
    va_end(args);
    memcpy(why->text, fresh.text, strlen(fresh.text) + 1);
    return code;
}

err(why_prefix)(struct why *why, err code, const char *fmt, ...)
{
    if (!why)
        return code;
    struct why fresh;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(fresh.text, sizeof fresh.text, fmt, args);
    va_end(args);
    if (n < 0)
        return code;
    size_t room = sizeof fresh.text - 1, len = strlen(fresh.text);
    const char *parts[] = {": ", why->text};
    for (int i = 0; i < 2; i++) {
        size_t part = strnlen(parts[i], room - len);
        memcpy(fresh.text + len, parts[i], part);
        len += part;
    }
    fresh.text[len] = '\0';
    memcpy(why->text, fresh.text, len + 1);
    return code;
}

const char *err_name(err e)
{
    static const char *const names[ERR_COUNT] = {
#define ERR_NAME(name, text) #name,
        ERR_MAP(ERR_NAME)
#undef ERR_NAME
    };
    return (unsigned)e < ERR_COUNT ? names[e] : "UNKNOWN";
}

const char *err_text(err e)
{
    static const char *const texts[ERR_COUNT] = {
#define ERR_TEXT(name, text) text,
        ERR_MAP(ERR_TEXT)
#undef ERR_TEXT
    };
    return (unsigned)e < ERR_COUNT ? texts[e] : "unknown error";
}
