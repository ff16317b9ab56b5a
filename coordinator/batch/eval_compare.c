/* eval_compare.c - two runs of the same questions, side by side; see eval_score.h.
 *
 * The same questions were asked twice, so the runs are compared in pairs: most items
 * agree and tell nothing, and the test looks only at those that do not.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/batch/eval_score.h"

struct result {
    char *id;     /* owned: the JSON of "id", or "line N" */
    json_t *root; /* owned */
};
struct results {
    struct result *r; /* [n] by id */
    size_t n, cap;
};

static void results_fini(struct results *x)
{
    for (size_t i = 0; i < x->n; i++) {
        free(x->r[i].id);
        json_decref(x->r[i].root);
    }
    free(x->r);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct result *)a)->id, ((const struct result *)b)->id);
}

static err results_add(struct results *x, const char *path, size_t number, const char *text, size_t len,
                       struct why *why)
{
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    const json_t *name = json_object_get(root, "id");
    char *id = NULL;
    if (!json_is_integer(json_object_get(root, "acc")) && !json_object_get(root, "error")) {
        json_decref(root);
        return why_set(why, ERR_FORMAT, "%s:%zu: not a result of cordee eval", path, number);
    }
    if (name && !json_is_null(name))
        id = json_dumps(name, JSON_ENCODE_ANY | JSON_COMPACT);
    else if (asprintf(&id, "line %lld", (long long)json_integer_value(json_object_get(root, "line"))) < 0)
        id = NULL;
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        struct result *more = realloc(x->r, cap * sizeof *more);
        if (more) {
            x->r = more;
            x->cap = cap;
        }
    }
    if (!id || x->n == x->cap) {
        free(id);
        json_decref(root);
        return why_set(why, ERR_NOMEM, "%s", path);
    }
    x->r[x->n++] = (struct result){ id, root };
    return ERR_OK;
}

static err results_read(struct results *x, const char *path, struct why *why)
{
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    err e = ERR_OK;
    FILE *f = fopen(path, "re");
    if (!f)
        return why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    for (size_t number = 1; e == ERR_OK && (len = getline(&text, &cap, f)) > 0; number++)
        e = results_add(x, path, number, text, (size_t)len, why);
    if (e == ERR_OK && ferror(f))
        e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    free(text);
    fclose(f);
    if (x->n)
        qsort(x->r, x->n, sizeof *x->r, by_id);
    return e;
}

static err same_bytes(const char *path_a, const char *path_b, bool *same, struct why *why)
{
    FILE *a = fopen(path_a, "re"), *b = fopen(path_b, "re");
    err e = ERR_OK;
    int x, y;
    *same = false;
    if (!a || !b)
        FAIL(ERR_IO, "%s: %s", a ? path_b : path_a, strerror(errno));
    do {
        x = getc(a);
        y = getc(b);
    } while (x == y && x != EOF);
    *same = x == y && !ferror(a) && !ferror(b);
out:
    if (a)
        fclose(a);
    if (b)
        fclose(b);
    return e;
}

double eval_mcnemar(int64_t b, int64_t c)
{
    int64_t n = b + c, few = b < c ? b : c;
    double p = 0;
    for (int64_t k = 0; k <= few; k++) /* binomial(n, 1/2), from the middle's side that is rarer */
        p += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) - (double)n * log(2));
    return p * 2 < 1 ? p * 2 : 1;
}

/* ---- pairs --------------------------------------------------------------------------------- */

struct tally { /* of one measure, "acc" or "acc_norm" */
    int64_t a, b, only_a, only_b;
};
struct pairs {
    int64_t n, only_a, only_b, changed, moved;
    struct tally acc, norm;
    double most; /* |difference| of a log-probability */
    char *where; /* borrowed id */
};

static int64_t number(const json_t *root, const char *name)
{
    return json_integer_value(json_object_get(root, name));
}

static void tally_add(struct tally *t, int64_t a, int64_t b)
{
    t->a += a;
    t->b += b;
    t->only_a += a && !b;
    t->only_b += b && !a;
}

