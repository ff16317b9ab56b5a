/* fake_server.c - the real gateway and framed API over a fake backend, so that the
 * API's black-box tests need neither a model nor MPI.
 *
 * Prints "port N" once it listens; ends at the end of its stdin, so a test that dies
 * takes its server along.
 */
#include <event2/event.h>
#include <event2/thread.h>
#include <getopt.h>
#include <signal.h>
#include <unistd.h>

#include "../unit/coordinator/fake_backend.h"
#include "api/keys.h"
#include "base/log.h"
#include "coordinator/front/front.h"
#include "coordinator/front/gateway.h"
#include "coordinator/front/service.h"

static const char template[] =
    "{% for m in messages %}"
    "{% if m.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('no role ' + m.role) }}{% endif %}"
    "{{ bos_token }}{{ m.role }}: {{ m.content }}{{ eos_token }}"
    "{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ extra }}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant:{% endif %}";

static struct fake_backend fake;
static struct event *turn;
static struct timeval pace = { 0, 0 };

/* The fake only moves while it has work: an idle server must not tick. */
static err submit(struct backend *b, const struct gen_request *req, gen_event_fn *fn, void *ctx,
                  uint64_t *handle, struct why *why)
{
    event_add(turn, &pace);
    return fake_submit(b, req, fn, ctx, handle, why);
}

static void turn_cb(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
    fake_turn(&fake);
    if (fake.list)
        event_add(turn, &pace);
}

static void stdin_cb(evutil_socket_t fd, short what, void *base)
{
    char drop[64];
    (void)what;
    if (read(fd, drop, sizeof drop) <= 0)
        event_base_loopbreak(base);
}

static void health(void *ctx, struct health *out)
{
    (void)ctx;
    *out = (struct health){ .ready = fake.ready, .epoch = 3, .state = fake.ready ? "ready" : "starting" };
}

static void stats(void *ctx, stats_done_fn *done, void *done_ctx)
{
    Cordee__Stats s = CORDEE__STATS__INIT;
    Cordee__StageStats stage[2] = { CORDEE__STAGE_STATS__INIT, CORDEE__STAGE_STATS__INIT };
    Cordee__StageStats *list[2] = { &stage[0], &stage[1] };
    (void)ctx;
    s.has_requests = s.has_cancelled = s.has_active = s.has_uptime_s = true;
    s.requests = (uint64_t)fake.n_submitted;
    s.cancelled = (uint64_t)fake.n_cancelled;
    s.active = (uint64_t)fake.n_live;
    s.uptime_s = 1.5;
    stage[1].host = (char *)(uintptr_t)"n\"1";
    s.stage = list;
    s.n_stage = 2;
    done(done_ctx, &s);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "eos-at", required_argument, NULL, 'e' },    { "max-queue", required_argument, NULL, 'q' },
        { "pace-us", required_argument, NULL, 'p' },   { "key", required_argument, NULL, 'k' },
        { "key-file", required_argument, NULL, 'f' },  { "listen", required_argument, NULL, 'l' },
        { "not-ready", no_argument, NULL, 'n' },       { "connections", required_argument, NULL, 'c' },
        { "stream-backlog", required_argument, NULL, 'b' }, { "idle-s", required_argument, NULL, 'i' },
        { "ping-s", required_argument, NULL, 'g' },    { "half-characters", no_argument, NULL, 'h' },
        { "max-body", required_argument, NULL, 'm' },  { "no-template", no_argument, NULL, 't' },
        { "encoder", no_argument, NULL, 'E' },
        { 0 },
    };
    static const int32_t half[] = { FAKE_BYTE0 + 0xe2, FAKE_BYTE0 + 0x82, FAKE_BYTE0 + 0xac, FAKE_LETTER0 };
    const char *key = NULL, *key_file = NULL, *listen_at = NULL;
    struct gateway_options o = { .http = { .address = "127.0.0.1:0" }, .health = health, .stats = stats,
                                 .chat_template = template };
    struct front *front = NULL;
    struct gateway *gateway = NULL;
    struct keys *keys = NULL;
    struct service_listener *listener = NULL;
    struct why why = { "" };
    int c;
    signal(SIGPIPE, SIG_IGN);
    log_init("fake", LOG_WARN, false);
    struct tokenizer *tok = fake_tokenizer();
    fake_init(&fake, tok);
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        long n = optarg ? atol(optarg) : 0;
        switch (c) {
        case 'e': fake.eos_at = (int)n; break;
        case 'q': fake.max_queue = (int)n; break;
        case 'p': pace.tv_usec = n; break;
        case 'k': key = optarg; break;
        case 'f': key_file = optarg; break;
        case 'l': listen_at = optarg; break;
        case 'n': fake.ready = false; break;
        case 'c': o.http.max_connections = (int)n; break;
        case 'b': o.http.stream_backlog = (size_t)n; break;
        case 'i': o.http.idle_s = (unsigned)n; break;
        case 'g': o.http.ping_s = (unsigned)n; break;
        case 'm': o.http.max_body = (size_t)n; break;
        case 'E': fake.backend.facts.n_embedding = 4; break;
        case 't': o.chat_template = NULL; break;
        case 'h': fake.script = half; fake.n_script = 4; break;
        default: return 2;
        }
    }
    struct event_base *base = event_base_new();
    struct event *in = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, stdin_cb, base);
    struct backend_ops ops = *fake.backend.ops;
    ops.submit = submit;
    fake.backend.ops = &ops;
    turn = evtimer_new(base, turn_cb, NULL);
    event_add(in, NULL);
    err e = keys_open(key, key_file, &keys, &why);
    if (e == ERR_OK)
        e = front_open(&fake.backend, tok, &front, &why);
    o.front = front;
    o.keys = keys;
    if (e == ERR_OK)
        e = gateway_open(base, &o, &gateway, &why);
    if (e == ERR_OK && listen_at)
        e = service_listen(base, listen_at, &(struct service_options){ .front = front, .health = health }, &listener,
                           &why);
    if (e == ERR_OK) {
        printf("port %d\n", gateway_port(gateway));
        fflush(stdout);
        event_base_dispatch(base);
    } else {
        fprintf(stderr, "fake_server: %s\n", why.text);
    }
    service_listener_close(listener);
    gateway_close(gateway);
    front_close(front);
    fake_fail_all(&fake, ERR_CANCELLED);
    keys_close(keys);
    tokenizer_close(tok);
    event_free(in);
    event_free(turn);
    event_base_free(base);
    return e == ERR_OK ? 0 : 1;
}
