/* launch.c - see launch.h. */
#include "coordinator/supervise/launch.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A NULL-terminated list of owned strings; `failed` is sticky. */
struct list {
    char **v;
    int n;
    bool failed;
};

PRINTF_LIKE(2, 3) static void add(struct list *l, const char *fmt, ...)
{
    va_list ap;
    char *s = NULL;
    char **grown = realloc(l->v, (size_t)(l->n + 2) * sizeof *grown);
    if (grown)
        l->v = grown;
    va_start(ap, fmt);
    int len = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (!grown || len < 0) {
        l->failed = true;
        if (len >= 0)
            free(s);
        return;
    }
    l->v[l->n++] = s;
    l->v[l->n] = NULL;
}

static void list_fini(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

int launch_stages_on(int workers, int n_hosts, int i)
{
    return workers * (i + 1) / n_hosts - workers * i / n_hosts;
}

int launch_host_of(int workers, int n_hosts, int rank)
{
    int end = 1; /* rank 0 comes on top of the first host's stages */
    for (int i = 0; i < n_hosts; i++) {
        end += launch_stages_on(workers, n_hosts, i);
        if (rank >= 0 && rank < end)
            return i;
    }
    return -1;
}

static int allocation_index(const struct launch_site *site, const char *host)
{
    for (int i = 0; i < site->n_allocation; i++)
        if (!strcmp(site->allocation[i], host))
            return i;
    return -1;
}

err launch_hosts(const struct config *c, const struct launch_site *site, const char **out, int *n, struct why *why)
{
    int total = 0;
    bool chosen[CONFIG_MAX_NODES] = {false};
    if (!site->in_slurm) {
        for (; total < c->n_nodes; total++)
            out[total] = c->nodes[total].host;
        *n = total;
        return ERR_OK;
    }
    for (int i = 0; i < c->n_nodes; i++) {
        int at = allocation_index(site, c->nodes[i].host);
        if (at < 0 || at >= CONFIG_MAX_NODES)
            return why_set(why, ERR_INVAL, "nodes: \"%s\" is not in this Slurm allocation", c->nodes[i].host);
        chosen[at] = true;
    }
    for (int i = 0; i < site->n_allocation && i < CONFIG_MAX_NODES; i++)
        if (!c->n_nodes || chosen[i])
            out[total++] = site->allocation[i];
    *n = total;
    return ERR_OK;
}

static void add_launcher(struct list *argv, const struct config *c, const struct launch_site *site,
                         int n_hosts)
{
    const char *kind = c->launcher;
    if (!strcmp(kind, "auto"))
        kind = site->in_slurm ? "slurm" : n_hosts ? "ssh" : "fork";
    add(argv, "-launcher");
    add(argv, "%s", strcmp(kind, "command") ? kind : "ssh");
    if (c->launcher_exec[0]) {
        add(argv, "-launcher-exec");
        add(argv, "%s", c->launcher_exec);
    }
    if (site->in_slurm && strcmp(kind, "slurm")) {
        add(argv, "-rmk");
        add(argv, "user");
    }
}

static void add_hosts(struct list *argv, int workers, const char *const *hosts, int n_hosts)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        argv->failed = true;
        return;
    }
    for (int i = 0; i < n_hosts; i++)
        fprintf(f, "%s%s:%d", i ? "," : "", hosts[i], launch_stages_on(workers, n_hosts, i) + (i == 0));
    if (fclose(f) != 0)
        argv->failed = true;
    add(argv, "-hosts");
    add(argv, "%s", text ? text : "");
    free(text);
}

/* What hydra and UCX need, whatever they start. */
static void add_site(struct list *env, const struct config *c, const struct launch_site *site)
{
    if (c->network_ports[0]) {
        const char *dash = strchr(c->network_ports, '-');
        if (dash)
            add(env, "MPIEXEC_PORT_RANGE=%.*s:%s", (int)(dash - c->network_ports), c->network_ports, dash + 1);
    }
    if (site->in_slurm) {
        /* Without overlap the ghost step of a dead epoch blocks every later one. */
        add(env, "SLURM_OVERLAP=1");
        add(env, "SLURM_MPI_TYPE=pmi2");
    }
}

