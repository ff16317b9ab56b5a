/* test_types.c - a model of every weight type runs, with the bits of its values.
 *
 * For each type a tiny Llama is made whose matrices are random blocks of the type,
 * and a twin that holds the same values as f32. In exact precision products see
 * f32 values in one order whatever the type, so the two must give the same logits:
 * bit for bit where both have vector kernels (OpenBLAS, which serves prompts elsewhere,
 * is called in two ways). It needs no data from outside: that the values are GGML's
 * is for kernels/test_format.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "driver.h"
#include "model/gguf_types.h"
#include "tests/tools/gguf_writer.h"

enum { EMBD = 256, HEADS = 4, FF = 512, VOCAB = 48, LAYERS = 2, PROMPT = 19, GENERATED = 3 };
enum { POOL = 32, BLOCK = 256, MAX_TYPES = 64 };

static uint32_t seed = 7;

static uint32_t random_u32(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* Any bytes are a block; those whose values are of a weight's size are kept. */
static void random_block(enum fmt f, uint8_t *block)
{
    const struct fmt_traits *t = &fmt_traits[f];
    float values[BLOCK], most;
    do {
        for (int i = 0; i < t->block_bytes; i++)
            block[i] = (uint8_t)random_u32();
        fmt_dequant_row(f, values, block, t->block);
        most = 0;
        for (int i = 0; i < t->block; i++)
            most = fabsf(values[i]) <= most ? most : fabsf(values[i]); /* NaN stays */
    } while (!(most > 0.01f && most < 1));
}

static const struct {
    const char *name;
    int cols, rows; /* rows 0: a vector */
} tensors[] = {
    {"token_embd.weight", EMBD, VOCAB},   {"output_norm.weight", EMBD, 0},
    {"output.weight", EMBD, VOCAB},       {"blk.%d.attn_norm.weight", EMBD, 0},
    {"blk.%d.attn_q.weight", EMBD, EMBD}, {"blk.%d.attn_k.weight", EMBD, EMBD},
    {"blk.%d.attn_v.weight", EMBD, EMBD}, {"blk.%d.attn_output.weight", EMBD, EMBD},
    {"blk.%d.ffn_norm.weight", EMBD, 0},  {"blk.%d.ffn_gate.weight", EMBD, FF},
    {"blk.%d.ffn_up.weight", EMBD, FF},   {"blk.%d.ffn_down.weight", FF, EMBD},
};
enum { N_TENSORS = sizeof tensors / sizeof tensors[0], N_GLOBAL = 3 };

/* A file under construction: its tensor table and its data. */
struct model {
    struct buf table, data;
};

/* One tensor's entry; ggml_id is the number of its type. */
static void put_entry(struct model *m, int tensor, int layer, uint32_t ggml_id)
{
    char name[64];
    const char *at = strstr(tensors[tensor].name, "%d");
    if (at)
        snprintf(name, sizeof name, "blk.%d%s", layer, at + 2);
    else
        snprintf(name, sizeof name, "%s", tensors[tensor].name);
    put_text(&m->table, name);
    put_u32(&m->table, tensors[tensor].rows ? 2 : 1);
    put_u64(&m->table, (uint64_t)tensors[tensor].cols);
    if (tensors[tensor].rows)
        put_u64(&m->table, (uint64_t)tensors[tensor].rows);
    put_u32(&m->table, ggml_id);
    put_u64(&m->table, m->data.len);
}

/* The same tensor for the model of the type and for its twin. */
static void put_both(struct model m[2], int tensor, int layer, uint32_t ggml_id,
                     uint8_t pool[POOL][4 * BLOCK])
{
    enum fmt f = ggml_type(ggml_id)->fmt;
    const struct fmt_traits *t = &fmt_traits[f];
    int n = tensors[tensor].cols * tensors[tensor].rows;
    float values[BLOCK], one = 1;
    put_entry(&m[0], tensor, layer, n ? ggml_id : 0);
    put_entry(&m[1], tensor, layer, 0);
    for (int i = 0; i < n; i += t->block) {
        const uint8_t *block = pool[random_u32() % POOL];
        fmt_dequant_row(f, values, block, t->block);
        buf_put(&m[0].data, block, (size_t)t->block_bytes);
        buf_put(&m[1].data, values, (size_t)t->block * sizeof *values);
    }
    for (int i = 0; !n && i < tensors[tensor].cols; i++) {
        buf_put(&m[0].data, &one, sizeof one);
        buf_put(&m[1].data, &one, sizeof one);
    }
    put_pad(&m[0].data, 32);
    put_pad(&m[1].data, 32);
}

