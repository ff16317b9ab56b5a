/* session.h - what every command that generates needs: model facts, tokenizer, a
 * backend (a cluster of its own, or a running engine with --connect), a front.
 */
#ifndef CORDEE_CLI_SESSION_H
#define CORDEE_CLI_SESSION_H

#include "cli/drive.h"
#include "cli/remote.h"
#include "cli/site.h"
#include "coordinator/front/front.h"

struct session {
    const struct config *config;
    struct site site;
    struct source *src;
    struct tokenizer *tok;
    struct event_base *base;
    struct cluster *cluster; /* NULL with --connect */
    struct drive drive;
    struct remote *remote;
    struct backend *backend;
    struct front *front;
    health_fn *health;
    stats_query_fn *stats;
    void *report_ctx; /* of health and stats */
};

/* config: borrowed, checked here. The cluster starts with the first turn of the loop. */
MUST_CHECK err session_open(struct session *s, const struct config *config, struct why *why);
/* Ends what runs in good order if it can. */
void session_close(struct session *s);

/* Runs the loop until the backend answers. ERR: it never will. */
MUST_CHECK err session_until_ready(struct session *s, struct why *why);
/* Runs the loop once, waiting for something to happen. ERR: the session is over. */
MUST_CHECK err session_turn(struct session *s, struct why *why);

#endif
