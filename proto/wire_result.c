/* wire_result.c - the records of a TOKENS message: fixed part, then alternatives, then
 * an embedding (padded to 8). */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/wire.h"

struct result_record {
    uint32_t slot;
    int32_t pos, token, argmax;
    float logprob;
    uint8_t flags, n_top;
    uint16_t ended;
};
_Static_assert(sizeof(struct result_record) == 24, "wire layout: result");
_Static_assert(sizeof(struct wire_top) == 8, "wire layout: alternative");

size_t wire_result_bytes(const struct wire_result *r)
{
    return sizeof(struct result_record) + r->n_top * sizeof(struct wire_top) + ((size_t)r->n_hidden + 1) / 2 * 8;
}

size_t wire_put_result(void *dst, const struct wire_result *r)
{
    assert((uintptr_t)dst % 8 == 0 && r->n_top <= WIRE_MAX_TOP);
    struct result_record rec = {
        .slot = r->slot, .pos = r->pos, .token = r->token, .argmax = r->argmax,
        .logprob = r->logprob, .flags = r->flags, .n_top = r->n_top, .ended = r->ended,
    };
    memcpy(dst, &rec, sizeof rec);
    if (r->n_top)
        memcpy((char *)dst + sizeof rec, r->top, r->n_top * sizeof *r->top);
    if (r->n_hidden) {
        char *hidden = (char *)dst + sizeof rec + r->n_top * sizeof *r->top;
        size_t bytes = r->n_hidden * sizeof *r->hidden;
        memcpy(hidden, r->hidden, bytes);
        memset(hidden + bytes, 0, ((size_t)r->n_hidden + 1) / 2 * 8 - bytes);
    }
    return wire_result_bytes(r);
}

static bool result_ok(const struct result_record *rec, const struct wire_limits *lim)
{
    return rec->slot < lim->max_slots && rec->pos >= 0 && (uint32_t)rec->pos < lim->max_context &&
           rec->token >= -1 && rec->token < lim->n_vocab && rec->argmax >= -1 && rec->argmax < lim->n_vocab &&
           !isnan(rec->logprob) && !(rec->flags & ~(WIRE_ROW_KNOWN | WIRE_ROW_FAILED)) && rec->n_top <= WIRE_MAX_TOP &&
           rec->ended <= 1 && !((rec->flags & WIRE_ROW_EMBED) && lim->n_hidden == 0) && !((rec->flags & WIRE_ROW_SAMPLE) && rec->token < 0 &&
           !(rec->flags & (WIRE_ROW_DEAD | WIRE_ROW_FAILED)));
}

err wire_get_result(const void *src, size_t len, size_t *at, const struct wire_limits *lim,
                    struct wire_result *out, struct why *why)
{
    const char *p = (const char *)src + *at;
    struct result_record rec;
    assert((uintptr_t)p % 8 == 0 && *at <= len);
    if (len - *at < sizeof rec)
        return why_set(why, ERR_FORMAT, "results: cut at byte %zu", *at);
    memcpy(&rec, p, sizeof rec);
    if (!result_ok(&rec, lim))
        return why_set(why, ERR_FORMAT, "results: the record at byte %zu is out of range", *at);
    if ((len - *at - sizeof rec) / sizeof(struct wire_top) < rec.n_top)
        return why_set(why, ERR_FORMAT, "results: cut at byte %zu", *at);
    const struct wire_top *top = (const struct wire_top *)(p + sizeof rec);
    for (int i = 0; i < rec.n_top; i++)
        if (top[i].token < 0 || top[i].token >= lim->n_vocab || isnan(top[i].logprob))
            return why_set(why, ERR_FORMAT, "results: an alternative at byte %zu is out of range", *at);
    const float *hidden = (const float *)(top + rec.n_top);
    uint32_t n_hidden = (rec.flags & (WIRE_ROW_EMBED | WIRE_ROW_FAILED)) == WIRE_ROW_EMBED ? lim->n_hidden : 0;
    if ((len - *at - sizeof rec - rec.n_top * sizeof *top) / 8 < ((size_t)n_hidden + 1) / 2)
        return why_set(why, ERR_FORMAT, "results: cut at byte %zu", *at);
    for (uint32_t i = 0; i < n_hidden; i++)
        if (!isfinite(hidden[i]))
            return why_set(why, ERR_FORMAT, "results: the embedding at byte %zu is not of numbers", *at);
    *out = (struct wire_result){
        .n_hidden = n_hidden, .hidden = n_hidden ? hidden : NULL, .slot = rec.slot, .pos = rec.pos, .token = rec.token, .argmax = rec.argmax, .logprob = rec.logprob,
        .flags = rec.flags, .n_top = rec.n_top, .ended = rec.ended, .top = rec.n_top ? top : NULL,
    };
    *at += wire_result_bytes(out);
    return ERR_OK;
}
