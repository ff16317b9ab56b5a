/* test_amx_trapped.c - the real instructions of the AMX kernels, on a machine that has none.
 *
 * A processor without AMX raises SIGILL at each tile instruction. The handler here reads
 * the instruction as the processor would, from its bytes and the registers of the
 * interrupted code, does in plain C what the manual says (tiles_emulated.h) and goes
 * on behind it. So the object code that an AMX machine would run is run to its end:
 * operands, strides, tile numbers, shapes, and that the compiler has stored what a tile
 * load reads. Results have the bits of the kernels compiled with emulated tiles.
 *
 * Where the machine has AMX the same test runs the hardware against the emulation.
 */
#include "guard.h"
#include "attn_scene.h"
#include "random_packed.h"

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/f16.h"
#include "kernels/x86/tiles_emulated.h"
#include "tests/tools/emulated_tiles.h"

#if KERNELS_X86

static struct tile_file tiles;
static long trapped;

/* General registers by their number in an instruction. */
static const int gregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* An instruction with a three-byte VEX prefix: what its bytes say. */
struct insn {
    int pp, opcode, mod, reg, rm, vvvv;
    const uint8_t *base; /* memory operand */
    int64_t index;       /* the stride of a tile load */
    int length;
};

static void unknown(const uint8_t *ip)
{
    static const char message[] = "not a tile instruction\n";
    ssize_t ignored = write(2, message, sizeof message - 1);
    (void)ignored;
    for (int i = 0; i < 8; i++)
        fprintf(stderr, "%02x ", ip[i]);
    signal(SIGILL, SIG_DFL); /* the instruction faults again, for good */
}

/* False: not VEX.128.0F38.W0, or a form that tile instructions do not have. */
static bool decode(struct insn *in, const uint8_t *ip, const greg_t *r)
{
    *in = (struct insn){0};
    if (ip[0] != 0xc4 || (ip[1] & 0x1f) != 2 || (ip[2] & 0x84) != 0)
        return false;
    int not_r = ip[1] >> 7, not_x = ip[1] >> 6 & 1, not_b = ip[1] >> 5 & 1;
    in->pp = ip[2] & 3;
    in->vvvv = ~(ip[2] >> 3) & 15;
    in->opcode = ip[3];
    in->mod = ip[4] >> 6;
    in->reg = (ip[4] >> 3 & 7) + 8 * !not_r;
    in->rm = ip[4] & 7;
    in->length = 5;
    if (in->mod == 3)
        return true;
    int base = in->rm + 8 * !not_b, scale = 0, index = 4;
    if (in->rm == 4) { /* a byte with base and index */
        uint8_t sib = ip[in->length++];
        base = (sib & 7) + 8 * !not_b;
        index = (sib >> 3 & 7) + 8 * !not_x;
        scale = sib >> 6;
    }
    if (in->mod == 0 && (base & 7) == 5)
        return false; /* no base */
    int64_t displacement = 0;
    if (in->mod == 1) {
        displacement = (int8_t)ip[in->length];
        in->length += 1;
    } else if (in->mod == 2) {
        int32_t wide;
        memcpy(&wide, ip + in->length, sizeof wide);
        displacement = wide;
        in->length += 4;
    }
    in->base = (const uint8_t *)(uintptr_t)r[gregs[base]] + displacement;
    in->index = index == 4 ? 0 : (int64_t)((uint64_t)r[gregs[index]] << scale);
    return true;
}

/* False: no tile instruction. Prefix pp: 0 none, 1 66, 2 F3, 3 F2. */
static bool execute(const struct insn *in)
{
    struct tile_config config;
    bool memory = in->mod != 3;
    switch (in->opcode << 4 | in->pp << 1 | memory) {
    case 0x49 << 4 | 0 << 1 | 1: /* ldtilecfg */
        memcpy(&config, in->base, sizeof config);
        emulate_configure(&tiles, &config);
        return true;
    case 0x49 << 4 | 0 << 1 | 0:
        emulate_release(&tiles);
        return true;
    case 0x49 << 4 | 3 << 1 | 0:
        emulate_zero(&tiles, in->reg);
        return true;
    case 0x4b << 4 | 3 << 1 | 1: /* tileloadd, tileloaddt1 */
    case 0x4b << 4 | 1 << 1 | 1:
        emulate_load(&tiles, in->reg, in->base, in->index);
        return true;
    case 0x4b << 4 | 2 << 1 | 1:
        emulate_store(&tiles, in->reg, (void *)(uintptr_t)in->base, in->index);
        return true;
    case 0x5c << 4 | 2 << 1 | 0:
        emulate_dot_bf16(&tiles, in->reg, in->rm, in->vvvv);
        return true;
    case 0x5e << 4 | 3 << 1 | 0: /* tdpbssd */
        emulate_dot_s8(&tiles, in->reg, in->rm, in->vvvv, 0);
        return true;
    default:
        return false;
    }
}

