/* wire_size.c - how long a message can get: both ends size their buffers by it. */
#include "proto/wire.h"

#include <assert.h>

size_t wire_sampler_budget(const struct wire_limits *lim)
{
    return 4096 + WIRE_MAX_BIAS * 8 + WIRE_MAX_END * 4 + (size_t)lim->max_context * 4;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t wire_max_message(const struct wire_limits *lim, int n_embd, enum wire_type x)
{
    assert(lim->page_rows > 0);
    size_t rows = lim->max_rows, seqs = least(rows, lim->max_seqs);
    size_t pages = least(lim->max_context / lim->page_rows + 2, (size_t)lim->n_pages + 1);
    size_t desc = 64 + rows * sizeof(struct wire_row) + seqs * (16 + pages * 4) + wire_sampler_budget(lim);
    size_t acts = desc + 64 + wire_x_bytes(x, rows * (size_t)n_embd);
    struct wire_result longest = {.n_top = WIRE_MAX_TOP};
    size_t tokens = rows * wire_result_bytes(&longest) + seqs * ((size_t)lim->n_hidden * 4 + 8);
    return sizeof(struct msg_head) + ((acts > tokens ? acts : tokens) + 63) / 64 * 64;
}
