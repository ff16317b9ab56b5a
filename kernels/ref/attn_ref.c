/* attn_ref.c - attention with an online softmax, one query and head at a time.
 *
 * Walks the spans that a query sees and each span's pages in order: scores of a page,
 * running maximum, rescaled sums; then adds the spans up. Pages and spans start at absolute
 * multiples, so the order of additions depends on the query's position alone.
 */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/attn.h"
#include "kernels/kv_page.h"
#include "kernels/table.h"

static float float_at(enum kv_type t, const char *at, size_t i)
{
    float value;
    uint16_t half;
    if (t == KV_F32) {
        memcpy(&value, at + 4 * i, 4);
        return value;
    }
    memcpy(&half, at + 2 * i, 2);
    return t == KV_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

/* The q8_0 number with code `code` and scale `scale` of the block. */
static float block_at(const char *block, int scale, int code)
{
    return float_at(KV_F16, block, (size_t)scale) * (float)(int8_t)block[2 * KV_PAGE + code];
}

/* Column c of position j's key and value; kernels.h draws the pages. */
static float key_at(const struct attn *a, enum kv_type t, int j, int c)
{
    const char *k = attn_k(a, j);
    int at = j % KV_PAGE;
    if (a->latent)
        return float_at(t, k + (size_t)at * kv_row_bytes(t, a->dk), (size_t)c);
    if (t == KV_Q8_0)
        return block_at(k + kv_k_bytes(t, 32) * (size_t)(c / 32), at, (c % 32 / 4 * KV_PAGE + at) * 4 + c % 4);
    return float_at(t, k, ((size_t)(c / 2) * KV_PAGE + (size_t)at) * 2 + (size_t)(c % 2));
}

static float value_at(const struct attn *a, enum kv_type t, int j, int c)
{
    const char *v = attn_v(a, j);
    int at = j % KV_PAGE;
    if (a->latent)
        return key_at(a, t, j, c);
    if (t == KV_Q8_0)
        return block_at(v + kv_v_bytes(t, 32) * (size_t)(c / 32), at, (at / 4 * 32 + c % 32) * 4 + at % 4);
    return float_at(t, v, kv_v_element(a->dv, at, c));
}

/* The score of position j for one head's query, before the softmax. */
static float score(const struct attn *a, enum kv_type t, const float *q, int head, int pos, int j)
{
    double sum = 0;
    for (int c = 0; c < a->dk; c++)
        sum += (double)q[c] * (double)key_at(a, t, j, c);
    float s = (float)sum * a->scale;
    if (a->softcap > 0)
        s = a->softcap * tanhf(s / a->softcap);
    if (a->slopes)
        s += a->slopes[head] * (float)(j - pos);
    return s;
}

/* A sum of values with the softmax's maximum and denominator so far: of a span, or in all. */
struct running {
    float max, sum, *values;
};

/* To units of e^max. */
static void rescale(struct running *run, float max, int dv)
{
    float keep = run->max == max ? 1 : expf(run->max - max);
    run->max = max;
    run->sum *= keep;
    for (int c = 0; c < dv; c++)
        run->values[c] *= keep;
}

/* Positions [j0, j1) of one page. */
static void attend_page(const struct attn *a, enum kv_type t, int i, int head, int j0, int j1, struct running *run)
{
    const float *q = a->q + (size_t)i * a->ldq + (size_t)head * (size_t)a->dk;
    float s[KV_PAGE], max = run->max;
    for (int j = j0; j < j1; j++) {
        s[j - j0] = score(a, t, q, head, a->pos0 + i, j);
        max = s[j - j0] > max ? s[j - j0] : max;
    }
    if (max == -INFINITY)
        return;
    rescale(run, max, a->dv);
    for (int j = j0; j < j1; j++) {
        float p = expf(s[j - j0] - max);
        run->sum += p;
        for (int c = 0; c < a->dv; c++)
            run->values[c] += p * value_at(a, t, j, c);
    }
}

/* What query i and head see of a span, left in part. */
static void attend_span(const struct attn *a, enum kv_type t, int i, int head, int span, float *part)
{
    struct running run = {-INFINITY, 0, part + ATTN_PART_VALUES};
    int from, to, lo = span * ATTN_SPAN, hi = lo + ATTN_SPAN;
    attn_span(a, a->pos0 + i, &from, &to);
    memset(part, 0, attn_part_floats(a->dv) * sizeof *part);
    for (int j = from > lo ? from : lo, next; j < to && j < hi; j = next) {
        next = (j / KV_PAGE + 1) * KV_PAGE;
        attend_page(a, t, i, head, j, next < to ? next : to, &run);
    }
    part[0] = run.max;
    part[1] = run.sum;
}

static struct running begin_total(const struct attn *a, int i, int head)
{
    struct running total = {a->sinks ? a->sinks[head] : -INFINITY, a->sinks ? 1 : 0,
                            a->out + (size_t)i * a->ldo + (size_t)head * (size_t)a->dv};
    memset(total.values, 0, (size_t)a->dv * sizeof *total.values);
    return total;
}

static void add_part(struct running *total, const float *part, int dv)
{
    if (part[1] == 0) /* it sees nothing of this span */
        return;
    rescale(total, part[0] > total->max ? part[0] : total->max, dv);
    float times = part[0] == total->max ? 1 : expf(part[0] - total->max);
    total->sum += part[1] * times;
    for (int c = 0; c < dv; c++)
        total->values[c] += part[ATTN_PART_VALUES + c] * times;
}

static void end_total(const struct running *total, int dv)
{
    for (int c = 0; c < dv; c++)
        total->values[c] = total->sum == 0 ? 0 : total->values[c] / total->sum;
}

static void attend(const struct attn *a, enum kv_type t, float *scratch)
{
    size_t rows = (size_t)a->n_q * (size_t)a->n_group, floats = attn_part_floats(a->dv);
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            int from, to;
            attn_span(a, a->pos0 + i, &from, &to);
            if (a->part) {
                float *part = a->part + (size_t)(i * a->n_group + head) * floats;
                for (int span = a->span0; span < a->span1; span++, part += rows * floats)
                    attend_span(a, t, i, head, span, part);
                continue;
            }
            struct running total = begin_total(a, i, head);
            for (int span = from / ATTN_SPAN; span * ATTN_SPAN < to; span++) {
                attend_span(a, t, i, head, span, scratch);
                add_part(&total, scratch, a->dv);
            }
            end_total(&total, a->dv);
        }
}