static void on_illegal(int signal_number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    greg_t *r = u->uc_mcontext.gregs;
    const uint8_t *ip = (const uint8_t *)(uintptr_t)r[REG_RIP];
    struct insn in;
    (void)signal_number;
    (void)info;
    if (!decode(&in, ip, r) || !execute(&in)) {
        unknown(ip);
        return;
    }
    trapped++;
    r[REG_RIP] += in.length;
}

/* Both tables: the real functions, which trap here, and the emulated ones. */
static void open_tables(struct kernels *real, struct kernels *emulated)
{
    kernels_init(emulated, cpu_isa() & ~(unsigned)ISA_AMX, PREC_FAST);
    if (!emulate_tiles(emulated))
        skip();
    kernels_init(real, emulated->isa, PREC_FAST);
    if (cpu_isa() & ISA_AMX)
        return;
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGILL, &action, NULL), 0);
}

static void check_slot(const struct kernels *real, const struct kernels *emulated, enum fmt f, enum role role, int m)
{
    const struct mul *mul = &real->mul[f][role], *twin = &emulated->mul[f][role];
    int n = 3 * PACK_ROWS - 2, k = fmt_traits[f].block == 1 ? 545 : fmt_traits[f].block == 256 ? 768 : 576;
    struct packed w = random_packed(f, n, k);
    size_t x_bytes = (size_t)m * (size_t)k * sizeof(float), y_bytes = (size_t)m * (size_t)n * sizeof(float);
    size_t a_bytes = (size_t)m * act_row_bytes(mul->act, k);
    float *x = guarded(x_bytes), *got = guarded(y_bytes), *want = guarded(y_bytes);
    char *a = guarded(a_bytes), *scratch = guarded(mul->scratch_bytes);
    assert_true(mul->fn != twin->fn && mul->act == twin->act && mul->scratch_bytes == twin->scratch_bytes);
    random_floats(x, x_bytes / sizeof *x);
    real->prepare[mul->act](a, x, (size_t)k, m, k);
    twin->fn(want, (size_t)n, &w, a, m, 0, pack_groups(n), scratch);
    memset(scratch, 0xff, mul->scratch_bytes);
    mul->fn(got, (size_t)n, &w, a, m, 0, pack_groups(n), scratch);
    assert_memory_equal(got, want, y_bytes);
    packed_free(&w);
    guarded_free(x, x_bytes);
    guarded_free(got, y_bytes);
    guarded_free(want, y_bytes);
    guarded_free(a, a_bytes);
    guarded_free(scratch, mul->scratch_bytes);
}

/* Prompt attention of a shape; scratch holds NaN before. */
static void check_attention(const struct kernels *real, const struct kernels *emulated, const struct shape *shape,
                            enum kv_type t)
{
    struct scene s = scene_make(shape, emulated, t);
    float *want = guarded(s.out_bytes);
    scene_bind(&s, shape);
    emulated->attn[t][ROLE_PROMPT](&s.a, s.scratch);
    memcpy(want, s.out, s.out_bytes);
    memset(s.out, 0xff, s.out_bytes);
    memset(s.scratch, 0xff, s.scratch_bytes);
    real->attn[t][ROLE_PROMPT](&s.a, s.scratch);
    assert_memory_equal(s.out, want, s.out_bytes);
    guarded_free(want, s.out_bytes);
    scene_free(&s);
}

static void real_instructions_have_the_emulated_bits(void **state)
{
    struct kernels real, emulated;
    (void)state;
    open_tables(&real, &emulated);
    for (int f = 0; f < FMT_COUNT; f++)
        for (int role = 0; role < ROLE_COUNT; role++)
            if (real.mul[f][role].fn != emulated.mul[f][role].fn) {
                check_slot(&real, &emulated, (enum fmt)f, (enum role)role, 37); /* whole tiles and a rest */
                check_slot(&real, &emulated, (enum fmt)f, (enum role)role, 7);
            }
    for (int t = 0; t < KV_TYPE_COUNT; t++)
        for (int h = 0; h < N_SHAPES; h++)
            if (real.attn[t][ROLE_PROMPT] != emulated.attn[t][ROLE_PROMPT] && holds((enum kv_type)t, &shapes[h]))
                check_attention(&real, &emulated, &shapes[h], (enum kv_type)t);
    assert_true(trapped > 0 || (cpu_isa() & ISA_AMX));
    print_message("  %ld tile instructions trapped\n", trapped);
}

static void the_probes_run(void **state)
{
    struct kernels real, emulated;
    (void)state;
    open_tables(&real, &emulated);
    assert_true(real.probe_mul[ACT_Q8](3) == emulated.probe_mul[ACT_Q8](3));
    assert_true(real.probe_mul[ACT_BF16](3) == emulated.probe_mul[ACT_BF16](3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_instructions_have_the_emulated_bits),
        cmocka_unit_test(the_probes_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 77; /* skipped */
}

#endif
