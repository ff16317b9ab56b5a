/* cmd_inspect.c - cordee inspect PATH [--dump TENSOR] [--json]. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "model/source.h"

struct inspect {
    const char *path, *dump;
    bool json;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct inspect *x = ctx;
    if (key == 'd')
        x->dump = value;
    else if (key == 'j')
        x->json = true;
    else if (!x->path)
        x->path = value;
    else
        return why_set(why, ERR_INVAL, "one PATH only; \"%s\" is a second one", value);
    return ERR_OK;
}

/* Raw little-endian f32 rows to stdout. */
static err dump_tensor(const struct source *src, const char *name, struct why *why)
{
    struct tensor_view t = {0};
    err e;
    float *row = NULL;

    TRY(source_tensor_named(src, name, &t, why));
    int64_t k = t.dims[t.n_dims - 1], rows = 1;
    for (int i = 0; i + 1 < t.n_dims; i++)
        rows *= t.dims[i];
    row = mem_alloc((size_t)k, sizeof *row);
    if (!row)
        FAIL(ERR_NOMEM, "a row of %lld values", (long long)k);
    for (int64_t i = 0; i < rows; i++) {
        fmt_dequant_row(t.fmt, row, (const char *)t.data + (size_t)i * t.row_bytes, k);
        if (fwrite(row, sizeof *row, (size_t)k, stdout) != (size_t)k)
            FAIL(ERR_IO, "stdout: %s", strerror(errno));
    }
    if (fflush(stdout))
        FAIL(ERR_IO, "stdout: %s", strerror(errno));
out:
    free(row);
    tensor_view_fini(&t);
    return e;
}

int cmd_inspect(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"dump", 'd', "TENSOR", 0, "write a tensor's rows as raw little-endian f32 to stdout", 1},
        {"json", 'j', NULL, 0, "one JSON object", 1},
        {0},
    };
    struct inspect x = {0};
    struct options o = {"inspect", "Look into a model file.", "PATH", own, take, &x, true};
    struct source *src = NULL;
    struct config c;
    struct why why = {0};
    struct buf text;
    int code;

    config_init(&c);
    buf_init(&text);
    if (options_parse(&o, argc, argv, &c, &code))
        goto out;
    if (!x.path) {
        why_set(&why, ERR_INVAL, "which file? usage: cordee inspect PATH");
        code = cmd_fail("inspect", ERR_INVAL, &why, EXIT_USAGE);
        goto out;
    }
    err e = source_open_any(x.path, &src, &why);
    if (!e && x.dump)
        e = dump_tensor(src, x.dump, &why);
    else if (!e) {
        source_describe(src, x.json, &text);
        fwrite(text.data ? text.data : "", 1, text.len, stdout);
    }
    code = e ? cmd_fail("inspect", e, &why, EXIT_FAILED) : EXIT_DONE;
out:
    buf_fini(&text);
    source_close(src);
    config_fini(&c);
    return code;
}
