/* kvmap.c - pages, references, the table of published chains, LRU of cached pages.
 *
 * Everything is index-linked arrays: a page is in exactly one of {free list, LRU
 * list, held}. The hash table chains pages through `bucket_next`.
 */
#include "coordinator/engine/kvmap.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/arena.h"

struct page {
    uint32_t refs;
    uint32_t generation; /* grows when the page is taken: old links to it no longer fit */
    uint32_t before, before_generation;
    uint32_t prev, next; /* LRU, or next free */
    uint32_t bucket_next;
    uint64_t hash;
    bool published, sent, abandoned;
    int n_top;    /* of its scores; KVMAP_NO_SCORES */
    int from, n_scored; /* tokens [from, n_scored) have theirs */
    struct token_logprob *top; /* [page_rows][n_top], owned; NULL when n_top <= 0 */
};

struct kvmap {
    uint32_t n_pages, n_free, n_cached, n_buckets;
    int page_rows;
    struct page *pages;
    uint32_t *buckets;  /* [n_buckets] */
    int32_t *ids;       /* [n_pages][page_rows] */
    float *logprob;     /* [n_pages][page_rows] */
    int32_t *argmax;    /* [n_pages][page_rows] */
    uint32_t free_head; /* linked by next */
    uint32_t oldest, newest;
    uint64_t *gone;     /* [4 * n_buckets] hashes of evicted pages, each at the place it hashes to; 0: none */
    struct kvmap_counts counts;
};

/* ---- opening ---------------------------------------------------------------- */

err kvmap_open(uint32_t n_pages, int page_rows, struct kvmap **out, struct why *why)
{
    err e;
    struct kvmap *m = NULL;
    if (n_pages == 0 || n_pages == KVMAP_NONE || page_rows < 1)
        FAIL(ERR_INVAL, "%u KV pages of %d positions", n_pages, page_rows);
    if (!(m = calloc(1, sizeof *m)))
        FAIL(ERR_NOMEM, "KV map");
    m->n_pages = n_pages;
    m->page_rows = page_rows;
    m->n_buckets = 1;
    while (m->n_buckets < n_pages && m->n_buckets < 1u << 30)
        m->n_buckets *= 2;
    size_t cells = (size_t)n_pages * (size_t)page_rows;
    m->pages = mem_alloc(n_pages, sizeof *m->pages);
    m->buckets = mem_alloc(m->n_buckets, sizeof *m->buckets);
    m->ids = mem_alloc(cells, sizeof *m->ids);
    m->logprob = mem_alloc(cells, sizeof *m->logprob);
    m->argmax = mem_alloc(cells, sizeof *m->argmax);
    m->gone = mem_alloc(4 * (size_t)m->n_buckets, sizeof *m->gone);
    if (!m->pages || !m->buckets || !m->ids || !m->logprob || !m->argmax || !m->gone)
        FAIL(ERR_NOMEM, "KV map of %u pages", n_pages);

    memset(m->buckets, 0xff, m->n_buckets * sizeof *m->buckets);
    memset(m->gone, 0, 4 * (size_t)m->n_buckets * sizeof *m->gone);
    m->oldest = m->newest = m->free_head = KVMAP_NONE;
    for (uint32_t i = n_pages; i-- > 0;) {
        m->pages[i].next = m->free_head;
        m->free_head = i;
    }
    m->n_free = n_pages;
    *out = m;
    m = NULL;
    e = ERR_OK;
out:
    kvmap_close(m);
    return e;
}

void kvmap_close(struct kvmap *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->pages && i < m->n_pages; i++)
        free(m->pages[i].top);
    free(m->pages);
    free(m->buckets);
    free(m->ids);
    free(m->logprob);
    free(m->argmax);
    free(m->gone);
    free(m);
}

uint32_t kvmap_room(const struct kvmap *m)
{
    return m->n_free + m->n_cached;
}

uint32_t kvmap_used(const struct kvmap *m)
{
    return m->n_pages - kvmap_room(m);
}

/* ---- the lists -------------------------------------------------------------- */

static void lru_push(struct kvmap *m, uint32_t i)
{
    m->pages[i].prev = m->newest;
    m->pages[i].next = KVMAP_NONE;
    if (m->newest == KVMAP_NONE)
        m->oldest = i;
    else
        m->pages[m->newest].next = i;
    m->newest = i;
    m->n_cached++;
}

