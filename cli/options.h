/* options.h - command lines: the configuration's keys as flags, plus a command's own.
 *
 * Every key of the configuration is a flag of the same name (`kv_type` ->
 * --kv-type, network.interface -> --network-interface). --config FILE is read
 * first wherever it stands, so flags override it.
 */
#ifndef CORDEE_CLI_OPTIONS_H
#define CORDEE_CLI_OPTIONS_H

#include <argp.h>

#include "coordinator/config.h"

struct options {
    const char *name;            /* of the command */
    const char *doc, *args_doc;  /* argp's */
    const struct argp_option *own; /* the command's own options, keys < 512 (short letters or 256..511) */
    /* Takes an own option or an argument (key ARGP_KEY_ARG). Returns 0, ERR via `why`. */
    err (*take)(void *ctx, int key, const char *value, struct why *why);
    void *ctx;
    bool no_config; /* the command knows no configuration keys */
};

/* Parses argv into *c (initialised by the caller) and the command's context.
 * Returns 0 to go on, -1 with *exit_code set when the program is to end (--help,
 * bad usage: the message was printed). */
int options_parse(const struct options *o, int argc, char **argv, struct config *c, int *exit_code);

#endif
