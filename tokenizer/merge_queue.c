/* merge_queue.c - a heap, and lists by rank in front of it. */
#include "tokenizer/merge_queue.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_WORD = 4096 };

struct merge_place {
    uint32_t at, next;
};

struct merge_list {
    uint32_t head, tail; /* nodes; 0: empty */
};

err array_room(void **array, size_t *cap, size_t need, size_t size, struct why *why)
{
    if (need <= *cap)
        return ERR_OK;
    size_t more = need + need / 2 + 64;
    void *p = realloc(*array, more * size);
    if (!p)
        return why_set(why, ERR_NOMEM, "tokenizer: a word of %zu characters", need);
    *array = p;
    *cap = more;
    return ERR_OK;
}

void merge_queue_fini(struct merge_queue *q)
{
    free(q->heap);
    free(q->list);
    free(q->place);
    free(q->rank);
    *q = (struct merge_queue){0};
}

size_t merge_queue_bytes(const struct merge_queue *q)
{
    return q->cap_heap * sizeof *q->heap + q->cap_lists * sizeof *q->list + q->cap_places * sizeof *q->place +
           q->cap_ranks * sizeof *q->rank;
}

err merge_queue_begin(struct merge_queue *q, size_t n, size_t n_ranks, struct why *why)
{
    q->n_heap = q->n_ranks = 0;
    q->n_places = 1;
    q->lists = n >= LONG_WORD;
    if (!q->lists)
        return ERR_OK;
    if (n_ranks > q->cap_lists) {
        struct merge_list *list = calloc(n_ranks, sizeof *list);
        if (!list)
            return why_set(why, ERR_NOMEM, "tokenizer: %zu ranks", n_ranks);
        free(q->list);
        q->list = list;
        q->cap_lists = n_ranks;
    } else if (q->dirty) { /* an error left it half empty */
        memset(q->list, 0, q->cap_lists * sizeof *q->list);
    }
    q->dirty = true;
    return ERR_OK;
}

static void heap_add(uint64_t *heap, size_t i, uint64_t x)
{
    for (; i > 0 && heap[(i - 1) / 4] > x; i = (i - 1) / 4)
        heap[i] = heap[(i - 1) / 4];
    heap[i] = x;
}

static void heap_drop(uint64_t *heap, size_t n)
{
    uint64_t x = heap[n];
    size_t i = 0;
    for (size_t first; (first = 4 * i + 1) < n;) {
        size_t least = first, last = first + 4 < n ? first + 4 : n;
        for (size_t k = first + 1; k < last; k++)
            least = heap[k] < heap[least] ? k : least;
        if (heap[least] >= x)
            break;
        heap[i] = heap[least];
        i = least;
    }
    heap[i] = x;
}

static void ranks_add(uint32_t *rank, size_t i, uint32_t x)
{
    for (; i > 0 && rank[(i - 1) / 2] > x; i = (i - 1) / 2)
        rank[i] = rank[(i - 1) / 2];
    rank[i] = x;
}

static void ranks_drop(uint32_t *rank, size_t n)
{
    uint32_t x = rank[n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && rank[child + 1] < rank[child];
        if (rank[child] >= x)
            break;
        rank[i] = rank[child];
    }
    rank[i] = x;
}

err merge_queue_push(struct merge_queue *q, uint32_t rank, uint32_t place, struct why *why)
{
    err e;
    struct merge_list *l = q->lists ? &q->list[rank] : NULL;
    if (!l || (l->head != 0 && q->place[l->tail].at > place)) {
        TRY(array_room((void **)&q->heap, &q->cap_heap, q->n_heap + 1, sizeof *q->heap, why));
        heap_add(q->heap, q->n_heap++, (uint64_t)rank << 32 | place);
        return ERR_OK;
    }
    TRY(array_room((void **)&q->place, &q->cap_places, q->n_places + 1, sizeof *q->place, why));
    if (l->head == 0) {
        TRY(array_room((void **)&q->rank, &q->cap_ranks, q->n_ranks + 1, sizeof *q->rank, why));
        ranks_add(q->rank, q->n_ranks++, rank);
    }
    uint32_t node = (uint32_t)q->n_places++;
    q->place[node] = (struct merge_place){place, 0};
    if (l->head == 0)
        l->head = node;
    else
        q->place[l->tail].next = node;
    l->tail = node;
    e = ERR_OK;
out:
    return e;
}

bool merge_queue_pop(struct merge_queue *q, uint32_t *rank, uint32_t *place)
{
    uint64_t listed = UINT64_MAX;
    struct merge_list *l = NULL;
    if (q->n_ranks > 0) {
        l = &q->list[q->rank[0]];
        listed = (uint64_t)q->rank[0] << 32 | q->place[l->head].at;
    }
    if (q->n_heap > 0 && q->heap[0] < listed) {
        *rank = (uint32_t)(q->heap[0] >> 32);
        *place = (uint32_t)q->heap[0];
        heap_drop(q->heap, --q->n_heap);
        return true;
    }
    if (!l) {
        q->dirty = false;
        return false;
    }
    *rank = q->rank[0];
    *place = q->place[l->head].at;
    l->head = q->place[l->head].next;
    if (l->head == 0)
        ranks_drop(q->rank, --q->n_ranks);
    return true;
}
