/* write.c - see write.h. */
#include "shard/write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/weights.h"
#include "model/weights_file.h"

static uint64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ---- looking at a file ---------------------------------------------------------------------- */

/* Every byte of it. sample: source_sample() of the model. */
static err check_file(const char *dir, const char *sample, const struct shard_stage *s, struct pool *pool,
                      struct why *why)
{
    err e;
    struct packed_file *f = NULL;
    const struct packed_weight **all = NULL;
    TRY(stage_file_open(dir, sample, s, &f, why));
    const int n = (int)packed_file_head(f)->n_entries;
    all = calloc((size_t)n + 1, sizeof *all);
    if (!all)
        FAIL(ERR_NOMEM, "%s: a list of %d weights", dir, n);
    for (int i = 0; i < n; i++)
        all[i] = packed_file_at(f, (size_t)i);
    const int bad = packed_weights_damaged(all, n, pool);
    if (bad >= 0)
        FAIL(ERR_FORMAT, "%s: %s of layer %d is damaged (checksum)", packed_file_path(f),
             weight_role_name(all[bad]->role), all[bad]->layer);
    e = ERR_OK;
out:
    free(all);
    packed_file_close(f);
    return e;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* A file that has its name was whole once; is it this stage's, and still undamaged? */
static bool there_already(const char *path, const struct shard_job *job, const char *sample,
                          const struct shard_stage *s)
{
    return size_of(path) == s->bytes && check_file(job->dir, sample, s, job->pool, NULL) == ERR_OK;
}

static err make_directory(const struct shard_job *job, struct why *why)
{
    struct shards old;
    struct catalog tensors = {0};
    struct arena a;
    err e = ERR_OK;
    arena_init(&a, 0);
    if (mkdir(job->dir, 0777) != 0 && errno != EEXIST)
        FAIL(ERR_IO, "%s: %s", job->dir, strerror(errno));
    if (shards_here(job->dir)) {
        struct why reason = {""};
        e = shards_read(job->dir, &a, &old, &tensors, &reason);
        if (e)
            FAIL(e, "%s; remove it or give another directory", reason.text);
        if (strcmp(old.hash, source_hash(job->src)) != 0 || old.n_stages != job->n_stages)
            FAIL(ERR_INVAL, "%s: holds other shards (%s, %d stages); give another directory or remove them",
                 job->dir, old.name, old.n_stages);
    }
out:
    catalog_fini(&tensors);
    arena_fini(&a);
    return e;
}

/* A file's length is known without writing it, for the nodes that write another one. */
static err make_stage(const struct shard_job *job, const char *sample, int i, struct shard_stage *s,
                      struct why *why)
{
    err e;
    char *path;
    struct weights *w = NULL;
    if (asprintf(&path, "%s/%s", job->dir, s->file) < 0)
        return why_set(why, ERR_NOMEM, "%s", job->dir);
    TRY(weights_open(job->src, (struct weight_range){s->first, s->last, s->embed, s->head}, &w, why));
    s->bytes = weights_file_bytes(w);
    if (job->only && job->only != i + 1)
        goto out;
    const bool kept = there_already(path, job, sample, s);
    if (!kept)
        TRY(weights_write(w, sample, path, job->pool, why));
    job->told(job->ctx, i + 1, s, kept ? SHARD_KEPT : SHARD_WRITTEN, NULL);
out:
    weights_close(w);
    free(path);
    return e;
}

err shards_make(const struct shard_job *job, struct why *why)
{
    err e;
    char sample[17];
    struct arena a;
    arena_init(&a, 0);
    struct shard_stage *stages = arena_array(&a, (size_t)job->n_stages, sizeof *stages);
    if (!stages)
        FAIL(ERR_NOMEM, "%s: %d stages", job->dir, job->n_stages);
    TRY(make_directory(job, why));
    TRY(source_save_facts(job->src, job->dir, why));
    source_sample(job->src, sample);
    for (int i = 0; i < job->n_stages; i++) {
        const struct plan_stage *p = &job->stages[i];
        char name[64];
        int len = snprintf(name, sizeof name, "stage-%d-of-%d.cordee", i + 1, job->n_stages);
        stages[i] = (struct shard_stage){
            arena_strndup(&a, name, (size_t)len), p->first, p->last, p->embed, p->head, 0};
        if (!stages[i].file)
            FAIL(ERR_NOMEM, "%s: no memory", job->dir);
        TRY(make_stage(job, sample, i, &stages[i], why));
    }
    TRY(source_save_index(job->src, job->dir, sample, stages, job->n_stages, why));
out:
    arena_fini(&a);
    return e;
}

/* ---- checking ------------------------------------------------------------------------------- */

err shards_verify(const char *dir, bool local, struct pool *pool, shard_told_fn *told, void *ctx,
                  struct why *why)
{
    err e, worst = ERR_OK;
    struct source *src = NULL;
    int bad = 0;
    if (!shards_here(dir))
        FAIL(ERR_NOTFOUND, "%s: there is no %s", dir, SHARDS_FILE);
    TRY(source_open(dir, &src, why)); /* the small files too */
    const struct shards *d = source_shards(src);
    for (int i = 0; i < d->n_stages; i++) {
        struct why reason = {""};
        err one = check_file(d->path, d->weights, &d->stages[i], pool, &reason);
        told(ctx, i + 1, &d->stages[i],
             one == ERR_OK         ? SHARD_GOOD
             : one == ERR_NOTFOUND ? SHARD_MISSING
                                   : SHARD_DAMAGED,
             one ? reason.text : NULL);
        if (one && !(local && one == ERR_NOTFOUND)) {
            worst = one;
            bad++;
        }
    }
    e = worst ? why_set(why, worst, "%s: %d of %d stages are missing or damaged", dir, bad, d->n_stages)
              : ERR_OK;
out:
    source_close(src);
    return e;
}
