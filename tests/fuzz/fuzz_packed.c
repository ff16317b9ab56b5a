/* links: cordee_model */
/* fuzz_packed.c - shards.json and packed files from memory; what opens is walked to its last byte,
 * and tensors are bound as those of the tree's tiny Llama.
 *
 * The first byte says what follows: bit 0: shards.json, else a packed file. Of that, bit 1: head and
 * table have a fitting sum, so that what they say is believed and checked; bit 2: the data, which
 * follow the table here, are moved to where the head would have them (a seed need not have 64 KiB
 * of zeros in between). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "model/bind.h"
#include "model/packed_file.h"
#include "model/shards.h"
#include "model/source.h"

static volatile double sink;

/* The tree's tiny Llama, to bind what is read; NULL: it is not there, and nothing is bound. */
static const struct source *model(void)
{
    static struct source *src;
    const char *root = getenv("CORDEE_SOURCE");
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/tiny/tiny-llama-spm.gguf", root ? root : ".");
    if (!src && source_open(path, &src, NULL) != ERR_OK)
        src = NULL;
    return src;
}

static void bind_shapes(const struct catalog *tensors, struct arena *a)
{
    const struct source *src = model();
    struct binding b;
    struct tensor_view v;
    if (!src || bind_tensors(tensors, NAMES_GGUF, source_arch(src), source_hparams(src), "fuzz", a, &b,
                             NULL) != ERR_OK)
        return;
    for (int layer = 0; layer < source_hparams(src)->n_layer; layer++)
        for (int role = 0; role < W_COUNT; role++) {
            const struct bound *x = binding_at(&b, (enum weight_role)role, layer);
            if (x->spec && bound_shape(x, &v, NULL) == ERR_OK)
                sink += (double)v.dims[0];
        }
}

static void walk_json(const uint8_t *data, size_t size)
{
    struct arena a;
    struct shards s;
    struct catalog tensors = {0};
    arena_init(&a, 64u << 20);
    if (shards_parse((const char *)data, size, "fuzz", &a, &s, &tensors, NULL) == ERR_OK) {
        for (int i = 0; i < s.n_stages; i++)
            sink += (double)(strlen(s.stages[i].file) + s.stages[i].bytes);
        bind_shapes(&tensors, &a);
        for (size_t i = 0; i < tensors.n; i++) {
            const struct file_tensor *t = &tensors.t[i];
            if (catalog_find(&tensors, t->name) != t)
                abort();
            for (int64_t k = 0; t->data && k < file_tensor_elements(t); k++)
                sink += (double)((const float *)(const void *)t->data)[k];
        }
    }
    catalog_fini(&tensors);
    arena_fini(&a);
}

/* Every row as a product would see it. */
static void read_weight(const struct packed_weight *w)
{
    sink += packed_weight_intact(w);
    if (weight_kind(w->role) == WEIGHT_VECTOR)
        return;
    float *row = malloc((size_t)w->k * sizeof *row);
    struct packed p = {.fmt = w->fmt, .n = w->n, .k = w->k, .group_bytes = pack_group_bytes(w->fmt, w->k)};
    for (int i = 0; row && i < w->n_stack; i++) {
        p.data = (const char *)w->data + (size_t)i * p.group_bytes * (size_t)pack_groups(w->n);
        for (int r = 0; r < w->n; r++)
            packed_dequant_row(&p, r, row);
    }
    free(row);
}

static void walk_file(const void *data, size_t size)
{
    struct packed_file *f;
    if (packed_file_open_memory(data, size, "fuzz", &f, NULL) != ERR_OK)
        return;
    for (size_t i = 0; i < packed_file_head(f)->n_entries; i++) {
        const struct packed_weight *w = packed_file_at(f, i);
        if (packed_file_find(f, w->role, w->layer) != w)
            abort();
        read_weight(w);
    }
    packed_file_close(f);
}

/* Where the table ends that the head announces, as far as it is there. */
static size_t table_end(const uint8_t *data, size_t size)
{
    struct packed_head h;
    memcpy(&h, data, sizeof h);
    const uint64_t end = sizeof h + (uint64_t)h.n_entries * sizeof(struct packed_entry);
    return end < size ? (size_t)end : size;
}

static void put_sum(uint8_t *file, size_t size)
{
    struct packed_head h;
    memcpy(&h, file, sizeof h);
    h.sum = 0;
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &h, sizeof h);
    XXH3_64bits_update(state, file + sizeof h, table_end(file, size) - sizeof h);
    h.sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    memcpy(file, &h, sizeof h);
}

static void make_file(const uint8_t *data, size_t size, bool moved, bool summed)
{
    const bool whole = size >= sizeof(struct packed_head);
    const size_t table = moved && whole ? table_end(data, size) : size;
    const size_t start = moved ? (table + PACKED_ALIGN - 1) / PACKED_ALIGN * PACKED_ALIGN : size;
    const size_t total = start + (size - table);
    void *file;
    if (posix_memalign(&file, 64, total ? total : 1) != 0)
        return;
    memset(file, 0, total);
    memcpy(file, data, table);
    if (size > table)
        memcpy((uint8_t *)file + start, data + table, size - table);
    if (summed && whole)
        put_sum(file, total);
    walk_file(file, total);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] & 1)
        walk_json(data + 1, size - 1);
    else
        make_file(data + 1, size - 1, data[0] & 4, data[0] & 2);
    return 0;
}
