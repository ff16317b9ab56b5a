/* cmd_serve.c - cordee serve: the front door, and the supervisor behind it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "api/keys.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "cli/session.h"
#include "coordinator/front/gateway.h"
#include "coordinator/front/service.h"
#include "model/source.h"

struct serve {
    struct config config;
    struct session session;
    struct keys *keys;
    struct gateway *gateway;
    struct service_listener *listener;
};

static err open_doors(struct serve *x, struct why *why)
{
    const struct config *c = &x->config;
    struct session *s = &x->session;
    err e;

    TRY(keys_open(getenv("CORDEE_API_KEY"), c->api_key_file[0] ? c->api_key_file : NULL, &x->keys, why));
    if (c->http[0]) {
        struct gateway_options o = {
            .http = {.address = c->http,
                     .max_body = (size_t)c->max_body_bytes,
                     .max_connections = (int)c->max_connections},
            .front = s->front,
            .keys = x->keys,
            .chat_template = source_chat_template(s->src),
            .health = s->health,
            .health_ctx = s->report_ctx,
            .stats = s->stats,
            .stats_ctx = s->report_ctx,
        };
        TRY(gateway_open(s->base, &o, &x->gateway, why));
        log_info("HTTP on %s", c->http);
    }
    if (c->listen[0]) {
        struct service_options o = {
            .front = s->front,
            .health = s->health,
            .health_ctx = s->report_ctx,
            .stats = s->stats,
            .stats_ctx = s->report_ctx,
        };
        TRY(service_listen(s->base, c->listen, &o, &x->listener, why));
        log_info("framed API on %s", c->listen);
    }
out:
    return e;
}

static void on_stop(void *ctx)
{
    struct serve *x = ctx;
    if (x->gateway)
        gateway_stop_accepting(x->gateway);
}

static err run(struct serve *x, struct why *why)
{
    struct session *s = &x->session;
    err e;
    if (!x->config.http[0] && !x->config.listen[0])
        FAIL(ERR_INVAL, "nowhere to listen: give --http HOST:PORT or --listen unix:PATH|HOST:PORT");
    TRY(session_open(s, &x->config, why));
    TRY(open_doors(x, why));
    s->drive.on_stop = on_stop;
    s->drive.ctx = x;
    do
        e = session_turn(s, why);
    while (!e);
    if (e == ERR_CANCELLED)
        e = ERR_OK; /* asked for */
out:
    return e;
}

int cmd_serve(int argc, char **argv)
{
    struct options o = {"serve",
                        "Serve a model over HTTP (OpenAI) and the framed API; starts and supervises "
                        "mpiexec ... cordee engine.",
                        NULL, NULL, NULL, NULL, false};
    struct serve *x = calloc(1, sizeof *x);
    struct why why = {0};
    int code = EXIT_FAILED;

    if (!x)
        return EXIT_FAILED;
    config_init(&x->config);
    if (options_parse(&o, argc, argv, &x->config, &code) == 0) {
        err e = run(x, &why);
        code = e ? cmd_fail("serve", e, &why, EXIT_USAGE) : EXIT_DONE;
    }
    gateway_close(x->gateway);
    x->gateway = NULL; /* on_stop() comes after this */
    service_listener_close(x->listener);
    session_close(&x->session);
    keys_close(x->keys);
    config_fini(&x->config);
    free(x);
    return code;
}
