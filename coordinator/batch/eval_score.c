/* eval_score.c - see eval_score.h. */
#include "coordinator/batch/eval_score.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct eval_group *group_of(struct eval_score *s, const char *name)
{
    int at = 0;
    while (at < s->n_groups && strcmp(s->groups[at].name, name) < 0)
        at++;
    if (at < s->n_groups && strcmp(s->groups[at].name, name) == 0)
        return &s->groups[at];
    struct eval_group *more = realloc(s->groups, ((size_t)s->n_groups + 1) * sizeof *more);
    if (!more)
        return NULL;
    s->groups = more;
    char *copy = strdup(name);
    if (!copy)
        return NULL;
    memmove(more + at + 1, more + at, (size_t)(s->n_groups - at) * sizeof *more);
    more[at] = (struct eval_group){ .name = copy };
    s->n_groups++;
    return &more[at];
}

static void count(struct eval_group *g, const json_t *root)
{
    g->n++;
    g->acc += json_integer_value(json_object_get(root, "acc"));
    g->acc_norm += json_integer_value(json_object_get(root, "acc_norm"));
}

err eval_score_add(struct eval_score *s, const char *line, size_t len, struct why *why)
{
    json_t *root = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    const char *name = json_string_value(json_object_get(root, "group"));
    err e = ERR_OK;
    if (json_object_get(root, "error")) {
        s->n_failed++;
        goto out;
    }
    if (!json_is_integer(json_object_get(root, "acc")) || !json_is_integer(json_object_get(root, "acc_norm")))
        FAIL(ERR_FORMAT, "not a result of cordee eval");
    count(&s->all, root);
    if (name) {
        struct eval_group *g = group_of(s, name);
        if (!g)
            FAIL(ERR_NOMEM, "groups");
        count(g, root);
    }
out:
    json_decref(root);
    return e;
}

void eval_score_fini(struct eval_score *s)
{
    for (int i = 0; i < s->n_groups; i++)
        free(s->groups[i].name);
    free(s->groups);
    *s = (struct eval_score){ 0 };
}

static double share(int64_t hits, int64_t n)
{
    return n ? (double)hits / (double)n : 0;
}

/* Of the mean of n draws of 0 or 1, from the sample. */
static double standard_error(int64_t hits, int64_t n)
{
    double p = share(hits, n);
    return n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : 0;
}

/* Between the best and the worst group. */
static double gap(const struct eval_score *s)
{
    double least = 1, most = 0;
    for (int i = 0; i < s->n_groups; i++) {
        double p = share(s->groups[i].acc, s->groups[i].n);
        least = p < least ? p : least;
        most = p > most ? p : most;
    }
    return most > least ? most - least : 0;
}

static void put_group(struct buf *out, const struct eval_group *g)
{
    buf_printf(out, "\"n\":%" PRId64 ",\"acc\":%.9g,\"acc_stderr\":%.9g,\"acc_norm\":%.9g,\"acc_norm_stderr\":%.9g",
               g->n, share(g->acc, g->n), standard_error(g->acc, g->n), share(g->acc_norm, g->n),
               standard_error(g->acc_norm, g->n));
}

void eval_score_json(const struct eval_score *s, struct buf *out)
{
    buf_putc(out, '{');
    put_group(out, &s->all);
    buf_printf(out, ",\"failed\":%" PRId64 ",\"groups\":{", s->n_failed);
    for (int i = 0; i < s->n_groups; i++) {
        buf_puts(out, i ? "," : "");
        buf_put_json(out, s->groups[i].name, strlen(s->groups[i].name), true);
        buf_puts(out, ":{");
        put_group(out, &s->groups[i]);
        buf_printf(out, ",\"to_all\":%.9g}",
                   share(s->groups[i].acc, s->groups[i].n) - share(s->all.acc, s->all.n));
    }
    buf_printf(out, "},\"group_gap\":%.9g}\n", gap(s));
}

static void text_row(struct buf *out, const char *name, const struct eval_group *g)
{
    buf_printf(out, "%-24s %8" PRId64 "  %7.4f +- %.4f  %7.4f +- %.4f\n", name, g->n, share(g->acc, g->n),
               standard_error(g->acc, g->n), share(g->acc_norm, g->n), standard_error(g->acc_norm, g->n));
}

void eval_score_text(const struct eval_score *s, struct buf *out)
{
    buf_printf(out, "%-24s %8s  %17s  %17s\n", "group", "items", "acc", "acc_norm");
    for (int i = 0; i < s->n_groups; i++)
        text_row(out, s->groups[i].name, &s->groups[i]);
    text_row(out, "all", &s->all);
    if (s->n_groups > 1)
        buf_printf(out, "best to worst group: %.4f\n", gap(s));
    if (s->n_failed)
        buf_printf(out, "%" PRId64 " items failed and do not count\n", s->n_failed);
}
