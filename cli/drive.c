/* drive.c - see drive.h. */
#include "cli/drive.h"

#include <signal.h>
#include <string.h>

#include "base/log.h"

static void turn(struct drive *d);

static void on_hub(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    turn(ctx);
}

static void set_timer(struct drive *d)
{
    int ms = cluster_wait_ms(d->cluster);
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    evtimer_add(d->timer, &tv);
}

/* Each epoch has a hub of its own, often with the number of the last one's descriptor. */
static void watch_hub(struct drive *d)
{
    unsigned serial;
    int fd = cluster_fd(d->cluster, &serial);
    if (fd == d->hub_fd && serial == d->hub_serial)
        return;
    if (d->hub)
        event_free(d->hub);
    d->hub = fd < 0 ? NULL : event_new(d->base, fd, EV_READ | EV_PERSIST, on_hub, d);
    if (d->hub)
        event_add(d->hub, NULL);
    d->hub_fd = fd;
    d->hub_serial = serial;
}

static void turn(struct drive *d)
{
    if (d->ended)
        return;
    cluster_turn(d->cluster);
    watch_hub(d);
    if (cluster_ended(d->cluster, &d->code, &d->why)) {
        d->ended = true;
        event_base_loopbreak(d->base);
        return;
    }
    set_timer(d);
    if (d->after_turn)
        d->after_turn(d->ctx);
}

void drive_stop(struct drive *d)
{
    if (d->stopping)
        return;
    d->stopping = true;
    if (d->on_stop)
        d->on_stop(d->ctx);
    cluster_stop(d->cluster);
    drive_kick(d);
}

static void on_signal(evutil_socket_t sig, short what, void *ctx)
{
    struct drive *d = ctx;
    (void)what;
    log_info("%s: ending", sig == SIGTERM ? "SIGTERM" : "SIGINT");
    if (!d->stopping) {
        drive_stop(d);
        return;
    }
    d->ended = true; /* the second one: cluster_close() kills */
    d->code = why_set(&d->why, ERR_CANCELLED, "killed by a second signal");
    event_base_loopbreak(d->base);
}

void drive_kick(struct drive *d)
{
    struct timeval now = {0, 0};
    evtimer_add(d->timer, &now);
}

err drive_init(struct drive *d, struct event_base *base, struct cluster *cluster, struct why *why)
{
    *d = (struct drive){.base = base, .cluster = cluster, .hub_fd = -1};
    d->timer = evtimer_new(base, on_hub, d);
    d->child = evsignal_new(base, SIGCHLD, on_hub, d);
    d->term = evsignal_new(base, SIGTERM, on_signal, d);
    d->interrupt = evsignal_new(base, SIGINT, on_signal, d);
    if (!d->timer || !d->child || !d->term || !d->interrupt || event_add(d->child, NULL) ||
        event_add(d->term, NULL) || event_add(d->interrupt, NULL)) {
        drive_fini(d);
        return why_set(why, ERR_IO, "event loop");
    }
    drive_kick(d);
    return ERR_OK;
}

void drive_fini(struct drive *d)
{
    struct event **all[] = {&d->hub, &d->timer, &d->child, &d->term, &d->interrupt};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (*all[i]) {
            event_free(*all[i]);
            *all[i] = NULL;
        }
}

err drive_run(struct drive *d, struct why *why)
{
    while (!d->ended)
        if (event_base_loop(d->base, EVLOOP_ONCE) != 0)
            return why_set(why, ERR_IO, "event loop");
    if (d->code)
        why_set(why, d->code, "%s", d->why.text);
    return d->code;
}
