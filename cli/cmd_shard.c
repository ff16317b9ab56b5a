/* cmd_shard.c - cordee shard --model PATH --workers N --out DIR; cordee shard verify DIR. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "coordinator/engine/assembly.h"
#include "shard/write.h"

enum { KEY_OUT = 256, KEY_STAGE, KEY_LOCAL };

struct shard_cmd {
    struct config config;
    const char *out, *verify; /* directories */
    int stage;                /* 0: all */
    bool local, json;
    int n_args;
    int n_told;
};

static err take(void *ctx, int key, const char *value, struct why *why)
{
    struct shard_cmd *x = ctx;
    char *end;
    switch (key) {
    case KEY_OUT:
        x->out = value;
        return ERR_OK;
    case KEY_STAGE:
        x->stage = (int)strtol(value, &end, 10);
        return *end || x->stage < 1
                   ? why_set(why, ERR_INVAL, "--stage: \"%s\" is not the number of a stage", value)
                   : ERR_OK;
    case KEY_LOCAL:
        x->local = true;
        return ERR_OK;
    case 'j':
        x->json = true;
        return ERR_OK;
    default:
        x->n_args++;
        if (x->n_args == 1 && !strcmp(value, "verify"))
            return ERR_OK;
        if (x->n_args == 2) {
            x->verify = value;
            return ERR_OK;
        }
        return why_set(why, ERR_INVAL, "unexpected argument \"%s\"", value);
    }
}

static void told(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                 const char *reason)
{
    static const char *const words[] = {[SHARD_WRITTEN] = "written",
                                        [SHARD_KEPT] = "kept",
                                        [SHARD_GOOD] = "good",
                                        [SHARD_DAMAGED] = "damaged",
                                        [SHARD_MISSING] = "missing"};
    struct shard_cmd *x = ctx;
    struct buf why = {0};
    if (reason)
        buf_put_json(&why, reason, strlen(reason), true);
    if (x->json)
        printf("%s{\"stage\":%d,\"file\":\"%s\",\"first\":%d,\"layers\":%d,\"embedding\":%s,\"head\":%s,"
               "\"bytes\":%llu,\"state\":\"%s\",\"reason\":%s}",
               x->n_told ? ",\n  " : "{\"stages\":[\n  ", stage, s->file, s->first, s->last - s->first,
               s->embed ? "true" : "false", s->head ? "true" : "false", (unsigned long long)s->bytes,
               words[state], reason && why.data ? why.data : "null");
    else
        printf("stage %d: layers %d..%d%s%s, %.1f MiB, %s: %s%s%s\n", stage, s->first, s->last,
               s->embed ? ", embedding" : "", s->head ? ", head" : "", (double)s->bytes / 0x1p20, s->file,
               words[state], reason ? ": " : "", reason ? reason : "");
    x->n_told++;
    fflush(stdout);
    buf_fini(&why);
}

/* The cut that an engine of as many workers would make. */
static err make_plan(const struct shard_cmd *x, const struct source *src, struct plan_stage *stages,
                     struct why *why)
{
    err e;
    const int n = (int)x->config.workers;
    struct plan_model m = {0};
    struct stage_limits lim;
    struct kernels k;
    struct plan_node *nodes = calloc((size_t)n, sizeof *nodes);
    if (!nodes)
        FAIL(ERR_NOMEM, "plan");
    kernels_init(&k, cpu_isa(), PREC_FAST);
    TRY(assembly_limits(&x->config, src, &lim, why));
    TRY(plan_model_fill(src, &lim, &k, 1, &m, why));
    for (int i = 0; i < n; i++) {
        nodes[i].speed = 1;
        if (x->config.n_nodes == n && x->config.nodes[i].read_gbs > 0)
            nodes[i].speed = x->config.nodes[i].read_gbs;
    }
    TRY(plan_cut(&m, nodes, n, stages, why));
out:
    plan_model_fini(&m);
    free(nodes);
    return e;
}

static err make(struct shard_cmd *x, struct pool *pool, struct why *why)
{
    err e;
    struct source *src = NULL;
    const int n = (int)x->config.workers;
    struct plan_stage *stages = calloc((size_t)n, sizeof *stages);
    const uint64_t t0 = now_ms();
    if (!stages)
        FAIL(ERR_NOMEM, "plan");
    if (x->stage > n)
        FAIL(ERR_INVAL, "--stage %d of %d workers", x->stage, n);
    TRY(source_open(x->config.model, &src, why));
    TRY(make_plan(x, src, stages, why));
    struct shard_job job = {.src = src,
                            .dir = x->out,
                            .stages = stages,
                            .n_stages = n,
                            .only = x->stage,
                            .pool = pool,
                            .told = told,
                            .ctx = x};
    TRY(shards_make(&job, why));
    fprintf(stderr, "cordee: shard: %s is ready after %.1f s: serve it with --model %s --workers %d\n",
            x->out, (double)(now_ms() - t0) / 1000, x->out, n);
out:
    source_close(src);
    free(stages);
    return e;
}

static err run(struct shard_cmd *x, struct why *why)
{
    err e;
    struct pool *pool = NULL;
    if (x->n_args == 1 || (x->n_args && x->out))
        FAIL(ERR_INVAL, "verify which directory? usage: cordee shard verify DIR");
    if (!x->n_args && (!x->out || !x->config.model[0]))
        FAIL(ERR_INVAL, "usage: cordee shard --model PATH --workers N --out DIR, or cordee shard verify DIR");
    TRY(pool_open(x->config.threads ? (int)x->config.threads : cpu_cores(), &pool, why));
    e = x->verify ? shards_verify(x->verify, x->local, pool, told, x, why) : make(x, pool, why);
    if (x->json && x->n_told)
        puts("\n]}");
out:
    pool_close(pool);
    return e;
}

int cmd_shard(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"out", KEY_OUT, "DIR", 0, "write the shards here", 1},
        {"stage", KEY_STAGE, "I", 0,
         "write stage I (1..N) only: for nodes that write their own, side by side", 1},
        {"local", KEY_LOCAL, NULL, 0, "verify: stages that are not on this node are no failure", 1},
        {"json", 'j', NULL, 0, "one JSON object", 1},
        {0},
    };
    struct shard_cmd x = {0};
    static const char doc[] =
        "Write a model as packed weights, a file for each rank; verify such a directory.";
    struct options o = {"shard", doc, "[verify DIR]", own, take, &x, false};
    struct why why = {0};
    int code;

    config_init(&x.config);
    if (options_parse(&o, argc, argv, &x.config, &code) == 0) {
        err e = run(&x, &why);
        code = e ? cmd_fail("shard", e, &why, EXIT_USAGE) : EXIT_DONE;
    }
    config_fini(&x.config);
    return code;
}
