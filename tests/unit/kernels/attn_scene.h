/* attn_scene.h - queries, keys and values of every shape that attention meets, in pages. */
#ifndef CORDEE_TESTS_ATTN_SCENE_H
#define CORDEE_TESTS_ATTN_SCENE_H

#include "guard.h"

#include "base/f16.h"
#include "kernels/kv_page.h"

struct shape {
    const char *name;
    int n_q, pos0, n_group, dk, dv, window, chunk, n_kv;
    bool causal, slopes, sinks;
    float softcap;
    bool latent; /* dv <= dk: values are the first columns of the keys */
};

static const struct shape shapes[] = {
    {"one token alone", 1, 0, 1, 64, 64, 0, 0, 1, true, false, false, 0, false},
    {"grouped heads, pages begun", 1, 77, 4, 128, 128, 0, 0, 78, true, false, false, 0, false},
    {"prompt chunk across pages", 40, 25, 2, 64, 64, 0, 0, 65, true, false, false, 0, false},
    {"sliding window", 20, 90, 2, 256, 256, 33, 0, 110, true, false, false, 0, false},
    {"window shorter than a page", 9, 60, 1, 32, 32, 5, 0, 69, true, false, false, 0, false},
    {"attention chunks", 30, 50, 1, 64, 64, 0, 48, 80, true, false, false, 0, false},
    {"encoder", 37, 0, 1, 64, 64, 0, 0, 37, false, false, false, 0, false},
    {"soft cap, ALiBi, sinks", 5, 70, 3, 64, 96, 0, 0, 75, true, true, true, 30, false},
    {"odd head sizes", 3, 33, 2, 80, 72, 0, 0, 36, true, false, false, 0, false},
    {"columns that fill no vector", 5, 61, 5, 22, 20, 0, 0, 66, true, false, false, 0, false},
    {"many heads: a tile of each height", 6, 60, 15, 64, 96, 0, 0, 66, true, false, false, 0, false},
    {"more rows than a pass", 33, 40, 5, 64, 64, 0, 0, 73, true, false, false, 0, false},
    {"latent: one row per position", 2, 40, 20, 192, 128, 0, 0, 42, true, false, false, 0, true},
    {"blocks begun", 3, 140, 4, 64, 64, 0, 0, 143, true, false, false, 0, false},
    {"spans", 2, 2100, 4, 64, 64, 0, 0, 2102, true, false, true, 0, false},
    {"a chunk that enters a span", 12, 2044, 1, 32, 32, 0, 0, 2056, true, false, false, 0, false},
    {"a window over two spans", 3, 2100, 2, 64, 64, 200, 0, 2103, true, true, false, 0, false},
};
enum { MAX_GROUP = 20, N_SHAPES = sizeof shapes / sizeof shapes[0], MAX_PAGES = 72, MAX_SPANS = 3 };

struct scene {
    struct attn a;
    float *q, *out, slopes[MAX_GROUP], sinks[MAX_GROUP];
    char *kv;
    uint32_t pages[MAX_PAGES];
    size_t q_bytes, out_bytes, kv_bytes, scratch_bytes;
    void *scratch;
    double *k, *v; /* what the cache holds, [n_kv][dk], [n_kv][dv] */
};

static double kv_value(enum kv_type t, const char *row, int i)
{
    uint16_t half;
    float value;
    switch (t) {
    case KV_F32:
        memcpy(&value, row + 4 * i, 4);
        return (double)value;
    case KV_F16:
        memcpy(&half, row + 2 * i, 2);
        return (double)f16_to_f32(half);
    case KV_BF16:
        memcpy(&half, row + 2 * i, 2);
        return (double)bf16_to_f32(half);
    default:
        memcpy(&half, row + i / 32 * KV_Q8_BLOCK, 2);
        return (double)f16_to_f32(half) * (signed char)row[i / 32 * KV_Q8_BLOCK + 2 + i % 32];
    }
}

