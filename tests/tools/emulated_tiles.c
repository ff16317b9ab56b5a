/* emulated_tiles.c - fills the rows of kernels.inc that need AMX with their emulated twins. */
#define AMX_FN(name) name##_emulated
#include "tests/tools/emulated_tiles.h"

enum { FOR_GEN = 1 << ROLE_GEN, FOR_PROMPT = 1 << ROLE_PROMPT, FOR_BOTH = FOR_GEN | FOR_PROMPT };

static void put(struct kernels *k, enum fmt f, unsigned roles, const struct mul *mul)
{
    for (int role = 0; role < ROLE_COUNT; role++)
        if (roles & 1u << role)
            k->mul[f][role] = *mul;
}

bool emulate_tiles(struct kernels *k)
{
    const unsigned needed = ISA_AVX2 | ISA_AVX512 | ISA_VNNI | ISA_BF16;
    if ((k->isa & cpu_isa() & needed) != needed)
        return false;
    k->isa |= ISA_AMX;
#define KERNEL(slot, need, type, function) \
    if (ISA_##need == ISA_AMX)             \
        k->slot = function;
#define KERNEL_FAST(slot, need, type, function)               \
    if (ISA_##need == ISA_AMX && k->precision == PREC_FAST) \
        k->slot = function;
#define MUL(wanted, format, need, form, function, role, rows, groups, panel, scratch)   \
    if (ISA_##need == ISA_AMX && PREC_##wanted == k->precision)                         \
        put(k, FMT_##format, FOR_##role, &(struct mul){function, ACT_##form, rows, groups, panel, scratch});
#include "kernels/kernels.inc"
#undef KERNEL
#undef KERNEL_FAST
#undef MUL
    return true;
}
