/* kernels.c - how close each kernel comes to what this core can do.
 *
 *   bench_kernels [--isa NAME] [--format NAME] [--rows 1,8,16,512] [--cols 4096] [--mib 256] [--exact]
 *                 [--json]
 *
 * First the roof, in the same run: read bandwidth over a buffer of the same size
 * as the weights, and the peak rate of the multiply instructions that the mask
 * allows. Then each product on a matrix of `mib` MiB (more than any cache), best
 * of a few passes after a warm one, in turns with a plain read of the same matrix: on a
 * virtual machine memory is not equally fast everywhere. One thread.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "kernels/kernels.h"

enum { PASSES = 5, MAX_COUNTS = 8 };

struct options {
    unsigned isa;
    enum precision precision;
    int format; /* -1: all */
    int counts[MAX_COUNTS], n_counts;
    int cols; /* of a matrix */
    size_t bytes;
    bool json;
};

struct roof {
    double read_gbs, gflops[ACT_COUNT]; /* of the unit that products of this form run on */
    uint64_t digest; /* of what was read: keeps the reads */
};

/* Processor time, not wall time: other processes take turns, not credit. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct roof measure_roof(const struct options *o, const struct kernels *k)
{
    struct roof roof = {0};
    char *buffer = mem_alloc(o->bytes, 1);
    if (!buffer)
        exit(1);
    memset(buffer, 1, o->bytes);
    for (int i = 0; i < PASSES; i++) {
        double t = seconds();
        roof.digest ^= k->probe_read(buffer, o->bytes);
        t = (double)o->bytes / (seconds() - t) * 1e-9;
        roof.read_gbs = t > roof.read_gbs ? t : roof.read_gbs;
        for (int act = 0; act < ACT_COUNT; act++) {
            t = seconds();
            double operations = k->probe_mul[act](1 << 21);
            t = operations / (seconds() - t) * 1e-9;
            roof.gflops[act] = t > roof.gflops[act] ? t : roof.gflops[act];
        }
    }
    free(buffer);
    return roof;
}

/* A packed matrix of about `bytes`: one random group, repeated. */
static struct packed random_matrix(enum fmt f, int cols, size_t bytes)
{
    struct packed w = {.fmt = f, .k = cols, .group_bytes = pack_group_bytes(f, cols)};
    size_t groups = bytes / w.group_bytes + 1, row = fmt_row_bytes(f, cols);
    char *data = mem_alloc(groups, w.group_bytes), *file = mem_alloc(PACK_ROWS, row);
    if (!data || !file)
        exit(1);
    for (size_t i = 0; i < PACK_ROWS * row; i++)
        file[i] = (char)(i * 2654435761u >> 13 & 0x37); /* no infinite factors */
    pack_rows(f, data, file, row, PACK_ROWS, cols, 0, 1);
    for (size_t g = 1; g < groups; g++)
        memcpy(data + g * w.group_bytes, data, w.group_bytes);
    free(file);
    w.n = (int)groups * PACK_ROWS;
    w.data = data;
    return w;
}

struct timing {
    double product, read; /* seconds, the best of PASSES */
};

static double best_of(double best, double t)
{
    return t < best ? t : best;
}

/* One product with m rows, and reading its matrix. */
static struct timing time_product(const struct kernels *k, const struct packed *w, enum role role, int m)
{
    const struct mul *mul = &k->mul[w->fmt][role];
    size_t lda = act_row_bytes(mul->act, w->k);
    int rows = mul->panel_rows ? (m + mul->panel_rows - 1) / mul->panel_rows * mul->panel_rows : m;
    float *x = mem_alloc((size_t)rows * (size_t)w->k, sizeof *x), *y = mem_alloc((size_t)rows * (size_t)w->n, sizeof *y);
    char *a = mem_alloc((size_t)rows, lda), *scratch = mem_alloc(mul->scratch_bytes + 64, 1);
    struct timing best = {1e9, 1e9};
    if (!x || !y || !a || !scratch)
        exit(1);
    for (int i = 0; i < rows * w->k; i++)
        x[i] = (float)(i * 7 % 31 - 15) / 16;
    k->prepare[mul->act](a, x, (size_t)w->k, rows, w->k);
    int chunk = mul->g_chunk, together = mul->panel_rows ? mul->panel_rows : mul->m_best;
    for (int pass = 0; pass <= PASSES; pass++) {
        double t = seconds();
        (void)k->probe_read(w->data, w->group_bytes * (size_t)pack_groups(w->n));
        best.read = best_of(best.read, seconds() - t);
        t = seconds();
        for (int g = 0; g < pack_groups(w->n); g += chunk)
            for (int i = 0; i < rows; i += together) {
                int n = rows - i < together ? rows - i : together;
                int g1 = g + chunk < pack_groups(w->n) ? g + chunk : pack_groups(w->n);
                mul->fn(y + (size_t)i * (size_t)w->n, (size_t)w->n, w, a + (size_t)i * lda, n, g, g1, scratch);
            }
        if (pass > 0)
            best.product = best_of(best.product, seconds() - t);
    }
    free(x);
    free(y);
    free(a);
    free(scratch);
    return best;
}

