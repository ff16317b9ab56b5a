/* runlog.h - the append-only journal of a long run: what is finished stays finished.
 *
 * A file of records, each with its length and a checksum. One process has it at a time
 * (a lock that NFS and Lustre honour). Records are written whole with one call, in
 * order; runlog_sync() makes them survive the machine. After a SIGKILL the file ends in
 * whole records or in a torn one, which the next open cuts off: whoever wrote it was
 * never told that it is there.
 *
 * On disk, little-endian: magic u32, kind u32, body bytes u32, zero u32, XXH3-64 of kind,
 * length and body; then the body.
 *
 * Threads: single owner. Memory: one record.
 */
#ifndef CORDEE_COORDINATOR_RUNLOG_H
#define CORDEE_COORDINATOR_RUNLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { RUNLOG_MAX_BODY = 1 << 30 };

struct runlog;

/* Opens or makes the file, locks it, finds its good end and cuts off what is behind.
 * ERR_FULL  another process has it (the reason says what to do)
 * ERR_IO, ERR_FORMAT (not a run log at all: nothing is cut) */
MUST_CHECK err runlog_open(const char *path, struct runlog **out, struct why *why);
/* Unlocks. Does not sync. */
void runlog_close(struct runlog *l); /* NULL is fine */

/* Nothing was ever written to it. */
bool runlog_is_empty(const struct runlog *l);
const char *runlog_path(const struct runlog *l);

/* body: valid during the call. Not ERR_OK: the walk ends with it. */
typedef err runlog_record_fn(void *ctx, uint32_t kind, uint64_t offset, const char *body, size_t len,
                             struct why *why);
MUST_CHECK err runlog_each(struct runlog *l, runlog_record_fn *fn, void *ctx, struct why *why);
/* The record at an offset that runlog_each() or runlog_append() gave; replaces *body. */
MUST_CHECK err runlog_read(struct runlog *l, uint64_t offset, struct buf *body, struct why *why);

/* Appends one record of two parts (b may be empty). offset: may be NULL.
 * ERR_IO  "no space left ..."; the file is as before */
MUST_CHECK err runlog_append(struct runlog *l, uint32_t kind, const void *a, size_t a_len, const void *b,
                             size_t b_len, uint64_t *offset, struct why *why);
MUST_CHECK err runlog_sync(struct runlog *l, struct why *why);

/* The reason for a failed write, with what to do about a full disk. */
err runlog_write_error(const char *path, int number, struct why *why);

#endif
