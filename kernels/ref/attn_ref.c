/* attn_ref.c - attention with an online softmax, one query and head at a time.
 *
 * Walks the pages of the positions a query sees in order: scores of a page,
 * running maximum, rescaled sums. Pages start at absolute multiples of KV_PAGE,
 * so the order of additions depends on the query's position alone.
 *
 * A KV row of q8_0 is a run of blocks, so that a prefix of a row is a row (latent
 * attention reads its values as the first columns of its keys).
 */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/attn.h"
#include "kernels/table.h"

static float kv_at(enum kv_type t, const void *row, int i)
{
    uint16_t half;
    switch (t) {
    case KV_F32:
        return ((const float *)row)[i];
    case KV_F16:
        return f16_to_f32(((const uint16_t *)row)[i]);
    case KV_BF16:
        return bf16_to_f32(((const uint16_t *)row)[i]);
    default:
        memcpy(&half, (const char *)row + i / 32 * KV_Q8_BLOCK, 2);
        return (float)((const int8_t *)row)[i / 32 * KV_Q8_BLOCK + 2 + i % 32] * f16_to_f32(half);
    }
}

/* The score of position j for one head's query, before the softmax. */
static float score(const struct attn *a, enum kv_type t, const float *q, int head, int pos, int j)
{
    const void *row = attn_k(a, j);
    double sum = 0;
    for (int c = 0; c < a->dk; c++)
        sum += (double)q[c] * (double)kv_at(t, row, c);
    float s = (float)sum * a->scale;
    if (a->softcap > 0)
        s = a->softcap * tanhf(s / a->softcap);
    if (a->slopes)
        s += a->slopes[head] * (float)(j - pos);
    return s;
}

struct running {
    float max, sum;
};

/* Positions [j0, j1) of one page. */
static void attend_page(const struct attn *a, enum kv_type t, int i, int head, int j0, int j1, struct running *run)
{
    const float *q = a->q + (size_t)i * a->ldq + (size_t)head * (size_t)a->dk;
    float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
    float s[KV_PAGE], max = run->max;
    for (int j = j0; j < j1; j++) {
        s[j - j0] = score(a, t, q, head, a->pos0 + i, j);
        max = s[j - j0] > max ? s[j - j0] : max;
    }
    if (max == -INFINITY)
        return;
    float keep = expf(run->max - max);
    run->max = max;
    run->sum *= keep;
    for (int c = 0; c < a->dv; c++)
        out[c] *= keep;
    for (int j = j0; j < j1; j++) {
        float p = expf(s[j - j0] - max);
        const void *row = attn_v(a, j);
        run->sum += p;
        for (int c = 0; c < a->dv; c++)
            out[c] += p * kv_at(t, row, c);
    }
}

static void attend(const struct attn *a, enum kv_type t)
{
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            float *out = a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv;
            struct running run = {-INFINITY, 0};
            int from, to;
            attn_span(a, a->pos0 + i, &from, &to);
            memset(out, 0, (size_t)a->dv * sizeof *out);
            if (a->sinks)
                run = (struct running){a->sinks[head], 1};
            for (int j = from, next; j < to; j = next) {
                next = (j / KV_PAGE + 1) * KV_PAGE;
                attend_page(a, t, i, head, j, next < to ? next : to, &run);
            }
            for (int c = 0; c < a->dv; c++)
                out[c] = run.sum > 0 ? out[c] / run.sum : 0;
        }
}

void attn_f32_ref(const struct attn *a, void *scratch)
{
    (void)scratch;
    attend(a, KV_F32);
}

void attn_f16_ref(const struct attn *a, void *scratch)
{
    (void)scratch;
    attend(a, KV_F16);
}

void attn_bf16_ref(const struct attn *a, void *scratch)
{
    (void)scratch;
    attend(a, KV_BF16);
}

void attn_q8_0_ref(const struct attn *a, void *scratch)
{
    (void)scratch;
    attend(a, KV_Q8_0);
}

void kv_put_f32_ref(void *dst, const float *src, int n)
{
    memcpy(dst, src, (size_t)n * sizeof *src);
}

void kv_put_f16_ref(void *dst, const float *src, int n)
{
    for (int i = 0; i < n; i++)
        ((uint16_t *)dst)[i] = f32_to_f16(src[i]);
}

void kv_put_bf16_ref(void *dst, const float *src, int n)
{
    for (int i = 0; i < n; i++)
        ((uint16_t *)dst)[i] = f32_to_bf16(src[i]);
}

void kv_put_q8_0_ref(void *dst, const float *src, int n)
{
    for (int b = 0; b < n / 32; b++) {
        const float *x = src + 32 * b;
        float most = 0;
        for (int i = 0; i < 32; i++)
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        uint16_t half = f32_to_f16(most / 127.0f);
        float up = most > 0 ? 127.0f / most : 0;
        char *block = (char *)dst + b * KV_Q8_BLOCK;
        memcpy(block, &half, 2);
        for (int i = 0; i < 32; i++)
            ((int8_t *)block)[2 + i] = (int8_t)lrintf(x[i] * up);
    }
}
