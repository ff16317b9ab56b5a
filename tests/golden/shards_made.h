/* shards_made.h - for tests of shard directories: making one, and weights that must be the same.
 *
 * Everything lies in one directory that shards_main() removes. Failures are cmocka failures.
 */
#ifndef CORDEE_TESTS_GOLDEN_SHARDS_MADE_H
#define CORDEE_TESTS_GOLDEN_SHARDS_MADE_H

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "model/weights.h"
#include "shard/write.h"

enum { STAGES = 3 };

static struct pool *pool;
static struct why why;

static inline void good(err e)
{
    if (e != ERR_OK)
        fail_msg("%s: %s", err_name(e), why.text);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static char all_of_it[] = "/tmp/cordee-golden-shards-XXXXXX"; /* removed in the end */

static inline struct path new_directory(void)
{
    struct path dir = path_of("%s/d-XXXXXX", all_of_it);
    assert_non_null(mkdtemp(dir.text));
    return dir;
}

static inline const char *tree(void)
{
    const char *source = getenv("CORDEE_SOURCE");
    return source ? source : ".";
}

/* A model that the tree has, too. */
static inline struct path hf_model(const char *name)
{
    return golden_dir() ? path_of("%s/golden/models/%s", golden_dir(), name)
                        : path_of("%s/tests/golden/reference/golden/models/%s", tree(), name);
}

static inline void copy_file(const char *from, const char *to)
{
    char data[1 << 16];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    while ((n = fread(data, 1, sizeof data, in)) > 0)
        assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(in);
    fclose(out);
}

/* Files only. */
static inline void copy_directory(const char *from, const char *to)
{
    struct dirent **names;
    int n = scandir(from, &names, NULL, NULL);
    assert_true(n > 0);
    mkdir(to, 0777);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.')
            copy_file(path_of("%s/%s", from, names[i]->d_name).text,
                      path_of("%s/%s", to, names[i]->d_name).text);
        free(names[i]);
    }
    free(names);
}

/* ---- writing ----------------------------------------------------------------------------------- */

struct told {
    int n[SHARD_MISSING + 1];
    enum shard_state last[STAGES + 1]; /* by stage, 1..STAGES */
};

static inline void tell(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                        const char *reason)
{
    struct told *t = ctx;
    (void)s, (void)reason;
    assert_in_range(stage, 1, STAGES);
    t->n[state]++;
    t->last[stage] = state;
}

static inline void say_nothing(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                               const char *reason)
{
    (void)ctx, (void)stage, (void)s, (void)state, (void)reason;
}

static inline void even_cut(int layers, int n, struct plan_stage *cut)
{
    for (int i = 0; i < n; i++)
        cut[i] = (struct plan_stage){
            .first = layers * i / n, .last = layers * (i + 1) / n, .embed = i == 0, .head = i == n - 1};
}

static inline err make_n(const struct source *src, const char *dir, int n, int only, struct told *t)
{
    struct plan_stage cut[STAGES];
    *t = (struct told){{0}, {0}};
    even_cut(source_hparams(src)->n_layer, n, cut);
    const struct shard_job job = {.src = src,
                                  .dir = dir,
                                  .stages = cut,
                                  .n_stages = n,
                                  .only = only,
                                  .pool = pool,
                                  .told = tell,
                                  .ctx = t};
    return shards_make(&job, &why);
}

static inline err make(const struct source *src, const char *dir, int only, struct told *t)
{
    return make_n(src, dir, STAGES, only, t);
}

static inline err verify(const char *dir, bool local, struct told *t)
{
    *t = (struct told){{0}, {0}};
    return shards_verify(dir, local, pool, tell, t, &why);
}

/* ---- the same weights ---------------------------------------------------------------------------- */

static inline uint64_t same_weight(const struct weight *a, const struct weight *b)
{
    assert_true(a->n == b->n && a->n_stack == b->n_stack && a->stack_bytes == b->stack_bytes);
    assert_int_equal(a->v == NULL, b->v == NULL);
    if (!weight_has(a))
        return 0;
    if (a->v) {
        assert_memory_equal(a->v, b->v, (size_t)a->n * sizeof *a->v);
        return (uint64_t)a->n * sizeof *a->v;
    }
    assert_true(a->w.fmt == b->w.fmt && a->w.n == b->w.n && a->w.k == b->w.k &&
                a->w.group_bytes == b->w.group_bytes);
    assert_int_equal((uintptr_t)b->w.data % 64, 0);
    assert_memory_equal(a->w.data, b->w.data, (size_t)a->n_stack * a->stack_bytes);
    return (uint64_t)a->n_stack * a->stack_bytes;
}

static inline struct weights *load(const struct source *src, struct weight_range r)
{
    struct weights *w = NULL;
    good(weights_open(src, r, &w, &why));
    good(weights_load(w, pool, &why));
    return w;
}

static inline uint64_t same_weights(const struct source *model, const struct source *shards,
                                    struct weight_range r)
{
    struct weights *a = load(model, r), *b = load(shards, r);
    uint64_t bytes = 0;
    assert_int_equal(weights_bytes(a), weights_bytes(b));
    for (int role = 0; role < W_COUNT; role++) {
        bytes += same_weight(&weights_model(a)[role], &weights_model(b)[role]);
        for (int l = r.first; l < r.last; l++)
            bytes += same_weight(&weights_layer(a, l)[role], &weights_layer(b, l)[role]);
    }
    const struct weight *x = weights_model(a), *y = weights_model(b);
    assert_int_equal(x[W_HEAD].w.data == x[W_EMBD].w.data,
                     y[W_HEAD].w.data == y[W_EMBD].w.data); /* tied ones share */
    weights_close(a);
    weights_close(b);
    return bytes;
}

/* The stages' own ranges, the whole, and cuts that cross them. */
static inline void same_ranges(const struct source *model, const struct source *shards)
{
    const int n = source_hparams(model)->n_layer;
    struct plan_stage cut[STAGES];
    even_cut(n, STAGES, cut);
    uint64_t bytes = same_weights(model, shards, (struct weight_range){0, n, true, true});
    assert_true(bytes > 0);
    for (int i = 0; i < STAGES; i++)
        same_weights(model, shards,
                     (struct weight_range){cut[i].first, cut[i].last, cut[i].embed, cut[i].head});
    const struct weight_range others[] = {
        {0, 0, true, false},     {0, 0, true, true},      {n, n, false, true},      {0, 0, false, false},
        {n, n, false, false},    {0, n, false, false},    {0, n / 2, true, false},  {n / 2, n, false, true},
        {0, n - 1, true, false}, {n - 1, n, false, true}, {n > 1, n, false, false}, {0, n, true, false},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        same_weights(model, shards, others[i]);
}

/* Runs the tests; what main() returns. */
#define shards_main(tests)                            \
    (pool_open(2, &pool, &why) || !mkdtemp(all_of_it) \
         ? 1                                          \
         : shards_end(cmocka_run_group_tests(tests, NULL, NULL)))

static inline int shards_end(int failed)
{
    pool_close(pool);
    return nftw(all_of_it, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ? failed : 1;
}

#endif
