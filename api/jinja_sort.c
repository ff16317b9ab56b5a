#include <string.h>

#include "api/jinja_pick.h"

struct keyed {
    struct jval key, value;
};

static err merge(struct jrun *r, const struct keyed *a, size_t n_a, const struct keyed *b, size_t n_b,
                 bool reverse, struct keyed *out)
{
    while (n_a && n_b) {
        int order;
        JTRY(jcompare(r, b->key, a->key, "<", &order)); /* as Python asks: is the later one less? */
        bool take_b = reverse ? order > 0 : order < 0;
        *out++ = take_b ? *b++ : *a++;
        n_a -= !take_b;
        n_b -= take_b;
    }
    memcpy(out, n_a ? a : b, (n_a + n_b) * sizeof *out);
    return ERR_OK;
}

err jsort(struct jrun *r, struct jval *key, struct jval *v, size_t n, bool reverse)
{
    struct keyed *from = jalloc(r, n, sizeof *from), *to = jalloc(r, n, sizeof *to);
    if (!from || !to)
        return jrun_nomem(r);
    for (size_t i = 0; i < n; i++)
        from[i] = (struct keyed){key[i], v[i]};
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t n_a = n - i < run ? n - i : run, left = n - i - n_a, n_b = left < run ? left : run;
            JTRY(merge(r, from + i, n_a, from + i + n_a, n_b, reverse, to + i));
        }
        struct keyed *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++) {
        key[i] = from[i].key;
        v[i] = from[i].value;
    }
    return ERR_OK;
}
