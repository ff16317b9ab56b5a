/* site.c - see site.h. */
#include "cli/site.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static err read_hosts(FILE *f, struct site *s, struct why *why)
{
    char *line = NULL;
    size_t cap = 0;
    err e = ERR_OK;
    for (ssize_t n; !e && (n = getline(&line, &cap, f)) > 0;) {
        if (line[n - 1] == '\n')
            line[--n] = 0;
        char **grown = realloc(s->hosts, (size_t)(s->launch.n_allocation + 1) * sizeof *grown);
        char *host = grown ? strdup(line) : NULL;
        if (grown)
            s->hosts = grown;
        if (!host)
            e = why_set(why, ERR_NOMEM, "host list");
        else
            s->hosts[s->launch.n_allocation++] = host;
    }
    free(line);
    return e;
}

/* The allocation's hosts in Slurm's own order: the order hydra really uses. */
static err slurm_hosts(struct site *s, struct why *why)
{
    FILE *f = popen("scontrol show hostnames", "r"); /* reads SLURM_JOB_NODELIST itself */
    if (!f)
        return why_set(why, ERR_IO, "scontrol: %s", strerror(errno));
    err e = read_hosts(f, s, why);
    int status = pclose(f);
    if (!e && (status != 0 || !s->launch.n_allocation))
        e = why_set(why, ERR_IO, "`scontrol show hostnames` failed inside a Slurm allocation");
    s->launch.allocation = (const char *const *)s->hosts;
    return e;
}

err site_init(struct site *s, struct why *why)
{
    *s = (struct site){0};
    ssize_t n = readlink("/proc/self/exe", s->program, sizeof s->program - 1);
    if (n < 0)
        return why_set(why, ERR_IO, "/proc/self/exe: %s", strerror(errno));
    s->launch.program = s->program;
    s->launch.in_slurm = getenv("SLURM_JOB_ID") && getenv("SLURM_JOB_NODELIST");
    return s->launch.in_slurm ? slurm_hosts(s, why) : ERR_OK;
}

void site_fini(struct site *s)
{
    for (int i = 0; i < s->launch.n_allocation; i++)
        free(s->hosts[i]);
    free(s->hosts);
    *s = (struct site){0};
}

/* The name in serve's list of an epoch's hosts. False: there is no list. */
static bool launched_name(int rank, int stages, char *out, size_t cap)
{
    const char *list = getenv("CORDEE_HOSTS");
    int n = 1, at;
    if (!list || !*list)
        return false;
    for (const char *p = list; (p = strchr(p, ',')); p++)
        n++;
    if ((at = launch_host_of(stages, n, rank)) < 0)
        return false;
    for (; at > 0; at--)
        list = strchr(list, ',') + 1;
    snprintf(out, cap, "%.*s", (int)strcspn(list, ","), list);
    return true;
}

void site_node_name(int rank, int size, char *out, size_t cap)
{
    const char *slurm = getenv("SLURM_TOPOLOGY_ADDR");
    const char *dot = slurm ? strrchr(slurm, '.') : NULL; /* "switch.node" with a topology plugin */
    if (launched_name(rank, size - 1, out, cap))
        return;
    if (slurm)
        snprintf(out, cap, "%s", dot ? dot + 1 : slurm);
    else if (gethostname(out, cap) != 0)
        snprintf(out, cap, "localhost");
    out[cap - 1] = 0;
}

static int env_int(const char *name, int otherwise)
{
    const char *s = getenv(name);
    int v = s ? atoi(s) : 0;
    return v > 0 ? v : otherwise;
}

/* This rank's number among those of its node; -1: the launcher does not say. */
static int local_id(void)
{
    const char *s = getenv("MPI_LOCALRANKID");
    s = s ? s : getenv("SLURM_LOCALID");
    return s ? atoi(s) : -1;
}

/* Whether rank 0 is on this node, ranks being spread in blocks; without the launcher's
 * word rank 1 is taken to be beside it. */
static bool with_rank0(int rank)
{
    int id = local_id();
    return id < 0 ? rank <= 1 : rank == id;
}

int site_stages_here(int rank, int size)
{
    /* Hydra says how many ranks are local; a launcher that does not is taken to
     * spread one stage a node, unless all ranks fit nowhere else. */
    int local = env_int("MPI_LOCALNRANKS", env_int("SLURM_NTASKS_PER_NODE", size > 2 ? 2 : size));
    if (local > 1 && with_rank0(rank))
        local--; /* rank 0 computes nothing */
    return local < 1 ? 1 : local;
}

int site_stage_index(int rank)
{
    int at = local_id() - with_rank0(rank);
    return at > 0 ? at : 0;
}
