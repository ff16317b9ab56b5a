/* kvmap.h - which KV page belongs to whom, and which prompts share pages.
 *
 * Rank 0 owns every block table: stages only follow the page numbers that come
 * with each micro-batch. A page holds `page_rows` positions of one sequence, on
 * every stage at once.
 *
 * Sharing. A full page of prompt rows may be published under a chain: its ids,
 * the page before it, and a salt (adapter, KV type). A later prompt that starts
 * with the same ids refers to the same pages. The 64-bit chain hash only finds
 * candidates; ids and the identity of the page before are compared, so by
 * induction the whole prefix is equal. Generated rows are never published: the
 * decode kernels may give other bits than the prompt kernels.
 *
 * A page is published when it is planned, before its rows are computed, so that
 * prompts which arrive together meet too. Because the pipeline is first in, first
 * out, "sent" is as good as "computed" for any later micro-batch. A sharer waits
 * until the page is sent; if its writer leaves before (cancelled, preempted), the
 * page is abandoned and the sharer starts over.
 *
 * Scores. A published page can carry, for each of its own tokens (or its last ones), the
 * log-probability given all before, the argmax there and alternatives, so that
 * echo over shared pages is exact without computing anything again. The first
 * token after the shared part is priced by the last shared row, which the sharer
 * computes again: the same bits are written over themselves (numeric contract),
 * and no hidden states need to be kept anywhere.
 *
 * Life of a page:  free -> held (refs > 0) -> free, or, if published and sent,
 * cached (refs == 0): least recently used goes first when pages run out, and
 * always the deepest page of a chain before the ones it builds on.
 *
 * Threads: one owner. Memory: fixed at kvmap_open() except alternatives.
 */
#ifndef CORDEE_COORDINATOR_KVMAP_H
#define CORDEE_COORDINATOR_KVMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/sample.h"

#define KVMAP_NONE UINT32_MAX
#define KVMAP_NO_SCORES (-1)

struct kvmap;

enum kvmap_state {
    KVMAP_PLANNED,   /* its writer has not sent all rows yet */
    KVMAP_SENT,      /* later micro-batches may read it */
    KVMAP_ABANDONED, /* its writer left: nobody will fill it */
};

struct kvmap_score {
    float logprob;
    int32_t argmax;
    int n_top;
    const struct token_logprob *top; /* [n_top], valid until the page is released */
};

MUST_CHECK err kvmap_open(uint32_t n_pages, int page_rows, struct kvmap **out, struct why *why);
void kvmap_close(struct kvmap *m); /* NULL is fine */

/* Pages that kvmap_take() could give: free ones and cached ones. O(1). */
uint32_t kvmap_room(const struct kvmap *m);
/* Pages with refs. O(1). */
uint32_t kvmap_used(const struct kvmap *m);

/* n private pages with one ref each, or none at all (false). Forgets the least
 * recently used cached pages as needed. O(n). */
bool kvmap_take(struct kvmap *m, int n, uint32_t *pages);

/* The longest published prefix of ids, at most n_pages pages; each found page
 * gets a ref.
 *
 * ids      [n_pages * page_rows]
 * n_top    KVMAP_NO_SCORES, or how many alternatives the scores must have: then
 *          only pages with (coming) scores of all ids from `from` on count
 * pages    out: [returned] */
int kvmap_match(struct kvmap *m, uint64_t salt, const int32_t *ids, int n_pages, int n_top, int from,
                uint32_t *pages);

/* Announces what a private page will hold: ids [page_rows], copied, behind the
 * page `before` (KVMAP_NONE: the first). n_top as above: what its scores will
 * have, from row `from` on (behind the page: none will). Does nothing if an equal page
 * with such scores is published already; takes the place of an equal one without. */
void kvmap_publish(struct kvmap *m, uint32_t page, uint32_t before, uint64_t salt, const int32_t *ids, int n_top,
                   int from);
/* All rows of the page have been sent. */
void kvmap_sent(struct kvmap *m, uint32_t page);
/* The writer leaves before the page was sent. */
void kvmap_abandon(struct kvmap *m, uint32_t page);
enum kvmap_state kvmap_state(const struct kvmap *m, uint32_t page);

/* The score of the page's own token `row`, in row order. Ignored where the page was
 * not published with scores. */
void kvmap_score_put(struct kvmap *m, uint32_t page, int row, const struct kvmap_score *s);
/* False: not there (yet). */
bool kvmap_score_get(const struct kvmap *m, uint32_t page, int row, struct kvmap_score *out);

/* Drops one ref of each page, the last page first (see eviction order). */
void kvmap_release(struct kvmap *m, const uint32_t *pages, int n);

/* Since the map was opened. `again` is the waste: pages that were computed although an
 * equal one had been (it was forgotten since, or has no scores). Forgotten pages are
 * remembered by hash, four times as many as there are pages. */
struct kvmap_counts {
    uint64_t published, again, evicted;
};
struct kvmap_counts kvmap_counts(const struct kvmap *m);

#endif
