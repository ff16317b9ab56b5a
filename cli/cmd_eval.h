/* cmd_eval.h - the parts of `cordee eval` that are commands of their own. */
#ifndef CORDEE_CLI_CMD_EVAL_H
#define CORDEE_CLI_CMD_EVAL_H

/* `cordee eval compare A B`: 0 exactly when the files are the same bytes, else 1. */
int eval_compare_main(int argc, char **argv);

#endif
