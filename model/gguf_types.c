/* gguf_types.c - see gguf_types.h. Numbers that are missing were removed from the format. */
#include "model/gguf_types.h"

#define KNOWN(id) FMT_##id
#define LISTED(id) FMT_COUNT

static const struct ggml_type types[] = {
    [0] = {"F32", 1, 4, KNOWN(F32)},
    [1] = {"F16", 1, 2, KNOWN(F16)},
    [2] = {"Q4_0", 32, 18, KNOWN(Q4_0)},
    [3] = {"Q4_1", 32, 20, KNOWN(Q4_1)},
    [6] = {"Q5_0", 32, 22, KNOWN(Q5_0)},
    [7] = {"Q5_1", 32, 24, KNOWN(Q5_1)},
    [8] = {"Q8_0", 32, 34, KNOWN(Q8_0)},
    [9] = {"Q8_1", 32, 36, LISTED(Q8_1)},
    [10] = {"Q2_K", 256, 84, KNOWN(Q2_K)},
    [11] = {"Q3_K", 256, 110, KNOWN(Q3_K)},
    [12] = {"Q4_K", 256, 144, KNOWN(Q4_K)},
    [13] = {"Q5_K", 256, 176, KNOWN(Q5_K)},
    [14] = {"Q6_K", 256, 210, KNOWN(Q6_K)},
    [15] = {"Q8_K", 256, 292, LISTED(Q8_K)},
    [16] = {"IQ2_XXS", 256, 66, KNOWN(IQ2_XXS)},
    [17] = {"IQ2_XS", 256, 74, KNOWN(IQ2_XS)},
    [18] = {"IQ3_XXS", 256, 98, KNOWN(IQ3_XXS)},
    [19] = {"IQ1_S", 256, 50, KNOWN(IQ1_S)},
    [20] = {"IQ4_NL", 32, 18, KNOWN(IQ4_NL)},
    [21] = {"IQ3_S", 256, 110, KNOWN(IQ3_S)},
    [22] = {"IQ2_S", 256, 82, KNOWN(IQ2_S)},
    [23] = {"IQ4_XS", 256, 136, KNOWN(IQ4_XS)},
    [24] = {"I8", 1, 1, LISTED(I8)},
    [25] = {"I16", 1, 2, LISTED(I16)},
    [26] = {"I32", 1, 4, LISTED(I32)},
    [27] = {"I64", 1, 8, LISTED(I64)},
    [28] = {"F64", 1, 8, LISTED(F64)},
    [29] = {"IQ1_M", 256, 56, KNOWN(IQ1_M)},
    [30] = {"BF16", 1, 2, KNOWN(BF16)},
    [34] = {"TQ1_0", 256, 54, KNOWN(TQ1_0)},
    [35] = {"TQ2_0", 256, 66, KNOWN(TQ2_0)},
    [39] = {"MXFP4", 32, 17, KNOWN(MXFP4)},
    [40] = {"NVFP4", 64, 36, KNOWN(NVFP4)},
};

const struct ggml_type *ggml_type(uint32_t id)
{
    if (id >= sizeof types / sizeof types[0] || types[id].block == 0)
        return NULL;
    return &types[id];
}

const char *fmt_names(void)
{
#define FMT_NAME(id, low, ...) ", " #low
    static const char names[] = FMT_MAP(FMT_NAME);
#undef FMT_NAME
    return names + 2;
}
