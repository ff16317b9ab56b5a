/* batch_output.h - an output file that follows the run log. */
#ifndef CORDEE_COORDINATOR_BATCH_OUTPUT_H
#define CORDEE_COORDINATOR_BATCH_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct batch_output {
    char *path; /* owned; NULL: not open */
    int fd;
    uint64_t end, size; /* written by us, and bytes in the file */
};

/* path: copied. The file is made if it is not there; what it holds is compared with
 * what is put: equal bytes are left alone, the first difference cuts the file. */
MUST_CHECK err batch_output_open(struct batch_output *o, const char *path, struct why *why);
void batch_output_close(struct batch_output *o);
/* One line, its end is added. */
MUST_CHECK err batch_output_put(struct batch_output *o, const char *line, size_t len, struct why *why);
/* Cuts off what is behind the last line put. */
MUST_CHECK err batch_output_cut(struct batch_output *o, struct why *why);
MUST_CHECK err batch_output_sync(struct batch_output *o, struct why *why);

#endif
