/* merge_queue.h - which merge comes next: lowest rank, then leftmost.
 *
 * Short words use a heap of 8-byte entries. For a word of a megabyte a heap is
 * all cache misses, so there every rank has a list of its places: places come
 * mostly from left to right, and appending keeps a list sorted. What comes out
 * of order goes to the heap. A small heap holds the ranks that have a list.
 */
#ifndef CORDEE_TOKENIZER_MERGE_QUEUE_H
#define CORDEE_TOKENIZER_MERGE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct merge_place;
struct merge_list;
struct merge_queue { /* zero-initialise */
    uint64_t *heap;  /* rank << 32 | place */
    size_t n_heap, cap_heap;
    bool lists, dirty;
    struct merge_list *list; /* [cap_lists] by rank */
    size_t cap_lists;
    struct merge_place *place; /* nodes of all lists; 0 is no node */
    size_t n_places, cap_places;
    uint32_t *rank; /* heap of the ranks whose list is not empty */
    size_t n_ranks, cap_ranks;
};
void merge_queue_fini(struct merge_queue *q);
size_t merge_queue_bytes(const struct merge_queue *q);

/* An empty queue for a word of n symbols; ranks are below n_ranks. */
MUST_CHECK err merge_queue_begin(struct merge_queue *q, size_t n, size_t n_ranks, struct why *why);

MUST_CHECK err merge_queue_push(struct merge_queue *q, uint32_t rank, uint32_t place, struct why *why);

/* False: empty. */
bool merge_queue_pop(struct merge_queue *q, uint32_t *rank, uint32_t *place);

/* Grows an array to hold `need` items; cap is updated. */
MUST_CHECK err array_room(void **array, size_t *cap, size_t need, size_t size, struct why *why);

#endif
