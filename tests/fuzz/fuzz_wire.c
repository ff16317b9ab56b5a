/* links: cordee_proto */
/* fuzz_wire.c - rank-to-rank messages: head, batch descriptor, results.
 *
 * The first byte chooses the codec. A checksum would keep the fuzzer out, so
 * heads are tried as they are and then once more sealed, which reaches the
 * checks behind it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

static const struct wire_limits limits = {
    .max_rows = 64, .max_seqs = 16, .max_slots = 32, .n_pages = 256, .max_context = 4096, .n_vocab = 32000,
    .page_rows = 16,
};

static volatile uint64_t sink; /* keeps the reads */

static void use_batch(const struct wire_batch *b)
{
    for (uint32_t i = 0; i < b->n_rows; i++)
        sink += b->seqs[b->rows[i].seq].pages[(uint32_t)b->rows[i].pos / limits.page_rows];
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const struct wire_sampler *s = b->seqs[i].sampler;
        if (!s)
            continue;
        for (uint32_t j = 0; j < s->n_prompt; j++)
            sink += (uint32_t)s->prompt[j];
        for (uint32_t j = 0; j < s->n_end; j++)
            sink += (uint32_t)s->end[j];
        for (uint32_t j = 0; j < s->n_bias * 8; j++)
            sink += ((const uint8_t *)s->bias)[j];
    }
}

static void try_head(void *data, size_t len)
{
    const struct msg_head *h;
    struct why why;
    if (wire_check(data, len, 1, 0, &h, &why) == ERR_OK)
        sink += wire_x_len(h);
    if (len < sizeof *h)
        return;
    wire_seal(data, len, 1, 0);
    if (wire_check(data, len, 1, 0, &h, &why) == ERR_OK && h->kind == WIRE_ACTS) {
        const char *x = wire_x(h);
        for (uint64_t i = 0; i < wire_x_len(h); i++)
            sink += (uint8_t)x[i];
    }
}

static void try_batch(void *data, size_t len)
{
    struct wire_batch b, again;
    struct why why;
    size_t room = wire_batch_space(&limits);
    void *space = malloc(room), *space2 = malloc(room);
    if (wire_get_batch(data, len, &limits, space, room, &b, &why) == ERR_OK) {
        use_batch(&b);
        size_t bytes = wire_batch_bytes(&b);
        void *copy = aligned_alloc(64, bytes);
        wire_put_batch(copy, &b);
        if (bytes != len || wire_get_batch(copy, bytes, &limits, space2, room, &again, &why) != ERR_OK)
            abort(); /* what was accepted must survive a round trip */
        free(copy);
    }
    free(space);
    free(space2);
}

static void try_results(void *data, size_t len)
{
    struct wire_result r;
    struct why why;
    size_t at = 0;
    while (at < len && wire_get_result(data, len, &at, &limits, &r, &why) == ERR_OK)
        for (int i = 0; i < r.n_top; i++)
            sink += (uint32_t)r.top[i].token;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static void (*const codecs[])(void *, size_t) = {try_head, try_batch, try_results};
    if (n < 1)
        return 0;
    size_t len = n - 1;
    void *data = malloc(len ? len : 1); /* exactly as long: a read past the end is seen */
    memcpy(data, bytes + 1, len);
    codecs[bytes[0] % 3](data, len);
    free(data);
    return 0;
}
