/* cmd_engine.c - cordee engine: what every rank of the MPI job runs.
 *
 * Under `serve` the configuration, the job's key, the epoch and serve's address come
 * in the environment; started by mpirun or srun alone, rank 0 draws a key and opens
 * the framed listener itself.
 *
 * Under `serve` every rank registers there before it starts MPI, because MPI_Init waits
 * for all ranks and cannot say who is missing. Rank 0 keeps that connection; a stage
 * leaves when rank 0's hub has it, so each is watched by exactly one hub at any time.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/cpu_limits.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/options.h"
#include "cli/site.h"
#include "coordinator/engine/rank0.h"
#include "coordinator/front/service.h"
#include "proto/frame.h"
#include "transport/farewell.h"
#include "worker/rank.h"
#include "worker/seat.h"

#define HELLO_MS 30000
#define DRAIN_MS 2000
#define LEAVE_MS 100
#define FLUSH_MS 500

/* What rank 0 tells the others before anything else. */
struct boot {
    uint32_t epoch;
    char key[128];
    char address[2048];
};

struct engine_cmd {
    struct config config;
    struct source *src;
    struct tokenizer *tok;
    struct transport *t;
    struct control *hub, *serve; /* serve: rank 0; a stage, until it is in the hub */
    bool told;                   /* ... by rank0_run(), how it ended */
    struct boot boot;
    unsigned isa;
    int threads;
    struct seat seat; /* stage ranks */
    char host[128];
    /* rank 0 without serve */
    struct event_base *base;
    struct service_listener *listener;
};

static volatile sig_atomic_t stop_wanted;

static void on_term(int sig)
{
    (void)sig;
    stop_wanted = 1;
}

/* A rank that lost its hub must not live on, whatever its owner is doing. */
static void fence(void *ctx)
{
    (void)ctx;
    static const char line[] = "cordee: engine: no contact with the coordinator: ending\n";
    if (write(2, line, sizeof line - 1) < 0)
        _exit(EXIT_FAILED + 1);
    _exit(EXIT_FAILED);
}

/* TERM is rank 0's business (and then an orderly end); the others end when rank 0
 * does. Batch systems send USR1, CONT and HUP to everybody: not for us. */
