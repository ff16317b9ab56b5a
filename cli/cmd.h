/* cmd.h - the subcommands. Each is one file: it reads its options, wires the
 * layers together, and returns the process's exit code. */
#ifndef CORDEE_CLI_CMD_H
#define CORDEE_CLI_CMD_H

#include "base/err.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_REFUSED = 3, /* by the plan */
    EXIT_RESUME = 75, /* interrupted in good order: the same command goes on */
};

/*       name        function       one line for --help */
#define CMD_MAP(X)                                                                      \
    X(serve, cmd_serve, "serve a model over HTTP and the framed API")                   \
    X(engine, cmd_engine, "the MPI program: mpirun -n N+1 cordee engine")               \
    X(generate, cmd_generate, "continue one prompt, streamed to stdout")                \
    X(chat, cmd_chat, "talk to a model with its chat template")                         \
    X(batch, cmd_batch, "run OpenAI batch lines from a file, resumable")                \
    X(eval, cmd_eval, "score multiple-choice and perplexity files")                    \
    X(shard, cmd_shard, "write or verify per-rank shards")                              \
    X(plan, cmd_later, "where every layer goes, memory, predicted speed")               \
    X(bench, cmd_bench, "measure prompt and decode speed over a cluster")               \
    X(inspect, cmd_inspect, "look into a model file")                                   \
    X(template, cmd_template, "render chat templates")                                  \
    X(tokenize, cmd_tokenize, "text to token ids")                                      \
    X(doctor, cmd_later, "check a node: instruction sets, memory, MPI, network")

#define CMD_DECLARE(name, fn, help) int fn(int argc, char **argv);
CMD_MAP(CMD_DECLARE)
#undef CMD_DECLARE

/* Prints "cordee: NAME: reason" on one line and returns the code that belongs to
 * the error: ERR_REFUSED and ERR_NOMEM -> 3, ERR_INVAL -> `inval`, others -> 1. */
int cmd_fail(const char *name, err e, const struct why *why, int inval);

#endif
