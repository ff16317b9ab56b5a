/* gguf_writer.h - GGUF files byte by byte, for tests: it can lie. */
#ifndef CORDEE_TESTS_GGUF_WRITER_H
#define CORDEE_TESTS_GGUF_WRITER_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "model/gguf.h"

static inline void put_u32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof v);
}

static inline void put_u64(struct buf *b, uint64_t v)
{
    buf_put(b, &v, sizeof v);
}

static inline void put_text(struct buf *b, const char *s)
{
    put_u64(b, strlen(s));
    buf_puts(b, s);
}

static inline void put_head(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_values)
{
    buf_init(b);
    buf_puts(b, "GGUF");
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_values);
}

static inline void put_value_u32(struct buf *b, const char *key, uint32_t v)
{
    put_text(b, key);
    put_u32(b, GGUF_U32);
    put_u32(b, v);
}

static inline void put_tensor(struct buf *b, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, 2);
    put_u64(b, cols);
    put_u64(b, rows);
    put_u32(b, type);
    put_u64(b, offset);
}

static inline void put_pad(struct buf *b, size_t alignment)
{
    while (b->len % alignment)
        buf_putc(b, 0);
}

static inline void put_zeros(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_putc(b, 0);
}

static inline void put_value_f32(struct buf *b, const char *key, float v)
{
    put_text(b, key);
    put_u32(b, GGUF_F32);
    buf_put(b, &v, sizeof v);
}

static inline void put_value_text(struct buf *b, const char *key, const char *v)
{
    put_text(b, key);
    put_u32(b, GGUF_STRING);
    put_text(b, v);
}

#endif
