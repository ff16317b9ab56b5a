/* process.c - see process.h. */
#include "coordinator/supervise/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

err process_init(struct why *why)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return why_set(why, ERR_IO, "prctl(PR_SET_CHILD_SUBREAPER): %s", strerror(errno));
    return ERR_OK;
}

static bool same_key(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return !strncmp(a, b, n) && b[n] == '=';
}

/* The environment with `add` on top; pointers are borrowed, the array is owned. */
static char **merged(char *const *add)
{
    size_t n = 0, n_add = 0, at = 0;
    while (environ[n])
        n++;
    while (add && add[n_add])
        n_add++;
    char **env = calloc(n + n_add + 1, sizeof *env);
    if (!env)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        bool hidden = false;
        for (size_t j = 0; j < n_add; j++)
            hidden |= same_key(add[j], environ[i]);
        if (!hidden)
            env[at++] = environ[i];
    }
    for (size_t j = 0; j < n_add; j++)
        env[at++] = add[j];
    return env;
}

/* In the child: only async-signal-safe calls. The errno of a failed exec goes back
 * through the pipe, which a successful exec closes. */
static void child(char *const *argv, char *const *env, pid_t parent, bool quiet, int report)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setsid(); /* a terminal's Ctrl-C is the supervisor's to handle */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool wired = null >= 0 && dup2(null, 0) == 0 && (!quiet || dup2(null, 2) == 2) && dup2(2, 1) == 1;
    if (getppid() == parent && wired)
        execvpe(argv[0], argv, env);
    int code = errno;
    if (write(report, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

err process_start(char *const *argv, char *const *add, int tag, bool quiet, struct process *out,
                  struct why *why)
{
    int pipefd[2], code = 0;
    pid_t parent = getpid();
    char **env = merged(add);
    if (!env)
        return why_set(why, ERR_NOMEM, "environment");
    if (pipe2(pipefd, O_CLOEXEC) != 0) {
        free(env);
        return why_set(why, ERR_IO, "pipe: %s", strerror(errno));
    }
    pid_t p = fork();
    if (p == 0)
        child(argv, env, parent, quiet, pipefd[1]);
    int fork_errno = errno;
    close(pipefd[1]);
    free(env);
    if (p < 0) {
        close(pipefd[0]);
        return why_set(why, ERR_IO, "fork: %s", strerror(fork_errno));
    }
    ssize_t n;
    do
        n = read(pipefd[0], &code, sizeof code);
    while (n < 0 && errno == EINTR);
    close(pipefd[0]);
    if (n == (ssize_t)sizeof code) {
        waitpid(p, NULL, 0);
        return why_set(why, ERR_IO, "cannot run %s: %s", argv[0], strerror(code));
    }
    *out = (struct process){.pid = p, .tag = tag};
    return ERR_OK;
}

void process_reap(struct process *const *list, int n)
{
    for (;;) {
        int status;
        pid_t p = waitpid(-1, &status, WNOHANG);
        if (p < 0 && errno == EINTR)
            continue;
        if (p <= 0)
            return; /* the others live, or there are none */
        for (int i = 0; i < n; i++)
            if (list[i]->pid == p) {
                list[i]->ended = true;
                list[i]->status = status;
            }
    }
}

/* Which start a child belongs to, by its environment. */
static int tag_of(pid_t pid)
{
    static const char name[] = "CORDEE_PROBE=";
    char path[64], *entry = NULL;
    size_t cap = 0;
    int tag = 0;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && getdelim(&entry, &cap, 0, f) > 0)
        if (!strncmp(entry, name, sizeof name - 1))
            tag = atoi(entry + sizeof name - 1);
    if (f)
        fclose(f);
    free(entry);
    return tag;
}

/* Calls fn for the children of one thread of a process, until it returns false. */
static bool each_child_of(const char *task, bool (*fn)(void *ctx, pid_t child), void *ctx)
{
    char path[300];
    int pid;
    bool on = true;
    snprintf(path, sizeof path, "/proc/%s/children", task);
    FILE *f = fopen(path, "r");
    while (f && on && fscanf(f, "%d", &pid) == 1)
        on = fn(ctx, pid);
    if (f)
        fclose(f);
    return on;
}

/* The same for all children of this process, whichever thread has them. */
static void each_child(bool (*fn)(void *ctx, pid_t child), void *ctx)
{
    DIR *tasks = opendir("/proc/self/task");
    bool on = true;
    if (!tasks)
        return;
    for (struct dirent *d; on && (d = readdir(tasks));) {
        char task[280];
        snprintf(task, sizeof task, "self/task/%s", d->d_name);
        if (d->d_name[0] != '.')
            on = each_child_of(task, fn, ctx);
    }
    closedir(tasks);
}

struct tagged {
    int tag, n;
    bool kill;
};

static bool visit_tagged(void *ctx, pid_t child)
{
    struct tagged *t = ctx;
    if (tag_of(child) == t->tag) {
        t->n++;
        if (t->kill)
            kill(child, SIGKILL);
    }
    return true;
}

bool process_left(const struct process *p)
{
    struct tagged t = {.tag = p->tag};
    each_child(visit_tagged, &t);
    return t.n > 0 || (p->pid > 0 && !p->ended);
}

void process_kill(const struct process *p)
{
    struct tagged t = {.tag = p->tag, .kill = true};
    if (p->pid > 0 && !p->ended) /* an ended leader's number may be somebody else's */
        kill(-p->pid, SIGKILL);
    each_child(visit_tagged, &t);
}

struct nth {
    int left;
    bool ended;
};

static bool visit_nth(void *ctx, pid_t child)
{
    struct nth *n = ctx;
    char path[64], line[128];
    if (n->left-- > 0)
        return true;
    snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "State:", 6))
            n->ended = strchr(line, 'Z');
    if (f)
        fclose(f);
    return false;
}

bool process_child_ended(const struct process *p, int i)
{
    struct nth n = {.left = i};
    char task[64];
    snprintf(task, sizeof task, "%d/task/%d", (int)p->pid, (int)p->pid);
    if (p->pid > 0 && !p->ended)
        each_child_of(task, visit_nth, &n);
    return n.ended;
}
