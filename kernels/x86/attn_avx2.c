/* attn_avx2.c - see attn.tmpl.h and attn_f32.tmpl.h: AVX2. */
#include "kernels/x86/vec_avx2.h"
#include "kernels/x86/attn_f32.tmpl.h"
#include "kernels/x86/attn_rows.tmpl.h"
#include "kernels/x86/attn.tmpl.h"

ATTN(attn_f32_avx2, KV_F32)
ATTN(attn_f16_avx2, KV_F16)
ATTN(attn_bf16_avx2, KV_BF16)
ATTN(attn_q8_0_avx2, KV_Q8_0)
ATTN_MERGE(attn_merge_avx2)
