/* cmd_eval_compare.c - cordee eval compare A B: what changed between two runs. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cmd.h"
#include "cli/cmd_eval.h"
#include "cli/options.h"
#include "coordinator/batch/eval_score.h"

struct compare {
    const char *path[2];
    int n, list;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct compare *x = ctx;
    if (key == 'l') {
        x->list = atoi(value);
        return x->list >= 0 ? ERR_OK : why_set(why, ERR_INVAL, "--list: \"%.40s\" is no number", value);
    }
    if (key != ARGP_KEY_ARG || x->n == 2)
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"", value);
    x->path[x->n++] = value;
    return ERR_OK;
}

int eval_compare_main(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"list", 'l', "N", 0, "changed items to list (default 20)", 1},
        {0},
    };
    struct compare x = {.list = 20};
    struct options o = {"eval compare", "Compare the results of two evaluations of the same items.", "A B", own,
                        take, &x, true};
    struct config c;
    struct buf text = {0};
    struct why why = {0};
    bool identical = false;
    int code;

    config_init(&c);
    if (options_parse(&o, argc, argv, &c, &code) == 0) {
        err e = x.n == 2 ? eval_compare(x.path[0], x.path[1], x.list, &text, &identical, &why)
                         : why_set(&why, ERR_INVAL, "two files of results are needed");
        if (e == ERR_OK && fwrite(text.data, 1, text.len, stdout) != text.len)
            e = why_set(&why, ERR_IO, "stdout");
        code = e != ERR_OK ? cmd_fail("eval compare", e, &why, EXIT_USAGE) : identical ? EXIT_DONE : EXIT_FAILED;
    }
    buf_fini(&text);
    config_fini(&c);
    return code;
}