/* Writes a model to a temporary file, whose name comes back in path. */
static void write_model(struct model *m, char *path)
{
    struct buf b;
    put_head(&b, 3, N_GLOBAL + LAYERS * (N_TENSORS - N_GLOBAL), 8);
    put_value_text(&b, "general.architecture", "llama");
    put_value_u32(&b, "llama.block_count", LAYERS);
    put_value_u32(&b, "llama.embedding_length", EMBD);
    put_value_u32(&b, "llama.context_length", 64);
    put_value_u32(&b, "llama.feed_forward_length", FF);
    put_value_u32(&b, "llama.attention.head_count", HEADS);
    put_value_u32(&b, "llama.rope.dimension_count", EMBD / HEADS);
    put_value_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    buf_put(&b, m->table.data, m->table.len);
    put_pad(&b, 32);
    buf_put(&b, m->data.data, m->data.len);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.len), (ssize_t)b.len);
    close(fd);
    buf_fini(&b);
    buf_fini(&m->table);
    buf_fini(&m->data);
}

static void make_models(uint32_t ggml_id, char *typed, char *twin)
{
    static uint8_t pool[POOL][4 * BLOCK];
    struct model m[2];
    for (int i = 0; i < POOL; i++)
        random_block(ggml_type(ggml_id)->fmt, pool[i]);
    for (int i = 0; i < 2; i++) {
        buf_init(&m[i].table);
        buf_init(&m[i].data);
    }
    for (int layer = -1; layer < LAYERS; layer++)
        for (int i = layer < 0 ? 0 : N_GLOBAL; i < (layer < 0 ? N_GLOBAL : N_TENSORS); i++)
            put_both(m, i, layer, ggml_id, pool);
    write_model(&m[0], typed);
    write_model(&m[1], twin);
}

/* A layer's bytes as the planner counts them: those of its packed matrices, and the two norms. */
static void check_layer_bytes(struct source *src, enum fmt f)
{
    uint64_t bytes = 0;
    for (int i = N_GLOBAL; i < N_TENSORS; i++)
        bytes += tensors[i].rows
                     ? (uint64_t)pack_groups(tensors[i].rows) * pack_group_bytes(f, tensors[i].cols)
                     : (uint64_t)tensors[i].cols * sizeof(float);
    assert_int_equal(source_layer_bytes(src, 0), bytes);
}

/* The logits of the last prompt row and of each generated one, over two stages. */
static void run(const char *path, enum fmt f, enum precision precision, float logits[1 + GENERATED][VOCAB])
{
    struct chain c;
    struct chain_options o = {
        .stages = 2, .threads = 2, .isa = cpu_isa(), .precision = precision, .kv_type = KV_F32};
    chain_open(&c, path, &o);
    check_layer_bytes(c.src, f);
    for (int i = 0; i < PROMPT; i++)
        chain_row(&c, 0, (i * 7 + i * i) % VOCAB, i, i == PROMPT - 1 ? ROW_SAMPLE : 0, -1);
    chain_slot(&c, 0, NULL);
    chain_run(&c);
    chain_logits(&c, PROMPT - 1, logits[0]);
    for (int i = 0; i < GENERATED; i++) {
        chain_next(&c, 0, 3 + i, PROMPT + i, NULL);
        chain_logits(&c, 0, logits[1 + i]);
    }
    chain_close(&c);
}

/* Length of the difference over the length of `want`. */
static double distance(const float *got, const float *want, int n)
{
    double off = 0, all = 0;
    for (int i = 0; i < n; i++) {
        off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        all += (double)want[i] * (double)want[i];
    }
    return sqrt(off / all);
}

static void check_type(uint32_t ggml_id)
{
    char typed[] = "/tmp/cordee-typed-XXXXXX", twin[] = "/tmp/cordee-twin-XXXXXX";
    float got[1 + GENERATED][VOCAB], want[1 + GENERATED][VOCAB], fast[1 + GENERATED][VOCAB];
    enum { N = (1 + GENERATED) * VOCAB };
    enum fmt f = ggml_type(ggml_id)->fmt;
    make_models(ggml_id, typed, twin);
    run(twin, FMT_F32, PREC_EXACT, want);
    run(typed, f, PREC_EXACT, got);
    run(typed, f, PREC_FAST, fast);
    unlink(typed);
    unlink(twin);
    double exact = distance(got[0], want[0], N), rounded = distance(fast[0], want[0], N);
    print_message("  %-8s exact %.1e  fast %.1e\n", ggml_type(ggml_id)->name, exact, rounded);
    assert_true(exact <= 1e-4); /* other orders of additions */
    struct kernels k;
    kernels_init(&k, cpu_isa(), PREC_EXACT);
    if (k.mul[f][ROLE_PROMPT].panel_rows == 0) /* no library */
        assert_memory_equal(got, want, sizeof want);
    assert_true(rounded <= 0.2); /* 8-bit activations, and the attention of random weights is sharp */
}

static void models_of_every_type_run(void **state)
{
    int n = 0;
    (void)state;
    for (uint32_t id = 0; id < MAX_TYPES; id++)
        if (ggml_type(id) && ggml_type(id)->fmt != FMT_COUNT) {
            check_type(id);
            n++;
        }
    assert_int_equal(n, FMT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(models_of_every_type_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