static void lru_drop(struct kvmap *m, uint32_t i)
{
    struct page *p = &m->pages[i];
    if (p->prev == KVMAP_NONE)
        m->oldest = p->next;
    else
        m->pages[p->prev].next = p->next;
    if (p->next == KVMAP_NONE)
        m->newest = p->prev;
    else
        m->pages[p->next].prev = p->prev;
    m->n_cached--;
}

static void free_push(struct kvmap *m, uint32_t i)
{
    m->pages[i].next = m->free_head;
    m->free_head = i;
    m->n_free++;
}

static uint32_t *bucket_of(struct kvmap *m, uint64_t hash)
{
    return &m->buckets[hash & (m->n_buckets - 1)];
}

static void unpublish(struct kvmap *m, uint32_t i)
{
    struct page *p = &m->pages[i];
    if (!p->published)
        return;
    uint32_t *link = bucket_of(m, p->hash);
    while (*link != i)
        link = &m->pages[*link].bucket_next;
    *link = p->bucket_next;
    p->published = false;
}

static uint64_t *gone_at(struct kvmap *m, uint64_t hash)
{
    return &m->gone[(hash >> 16) & (4 * (uint64_t)m->n_buckets - 1)];
}

/* ---- taking and giving back --------------------------------------------------- */

/* A page leaves the free list as if nobody had ever used it. */
static uint32_t take_one(struct kvmap *m)
{
    if (m->free_head == KVMAP_NONE) {
        uint32_t old = m->oldest;
        *gone_at(m, m->pages[old].hash) = m->pages[old].hash;
        m->counts.evicted++;
        lru_drop(m, old);
        unpublish(m, old);
        free_push(m, old);
    }
    uint32_t i = m->free_head;
    struct page *p = &m->pages[i];
    m->free_head = p->next;
    m->n_free--;
    free(p->top);
    *p = (struct page){
        .refs = 1, .generation = p->generation + 1, .before = KVMAP_NONE, .n_top = KVMAP_NO_SCORES,
    };
    return i;
}

bool kvmap_take(struct kvmap *m, int n, uint32_t *pages)
{
    assert(n >= 0);
    if ((uint32_t)n > kvmap_room(m))
        return false;
    for (int i = 0; i < n; i++)
        pages[i] = take_one(m);
    return true;
}

void kvmap_release(struct kvmap *m, const uint32_t *pages, int n)
{
    for (int k = n; k-- > 0;) {
        uint32_t i = pages[k];
        struct page *p = &m->pages[i];
        assert(i < m->n_pages && p->refs > 0);
        if (--p->refs > 0)
            continue;
        if (p->published && p->sent) {
            lru_push(m, i);
        } else {
            unpublish(m, i);
            free_push(m, i);
        }
    }
}

/* ---- sharing ------------------------------------------------------------------ */

static uint64_t chain_hash(const struct kvmap *m, uint32_t before, uint64_t salt, const int32_t *ids)
{
    uint64_t seed = before == KVMAP_NONE ? salt : m->pages[before].hash;
    return XXH3_64bits_withSeed(ids, (size_t)m->page_rows * sizeof *ids, seed ^ 0x9e3779b97f4a7c15u);
}

/* The published page with these ids behind `before`, or KVMAP_NONE. */
static uint32_t find(struct kvmap *m, uint64_t hash, uint32_t before, const int32_t *ids)
{
    size_t row = (size_t)m->page_rows;
    for (uint32_t i = *bucket_of(m, hash); i != KVMAP_NONE; i = m->pages[i].bucket_next) {
        const struct page *p = &m->pages[i];
        bool same_chain = before == KVMAP_NONE ? p->before == KVMAP_NONE
                                               : p->before == before &&
                                                     p->before_generation == m->pages[before].generation;
        if (p->hash == hash && same_chain && !memcmp(m->ids + i * row, ids, row * sizeof *ids))
            return i;
    }
    return KVMAP_NONE;
}

/* Has the page scores of n_top alternatives from row `from` on? */
static bool has_scores(const struct kvmap *m, uint32_t i, int n_top, int from)
{
    const struct page *p = &m->pages[i];
    return n_top == KVMAP_NO_SCORES || from >= m->page_rows || (p->n_top >= n_top && p->from <= (from > 0 ? from : 0));
}

