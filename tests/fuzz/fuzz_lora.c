/* links: cordee_model */
/* fuzz_lora.c - adapters from memory on the tree's tiny Llama: binding, then every row.
 *
 * A GGUF file starts with its magic; anything else is a PEFT directory: the length of
 * the config (2 bytes), the config, the safetensors file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/lora_file.h"
#include "model/lora_reader.h"
#include "model/source.h"

/* NULL: the model is not there; nothing is tested then. */
static struct source *model(void)
{
    static struct source *src;
    const char *root = getenv("CORDEE_SOURCE");
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/tiny/tiny-llama-spm.gguf", root ? root : ".");
    if (!src && source_open(path, &src, NULL) != ERR_OK)
        src = NULL;
    return src;
}

static void read_rows(const struct lora_file *f, int n_layer)
{
    static float row[1 << 16];
    for (int layer = 0; layer < n_layer; layer++)
        for (int role = 0; role < W_COUNT; role++) {
            const struct lora_part *p = lora_file_part(f, (enum weight_role)role, layer);
            for (int i = 0; p && i < p->rank; i++)
                lora_part_a_row(p, i, row);
            for (int i = 0; p && i < p->out; i++)
                lora_part_b_row(f, p, i, row);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source *src = model();
    struct lora_reader reader;
    struct lora_file *f = NULL;
    size_t n;
    err e;

    if (!src || size < 4)
        return 0;
    n = data[0] | (size_t)data[1] << 8;
    if (memcmp(data, "GGUF", 4) == 0)
        e = lora_gguf_open_memory(data, size, "fuzz", "llama", &reader, NULL);
    else if (n <= size - 2)
        e = lora_peft_open_memory(data + 2, n, data + 2 + n, size - 2 - n, "fuzz", &reader, NULL);
    else
        return 0;
    if (e == ERR_OK && lora_file_bind(&reader, "fuzz", src, &f, NULL) == ERR_OK)
        read_rows(f, source_hparams(src)->n_layer);
    lora_file_close(f);
    return 0;
}
