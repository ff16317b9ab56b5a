/* catalog.h - the tensors of a model as its files hold them, by name.
 *
 * Every reader (GGUF, safetensors, shards) fills one; binding (bind.h) picks from
 * it by the names of a family's tensor table. Dimensions are slowest first here,
 * whatever the file's own order.
 */
#ifndef CORDEE_MODEL_CATALOG_H
#define CORDEE_MODEL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernels/format.h"

/* How stored bytes become rows in `fmt`. */
enum codec {
    CODEC_PLAIN, /* they are rows already */
    CODEC_FP8,   /* e4m3 bytes times float scales (per tensor, row or block of rows and columns) */
    CODEC_MXFP4, /* nibbles and exponents in two tensors; nibble order differs from GGML's */
    CODEC_INTS,  /* integers in groups with a scale, perhaps a zero point: struct int_coding */
};

/* How the integers of a tensor and of its zero points are packed (codec_ints.c). */
enum int_order { INTS_ROWS, INTS_BYTES, INTS_GPTQ, INTS_AWQ };
struct int_coding {
    enum int_order order;
    bool zero_bytes; /* zero points are a signed byte each, relative to `zero` */
    uint8_t bits;    /* 2, 3, 4 or 8 */
    uint8_t zero;    /* the zero point where there is no tensor of them */
    uint8_t zero_plus; /* to be added to stored ones */
};

struct file_tensor {
    const char *name;
    const char *type_name; /* the file's word for its type */
    enum fmt fmt;          /* of the decoded rows; FMT_COUNT: cannot be computed with */
    int n_dims;            /* 1..4 */
    int64_t dims[4];       /* [0] slowest; those past n_dims are 1 */
    size_t row_bytes;      /* of a decoded row of dims[n_dims - 1] elements; 0 if fmt is FMT_COUNT */
    const uint8_t *data;   /* view into a mapping */
    uint64_t bytes;        /* stored */
    enum codec codec;
    const struct file_tensor *scales; /* of a codec; not in the catalog any more */
    int64_t scale_rows, scale_cols;   /* of the block of weights that shares a scale */
    const struct file_tensor *zeros;  /* CODEC_INTS: or NULL */
    struct int_coding ints;
};

struct catalog {
    struct file_tensor *t; /* [n], sorted by name after catalog_sort() */
    size_t n, cap;
};

/* Appends a copy; strings and data stay borrowed. */
MUST_CHECK err catalog_push(struct catalog *c, const struct file_tensor *t, struct why *why);
/* Sorts by name. ERR_FORMAT: two tensors have one name. */
MUST_CHECK err catalog_sort(struct catalog *c, struct why *why);
/* What every file's table must pass before it is used: no two tensors share bytes; sorts
 * by name. ERR_FORMAT names the file (path) and the tensors. */
MUST_CHECK err catalog_check(struct catalog *c, const char *path, struct why *why);
/* NULL: there is none. After catalog_sort(). O(log n). */
struct file_tensor *catalog_find(const struct catalog *c, const char *name);
void catalog_fini(struct catalog *c);

/* Elements of a tensor; readers have checked that the product does not overflow. */
int64_t file_tensor_elements(const struct file_tensor *t);
/* Rows: product of all dimensions but the last. */
int64_t file_tensor_rows(const struct file_tensor *t);
/* "[640, 2048]", slowest first, into text. */
void file_tensor_shape(const struct file_tensor *t, char text[96]);

#endif
