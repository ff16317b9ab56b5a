/* kernels.h - the table of arithmetic kernels and what each slot promises.
 *
 * A kernel is a pure function on memory: no files, no allocation, no threads, no
 * model words. kernels_init() fills one table from kernels.inc for a mask of
 * instruction sets and a precision; everything above calls through the table.
 *
 * Numeric contract (see docs/kernels.md): for one table, the bits of a result row
 * depend only on that row's inputs and its role. They do not depend on how many
 * rows are handed over together, on [g0, g1), on threads or on chunk edges.
 * Every reduction runs in a fixed order along k (or along positions, in blocks
 * that start at absolute multiples of KV_PAGE).
 */
#ifndef CORDEE_KERNELS_KERNELS_H
#define CORDEE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "kernels/format.h"

enum precision {
    PREC_EXACT, /* f32 activations: golden tests, evaluation */
    PREC_FAST,  /* activations may become int8 blocks or bf16 */
    PREC_COUNT
};

/* Generated rows are bound by memory, prompt rows by arithmetic; each role has
 * its own kernel, and a token's role is part of what decides its bits. */
enum role { ROLE_PROMPT, ROLE_GEN, ROLE_COUNT };

/* The forms an activation row can take before a product. */
enum act {
    ACT_F32,  /* float[k], as is */
    ACT_Q8,   /* int8 blocks of 32 with an f32 scale and an int32 sum each */
    ACT_BF16, /* bf16[k] */
    ACT_COUNT
};

/* dst <- m rows of x (ldx floats apart) in the form; rows act_row_bytes(k) apart.
 * Once per activation, shared by all products that read it. */
typedef void prepare_fn(void *dst, const float *x, size_t ldx, int m, int k);

/* y[i][r] = sum_k W[r][k] * a[i][k] for rows i < m and the outputs r of groups
 * [g0, g1) that are < w->n.  y rows are ldy floats apart and not aliased.
 * a: as prepare_fn left it. scratch: mul.scratch_bytes, owned by the caller's
 * thread, 64-byte aligned. */
typedef void mul_fn(float *y, size_t ldy, const struct packed *w, const void *a, int m, int g0, int g1,
                    void *scratch);

struct mul {
    mul_fn *fn;
    enum act act;
    int m_best;        /* rows worth handing over at once (blocking); any m >= 1 is correct */
    int g_chunk;       /* groups one thread should take at once */
    int panel_rows;    /* 0, or: m is always this many rows, zero-padded by the caller, and a row's index in
                          the panel is its absolute position modulo panel_rows (fixed-shape GEMM) */
    size_t scratch_bytes; /* at the largest k the engine allows (MUL_MAX_K) */
};
#define MUL_MAX_K 65536

/* x[n] = x[n] * g[n] / rms(x), mean of squares in double-free fixed order; y may alias x. */
typedef void rmsnorm_fn(float *y, const float *x, const float *g, float eps, int n);
/* y = (x - mean) / sqrt(var + eps) * g + b; b may be NULL; y may alias x. */
typedef void layernorm_fn(float *y, const float *x, const float *g, const float *b, float eps, int n);

/* Rotates the first n_rot entries of each of n_heads heads (head_dim apart) in
 * place. cs: [n_rot/2][2] cos, sin of this position.
 * halves: pairs are (i, i + n_rot/2); pairs: (2i, 2i + 1). */
typedef void rope_fn(float *x, const float *cs, int n_heads, int head_dim, int n_rot);

/* y[n] = act(gate[n]) * up[n]; y may alias either. */
typedef void glu_fn(float *y, const float *gate, const float *up, int n);
/* y[n] = act(x[n]); y may alias x. */
typedef void unary_fn(float *y, const float *x, int n);
/* y[n] += s * x[n]. */
typedef void axpy_fn(float *y, const float *x, float s, int n);
/* Streamed log-sum-exp over a block: *max and *sum (of exp(x - *max)) are
 * updated; start with max = -INFINITY, sum = 0. Fixed order. */
typedef void lse_fn(const float *x, int n, float *max, float *sum);
/* Index of the greatest value, the lowest index on ties; NaN never wins. */
typedef int argmax_fn(const float *x, int n);

enum activation {
    ACTIVATION_SILU,
    ACTIVATION_GELU_TANH,
    ACTIVATION_GELU_ERF,
    ACTIVATION_RELU,
    ACTIVATION_RELU2,
    ACTIVATION_SWIGLU_OAI, /* gpt-oss: clamp 7, alpha 1.702, (up + 1); glu only */
    ACTIVATION_COUNT
};

/* ---- attention ------------------------------------------------------------
 * Keys and values live in pages of KV_PAGE positions (kv_page.h writes them). For one
 * layer and one KV head a page holds
 *
 *   K  [dk/2][KV_PAGE][2]            pairs of columns, every position side by side
 *   V  [dv/32][KV_PAGE/2][32][2]     by strips of 32 columns: pairs of positions, columns side
 *                                    by side; the last strip may be narrower (kv_strip_cols)
 *
 * elements of the KV type, and for q8_0 blocks of 32 columns
 *
 *   K  [dk/32]{ f16 scale[KV_PAGE], int8 [8][KV_PAGE][4] }     columns by fours
 *   V  [dv/32]{ f16 scale[KV_PAGE], int8 [KV_PAGE/4][32][4] }  positions by fours
 *
 * so that a vector holds one step of 8 or 16 sums and none is ever summed across, and
 * the dot products of bf16 pairs and int8 fours read it as it is. Latent pages keep rows:
 * [KV_PAGE][dk], whose first dv elements are the values too.
 *
 * Page p of a sequence covers the positions [p*KV_PAGE, (p+1)*KV_PAGE) and lives at
 * base + (size_t)pages[p] * page_bytes + {k,v}_offset. */