/* So that every process calls a host what the configuration calls it. */
static void add_names(struct list *env, const char *const *hosts, int n_hosts)
{
    struct buf names;
    buf_init(&names);
    for (int i = 0; i < n_hosts; i++)
        buf_printf(&names, "%s%s", i ? "," : "", hosts[i]);
    if (n_hosts)
        add(env, "CORDEE_HOSTS=%s", names.data ? names.data : "");
    env->failed |= names.failed;
    buf_fini(&names);
}

static void add_environment(struct list *env, const struct config *c, const struct launch_site *site,
                            const struct launch_epoch *ep)
{
    struct config of_epoch = *c; /* its lists stay the configuration's */
    struct buf yaml;
    of_epoch.workers = ep->workers;
    buf_init(&yaml);
    config_dump(&of_epoch, &yaml);
    env->failed |= yaml.failed;
    add(env, "CORDEE_CONFIG=%s", yaml.data ? yaml.data : "");
    buf_fini(&yaml);
    add(env, "CORDEE_KEY=%s", ep->key);
    add(env, "CORDEE_EPOCH=%" PRIu32, ep->epoch);
    add(env, "CORDEE_SERVE=%s", ep->serve_address);
    add(env, "CORDEE_MODEL_HASH=%s", ep->model_hash);
    add(env, "OPENBLAS_NUM_THREADS=1");
    add(env, "UCX_HANDLE_ERRORS=none"); /* keeps UCX's signal handlers out of the ranks */
    add(env, "UCX_LOG_LEVEL=error");
    if (c->network_ucx_tls[0])
        add(env, "UCX_TLS=%s", c->network_ucx_tls);
    if (c->network_interface[0])
        add(env, "UCX_NET_DEVICES=%s", c->network_interface);
    add_site(env, c, site);
}

/* mpiexec with everything up to `-n`. */
static void add_mpiexec(struct list *argv, const struct config *c, const struct launch_site *site, int n_hosts)
{
    add(argv, "%s", c->mpiexec);
    add_launcher(argv, c, site, n_hosts);
    if (c->network_address[0]) {
        add(argv, "-localhost");
        add(argv, "%s", c->network_address);
    } else if (c->network_interface[0]) {
        add(argv, "-iface");
        add(argv, "%s", c->network_interface);
    }
}

/* Ownership of both lists moves to *out, or ends. */
static err finish(struct list *argv, struct list *env, struct launch *out, struct why *why)
{
    if (argv->failed || env->failed) {
        list_fini(argv->v);
        list_fini(env->v);
        return why_set(why, ERR_NOMEM, "launch command");
    }
    *out = (struct launch){argv->v, env->v};
    return ERR_OK;
}

err launch_build(const struct config *c, const struct launch_site *site, const struct launch_epoch *ep,
                 const char *const *hosts, int n_hosts, struct launch *out, struct why *why)
{
    struct list argv = {0}, env = {0};

    add_mpiexec(&argv, c, site, n_hosts);
    if (n_hosts)
        add_hosts(&argv, ep->workers, hosts, n_hosts);
    add(&argv, "-n");
    add(&argv, "%d", ep->workers + 1);
    add(&argv, "%s", site->program);
    add(&argv, "engine");
    add_environment(&env, c, site, ep);
    add_names(&env, hosts, n_hosts);
    return finish(&argv, &env, out, why);
}

err launch_probe(const struct config *c, const struct launch_site *site, const char *host, int tag,
                 struct launch *out, struct why *why)
{
    struct list argv = {0}, env = {0};

    add_mpiexec(&argv, c, site, 1);
    add(&argv, "-hosts");
    add(&argv, "%s", host);
    for (const char *const *p = (const char *const[]){"-n", "1", "test", "-x", site->program, "-a", "-r", c->model, NULL};
         *p; p++)
        add(&argv, "%s", *p);
    add(&env, "CORDEE_PROBE=%d", tag);
    add_site(&env, c, site);
    return finish(&argv, &env, out, why);
}

void launch_fini(struct launch *l)
{
    list_fini(l->argv);
    list_fini(l->env);
    *l = (struct launch){0};
}
