/* links: cordee_model */
/* fuzz_config.c - a config.json into hyper-parameters, for the family it names and
 * its variants. Checks what hparams_check() promises to everybody above. */
#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model/desc.h"
#include "model/facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct facts f;
    struct hparams hp;
    struct why why;
    json_t *root = json_loadb((const char *)data, size, 0, NULL);
    const char *type = json_string_value(json_object_get(root, "model_type"));
    const struct arch_desc *arch = type ? arch_find_hf(type) : NULL;

    if (arch) {
        facts_init_json(&f, root, "config.json");
        const struct arch_desc *variant = arch->variant ? arch->variant(&f) : NULL;
        if (hparams_read(&f, variant ? variant : arch, 32, &hp, &why) == ERR_OK) {
            assert(hp.n_layer >= 1 && hp.n_layer <= MAX_LAYERS && hp.n_head % hp.n_head_kv == 0);
            assert(isfinite(hp.attn_scale) && isfinite(hp.norm_eps) && isfinite(hp.rope_base));
            for (int d = 0; d < DIM_COUNT; d++)
                assert(dim_value(&hp, (enum dim)d) >= 0);
        } else {
            assert(why.text[0]);
        }
    }
    json_decref(root);
    return 0;
}
