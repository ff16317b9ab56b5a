/* packed_file.h - packed weights in a file, to be mapped and multiplied where they lie.
 *
 *   head      struct packed_head
 *   table     n_entries x struct packed_entry
 *   data      from a multiple of PACKED_ALIGN on: each entry's bytes at its offset, in
 *             the layout of docs/kernels.md (PACK_VERSION); gaps and paddings are zero
 *
 * All numbers little-endian. One file holds the weights of one stage: a run of layers,
 * perhaps embedding and head. Each entry has its own XXH3 sum, so that a stage can check
 * in parallel just what it maps; head and table have one together.
 *
 * Hostile until checked: packed_file_open() refuses what does not fit the file or its own
 * shape, so what packed_file_find() gives is in bounds. The sums are against disks and
 * copies, not against forgers: nothing in the data is an index.
 */
#ifndef CORDEE_MODEL_PACKED_FILE_H
#define CORDEE_MODEL_PACKED_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "kernels/format.h"
#include "model/desc.h"

#define PACKED_MAGIC "CORDEEPK"
#define PACKED_FILE_VERSION 1
#define PACKED_ALIGN (64u << 10) /* the largest page size that Linux maps files by */

struct packed_head {
    char magic[8];
    uint32_t version, layout; /* PACKED_FILE_VERSION, PACK_VERSION */
    char model[16];           /* source_sample() of what it was made from, no NUL */
    int32_t first, last;      /* layers [first, last) */
    uint32_t embed, head;     /* 0 or 1 */
    uint32_t n_entries, reserved;
    uint64_t data, data_bytes; /* the file ends with the data */
    uint64_t sum;              /* XXH3 of head, with this field zero, and table */
};
_Static_assert(sizeof(struct packed_head) == 80, "as in the file");

struct packed_entry {
    char role[24];         /* weight_role_name(), zeros behind it */
    char fmt[12];          /* fmt_traits[].name; of a vector f32 */
    int32_t layer;         /* 0 for roles of the whole model */
    int32_t n, k, n_stack; /* n_stack matrices [n][k]; vectors: n_stack rows of k, n 1 */
    uint32_t reserved;
    uint64_t offset, bytes; /* in the data; multiples of 64 */
    uint64_t sum;           /* XXH3 of the bytes */
};
_Static_assert(sizeof(struct packed_entry) == 80, "as in the file");

/* Role and format by their numbers here, and the bytes. */
struct packed_weight {
    enum weight_role role;
    enum fmt fmt;
    int layer, n, k, n_stack;
    const void *data; /* 64-byte aligned view into the mapping */
    uint64_t bytes, sum;
};

/* Where the data of a file of n entries starts. */
static inline uint64_t packed_file_data(uint64_t n)
{
    uint64_t at = sizeof(struct packed_head) + n * sizeof(struct packed_entry);
    return (at + PACKED_ALIGN - 1) / PACKED_ALIGN * PACKED_ALIGN;
}

/* ---- reading ---- */

struct packed_file;

/* Maps a file and checks its head and table, not the data. ERR_NOTFOUND: no such file;
 * ERR_UNSUPPORTED: another version of file or layout; ERR_FORMAT: damaged. */
MUST_CHECK err packed_file_open(const char *path, struct packed_file **out, struct why *why);
/* From memory aligned to 64 bytes, which must outlive the result; label stands for the path. */
MUST_CHECK err packed_file_open_memory(const void *data, size_t size, const char *label,
                                       struct packed_file **out, struct why *why);
void packed_file_close(struct packed_file *f); /* NULL is fine */

const char *packed_file_path(const struct packed_file *f);
const struct packed_head *packed_file_head(const struct packed_file *f);
/* Entry i < packed_file_head()->n_entries. */
const struct packed_weight *packed_file_at(const struct packed_file *f, size_t i);
/* NULL: it is not in the file. O(log n). */
const struct packed_weight *packed_file_find(const struct packed_file *f, enum weight_role role, int layer);
/* True if its bytes have its sum; reads them all. From any thread. */
bool packed_weight_intact(const struct packed_weight *w);
/* The number of one of these n weights that is not intact, -1 if all are. In parallel on the pool. */
int packed_weights_damaged(const struct packed_weight *const *w, int n, struct pool *pool);

/* ---- writing ---- */

struct packed_writer;

/* Starts path under a name of its own, next to it. head: model and range are taken from it. entries:
 * [n], copied; role, fmt, layer, shape and bytes are taken, offsets and sums are made here.
 * ERR_IO: the system's reason; a disk that has no room for the file says so now, as far as it can. */
MUST_CHECK err packed_writer_open(const char *path, const struct packed_head *head,
                                  const struct packed_entry *entries, int n, struct packed_writer **out,
                                  struct why *why);
/* The next bytes of entry i; entries come in order, each of them as long as it said, in any pieces. */
MUST_CHECK err packed_writer_put(struct packed_writer *w, int i, const void *data, size_t bytes,
                                 struct why *why);
/* Writes head and table, and gives the file its name once it is on the disk. */
MUST_CHECK err packed_writer_finish(struct packed_writer *w, struct why *why);
/* Removes what was not finished. NULL is fine. */
void packed_writer_close(struct packed_writer *w);

#endif
