/* test_family_bits.c - every family on any machine: the same bits however it is cut.
 *
 * A random model of each generating family is made from its descriptor and runs
 * over 1, 2 and 3 stages, its prompt whole and in chunks. Logits of the last row
 * and greedy tokens must be equal bit for bit, and finite. That the values are the
 * right ones is for test_families.c, with models of the reference implementation.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "driver.h"
#include "tests/tools/family_gguf.h"

enum { PROMPT = 41, GENERATED = 6 };

struct outcome {
    int32_t tokens[GENERATED];
    float logits[FAMILY_VOCAB];
};

static struct outcome run(const char *path, int stages, int chunk, enum precision precision)
{
    struct chain c;
    struct chain_options o = {.stages = stages, .threads = 2, .isa = cpu_isa(), .precision = precision,
                              .kv_type = KV_F16};
    struct outcome out = {.tokens = {0}};
    int32_t ids[PROMPT];

    chain_open(&c, path, &o);
    for (int i = 0; i < PROMPT; i++)
        ids[i] = (i * 7 + i * i) % FAMILY_VOCAB;
    chain_slot(&c, 0, NULL);
    int32_t token = chain_prompt(&c, 0, ids, PROMPT, chunk, NULL, NULL);
    for (int i = 0; i < GENERATED; i++) {
        out.tokens[i] = token;
        token = chain_next(&c, 0, token, PROMPT + i, NULL);
    }
    chain_logits(&c, 0, out.logits);
    chain_close(&c);
    for (int i = 0; i < FAMILY_VOCAB; i++)
        assert_true(isfinite(out.logits[i]));
    return out;
}

static void check_family(const struct arch_desc *a, const char *path)
{
    static const struct {
        int stages, chunk;
    } cuts[] = {{2, 0}, {3, 0}, {1, 7}, {3, 16}};

    for (int p = 0; p < PREC_COUNT; p++) {
        struct outcome want = run(path, 1, 0, (enum precision)p);
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            struct outcome got = run(path, cuts[i].stages, cuts[i].chunk, (enum precision)p);
            bool same = memcmp(&want, &got, sizeof want) == 0;
            if (!same)
                print_error("%s: %d stages, chunks of %d, precision %d: other bits\n", a->name, cuts[i].stages,
                            cuts[i].chunk, p);
            assert_true(same);
        }
    }
}

static void every_family_gives_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < arch_count(); i++) {
        const struct arch_desc *a = arch_at(i);
        char path[] = "/tmp/cordee-family-XXXXXX";
        struct hparams hp;
        struct why why = {""};
        if (family_hparams(a, &hp, &why))
            fail_msg("%s: %s", a->name, why.text);
        if (!hp.causal)
            continue;
        struct buf b = family_gguf(a, &hp);
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, b.data, b.len), (ssize_t)b.len);
        close(fd);
        buf_fini(&b);
        check_family(a, path);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_gives_the_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