static void set_signals(int rank)
{
    struct sigaction term = {.sa_handler = rank == 0 ? on_term : SIG_IGN, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGINT, &term, NULL);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* No orphan: die with the parent, and check that it did not die meanwhile. (One that
 * had died before is missed by PMI at the start of MPI. A parent that is process 1 is
 * usual in a container.) */
static err die_with_parent(struct why *why)
{
    pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return why_set(why, ERR_PEER, "the launcher is gone");
    return ERR_OK;
}

static err draw_key(char *key, size_t size, struct why *why)
{
    unsigned char raw[24];
    FILE *f = fopen("/dev/urandom", "rb");
    size_t n = f ? fread(raw, 1, sizeof raw, f) : 0;
    if (f)
        fclose(f);
    if (n != sizeof raw || size <= 2 * sizeof raw)
        return why_set(why, ERR_IO, "/dev/urandom cannot be read");
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(key + 2 * i, 3, "%02x", raw[i]);
    return ERR_OK;
}

static struct control_options control_defaults(const struct engine_cmd *x)
{
    const struct config *c = &x->config;
    return (struct control_options){
        .key = x->boot.key,
        .epoch = x->boot.epoch,
        .heartbeat_ms = (unsigned)c->heartbeat_ms,
        .dead_after_ms = (unsigned)c->dead_after_ms,
        .interface = c->network_interface[0] ? c->network_interface : NULL,
        .fence_after_ms = (unsigned)c->fence_after_ms,
        .on_fence = fence,
    };
}

/* Key and epoch, as serve gave them. */
static void take_job(struct engine_cmd *x)
{
    const char *key = getenv("CORDEE_KEY"), *epoch = getenv("CORDEE_EPOCH");
    x->boot.epoch = epoch ? (uint32_t)strtoul(epoch, NULL, 10) : 1;
    if (key && strlen(key) < sizeof x->boot.key)
        strcpy(x->boot.key, key);
}

/* Rank 0 opens its hub and fills the boot blob. */
static err prepare_boot(struct engine_cmd *x, struct why *why)
{
    unsigned first, last;
    err e;

    if (!x->boot.key[0])
        TRY(draw_key(x->boot.key, sizeof x->boot.key, why));
    struct control_options o = control_defaults(x);
    o.max_members = transport_size(x->t);
    o.on_fence = NULL; /* losing a rank is an event, not the end */
    if (sscanf(x->config.network_ports, "%u-%u", &first, &last) == 2 && last <= 65535) {
        o.port_first = (uint16_t)first;
        o.port_last = (uint16_t)last;
    }
    TRY(control_listen(&o, &x->hub, why));
    snprintf(x->boot.address, sizeof x->boot.address, "%s", control_address(x->hub));
out:
    return e;
}

static err join(const struct engine_cmd *x, const char *address, int member, struct control **out,
                struct why *why)
{
    struct control_options o = control_defaults(x);
    o.member = member;
    return control_join(&o, address, out, why);
}

/* Rank as the launcher's PMI says it; -1 when only MPI will know. */
static int early_rank(void)
{
    const char *s = getenv("PMI_RANK");
    return s && *s >= '0' && *s <= '9' ? atoi(s) : -1;
}

static err register_with_serve(struct engine_cmd *x, int rank, struct why *why)
{
    const char *address = getenv("CORDEE_SERVE");
    if (!address || rank < 0 || x->serve)
        return ERR_OK;
    return join(x, address, rank, &x->serve, why);
}

/* Tells serve why this rank ends, when nobody else will. */
static void tell_serve(struct engine_cmd *x, err code, const struct why *reason)
{
    Cordee__Done done = CORDEE__DONE__INIT;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    struct buf frame;
    struct why why;
    int rank = x->t ? transport_rank(x->t) : early_rank();
    done.has_code = 1;
    done.code = code;
    done.reason = (char *)(uintptr_t)reason->text;
    done.has_rank = rank >= 0;
    done.rank = (uint32_t)rank;
    env.body_case = CORDEE__ENVELOPE__BODY_DONE;
    env.done = &done;
    buf_init(&frame);
    if (frame_put_body(&frame, &env, &why) != ERR_OK ||
        control_send(x->serve, -1, frame.data, frame.len, &why) != ERR_OK)
        log_debug("to serve: %s", why.text);
    buf_fini(&frame);
}

/* ---- rank 0 ------------------------------------------------------------------- */

static err on_ready(void *ctx, struct rank0 *r, struct front *front, struct why *why)
{
    struct engine_cmd *x = ctx;
    struct service_options o = {
        .front = front,
        .health = rank0_health,
        .health_ctx = r,
        .stats = rank0_query_stats,
        .stats_ctx = r,
    };
    if (x->serve || !x->config.listen[0])
        return ERR_OK;
    x->base = event_base_new();
    if (!x->base)
        return why_set(why, ERR_NOMEM, "event loop");
    err e = service_listen(x->base, x->config.listen, &o, &x->listener, why);
    if (!e)
        log_info("ready: framed API on %s", x->config.listen);
    return e;
}

static void io_turn(void *ctx)
{
    struct engine_cmd *x = ctx;
    if (x->base)
        event_base_loop(x->base, EVLOOP_NONBLOCK);
}

static void on_end(void *ctx)
{
    struct engine_cmd *x = ctx;
    service_listener_close(x->listener);
    x->listener = NULL;
    if (x->base)
        event_base_free(x->base);
    x->base = NULL;
}

static err run_rank0(struct engine_cmd *x, struct why *why)
{
    err e;
    struct rank0_options o = {
        .config = &x->config,
        .src = x->src,
        .hub = x->hub,
        .epoch = x->boot.epoch,
        .threads = x->threads,
        .isa = x->isa,
        .hello_ms = HELLO_MS,
        .stop = &stop_wanted,
        .on_ready = on_ready,
        .io_turn = io_turn,
        .on_end = on_end,
        .ctx = x,
    };
    if (!x->serve && !x->config.listen[0])
        FAIL(ERR_INVAL, "without `cordee serve` the engine needs an address: --listen unix:PATH|HOST:PORT");
    if (!x->serve) /* serve sends ids; others send text */
        TRY(source_tokenizer(x->src, &x->tok, why));
    o.tok = x->tok;
    o.serve = x->serve;
    x->told = true;
    TRY(rank0_run(x->t, &o, why));
out:
    return e;
}

static err run_stage(struct engine_cmd *x, struct why *why)
{
    err e;
    struct rank_options o = {
        .epoch = x->boot.epoch,
        .host = x->host,
        .threads = x->threads,
        .cpus = x->seat.cpus,
        .isa = x->isa,
        .plan_ms = 2 * HELLO_MS,
    };
    TRY(join(x, x->boot.address, transport_rank(x->t), &x->hub, why));
    control_close(x->serve, LEAVE_MS);
    x->serve = NULL;
    TRY(rank_run(x->t, x->hub, x->src, &o, why));
out:
    return e;
}

/* ---- both ------------------------------------------------------------------------ */

static void name_log(const struct engine_cmd *x)
{
    char who[32];
    enum log_level level = LOG_INFO;
    struct why why;
    snprintf(who, sizeof who, "rank %d", transport_rank(x->t));
    if (log_level_parse(x->config.log_level, &level, &why) == ERR_OK)
        log_init(who, level, x->config.log_json);
}

/* A node whose file differs would compute other numbers. */
static err check_model(const struct engine_cmd *x, struct why *why)
{
    const char *want = getenv("CORDEE_MODEL_HASH");
    if (!want || !strcmp(want, source_hash(x->src)))
        return ERR_OK;
    return why_set(why, ERR_FORMAT, "%s has another %s than the node of `serve` (hash %s, there %s); copy the same file "
                   "to every node", x->host, x->config.model, source_hash(x->src), want);
}

/* Threads of this rank and, of a stage, where they run. Rank 0 computes nothing, but
 * plans with as many threads as a stage beside it would have. */
static err take_seat(struct engine_cmd *x, int rank, int size, struct why *why)
{
    struct cores cores = {0};
    struct cpu_limits limits;
    char text[256];
    err e;
    struct seat_wish wish = {.index = site_stage_index(rank), .n_local = site_stages_here(rank, size)};
    TRY(pin_parse(x->config.pin, &wish.pin, why));
    e = cores_open(&cores, why);
    if (e && wish.pin != PIN_ON) { /* no reason not to compute */
        log_warn("threads are not bound: %s", why->text);
        x->threads = x->config.threads ? (int)x->config.threads : (cpu_cores() + wish.n_local - 1) / wish.n_local;
        return ERR_OK;
    }
    TRY(e);
    cpu_limits_read("", &limits);
    wish.quota_cores = limits.quota_cores;
    x->threads = x->config.threads ? (int)x->config.threads : seat_threads(&cores, wish.n_local, wish.quota_cores);
    wish.threads = x->threads;
    if (rank == 0)
        goto out;
    TRY(seat_take(&cores, &wish, CLAIMS_PATH, &x->seat, why));
    spread_set(x->seat.nodes);
    seat_text(&x->seat, x->threads, text, sizeof text);
    log_info("%s", text);
    if (x->seat.n_domains > 1)
        log_warn("this rank spans %d memory domains, and its weights lie across all of them; a rank for each is "
                 "faster (workers, threads)",
                 x->seat.n_domains);
out:
    cores_close(&cores);
    return e;
}

static err run(struct engine_cmd *x, struct why *why)
{
    err e;
    TRY(config_check(&x->config, why));
    TRY(cpu_isa_parse(x->config.isa, &x->isa, why));
    TRY(die_with_parent(why));
    take_job(x);
    TRY(register_with_serve(x, early_rank(), why));
    TRY(transport_mpi_open(&x->t, why));
    int rank = transport_rank(x->t), size = transport_size(x->t);
    name_log(x);
    set_signals(rank);
    TRY(register_with_serve(x, rank, why));
    if (size < 2)
        FAIL(ERR_INVAL, "a world of one process: start at least two (mpirun -n N+1), one more than stages; "
                        "under Slurm use srun --mpi=pmi2");
    site_node_name(rank, size, x->host, sizeof x->host);
    TRY(take_seat(x, rank, size, why));
    TRY(source_open(x->config.model, &x->src, why));
    TRY(check_model(x, why));
    TRY(rank0_adapters(&x->config, x->src, why));
    if (rank == 0)
        TRY(prepare_boot(x, why));
    TRY(transport_mpi_boot(x->t, &x->boot, sizeof x->boot, HELLO_MS, why));
    TRY(rank == 0 ? run_rank0(x, why) : run_stage(x, why));
    TRY(transport_mpi_drain(x->t, DRAIN_MS, why));
    transport_farewell(DRAIN_MS);
out:
    return e;
}

int cmd_engine(int argc, char **argv)
{
    struct options o = {"engine",
                        "The MPI program: rank 0 coordinates, ranks 1..N hold the stages.\n"
                        "mpirun -n N+1 cordee engine --config cluster.yaml",
                        NULL, NULL, NULL, NULL, false};
    struct engine_cmd x = {0};
    struct why why = {0};
    int code = EXIT_DONE;
    const char *yaml = getenv("CORDEE_CONFIG");

    config_init(&x.config);
    err e = yaml ? config_parse(&x.config, yaml, strlen(yaml), "CORDEE_CONFIG", &why) : ERR_OK;
    if (!e && options_parse(&o, argc, argv, &x.config, &code))
        return code;
    if (!e)
        e = run(&x, &why);
    if (e && x.serve && !x.told)
        tell_serve(&x, e, &why);
    if (e && (x.serve || (x.hub && transport_rank(x.t) > 0)))
        code = EXIT_FAILED; /* told over the control plane; one voice is enough */
    else if (e)
        code = cmd_fail("engine", e, &why, EXIT_USAGE);
    /* MPI_Finalize may hang (over TCP in a third of clean runs), so the end is _exit:
     * what has to be said has been said on the control plane. */
    if (x.serve)
        control_close(x.serve, FLUSH_MS);
    if (x.hub)
        control_close(x.hub, FLUSH_MS);
    fflush(NULL);
    _exit(code);
}
