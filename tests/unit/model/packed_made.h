/* packed_made.h - packed files for tests: one of each kind of weight, whole or begun. */
#ifndef CORDEE_TESTS_UNIT_MODEL_PACKED_MADE_H
#define CORDEE_TESTS_UNIT_MODEL_PACKED_MADE_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/packed_file.h"

enum { FIRST = 2, LAST = 4 };

/* One of each kind: floats and blocks, rows that fill no group, stacks, vectors with padding. */
static const struct shape {
    enum weight_role role;
    enum fmt fmt;
    int layer, n, k, n_stack;
} shapes[] = {
    {W_EMBD, FMT_F16, 0, 33, 48, 1},
    {W_ROPE_FREQS, FMT_F32, 0, 1, 8, 1},
    {W_ATTN_NORM, FMT_F32, 2, 1, 64, 1},
    {W_ATTN_NORM, FMT_F32, 3, 1, 64, 1},
    {W_Q, FMT_Q4_K, 2, 40, 512, 1},
    {W_Q, FMT_Q6_K, 3, 16, 256, 1},
    {W_K, FMT_BF16, 2, 1, 7, 1},
    {W_ROUTER, FMT_F32, 3, 4, 32, 1},
    {W_GATE_EXPS, FMT_MXFP4, 3, 17, 64, 3},
    {W_DOWN_EXPS_B, FMT_F32, 3, 1, 5, 3},
    {W_UP_EXPS, FMT_IQ2_XXS, 2, 8, 256, 2},
};
enum { N = sizeof shapes / sizeof *shapes, EMBD = 0, NORM = 2, Q = 4, EXPS = 8 };

static char dir[] = "/tmp/cordee-packed-XXXXXX", path[sizeof dir + 16];

static inline uint64_t bytes_of(const struct shape *s)
{
    const uint64_t each = weight_kind(s->role) == WEIGHT_VECTOR
                              ? (uint64_t)s->k * sizeof(float)
                              : pack_group_bytes(s->fmt, s->k) * (uint64_t)pack_groups(s->n);
    return (each * (uint64_t)s->n_stack + 63) / 64 * 64;
}

static inline uint8_t byte_of(int entry, uint64_t at)
{
    return (uint8_t)((at * 2654435761u >> 7) + (uint64_t)entry * 29);
}

static inline struct packed_entry entry_of(const struct shape *s)
{
    struct packed_entry x = {
        .layer = s->layer, .n = s->n, .k = s->k, .n_stack = s->n_stack, .bytes = bytes_of(s)};
    snprintf(x.role, sizeof x.role, "%s", weight_role_name(s->role));
    snprintf(x.fmt, sizeof x.fmt, "%s", fmt_traits[s->fmt].name);
    return x;
}

static inline struct packed_writer *start(int n, err want, struct why *why)
{
    struct packed_entry entries[N] = {{.layer = 0}};
    const struct packed_head head = {.model = "0123456789abcde", .first = FIRST, .last = LAST, .embed = 1};
    struct packed_writer *w = NULL;
    for (int i = 0; i < n; i++)
        entries[i] = entry_of(&shapes[i]);
    assert_int_equal(packed_writer_open(path, &head, entries, n, &w, why), want);
    assert_int_equal(w == NULL, want != ERR_OK);
    return w;
}

/* In pieces of 1, 2, 4, ... bytes. */
static inline err put_entry(struct packed_writer *w, int i, struct why *why)
{
    const uint64_t bytes = bytes_of(&shapes[i]);
    uint8_t *data = malloc(bytes);
    err e = ERR_OK;
    for (uint64_t k = 0; k < bytes; k++)
        data[k] = byte_of(i, k);
    for (uint64_t at = 0, step = 1; e == ERR_OK && at < bytes; at += step, step *= 2)
        e = packed_writer_put(w, i, data + at, step < bytes - at ? step : bytes - at, why);
    free(data);
    return e;
}

static inline void write_file(int n)
{
    struct why why = {""};
    struct packed_writer *w = start(n, ERR_OK, &why);
    for (int i = 0; i < n; i++)
        assert_int_equal(put_entry(w, i, &why), ERR_OK);
    assert_int_equal(packed_writer_finish(w, &why), ERR_OK);
    packed_writer_close(w);
}

static inline int files_here(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

/* For main(): path is a file's name in a new directory, which must be empty at the end. */
#define RUN_WITH_DIRECTORY(tests)                                   \
    do {                                                            \
        if (!mkdtemp(dir))                                          \
            return 1;                                               \
        snprintf(path, sizeof path, "%s/x.cordee", dir);            \
        int failed = cmocka_run_group_tests((tests), NULL, NULL);   \
        unlink(path);                                               \
        return rmdir(dir) == 0 ? failed : 1;                        \
    } while (0)

#endif