int kvmap_match(struct kvmap *m, uint64_t salt, const int32_t *ids, int n_pages, int n_top, int from,
                uint32_t *pages)
{
    uint32_t before = KVMAP_NONE;
    int n = 0;
    for (; n < n_pages; n++, ids += m->page_rows) {
        uint32_t i = find(m, chain_hash(m, before, salt, ids), before, ids);
        if (i == KVMAP_NONE || !has_scores(m, i, n_top, from - n * m->page_rows))
            break;
        if (m->pages[i].refs++ == 0)
            lru_drop(m, i);
        pages[n] = before = i;
    }
    return n;
}

/* Now or before, behind whichever copies of the pages before. */
static bool was_computed(struct kvmap *m, uint64_t hash)
{
    uint32_t i = *bucket_of(m, hash);
    while (i != KVMAP_NONE && m->pages[i].hash != hash)
        i = m->pages[i].bucket_next;
    return i != KVMAP_NONE || *gone_at(m, hash) == hash;
}

void kvmap_publish(struct kvmap *m, uint32_t page, uint32_t before, uint64_t salt, const int32_t *ids, int n_top,
                   int from)
{
    struct page *p = &m->pages[page];
    assert(page < m->n_pages && p->refs == 1 && !p->published);
    uint64_t hash = chain_hash(m, before, salt, ids);
    uint32_t twin = find(m, hash, before, ids);

    /* Even unpublished, the page must know its hash: pages behind it chain on it. */
    p->hash = hash;
    p->before = before;
    p->before_generation = before == KVMAP_NONE ? 0 : m->pages[before].generation;
    m->counts.published++;
    m->counts.again += was_computed(m, hash);
    if (twin != KVMAP_NONE) {
        if (has_scores(m, twin, n_top, from))
            return;
        unpublish(m, twin);
        if (m->pages[twin].refs == 0) {
            lru_drop(m, twin);
            free_push(m, twin);
        }
    }
    size_t row = (size_t)m->page_rows;
    if (from >= m->page_rows || (n_top > 0 && !(p->top = calloc(row * (size_t)n_top, sizeof *p->top))))
        n_top = KVMAP_NO_SCORES; /* no memory: only a cache, share it without scores */
    p->n_top = n_top;
    p->from = p->n_scored = from > 0 ? from : 0;
    memcpy(m->ids + page * row, ids, row * sizeof *ids);
    p->bucket_next = *bucket_of(m, hash);
    *bucket_of(m, hash) = page;
    p->published = true;
}

void kvmap_sent(struct kvmap *m, uint32_t page)
{
    m->pages[page].sent = true;
}

void kvmap_abandon(struct kvmap *m, uint32_t page)
{
    assert(!m->pages[page].sent);
    unpublish(m, page);
    m->pages[page].abandoned = true;
}

enum kvmap_state kvmap_state(const struct kvmap *m, uint32_t page)
{
    const struct page *p = &m->pages[page];
    return p->sent ? KVMAP_SENT : p->abandoned ? KVMAP_ABANDONED : KVMAP_PLANNED;
}

/* ---- scores --------------------------------------------------------------------- */

void kvmap_score_put(struct kvmap *m, uint32_t page, int row, const struct kvmap_score *s)
{
    struct page *p = &m->pages[page];
    size_t cell = (size_t)page * (size_t)m->page_rows + (size_t)row;
    if (p->n_top == KVMAP_NO_SCORES || row != p->n_scored)
        return;
    m->logprob[cell] = s->logprob;
    m->argmax[cell] = s->argmax;
    for (int i = 0; i < p->n_top; i++) {
        struct token_logprob *t = &p->top[row * p->n_top + i];
        *t = i < s->n_top ? s->top[i] : (struct token_logprob){-1, NAN};
    }
    p->n_scored++;
}

bool kvmap_score_get(const struct kvmap *m, uint32_t page, int row, struct kvmap_score *out)
{
    const struct page *p = &m->pages[page];
    size_t cell = (size_t)page * (size_t)m->page_rows + (size_t)row;
    if (row < p->from || row >= p->n_scored)
        return false;
    *out = (struct kvmap_score){m->logprob[cell], m->argmax[cell], 0, NULL};
    if (p->n_top > 0) {
        out->top = &p->top[row * p->n_top];
        while (out->n_top < p->n_top && out->top[out->n_top].token >= 0)
            out->n_top++;
    }
    return true;
}

struct kvmap_counts kvmap_counts(const struct kvmap *m)
{
    return m->counts;
}
