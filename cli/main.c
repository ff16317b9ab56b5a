/* main.c - the `cordee` binary: finds the subcommand and hands over. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd.h"

static const struct cmd {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
#define ROW(name, fn, help) {#name, fn, help},
    CMD_MAP(ROW)
#undef ROW
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(FILE *out)
{
    fputs("cordee - serves open language models too big for one node on clusters of CPU machines\n"
          "\nusage: cordee COMMAND [OPTION...]      (cordee COMMAND --help lists the options)\n\n",
          out);
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].run != cmd_later)
            fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nexit codes: 0 done, 1 failed, 2 usage, 3 refused by the plan (does not fit),\n"
          "75 interrupted, the same command goes on (batch, eval)\n", out);
}

int cmd_later(int argc, char **argv)
{
    (void)argc;
    fprintf(stderr, "cordee: %s: not yet\n", argv[0]);
    return EXIT_USAGE;
}

int cmd_fail(const char *name, err e, const struct why *why, int inval)
{
    fprintf(stderr, "cordee: %s: %s\n", name, why->text[0] ? why->text : err_text(e));
    switch (e) {
    case ERR_REFUSED:
    case ERR_NOMEM:
        return EXIT_REFUSED;
    case ERR_INVAL:
        return inval;
    default:
        return EXIT_FAILED;
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("cordee " CORDEE_VERSION);
        return EXIT_DONE;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "cordee: unknown command \"%s\"; see cordee --help\n", argv[1]);
    return EXIT_USAGE;
}
