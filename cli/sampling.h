/* sampling.h - the options that say how text is drawn and where it ends, for every
 * command that generates. */
#ifndef CORDEE_CLI_SAMPLING_H
#define CORDEE_CLI_SAMPLING_H

#include "coordinator/front/front.h"

enum {
    SAMPLING_TEMPERATURE = 256, SAMPLING_TOP_P, SAMPLING_TOP_K, SAMPLING_MIN_P, SAMPLING_SEED, SAMPLING_STOP,
    SAMPLING_IGNORE_EOS, SAMPLING_ADAPTER,
    SAMPLING_OWN, /* the first key that is free for the command's own */
    SAMPLING_MAX_STOP = 16,
};

/* Rows for a command's argp table; tokens: the default, as text. */
#define SAMPLING_OPTIONS(tokens)                                                                         \
    {"max-tokens", 'n', "N", 0, "tokens to generate (default " tokens ")", 1},                           \
    {"temperature", SAMPLING_TEMPERATURE, "T", 0, "0: the most likely token (default 0)", 1},            \
    {"top-p", SAMPLING_TOP_P, "P", 0, "nucleus (default 1: off)", 1},                                    \
    {"top-k", SAMPLING_TOP_K, "K", 0, "best K only (default 0: off)", 1},                                \
    {"min-p", SAMPLING_MIN_P, "P", 0, "at least P times the best (default 0: off)", 1},                  \
    {"seed", SAMPLING_SEED, "N", 0, "same seed, same text (default: drawn)", 1},                         \
    {"stop", SAMPLING_STOP, "TEXT", 0, "end before this text (may be repeated)", 1},                     \
    {"ignore-eos", SAMPLING_IGNORE_EOS, NULL, 0, "go on past the model's end token", 1},                 \
    {"adapter", SAMPLING_ADAPTER, "NAME", 0, "use one of the --lora adapters", 1}

/* What the options write. `req` points into `stop` and argv: do not copy it away. */
struct sampling {
    struct front_request req;
    struct stop_string stop[SAMPLING_MAX_STOP];
};

/* Greedy, one choice, at most max_tokens. */
void sampling_init(struct sampling *s, int max_tokens);

/* Takes an option. ERR_NOTFOUND (without a reason): not one of these. ERR_INVAL: a bad value. */
MUST_CHECK err sampling_take(struct sampling *s, int key, const char *value, struct why *why);

#endif
