/* gguf_facts.c - the metadata of a GGUF file, written as a file of its own. */
#include <string.h>

#include "base/buf.h"
#include "model/gguf.h"

enum { GGUF_WRITTEN_VERSION = 3 };

static void put_u32(struct buf *out, uint32_t x)
{
    buf_put(out, &x, sizeof x);
}

static void put_u64(struct buf *out, uint64_t x)
{
    buf_put(out, &x, sizeof x);
}

static bool kept(const struct gguf_value *v)
{
    return strncmp(v->key, "split.", 6) != 0;
}

static void put_strings(struct buf *out, const struct gguf_value *v)
{
    struct gguf_strings walk = gguf_strings(v);
    const char *s;
    size_t len;
    while (gguf_string_next(&walk, &s, &len)) {
        put_u64(out, len);
        buf_put(out, s, len);
    }
}

static void put_value(struct buf *out, const struct gguf_value *v)
{
    put_u64(out, strlen(v->key));
    buf_puts(out, v->key);
    if (v->array) {
        put_u32(out, GGUF_ARRAY);
        put_u32(out, v->type);
        put_u64(out, v->n);
    } else {
        put_u32(out, v->type);
    }
    if (v->type == GGUF_STRING)
        put_strings(out, v);
    else
        buf_put(out, v->data, v->n * gguf_type_bytes(v->type));
}

void gguf_put_facts(struct buf *out, const struct gguf *g)
{
    uint64_t n = 0;
    for (size_t i = 0; i < gguf_n_values(g); i++)
        n += kept(gguf_value_at(g, i));
    buf_puts(out, "GGUF");
    put_u32(out, GGUF_WRITTEN_VERSION);
    put_u64(out, 0); /* tensors */
    put_u64(out, n);
    for (size_t i = 0; i < gguf_n_values(g); i++)
        if (kept(gguf_value_at(g, i)))
            put_value(out, gguf_value_at(g, i));
}
