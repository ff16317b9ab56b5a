/* attention.c - how close attention comes to reading its KV once, or to the peak of a core.
 *
 *   bench_attention [--isa NAME] [--exact] [--kv NAME] [--context N] [--rows N] [--group N]
 *                   [--dk N] [--dv N] [--latent] [--mib N] [--threads N]
 *
 * Heads enough to make `mib` MiB of cache, so that nothing is left in a cache from the pass
 * before, laid out as in model/kv.h: a page of all heads after the other. Best of a few passes.
 * rows 1 is a generated token: GB/s of KV, and per cent of the read bandwidth measured in the
 * same run. More rows are a prompt's last chunk, gone over in runs of a page as
 * model/attn_run.c does: operations/s, and per cent of the f32 peak.
 * One thread; with --threads, each KV head's spans shared by a pool, wall time, and the read
 * bandwidth of as many threads.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/kv_page.h"

enum { PASSES = 5 };

struct options {
    unsigned isa;
    enum precision precision;
    int kv, context, rows, group, dk, dv, mib, threads; /* kv -1: all */
    bool latent;
};

struct scene {
    const struct kernels *k;
    enum kv_type t;
    struct pool *pool;
    struct attn a;
    char *kv, *scratch;
    float *q, *out, *part;
    uint32_t *pages;
    size_t scratch_bytes, head_page; /* bytes of a head in a page */
    int n_heads;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *take(size_t n, size_t size)
{
    void *p = mem_alloc(n, size);
    if (!p) {
        fprintf(stderr, "bench_attention: no memory\n");
        exit(1);
    }
    return p;
}

static void scene_make(struct scene *s, const struct options *o)
{
    int n_pages = (o->context + KV_PAGE - 1) / KV_PAGE, widest = o->dk > o->dv ? o->dk : o->dv;
    size_t k_bytes = kv_k_bytes(s->t, o->dk), v_bytes = o->latent ? 0 : kv_v_bytes(s->t, o->dv);
    size_t head = k_bytes + v_bytes, n_q = (size_t)o->rows * (size_t)o->group;
    int n_spans = (o->context + ATTN_SPAN - 1) / ATTN_SPAN;
    s->n_heads = o->rows > 1 ? 1 : (int)(((size_t)o->mib << 20) / (head * (size_t)n_pages)) + 1;
    s->head_page = head;
    s->kv = take((size_t)s->n_heads, head * (size_t)n_pages);
    s->q = take(n_q * (size_t)widest, sizeof *s->q);
    s->out = take(n_q * (size_t)o->dv, sizeof *s->out);
    s->pages = take((size_t)n_pages, sizeof *s->pages);
    s->scratch_bytes = (attn_scratch_bytes(KV_PAGE, o->group, o->dk, o->dv) + 127) & ~(size_t)127;
    s->scratch = take((size_t)o->threads, s->scratch_bytes);
    s->part = s->pool ? take((size_t)n_spans * n_q * attn_part_floats(o->dv), sizeof *s->part) : NULL;
    for (size_t i = 0; i < n_q * (size_t)widest; i++)
        s->q[i] = (float)(i * 7 % 31) / 16 - 1;
    for (int p = 0; p < n_pages; p++)
        s->pages[p] = (uint32_t)p;
    for (int h = 0; h < s->n_heads; h++)
        for (int j = 0; j < n_pages * KV_PAGE; j++) {
            char *at = s->kv + ((size_t)(j / KV_PAGE) * (size_t)s->n_heads + (size_t)h) * head;
            if (o->latent) {
                s->k->kv_put[s->t](at + (size_t)(j % KV_PAGE) * kv_row_bytes(s->t, o->dk), s->q, o->dk);
                continue;
            }
            kv_page_put_k(s->t, s->k->kv_put[s->t], at, j % KV_PAGE, s->q, o->dk);
            kv_page_put_v(s->t, s->k->kv_put[s->t], at + k_bytes, j % KV_PAGE, s->q, o->dv);
        }
    s->a = (struct attn){.ldq = (size_t)(o->group * o->dk), .ldo = (size_t)(o->group * o->dv), .n_group = o->group,
                         .dk = o->dk, .dv = o->dv, .base = s->kv, .page_bytes = head * (size_t)s->n_heads,
                         .latent = o->latent, .pages = s->pages, .scale = 0.088f, .causal = true};
}

static void span_task(void *ctx, int first, int last, int worker)
{
    struct scene *s = ctx;
    struct attn a = s->a;
    size_t floats = (size_t)(a.n_q * a.n_group) * attn_part_floats(a.dv);
    for (a.span0 = first; a.span0 < last; a.span0++) {
        a.span1 = a.span0 + 1;
        a.part = s->part + (size_t)a.span0 * floats;
        s->k->attn[s->t][ROLE_GEN](&a, s->scratch + (size_t)worker * s->scratch_bytes);
    }
}

static double one_pass(struct scene *s, const struct options *o)
{
    double start = s->pool ? (double)now_ns() * 1e-9 : seconds();
    for (int h = 0; h < s->n_heads; h++)
        for (int i = 0, n; i < o->rows; i += n) {
            n = o->rows - i < KV_PAGE ? o->rows - i : KV_PAGE;
            s->a.k_offset = (size_t)h * s->head_page;
            s->a.v_offset = s->a.k_offset + kv_k_bytes(s->t, o->dk);
            s->a.pos0 = o->context - o->rows + i;
            s->a.n_q = n;
            s->a.n_kv = s->a.pos0 + n;
            s->a.q = s->q + (size_t)i * s->a.ldq;
            s->a.out = s->out + (size_t)i * s->a.ldo;
            s->a.part = NULL;
            if (!s->pool) {
                s->k->attn[s->t][o->rows > 1 ? ROLE_PROMPT : ROLE_GEN](&s->a, s->scratch);
                continue;
            }
            s->a.part = s->part;
            s->a.span0 = 0;
            s->a.span1 = (s->a.n_kv - 1) / ATTN_SPAN + 1;
            pool_run(s->pool, s->a.span1, 1, span_task, s);
            s->k->attn_merge(&s->a);
        }
    return (s->pool ? (double)now_ns() * 1e-9 : seconds()) - start;
}

static double time_attention(struct scene *s, const struct options *o)
{
    double best = 1e9;
    scene_make(s, o);
    for (int pass = 0; pass <= PASSES; pass++) {
        double t = one_pass(s, o);
        best = pass > 0 && t < best ? t : best;
    }
    free(s->kv);
    free(s->q);
    free(s->out);
    free(s->pages);
    free(s->scratch);
    free(s->part);
    return best;
}

struct reading {
    const struct kernels *k;
    const char *buffer;
    size_t share; /* bytes of a thread */
    uint64_t digest[64];
};

static void read_task(void *ctx, int first, int last, int worker)
{
    struct reading *r = ctx;
    for (int i = first; i < last; i++)
        r->digest[worker % 64] ^= r->k->probe_read(r->buffer + (size_t)i * r->share, r->share);
}

static double measure_read(const struct options *o, const struct kernels *k, struct pool *pool, uint64_t *digest)
{
    size_t bytes = (size_t)o->mib << 20;
    char *buffer = take(bytes, 1);
    struct reading r = {.k = k, .buffer = buffer, .share = bytes / (size_t)o->threads / 64 * 64};
    double best = 1e9;
    memset(buffer, 1, bytes);
    for (int i = 0; i < PASSES; i++) {
        double start = pool ? (double)now_ns() * 1e-9 : seconds();
        if (pool)
            pool_run(pool, o->threads, 1, read_task, &r);
        else
            read_task(&r, 0, 1, 0);
        double t = (pool ? (double)now_ns() * 1e-9 : seconds()) - start;
        best = t < best ? t : best;
    }
    free(buffer);
    *digest ^= r.digest[0];
    return (double)r.share * o->threads / best * 1e-9;
}

static double measure_peak(const struct kernels *k)
{
    double best = 0;
    for (int i = 0; i < PASSES; i++) {
        double t = seconds(), n = k->probe_mul[ACT_F32](1000000);
        t = n / (seconds() - t) * 1e-9;
        best = t > best ? t : best;
    }
    return best;
}

static void usage(void)
{
    fprintf(stderr, "bench_attention [--isa NAME] [--exact] [--kv NAME] [--context N] [--rows N] [--group N]\n"
                    "                [--dk N] [--dv N] [--latent] [--mib N] [--threads N]\n");
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"isa", 1, NULL, 'i'}, {"exact", 0, NULL, 'e'}, {"kv", 1, NULL, 'k'}, {"context", 1, NULL, 'c'},
        {"rows", 1, NULL, 'r'}, {"group", 1, NULL, 'g'}, {"dk", 1, NULL, 'q'}, {"dv", 1, NULL, 'v'},
        {"latent", 0, NULL, 'l'}, {"mib", 1, NULL, 'm'}, {"threads", 1, NULL, 't'}, {NULL, 0, NULL, 0}};
    struct options o = {.isa = cpu_isa(), .precision = PREC_FAST, .kv = -1, .context = 32768, .rows = 1, .group = 4,
                        .dk = 128, .dv = 128, .mib = 256, .threads = 1};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        int *number = c == 'c' ? &o.context : c == 'r' ? &o.rows : c == 'g' ? &o.group : c == 'q' ? &o.dk
                    : c == 'v' ? &o.dv : c == 'm' ? &o.mib : c == 't' ? &o.threads : NULL;
        if (number && (*number = atoi(optarg)) < 1)
            usage();
        if (c == 'e')
            o.precision = PREC_EXACT;
        else if (c == 'l')
            o.latent = true;
        else if (c == 'i' && cpu_isa_parse(optarg, &o.isa, NULL) != ERR_OK)
            usage();
        else if (c == 'k')
            for (o.kv = KV_TYPE_COUNT - 1; o.kv >= 0 && strcmp(kv_type_name((enum kv_type)o.kv), optarg); o.kv--)
                continue;
        else if (!number && c != 'i')
            usage();
    }
    if (optind != argc || o.rows > o.context || (o.latent && o.dv > o.dk) || o.dk % 2)
        usage();
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct kernels k;
    struct pool *pool = NULL;
    struct why why;
    uint64_t digest = 0;
    char name[64];
    kernels_init(&k, o.isa, o.precision);
    kernels_name(&k, name, sizeof name);
    if (o.threads > 1 && pool_open(o.threads, &pool, &why) != ERR_OK)
        usage();
    double read = measure_read(&o, &k, pool, &digest), peak = measure_peak(&k);
    printf("%s: read %.1f GB/s, f32 %.0f GFLOP/s a core; context %d, heads of %d and %d, %d query heads a KV head, "
           "%d rows, %d threads%s\n",
           name, read, peak, o.context, o.dk, o.dv, o.group, o.rows, o.threads, digest == 1 ? "." : "");
    for (int t = 0; t < KV_TYPE_COUNT; t++) {
        if ((o.kv >= 0 && o.kv != t) || (t == KV_Q8_0 && (o.latent || o.dk % 32 || o.dv % 32)))
            continue;
        struct scene s = {.k = &k, .t = (enum kv_type)t, .pool = pool};
        double best = time_attention(&s, &o), positions = (double)o.context * s.n_heads;
        double bytes = positions * (double)s.head_page / KV_PAGE;
        double work = 2.0 * (o.dk + o.dv) * o.group * o.rows * (positions - (double)o.rows / 2 * s.n_heads);
        printf("%-5s %9.3f ms a head  %7.2f GB/s %4.0f%%  %7.1f GFLOP/s %4.0f%%\n", kv_type_name((enum kv_type)t),
               best / s.n_heads * 1e3, bytes / best * 1e-9, 100 * bytes / best * 1e-9 / read, work / best * 1e-9,
               100 * work / best * 1e-9 / peak);
    }
    pool_close(pool);
    return 0;
}
