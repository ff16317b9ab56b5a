/* weights_file.h - the weights of a range, to and from the packed files of a shard directory. */
#ifndef CORDEE_MODEL_WEIGHTS_FILE_H
#define CORDEE_MODEL_WEIGHTS_FILE_H

#include "model/packed_file.h"
#include "model/weight_item.h"
#include "model/weights.h"

/* Packs the items and writes them to path, piece by piece: memory for one piece is all
 * that it takes. sample: source_sample(). */
MUST_CHECK err items_write(const struct weight_items *items, const struct source *src,
                           struct weight_range range, const char *sample, const char *path, struct pool *pool,
                           struct why *why);

struct shard_stage;
/* Opens a stage's file in dir. ERR_NOTFOUND: it is not here; ERR_FORMAT: it is damaged, or of
 * another stage or of weights with another source_sample(). */
MUST_CHECK err stage_file_open(const char *dir, const char *sample, const struct shard_stage *s,
                               struct packed_file **out, struct why *why);

/* The files of a shard directory that a range needs. Zeroed is empty. */
struct weight_maps {
    struct packed_file **file; /* [n] */
    int n;
};
void weight_maps_close(struct weight_maps *m);

/* Finds every item in the directory's files, compares its shape, checks its sum (in
 * parallel on the pool) and gives at[i], a view of the mapping. tied: a head may be the
 * embedding. ERR_NOTFOUND: the file is not on this node; ERR_FORMAT: it is damaged. */
MUST_CHECK err items_map(const struct weight_items *items, const struct source *src,
                         struct weight_range range, bool tied, struct pool *pool, struct weight_maps *maps,
                         const void **at, struct why *why);

#endif