static void bench_products(const struct options *o, const struct kernels *k, const struct roof *roof)
{
    if (!o->json)
        printf("%-8s %-6s %5s %9s %7s %9s %7s %8s\n", "format", "role", "rows", "GB/s", "% read", "GFLOP/s", "% peak",
               "speed-up");
    for (int f = 0; f < FMT_COUNT; f++) {
        if (o->format >= 0 && o->format != f)
            continue;
        double one = 0;
        for (int c = 0; c < o->n_counts; c++) {
            int m = o->counts[c];
            enum role role = m > 64 ? ROLE_PROMPT : ROLE_GEN;
            /* Many rows are about arithmetic: a smaller matrix is enough. */
            struct packed w = random_matrix((enum fmt)f, o->cols, m > 64 ? o->bytes / 16 : o->bytes);
            struct timing timing = time_product(k, &w, role, m);
            double t = timing.product;
            double bytes = (double)w.group_bytes * pack_groups(w.n), flops = 2.0 * w.n * (double)w.k * m;
            double weights_per_s = (double)w.n * w.k / t;
            one = c == 0 ? weights_per_s / m : one;
            if (o->json)
                printf("%s\n  {\"kernel\":\"mul\",\"format\":\"%s\",\"role\":\"%s\",\"rows\":%d,\"gbs\":%.2f,\"read_gbs\":%.2f,\"gflops\":%.1f}",
                       c || (f && o->format < 0) ? "," : "", fmt_traits[f].name, role == ROLE_GEN ? "gen" : "prompt", m, bytes / t * 1e-9,
                       bytes / timing.read * 1e-9, flops / t * 1e-9);
            else
                printf("%-8s %-6s %5d %9.2f %6.0f%% %9.1f %6.0f%% %7.2fx\n", fmt_traits[f].name,
                       role == ROLE_GEN ? "gen" : "prompt", m, bytes / t * 1e-9, 100 * timing.read / t,
                       flops / t * 1e-9, flops / t * 1e-7 / roof->gflops[k->mul[f][role].act], weights_per_s * m / one / o->counts[0]);
            fflush(stdout);
            free((void *)(uintptr_t)w.data);
        }
    }
}

static void usage(void)
{
    fprintf(stderr, "bench_kernels [--isa NAME] [--format NAME] [--rows N,N] [--cols N] [--mib N] [--exact] [--json]\n");
    exit(2);
}

static void parse_counts(struct options *o, char *text)
{
    o->n_counts = 0;
    for (char *word = strtok(text, ","); word && o->n_counts < MAX_COUNTS; word = strtok(NULL, ","))
        if ((o->counts[o->n_counts++] = atoi(word)) < 1)
            usage();
    if (o->n_counts == 0)
        usage();
}

static struct options parse(int argc, char **argv)
{
    static const struct option longs[] = {{"isa", 1, NULL, 'i'},   {"format", 1, NULL, 'f'}, {"rows", 1, NULL, 'r'},
                                          {"cols", 1, NULL, 'c'},  {"mib", 1, NULL, 'm'},    {"exact", 0, NULL, 'e'},
                                          {"json", 0, NULL, 'j'},  {NULL, 0, NULL, 0}};
    struct options o = {cpu_isa(), PREC_FAST, -1, {1, 8, 16, 512}, 4, 4096, (size_t)256 << 20, false};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        switch (c) {
        case 'i':
            if (cpu_isa_parse(optarg, &o.isa, NULL) != ERR_OK)
                usage();
            break;
        case 'f':
            o.format = (int)fmt_named(optarg);
            if (o.format == FMT_COUNT)
                usage();
            break;
        case 'r':
            parse_counts(&o, optarg);
            break;
        case 'm':
            o.bytes = (size_t)atoi(optarg) << 20;
            break;
        case 'c':
            o.cols = atoi(optarg);
            break;
        case 'e':
            o.precision = PREC_EXACT;
            break;
        case 'j':
            o.json = true;
            break;
        default:
            usage();
        }
    if (optind != argc || o.bytes < (size_t)1 << 20 || o.cols < 256 || o.cols % 256 || o.cols > MUL_MAX_K)
        usage();
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct kernels k;
    char name[64];
    kernels_init(&k, o.isa, o.precision);
    kernels_name(&k, name, sizeof name);
    struct roof roof = measure_roof(&o, &k);
    if (o.json)
        printf("{\"kernels\":\"%s\",\"read_gbs\":%.2f,\"peak_gflops\":{\"f32\":%.1f,\"q8\":%.1f,\"bf16\":%.1f},"
               "\"results\":[",
               name, roof.read_gbs, roof.gflops[ACT_F32], roof.gflops[ACT_Q8], roof.gflops[ACT_BF16]);
    else
        printf("%s: read %.1f GB/s, peak GFLOP/s f32 %.0f, int8 %.0f, bf16 %.0f (a multiply-add is two)\n", name,
               roof.read_gbs, roof.gflops[ACT_F32], roof.gflops[ACT_Q8], roof.gflops[ACT_BF16]);
    bench_products(&o, &k, &roof);
    if (o.json)
        printf("\n]}\n");
    return 0;
}
