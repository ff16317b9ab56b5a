/* rank0.h - the life of rank 0: assemble the pipeline, serve it, take it down.
 *
 * Runs the engine behind a front and a service: for `serve` over the control plane,
 * and for whatever else the program hangs on the front (a listener of its own).
 */
#ifndef CORDEE_COORDINATOR_RANK0_H
#define CORDEE_COORDINATOR_RANK0_H

#include <signal.h>

#include "coordinator/config.h"
#include "coordinator/front/front.h"
#include "coordinator/front/status.h"
#include "transport/control.h"
#include "transport/transport.h"

struct rank0;

struct rank0_options {
    const struct config *config;
    const struct source *src;
    const struct tokenizer *tok;
    struct control *hub;   /* of the ranks */
    struct control *serve; /* membership in `serve`'s hub; NULL: there is no `serve` */
    uint32_t epoch;
    int threads;           /* per stage, for the memory estimate */
    unsigned isa;          /* cap */
    unsigned hello_ms;     /* all ranks say Hello within */
    const volatile sig_atomic_t *stop; /* set by a signal: the orderly end */
    /* The pipeline is ready: open listeners on the front. ERR ends the epoch. */
    err (*on_ready)(void *ctx, struct rank0 *r, struct front *front, struct why *why);
    void (*io_turn)(void *ctx); /* once per turn, must not block; NULL: none */
    void (*on_end)(void *ctx);  /* before the front goes away */
    void *ctx;
};

/* All borrowed. t: opened, not started. Blocks until the end.
 * ERR_OK  orderly end, every rank said Done: drain MPI and leave
 * others  leave at once; `serve` and the log were told why */
MUST_CHECK err rank0_run(struct transport *t, const struct rank0_options *o, struct why *why);

/* report.h's functions; ctx is the struct rank0. */
void rank0_health(void *rank0, struct health *out);
void rank0_query_stats(void *rank0, stats_done_fn *done, void *done_ctx);

/* Adds the configured adapters to a model that was just opened. Every process that
 * opens the model does it, in the same order. */
MUST_CHECK err rank0_adapters(const struct config *c, struct source *src, struct why *why);

/* Facts of a model as requests see them. */
void rank0_facts(const struct config *c, const struct source *src, struct model_facts *out);

#endif
