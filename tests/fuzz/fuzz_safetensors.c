/* links: cordee_model */
/* fuzz_safetensors.c - a safetensors file from memory: header, ranges, and the
 * codecs of quantised weights with every row decoded. The first byte chooses the
 * scheme that config.json would name. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "model/codec.h"
#include "model/facts.h"
#include "model/hf_codecs.h"
#include "model/safetensors.h"

#define ROW_LIMIT (1 << 16)

#define QUANTISED(text) "{\"quantization_config\":{" text "}}"
static const char *const configs[] = {
    "{}",
    QUANTISED("\"quant_method\":\"fp8\",\"weight_block_size\":[2,4]"),
    QUANTISED("\"quant_method\":\"gptq\",\"bits\":4"),
    QUANTISED("\"quant_method\":\"gptq\",\"sym\":false,\"checkpoint_format\":\"gptq_v2\""),
    QUANTISED("\"quant_method\":\"awq\""),
    QUANTISED("\"quant_method\":\"awq\",\"zero_point\":false,\"version\":\"GEMM\""),
    QUANTISED("\"quant_method\":\"compressed-tensors\""),
    QUANTISED("\"quant_method\":\"mxfp4\""),
};
#define N_CONFIGS (sizeof configs / sizeof configs[0])

static void decode(const struct file_tensor *t)
{
    if (t->fmt == FMT_COUNT || t->row_bytes == 0 || t->row_bytes > ROW_LIMIT)
        return;
    int64_t rows = file_tensor_rows(t);
    void *row = malloc(t->row_bytes);
    for (int64_t r = 0; row && r < rows && r < 64; r++)
        codec_row(t, r < 32 ? r : rows - 1 - (r - 32), t->dims[t->n_dims - 1], row);
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s = NULL;
    struct catalog c = {0};
    struct arena arena;
    struct facts f;
    struct why why;

    if (size == 0 || safetensors_open_memory(data + 1, size - 1, "fuzz", &s, &why))
        return 0;
    arena_init(&arena, 0);
    json_t *config = json_loads(configs[data[0] % N_CONFIGS], 0, NULL);
    facts_init_json(&f, config, "config.json");
    const struct catalog *all = safetensors_tensors(s);
    err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < all->n; i++)
        e = catalog_push(&c, &all->t[i], &why);
    if (e == ERR_OK && catalog_sort(&c, &why) == ERR_OK && hf_codecs_resolve(&c, &f, &arena, &why) == ERR_OK)
        for (size_t i = 0; i < c.n; i++)
            decode(&c.t[i]);
    catalog_fini(&c);
    json_decref(config);
    arena_fini(&arena);
    safetensors_close(s);
    return 0;
}
