/* The safetensors reader against hostile files, and the codecs of quantised
 * checkpoints against values worked out here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/f16.h"
#include "model/codec.h"
#include "model/facts.h"
#include "model/hf_codecs.h"
#include "model/safetensors.h"

static void start(struct buf *b, const char *header)
{
    uint64_t len = strlen(header);

    buf_init(b);
    buf_put(b, &len, sizeof len);
    buf_puts(b, header);
}

static err open_copy(const struct buf *b, size_t len, struct why *why)
{
    struct safetensors *s = NULL;
    uint8_t *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, b->data, len);
    err e = safetensors_open_memory(copy, len, "x.safetensors", &s, why);
    safetensors_close(s);
    free(copy);
    return e;
}

#define GOOD                                                             \
    "{\"__metadata__\":{\"format\":\"pt\"},"                             \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}," \
    "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}}"

static void reads_what_was_written(void **state)
{
    struct buf b;
    struct safetensors *s;
    struct why why;

    (void)state;
    start(&b, GOOD);
    for (int i = 0; i < 32; i++)
        buf_putc(&b, (char)i);
    assert_int_equal(safetensors_open_memory(b.data, b.len, "x", &s, &why), ERR_OK);
    const struct catalog *c = safetensors_tensors(s);
    assert_int_equal(c->n, 2);
    const struct file_tensor *t = catalog_find(c, "b");
    assert_int_equal(t->fmt, FMT_F32);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->row_bytes, 12);
    assert_int_equal(t->data[5], 5);
    assert_int_equal(catalog_find(c, "a")->fmt, FMT_COUNT);
    safetensors_close(s);
    for (size_t len = 0; len < b.len; len++)
        assert_int_not_equal(open_copy(&b, len, &why), ERR_OK);
    buf_fini(&b);
}

static void refuses_hostile_headers(void **state)
{
    static const struct {
        const char *header, *reason;
        err want;
    } rows[] = {
        {"[]", "not a JSON object", ERR_FORMAT},
        {"{", "not a JSON object", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", "unknown type", ERR_UNSUPPORTED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "make 8", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", "dimension 0", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "dimension 0", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
         "dimension 1", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", "up to 4", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "not inside", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "not inside", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1000,1004]}}", "not inside", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "not inside", ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
         "overlap", ERR_FORMAT},
        {"{\"a\":1,\"a\":2}", "duplicate", ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;
        struct why why = {""};
        start(&b, rows[i].header);
        buf_puts(&b, "0123456789abcdef");
        err e = open_copy(&b, b.len, &why);
        if (e != rows[i].want || !strstr(why.text, rows[i].reason))
            print_error("%s: %s: %s\n", rows[i].header, err_name(e), why.text);
        assert_int_equal(e, rows[i].want);
        assert_non_null(strstr(why.text, rows[i].reason));
        buf_fini(&b);
    }
}

/* ---- codecs ------------------------------------------------------------------------------ */

/* Tensors of a file in memory after hf_codecs_resolve(). */
struct resolved {
    struct safetensors *s;
    struct catalog c;
    struct arena arena;
    json_t *config;
    struct facts facts;
};

static err resolve(struct resolved *r, const struct buf *b, const char *config, struct why *why)
{
    *r = (struct resolved){0};
    arena_init(&r->arena, 0);
    assert_int_equal(safetensors_open_memory(b->data, b->len, "x", &r->s, why), ERR_OK);
    const struct catalog *c = safetensors_tensors(r->s);
    for (size_t i = 0; i < c->n; i++)
        assert_int_equal(catalog_push(&r->c, &c->t[i], why), ERR_OK);
    assert_int_equal(catalog_sort(&r->c, why), ERR_OK);
    r->config = json_loads(config, 0, NULL);
    assert_non_null(r->config);
    facts_init_json(&r->facts, r->config, "config.json");
    return hf_codecs_resolve(&r->c, &r->facts, &r->arena, why);
}

static void resolved_fini(struct resolved *r)
{
    catalog_fini(&r->c);
    safetensors_close(r->s);
    json_decref(r->config);
    arena_fini(&r->arena);
}

