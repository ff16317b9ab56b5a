/* cmd_tokenize.c - cordee tokenize --model PATH: stdin to ids.
 *
 * Plain: all of stdin is one text, ids on one line. --json: one JSON string a
 * line in, {"ids":[...],"pieces":[...]} a line out, ASCII only. --export: no text, the
 * tokenizer as a folder that Hugging Face's tools load.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/options.h"
#include "model/export_tokenizer.h"
#include "model/source.h"

enum { KEY_EXPORT = 256 };

struct tokenize {
    const char *folder; /* --export */
    bool json;
    unsigned flags;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct tokenize *x = ctx;
    switch (key) {
    case 'j':
        x->json = true;
        return ERR_OK;
    case 'a':
        x->flags |= ENCODE_ADD_SPECIAL;
        return ERR_OK;
    case KEY_EXPORT:
        x->folder = value;
        return ERR_OK;
    case 's':
        x->flags |= ENCODE_PARSE_SPECIAL;
        return ERR_OK;
    default:
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\" (the text is read from stdin)", value);
    }
}

static void put_ids(const struct tokenizer *t, const struct tok_ids *ids, bool json, struct buf *out)
{
    buf_puts(out, json ? "{\"ids\":[" : "");
    for (size_t i = 0; i < ids->n; i++)
        buf_printf(out, "%s%d", i ? (json ? "," : " ") : "", (int)ids->id[i]);
    if (json) {
        buf_puts(out, "],\"pieces\":[");
        for (size_t i = 0; i < ids->n; i++) {
            size_t len = 0;
            const char *piece = tokenizer_piece(t, ids->id[i], &len);
            if (i)
                buf_putc(out, ',');
            buf_put_json(out, piece ? piece : "", len, true);
        }
        buf_puts(out, "]}");
    }
    buf_putc(out, '\n');
}

static err encode(const struct tokenizer *t, const struct tokenize *x, const char *text, size_t len,
                  struct why *why)
{
    struct tok_ids ids = {0};
    struct buf out;
    buf_init(&out);
    err e = tokenizer_encode(t, text, len, x->flags, &ids, why);
    if (!e) {
        put_ids(t, &ids, x->json, &out);
        if (out.failed)
            e = why_set(why, ERR_NOMEM, "output line");
        else if (fwrite(out.data, 1, out.len, stdout) != out.len)
            e = why_set(why, ERR_IO, "stdout");
    }
    buf_fini(&out);
    tok_ids_fini(&ids);
    return e;
}

static err json_lines(const struct tokenizer *t, const struct tokenize *x, struct why *why)
{
    char *line = NULL;
    size_t cap = 0;
    err e = ERR_OK;
    ssize_t len;
    for (long n = 1; !e && (len = getline(&line, &cap, stdin)) >= 0; n++) {
        json_error_t at;
        json_t *s = json_loadb(line, (size_t)len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &at);
        if (!json_is_string(s))
            e = why_set(why, ERR_INVAL, "stdin:%ld:%d: expected one JSON string a line", n, s ? 1 : at.column);
        else if ((e = encode(t, x, json_string_value(s), json_string_length(s), why)))
            e = why_prefix(why, e, "stdin:%ld", n);
        json_decref(s);
    }
    free(line);
    return e;
}

static err whole_text(const struct tokenizer *t, const struct tokenize *x, struct why *why)
{
    struct buf text;
    char part[65536];
    size_t n;
    buf_init(&text);
    while ((n = fread(part, 1, sizeof part, stdin)) > 0)
        buf_put(&text, part, n);
    err e = text.failed ? why_set(why, ERR_NOMEM, "stdin")
                        : encode(t, x, text.data ? text.data : "", text.len, why);
    buf_fini(&text);
    return e;
}

int cmd_tokenize(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"json", 'j', NULL, 0, "JSON strings in, JSON objects out, one a line", 1},
        {"add-special", 'a', NULL, 0, "add BOS/EOS as the model wants", 1},
        {"parse-special", 's', NULL, 0, "control tokens written in the text count", 1},
        {"export", KEY_EXPORT, "DIR", 0, "write tokenizer.json and tokenizer_config.json into DIR instead", 1},
        {0},
    };
    struct tokenize x = {0};
    struct options o = {"tokenize", "Text on stdin to token ids on stdout.", NULL, own, take, &x, false};
    struct tokenizer *tok = NULL;
    struct config c;
    struct why why = {0};
    int code;

    config_init(&c);
    if (options_parse(&o, argc, argv, &c, &code))
        goto out;
    err e = config_check(&c, &why);
    if (!e)
        e = x.folder ? export_tokenizer(c.model, x.folder, &why) : source_open_tokenizer(c.model, &tok, &why);
    if (!e && !x.folder)
        e = x.json ? json_lines(tok, &x, &why) : whole_text(tok, &x, &why);
    if (!e && fflush(stdout))
        e = why_set(&why, ERR_IO, "stdout");
    code = e ? cmd_fail("tokenize", e, &why, c.model[0] ? EXIT_FAILED : EXIT_USAGE) : EXIT_DONE;
out:
    tokenizer_close(tok);
    config_fini(&c);
    return code;
}