#define KV_PAGE 32

/* A block of q8_0 in row order: f16 scale, int8[32]. */
#define KV_Q8_BLOCK 34

/* Positions are attended to in spans that start at absolute multiples of ATTN_SPAN. Each
 * has a softmax of its own; the spans are then added in ascending order. So a long context
 * may be shared between threads without changing a bit. */
#define ATTN_SPAN 1024

enum kv_type { KV_F32, KV_F16, KV_BF16, KV_Q8_0, KV_TYPE_COUNT };
const char *kv_type_name(enum kv_type t);
/* Bytes of a row of n elements; q8_0 stores blocks of 32 (n is a multiple). */
size_t kv_row_bytes(enum kv_type t, int n);
/* Columns that a V page has room for: whole vectors of pairs. */
static inline int kv_cols(int dv)
{
    return (dv + 7) & ~7;
}
#define KV_STRIP 32
/* Columns of the strip of a V page that column c is in. */
static inline int kv_strip_cols(int dv, int c)
{
    int left = kv_cols(dv) - c / KV_STRIP * KV_STRIP;
    return left < KV_STRIP ? left : KV_STRIP;
}
/* Where in a V page the number of position j (in the page) and column c is, in elements. */
static inline size_t kv_v_element(int dv, int j, int c)
{
    int strip = c / KV_STRIP * KV_STRIP;
    return (size_t)(strip * KV_PAGE + (j / 2 * kv_strip_cols(dv, c) + c - strip) * 2 + j % 2);
}

struct attn {
    const float *q;  /* [n_q][ldq]: the n_group query heads that share this KV head lie dk apart */
    size_t ldq;
    float *out;      /* [n_q][ldo], heads dv apart; not aliased */
    size_t ldo;
    int n_q;         /* consecutive positions pos0 .. pos0 + n_q - 1 of one sequence */
    int pos0;
    int n_group;
    int dk, dv;      /* dk is even */
    const char *base;
    size_t page_bytes, k_offset, v_offset;
    bool latent;             /* pages of rows; v_offset is not used */
    const uint32_t *pages;
    float scale;             /* multiplies q.k */
    float softcap;           /* 0: none; else s = cap * tanh(s / cap) */
    int window;              /* 0: all; else query i sees j > i - window */
    int chunk;               /* 0: none; else only j with j / chunk == i / chunk (Llama 4) */
    bool causal;             /* false: encoders; the sequence ends at n_kv */
    int n_kv;                /* positions present (causal: >= pos0 + n_q) */
    const float *slopes;     /* [n_group] ALiBi slopes, or NULL: score += slope * (j - i) */
    const float *sinks;      /* [n_group] attention sinks (one more logit without a value), or NULL */
    /* NULL: everything, finished, into out. Else only the spans [span0, span1), each left apart in
     * part [span1 - span0][n_q][n_group][attn_part_floats(dv)]; out is not touched. */
    float *part;
    int span0, span1;
};
/* scratch: attn_scratch_bytes(n_q, n_group, dk, dv), owned by the caller's thread, 64-byte aligned. */
typedef void attn_fn(const struct attn *a, void *scratch);
size_t attn_scratch_bytes(int n_q, int n_group, int dk, int dv);
/* Floats of one query head's part: a multiple of 16. */
static inline size_t attn_part_floats(int dv)
{
    return 16 + (((size_t)dv + 15) & ~(size_t)15);
}

/* out = the spans [span0, span1) in a->part, which must be all that any of the queries
 * sees; the same bits as one call without parts. */
typedef void attn_merge_fn(const struct attn *a);

/* Writes one row of n elements in a KV type, q8_0 as a run of blocks. */
typedef void kv_put_fn(void *dst, const float *src, int n);

/* Probes of the roof, for benchmarks and the planner. Read: touches every byte
 * with the set's widest loads; the result depends on all of them. Multiply: does
 * rounds times a fixed piece of register-only work on the unit that products of
 * this activation form use; returns the operations done (a multiply-add is two). */
typedef uint64_t probe_read_fn(const void *p, size_t bytes);
typedef double probe_mul_fn(long rounds);

struct kernels {
    unsigned isa; /* the mask the table was made for */
    enum precision precision;
    struct mul mul[FMT_COUNT][ROLE_COUNT];
    prepare_fn *prepare[ACT_COUNT];
    rmsnorm_fn *rmsnorm;
    layernorm_fn *layernorm;
    rope_fn *rope_halves, *rope_pairs;
    glu_fn *glu[ACTIVATION_COUNT];
    unary_fn *act[ACTIVATION_COUNT];
    axpy_fn *axpy;
    lse_fn *lse;
    argmax_fn *argmax;
    attn_fn *attn[KV_TYPE_COUNT][ROLE_COUNT];
    attn_merge_fn *attn_merge;
    kv_put_fn *kv_put[KV_TYPE_COUNT];
    probe_read_fn *probe_read;
    probe_mul_fn *probe_mul[ACT_COUNT];
};

void kernels_init(struct kernels *k, unsigned isa_allowed, enum precision precision);

/* Bytes of one prepared row of k elements: an odd multiple of 64, so that the
 * same columns of many rows do not fall into the same sets of a cache. */
size_t act_row_bytes(enum act a, int k);

/* A name for the set, e.g. "vnni/fast/1": part of system_fingerprint. Two
 * machines with the same string give the same bits. */
void kernels_name(const struct kernels *k, char *out, size_t size);

#endif