/* e4m3: 0x38 is 1, 0xb8 -1, 0x7e 448, 0x01 2^-9, 0x3c 1.5; scales in blocks of 1 x 2. */
static void fp8_times_block_scales(void **state)
{
    static const struct {
        float scale[4];
        enum fmt fmt;
    } rows[] = {{{1, 2, 0.5f, 1.75f}, FMT_BF16}, {{1, 2, 0.5f, 1.1f}, FMT_F32}};
    static const uint8_t w[8] = {0x38, 0xb8, 0x7e, 0x01, 0x3c, 0x00, 0x38, 0x3c};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct buf b;
        struct resolved r;
        struct why why;
        const float *s = rows[i].scale;
        const float want[8] = {s[0], -s[0], 448 * s[1], 0x1p-9f * s[1], 1.5f * s[2], 0, s[3], 1.5f * s[3]};
        start(&b, "{\"l.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
                  "\"l.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]}}");
        buf_put(&b, w, sizeof w);
        buf_put(&b, s, sizeof rows[i].scale);
        assert_int_equal(
            resolve(&r, &b,
                    "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[1,2]}}", &why),
            ERR_OK);
        const struct file_tensor *t = catalog_find(&r.c, "l.weight");
        assert_int_equal(t->fmt, rows[i].fmt);
        for (int row = 0; row < 2; row++) {
            uint8_t raw[16];
            float got[4];
            codec_row(t, row, 4, raw);
            fmt_dequant_row(t->fmt, got, raw, 4);
            for (int k = 0; k < 4; k++)
                assert_true(got[k] == want[row * 4 + k]);
        }
        resolved_fini(&r);
        buf_fini(&b);
    }
}

static void mxfp4_nibbles_change_places(void **state)
{
    static const float values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    struct buf b;
    struct resolved r;
    struct why why;
    uint8_t raw[17];
    float got[32];

    (void)state;
    start(&b, "{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,1,1,16],\"data_offsets\":[0,16]},"
              "\"e_scales\":{\"dtype\":\"U8\",\"shape\":[1,1,1],\"data_offsets\":[16,17]}}");
    for (int i = 0; i < 16; i++) /* elements 2i and 2i + 1 are i and 15 - i */
        buf_putc(&b, (char)(i | (15 - i) << 4));
    buf_putc(&b, (char)129); /* 2^2 */
    assert_int_equal(resolve(&r, &b, "{}", &why), ERR_OK);
    const struct file_tensor *t = catalog_find(&r.c, "e_blocks");
    assert_int_equal(t->fmt, FMT_MXFP4);
    assert_int_equal(t->dims[2], 32);
    codec_row(t, 0, 32, raw);
    fmt_dequant_row(FMT_MXFP4, got, raw, 32);
    for (int i = 0; i < 16; i++) {
        assert_true(got[2 * i] == 4 * values[i]);
        assert_true(got[2 * i + 1] == 4 * values[15 - i]);
    }
    resolved_fini(&r);
    buf_fini(&b);
}

/* 8 outputs that are the same, 32 inputs, one group: element i is (i % 16 - zero) * 0.5. */
static void gptq(struct buf *b, uint32_t zeros)
{
    uint16_t scale = f32_to_f16(0.5f);

    start(b, "{\"l.qweight\":{\"dtype\":\"I32\",\"shape\":[4,8],\"data_offsets\":[0,128]},"
             "\"l.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[128,132]},"
             "\"l.scales\":{\"dtype\":\"F16\",\"shape\":[1,8],\"data_offsets\":[132,148]}}");
    for (int i = 0; i < 4 * 8; i++) {
        uint32_t x = 0;
        for (int k = 0; k < 8; k++)
            x |= (uint32_t)((i / 8 * 8 + k) % 16) << 4 * k;
        buf_put(b, &x, sizeof x);
    }
    buf_put(b, &zeros, sizeof zeros);
    for (int i = 0; i < 8; i++)
        buf_put(b, &scale, sizeof scale);
}

