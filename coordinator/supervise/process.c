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
static void child(char *const *argv, char *const *env, pid_t parent, int report)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setsid(); /* a terminal's Ctrl-C is the supervisor's to handle */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && null >= 0 && dup2(null, 0) == 0 && dup2(2, 1) == 1)
        execvpe(argv[0], argv, env);
    int code = errno;
    if (write(report, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

err process_start(char *const *argv, char *const *add, pid_t *pid, struct why *why)
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
        child(argv, env, parent, pipefd[1]);
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
    *pid = p;
    return ERR_OK;
}

bool process_reap(pid_t leader, int *leader_status)
{
    for (;;) {
        int status;
        pid_t p = waitpid(-1, &status, WNOHANG);
        if (p == 0)
            return false;
        if (p < 0) {
            if (errno == EINTR)
                continue;
            return true; /* ECHILD */
        }
        if (p == leader)
            *leader_status = status;
    }
}

/* The children of every thread of this process, by /proc. */
static void kill_children(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return;
    for (struct dirent *d; (d = readdir(tasks));) {
        char path[300];
        int pid;
        if (d->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", d->d_name);
        FILE *f = fopen(path, "r");
        while (f && fscanf(f, "%d", &pid) == 1)
            kill(pid, SIGKILL);
        if (f)
            fclose(f);
    }
    closedir(tasks);
}

void process_kill(pid_t leader)
{
    if (leader > 0)
        kill(-leader, SIGKILL);
    kill_children();
}
