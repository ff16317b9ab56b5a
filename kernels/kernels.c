/* kernels.c - fills the table from kernels.inc. */
#include "kernels/kernels.h"

#include <cblas.h>
#include <stdio.h>

#include "kernels/act.h"
#include "kernels/attn.h"
#include "kernels/table.h"

/* Raised whenever a kernel's bits change: it is part of kernels_name(). */
#define KERNELS_REVISION 6

enum { FOR_GEN = 1 << ROLE_GEN, FOR_PROMPT = 1 << ROLE_PROMPT, FOR_BOTH = FOR_GEN | FOR_PROMPT };

static void put_mul(struct kernels *k, enum fmt f, unsigned roles, const struct mul *mul)
{
    for (int role = 0; role < ROLE_COUNT; role++)
        if (roles & 1u << role)
            k->mul[f][role] = *mul;
}

void kernels_init(struct kernels *k, unsigned isa_allowed, enum precision precision)
{
    *k = (struct kernels){.isa = isa_allowed, .precision = precision};
    openblas_set_num_threads(1); /* it is called by the threads of our pool */
#define KERNEL(slot, need, type, function)  \
    if ((ISA_##need & ~isa_allowed) == 0)   \
        k->slot = function;
#define KERNEL_FAST(slot, need, type, function)                             \
    if ((ISA_##need & ~isa_allowed) == 0 && precision == PREC_FAST)         \
        k->slot = function;
#define MUL(wanted, format, need, form, function, role, rows, groups, panel, scratch)              \
    if ((ISA_##need & ~isa_allowed) == 0 && PREC_##wanted == precision)                            \
        put_mul(k, FMT_##format, FOR_##role, &(struct mul){function, ACT_##form, rows, groups, panel, scratch});
#include "kernels/kernels.inc"
#undef KERNEL
#undef KERNEL_FAST
#undef MUL
}

size_t act_row_bytes(enum act a, int k)
{
    size_t n = (size_t)k, bytes = 0;
    switch (a) {
    case ACT_F32:
        bytes = n * sizeof(float);
        break;
    case ACT_Q8:
        bytes = (n + 31) / 32 * sizeof(struct act_q8);
        break;
    case ACT_BF16:
        bytes = (n + 1) / 2 * 2 * sizeof(uint16_t); /* columns come in pairs */
        break;
    case ACT_COUNT:
        break;
    }
    /* An odd number of cache lines: rows a power of two apart would share their sets. */
    return ((bytes + 63) / 64 | 1) * 64;
}

void kernels_name(const struct kernels *k, char *out, size_t size)
{
    static const char *const precisions[PREC_COUNT] = {"exact", "fast"};
    bool blas = k->mul[FMT_F32][ROLE_PROMPT].fn == mul_blas_ref; /* its bits are those of the core it chose */
    snprintf(out, size, "%s%s%s/%s/%d", cpu_isa_name(k->isa), blas ? "+" : "", blas ? openblas_get_corename() : "",
             precisions[k->precision], KERNELS_REVISION);
}

size_t attn_scratch_bytes(int n_q, int n_group, int dk, int dv)
{
    size_t all = (size_t)n_q * (size_t)n_group, rows = all < ATTN_ROWS ? all : ATTN_ROWS;
    return attn_page_bytes(dk, dv) + attn_row_room(rows) * attn_row_bytes(dk, dv);
}