static void symmetric_gptq_is_q4_0(void **state)
{
    static const char config[] = "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}";
    struct buf b;
    struct resolved r;
    struct why why;
    uint8_t raw[18];
    float got[32];

    (void)state;
    gptq(&b, 0x77777777);
    assert_int_equal(resolve(&r, &b, config, &why), ERR_OK);
    assert_null(catalog_find(&r.c, "l.qzeros"));
    const struct file_tensor *t = catalog_find(&r.c, "l.weight");
    assert_int_equal(t->fmt, FMT_Q4_0);
    codec_row(t, 0, 32, raw);
    fmt_dequant_row(FMT_Q4_0, got, raw, 32);
    for (int i = 0; i < 32; i++)
        assert_true(got[i] == (float)(i % 16 - 8) * 0.5f);
    resolved_fini(&r);
    buf_fini(&b);

    gptq(&b, 0xffffffff); /* less one: nobody agrees on what it was */
    assert_int_equal(resolve(&r, &b, config, &why), ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "gptq_v2"));
    resolved_fini(&r);
    buf_fini(&b);
    gptq(&b, 0x77777777);
    assert_int_equal(resolve(&r, &b, "{}", &why), ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "does not say how"));
    resolved_fini(&r);
    buf_fini(&b);
}

/* All 256 pairs of an integer and its zero point, in both formats of checkpoints. */
static void asymmetric_gptq_is_q5_0(void **state)
{
    static const char *const configs[] = {
        "{\"quantization_config\":{\"quant_method\":\"gptq\",\"sym\":false}}",
        "{\"quantization_config\":{\"quant_method\":\"gptq\",\"sym\":false,\"checkpoint_format\":\"gptq_v2\"}}",
    };

    (void)state;
    for (unsigned stored = 0; stored < 31; stored++) { /* the old format cannot say 15 */
        const unsigned v2 = stored >= 15, nibble = v2 ? stored - 15 : stored, zero = v2 ? nibble : nibble + 1;
        struct buf b;
        struct resolved r;
        struct why why;
        uint8_t raw[22];
        float got[32];
        gptq(&b, nibble * 0x11111111u);
        assert_int_equal(resolve(&r, &b, configs[v2], &why), ERR_OK);
        const struct file_tensor *t = catalog_find(&r.c, "l.weight");
        assert_int_equal(t->fmt, FMT_Q5_0);
        codec_row(t, 0, 32, raw);
        fmt_dequant_row(FMT_Q5_0, got, raw, 32);
        for (int i = 0; i < 32; i++)
            assert_true(got[i] == (float)(i % 16 - (int)zero) * 0.5f);
        resolved_fini(&r);
        buf_fini(&b);
    }
}

/* The same values as compressed-tensors packs them: along the row, two groups. */
static void packed_int4_is_q4_0(void **state)
{
    static const uint16_t scales[2] = {0x3f00, 0x4000}; /* bf16 0.5 and 2 */
    static const int64_t shape[2] = {1, 64};
    struct buf b;
    struct resolved r;
    struct why why;
    uint8_t raw[36];
    float got[64];

    (void)state;
    start(&b, "{\"l.weight_packed\":{\"dtype\":\"I32\",\"shape\":[1,8],\"data_offsets\":[0,32]},"
              "\"l.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[32,36]},"
              "\"l.weight_shape\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[36,52]}}");
    for (int word = 0; word < 8; word++) {
        uint32_t x = 0;
        for (int k = 0; k < 8; k++)
            x |= (uint32_t)((word * 8 + k) % 16) << 4 * k;
        buf_put(&b, &x, sizeof x);
    }
    buf_put(&b, scales, sizeof scales);
    buf_put(&b, shape, sizeof shape);
    assert_int_equal(
        resolve(&r, &b, "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}", &why), ERR_OK);
    const struct file_tensor *t = catalog_find(&r.c, "l.weight");
    assert_int_equal(t->fmt, FMT_Q4_0);
    assert_int_equal(t->dims[1], 64);
    codec_row(t, 0, 64, raw);
    fmt_dequant_row(FMT_Q4_0, got, raw, 64);
    for (int i = 0; i < 64; i++)
        assert_true(got[i] == (float)(i % 16 - 8) * (i < 32 ? 0.5f : 2.0f));
    resolved_fini(&r);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written), cmocka_unit_test(refuses_hostile_headers),
        cmocka_unit_test(fp8_times_block_scales), cmocka_unit_test(mxfp4_nibbles_change_places),
        cmocka_unit_test(symmetric_gptq_is_q4_0), cmocka_unit_test(asymmetric_gptq_is_q5_0),
        cmocka_unit_test(packed_int4_is_q4_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