void attn_merge_ref(const struct attn *a)
{
    size_t rows = (size_t)a->n_q * (size_t)a->n_group, floats = attn_part_floats(a->dv);
    for (int i = 0; i < a->n_q; i++)
        for (int head = 0; head < a->n_group; head++) {
            struct running total = begin_total(a, i, head);
            const float *part = a->part + (size_t)(i * a->n_group + head) * floats;
            for (int span = a->span0; span < a->span1; span++, part += rows * floats)
                add_part(&total, part, a->dv);
            end_total(&total, a->dv);
        }
}

void attn_f32_ref(const struct attn *a, void *scratch)
{
    attend(a, KV_F32, scratch);
}

void attn_f16_ref(const struct attn *a, void *scratch)
{
    attend(a, KV_F16, scratch);
}

void attn_bf16_ref(const struct attn *a, void *scratch)
{
    attend(a, KV_BF16, scratch);
}

void attn_q8_0_ref(const struct attn *a, void *scratch)
{
    attend(a, KV_Q8_0, scratch);
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
        float up = most > 0x1p-100f ? 127.0f / most : 0; /* below, the quotient may be infinite */
        char *block = (char *)dst + b * KV_Q8_BLOCK;
        memcpy(block, &half, 2);
        for (int i = 0; i < 32; i++)
            ((int8_t *)block)[2 + i] = (int8_t)lrintf(x[i] * up);
    }
}
