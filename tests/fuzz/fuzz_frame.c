/* links: cordee_proto */
/* fuzz_frame.c - frames of the socket protocol: a stream of lengths and Envelopes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

static void try_body(const uint8_t *body, size_t len)
{
    Cordee__Envelope *env = NULL;
    struct why why;
    struct buf out;
    if (frame_get(body, len, &env, &why) != ERR_OK)
        return;
    buf_init(&out);
    if (frame_put(&out, env, &why) != ERR_OK)
        abort(); /* what was accepted can be sent again */
    buf_fini(&out);
    frame_free(env);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        uint32_t body;
        int head = frame_head(bytes + at, n - at, 1 << 16, &body);
        if (head <= 0)
            break;
        at += (size_t)head;
        size_t len = body < n - at ? body : n - at;
        uint8_t *copy = malloc(len ? len : 1); /* exactly as long: a read past the end is seen */
        memcpy(copy, bytes + at, len);
        try_body(copy, len);
        free(copy);
        at += len;
    }
    return 0;
}
