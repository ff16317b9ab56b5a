/* eval_item.h - multiple-choice questions as the work of a batch.
 *
 * A line is {"id", "context" | "messages", "choices": [...], "answer", "group"}. Every
 * choice is scored as the continuation of the context; `answer` is its number from 0 or
 * its text. A result is one JSON object with the log-probabilities, so that two runs can
 * be compared item by item; it holds nothing that depends on time or on the cluster.
 */
#ifndef CORDEE_COORDINATOR_EVAL_ITEM_H
#define CORDEE_COORDINATOR_EVAL_ITEM_H

#include "coordinator/batch/batch.h"
#include "coordinator/front/chat.h"
#include "coordinator/front/front.h"
#include "coordinator/batch/lines.h"

enum { EVAL_MAX_CHOICES = 64 };

struct eval_items {
    struct front *front; /* all borrowed */
    const struct chat *chat;
    struct lines *lines;
    const char *adapter;     /* NULL: the model as it is */
    bool add_special;        /* BOS as the model wants, before a context */
    struct buf text, result; /* scratch; owned */
};

void eval_items_fini(struct eval_items *x);
/* x must outlive the batch. */
struct batch_work eval_items_work(struct eval_items *x);

#endif
