/* attn_avx512.c - see attn.tmpl.h and attn_f32.tmpl.h: AVX-512. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/attn_f32.tmpl.h"
#include "kernels/x86/attn_rows.tmpl.h"
#include "kernels/x86/attn.tmpl.h"

ATTN(attn_f32_avx512, KV_F32)
ATTN(attn_f16_avx512, KV_F16)
ATTN(attn_bf16_avx512, KV_BF16)
ATTN(attn_q8_0_avx512, KV_Q8_0)
ATTN_MERGE(attn_merge_avx512)
