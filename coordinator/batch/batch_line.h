/* batch_line.h - OpenAI's batch lines as the work of a batch.
 *
 * A line is {"custom_id", "method": "POST", "url", "body"}; its body is answered exactly
 * as HTTP would answer it, but for what must not differ between two runs: ids follow
 * from the input file and the line, `created` is 0, `cached_tokens` is 0, and a request
 * without a seed gets one that follows from its custom_id.
 */
#ifndef CORDEE_COORDINATOR_BATCH_LINE_H
#define CORDEE_COORDINATOR_BATCH_LINE_H

#include "coordinator/batch/batch.h"
#include "coordinator/front/chat.h"
#include "coordinator/front/front.h"
#include "coordinator/batch/lines.h"

struct batch_lines {
    struct event_base *base; /* all borrowed */
    struct front *front;
    const struct chat *chat;
    struct lines *lines;
    uint64_t salt; /* of ids */
    struct buf text, result; /* scratch; owned */
};

void batch_lines_init(struct batch_lines *x, struct event_base *base, struct front *front, const struct chat *chat,
                      struct lines *lines);
void batch_lines_fini(struct batch_lines *x);
/* x must outlive the batch. */
struct batch_work batch_lines_work(struct batch_lines *x);

#endif