static void scene_fill(struct scene *s, const struct kernels *k, enum kv_type t)
{
    struct attn *a = &s->a;
    float row[256];
    char stored[256 * sizeof(float)]; /* the row as the cache keeps it, in order */
    int n_pages = (a->n_kv + KV_PAGE - 1) / KV_PAGE;
    for (int p = 0; p < n_pages; p++)
        s->pages[p] = (uint32_t)(n_pages - 1 - p); /* not in order */
    s->k = malloc(sizeof *s->k * (size_t)(a->n_kv * a->dk));
    s->v = malloc(sizeof *s->v * (size_t)(a->n_kv * a->dv));
    assert_true(s->k && s->v);
    for (int j = 0; j < a->n_kv; j++) {
        char *page = s->kv + s->pages[j / KV_PAGE] * a->page_bytes;
        random_floats(row, (size_t)a->dk);
        k->kv_put[t](stored, row, a->dk);
        for (int c = 0; c < a->dk; c++)
            s->k[j * a->dk + c] = kv_value(t, stored, c);
        if (a->latent) {
            memcpy(page + (size_t)(j % KV_PAGE) * kv_row_bytes(t, a->dk), stored, kv_row_bytes(t, a->dk));
        } else {
            kv_page_put_k(t, k->kv_put[t], page + a->k_offset, j % KV_PAGE, row, a->dk);
            random_floats(row, (size_t)a->dv);
            k->kv_put[t](stored, row, a->dv);
            kv_page_put_v(t, k->kv_put[t], page + a->v_offset, j % KV_PAGE, row, a->dv);
        }
        for (int c = 0; c < a->dv; c++)
            s->v[j * a->dv + c] = kv_value(t, stored, c);
    }
}

static struct scene scene_make(const struct shape *h, const struct kernels *k, enum kv_type t)
{
    struct scene s = {0};
    struct attn *a = &s.a;
    int n_pages = (h->n_kv + KV_PAGE - 1) / KV_PAGE;
    *a = (struct attn){.n_q = h->n_q, .pos0 = h->pos0, .n_group = h->n_group, .dk = h->dk, .dv = h->dv,
                       .scale = 0.2f, .softcap = h->softcap, .window = h->window, .chunk = h->chunk,
                       .causal = h->causal, .n_kv = h->n_kv};
    a->latent = h->latent;
    a->v_offset = h->latent ? 0 : kv_k_bytes(t, h->dk);
    a->page_bytes = kv_k_bytes(t, h->dk) + (h->latent ? 0 : kv_v_bytes(t, h->dv));
    a->ldq = (size_t)(h->n_group * h->dk);
    a->ldo = (size_t)(h->n_group * h->dv);
    s.q_bytes = (size_t)h->n_q * a->ldq * sizeof(float);
    s.out_bytes = (size_t)h->n_q * a->ldo * sizeof(float);
    s.kv_bytes = (size_t)n_pages * a->page_bytes;
    s.scratch_bytes = attn_scratch_bytes(h->n_q, h->n_group, h->dk, h->dv);
    s.q = guarded(s.q_bytes);
    s.out = guarded(s.out_bytes);
    s.kv = guarded(s.kv_bytes); /* NaN where nothing was put */
    s.scratch = guarded(s.scratch_bytes);
    random_floats(s.q, s.q_bytes / sizeof(float));
    for (int i = 0; i < MAX_GROUP; i++) {
        s.slopes[i] = 0.01f * (float)(i + 1);
        s.sinks[i] = random_unit();
    }
    scene_fill(&s, k, t);
    return s;
}

static void scene_bind(struct scene *s, const struct shape *h)
{
    s->a.q = s->q;
    s->a.out = s->out;
    s->a.base = s->kv;
    s->a.pages = s->pages;
    s->a.slopes = h->slopes ? s->slopes : NULL;
    s->a.sinks = h->sinks ? s->sinks : NULL;
}

static void scene_free(struct scene *s)
{
    guarded_free(s->q, s->q_bytes);
    guarded_free(s->out, s->out_bytes);
    guarded_free(s->kv, s->kv_bytes);
    guarded_free(s->scratch, s->scratch_bytes);
    free(s->k);
    free(s->v);
}

static bool holds(enum kv_type t, const struct shape *shape)
{
    return t != KV_Q8_0 || (shape->dk % 32 == 0 && shape->dv % 32 == 0 && !shape->latent);
}

#endif