static void logprobs_add(struct pairs *p, const struct result *a, const struct result *b)
{
    const json_t *x = json_object_get(a->root, "choices"), *y = json_object_get(b->root, "choices");
    bool moved = json_array_size(x) != json_array_size(y);
    for (size_t k = 0; k < json_array_size(x) && k < json_array_size(y); k++) {
        double d = fabs(json_number_value(json_object_get(json_array_get(x, k), "logprob")) -
                        json_number_value(json_object_get(json_array_get(y, k), "logprob")));
        moved = moved || d > 0;
        if (d > p->most) {
            p->most = d;
            p->where = a->id;
        }
    }
    p->moved += moved;
}

static void pair_add(struct pairs *p, const struct result *a, const struct result *b, int list, struct buf *changes)
{
    if (json_object_get(a->root, "error") || json_object_get(b->root, "error")) {
        p->only_a += !json_object_get(a->root, "error");
        p->only_b += !json_object_get(b->root, "error");
        return;
    }
    p->n++;
    tally_add(&p->acc, number(a->root, "acc"), number(b->root, "acc"));
    tally_add(&p->norm, number(a->root, "acc_norm"), number(b->root, "acc_norm"));
    logprobs_add(p, a, b);
    if (number(a->root, "pred") == number(b->root, "pred") &&
        number(a->root, "pred_norm") == number(b->root, "pred_norm"))
        return;
    if (p->changed++ < list)
        buf_printf(changes, "  %s: answer %" PRId64 ", chose %" PRId64 " then %" PRId64 " (normalised: %" PRId64
                            " then %" PRId64 ")\n",
                   a->id, number(a->root, "answer"), number(a->root, "pred"), number(b->root, "pred"),
                   number(a->root, "pred_norm"), number(b->root, "pred_norm"));
}

static void pair_up(struct pairs *p, const struct results *a, const struct results *b, int list, struct buf *changes)
{
    size_t i = 0, j = 0;
    while (i < a->n || j < b->n) {
        int order = i == a->n ? 1 : j == b->n ? -1 : strcmp(a->r[i].id, b->r[j].id);
        if (order == 0)
            pair_add(p, &a->r[i++], &b->r[j++], list, changes);
        else if (order < 0)
            p->only_a++, i++;
        else
            p->only_b++, j++;
    }
}

/* The paired difference and its standard error: items where the runs agree are zeros. */
static void put_tally(struct buf *out, const char *name, const struct tally *t, int64_t n)
{
    double mean = n ? (double)(t->b - t->a) / (double)n : 0;
    double var = n > 1 ? ((double)(t->only_a + t->only_b) - (double)n * mean * mean) / (double)(n - 1) : 0;
    buf_printf(out,
               "%-9s A %.4f, B %.4f, B - A %+.4f +- %.4f; right only in A %" PRId64 ", only in B %" PRId64
               ", McNemar p %.4g\n",
               name, n ? (double)t->a / (double)n : 0, n ? (double)t->b / (double)n : 0, mean,
               n ? sqrt(var / (double)n) : 0, t->only_a, t->only_b, eval_mcnemar(t->only_a, t->only_b));
}

err eval_compare(const char *path_a, const char *path_b, int list, struct buf *out, bool *identical, struct why *why)
{
    struct results a = { 0 }, b = { 0 };
    struct pairs p = { 0 };
    struct buf changes = { 0 };
    err e;
    TRY(results_read(&a, path_a, why));
    TRY(results_read(&b, path_b, why));
    TRY(same_bytes(path_a, path_b, identical, why));
    pair_up(&p, &a, &b, list, &changes);
    buf_printf(out, "%" PRId64 " items in both, %" PRId64 " only in A, %" PRId64 " only in B\n", p.n, p.only_a,
               p.only_b);
    put_tally(out, "acc", &p.acc, p.n);
    put_tally(out, "acc_norm", &p.norm, p.n);
    buf_printf(out, "log-probabilities differ in %" PRId64 " items", p.moved);
    if (p.where)
        buf_printf(out, ", most by %.6g (%s)", p.most, p.where);
    buf_printf(out, "\n%" PRId64 " items changed their answer\n", p.changed);
    if (changes.len)
        buf_put(out, changes.data, changes.len);
    if (p.changed > list)
        buf_printf(out, "  ... and %" PRId64 " more\n", p.changed - list);
    buf_puts(out, *identical ? "the files are identical, bit for bit\n" : "the files differ\n");
    if (out->failed || changes.failed)
        FAIL(ERR_NOMEM, "comparison");
out:
    buf_fini(&changes);
    results_fini(&a);
    results_fini(&b);
    return e;
}
