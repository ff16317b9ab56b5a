/* Every family of the registry: its table is well-formed, and a model made from
 * nothing but the table and a few numbers opens, binds and measures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/facts.h"
#include "model/source.h"
#include "tests/tools/family_gguf.h"

/* Opens the model through a file, as everybody does. */
static err open_file(const struct buf *b, struct source **out, struct why *why)
{
    char path[] = "/tmp/cordee-arch-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, b->data, b->len), (ssize_t)b->len);
    close(fd);
    err e = source_open(path, out, why);
    unlink(path);
    return e;
}

/* The family's numbers for the metadata that a model is made with. */
static void hparams_of(const struct arch_desc *a, struct hparams *hp)
{
    struct why why = {""};
    err e = family_hparams(a, hp, &why);

    if (e)
        print_error("%s: %s\n", a->name, why.text);
    assert_int_equal(e, ERR_OK);
}

/* ---- tests ----------------------------------------------------------------------------- */

static void tables_are_well_formed(void **state)
{
    (void)state;
    for (int i = 0; i < arch_count(); i++) {
        const struct arch_desc *a = arch_at(i);
        assert_ptr_equal(arch_find(a->name), a);
        assert_non_null(strstr(arch_names(), a->name));
        for (const char *const *t = a->hf_types; t && *t; t++)
            assert_ptr_equal(arch_find_hf(*t), a);
        for (const struct tensor_spec *s = a->tensors; s->role != W_COUNT; s++) {
            assert_true(s->gguf || s->hf);
            assert_int_not_equal(s->shape[0], DIM_NONE);
            bool layer = weight_is_layer(s->role);
            for (int style = 0; style < 2; style++) {
                const char *name = style ? s->hf : s->gguf;
                unsigned layout = style ? s->hf_layout : s->gguf_layout;
                if (!name)
                    continue;
                assert_int_equal(strstr(name, "%d") != NULL, layer);
                assert_int_equal(strstr(name, "%e") != NULL, (layout & LAYOUT_EACH) != 0);
            }
            assert_false(!layer && (s->need == MUST_DENSE || s->need == MUST_EXPERTS));
        }
    }
    assert_null(arch_find("no such family"));
    assert_null(arch_find_hf("llama-of-tomorrow"));
}

static void every_family_opens_from_its_table(void **state)
{
    (void)state;
    for (int i = 0; i < arch_count(); i++) {
        const struct arch_desc *a = arch_at(i);
        struct hparams hp;
        struct source *s = NULL;
        struct why why = {""};
        hparams_of(a, &hp);
        struct buf b = family_gguf(a, &hp);
        err e = open_file(&b, &s, &why);
        if (e)
            print_error("%s: %s\n", a->name, why.text);
        assert_int_equal(e, ERR_OK);
        assert_string_equal(source_arch(s)->name, a->name);
        for (int layer = 0; layer < hp.n_layer; layer++)
            assert_true(source_layer_bytes(s, layer) > 0);
        assert_true(source_embed_bytes(s) > 0);
        source_close(s);
        buf_fini(&b);
    }
}

/* Replaces a name in the file by another of the same length. */
static void rename_in(struct buf *b, const char *from, const char *to)
{
    char *at = memmem(b->data, b->len, from, strlen(from));

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

static void refuses(struct buf *b, err want, const char *reason)
{
    struct source *s = NULL;
    struct why why = {""};
    err e = open_file(b, &s, &why);

    if (e != want || !strstr(why.text, reason))
        print_error("wanted \"%s\", got %s: %s\n", reason, err_name(e), why.text);
    assert_int_equal(e, want);
    assert_non_null(strstr(why.text, reason));
    assert_non_null(strstr(why.text, "/tmp/cordee-arch-"));
    buf_fini(b);
}

static void says_what_is_wrong(void **state)
{
    const struct arch_desc *llama = arch_find("llama");
    struct hparams hp;
    struct buf b;

    (void)state;
    hparams_of(llama, &hp);
    b = family_gguf(llama, &hp);
    rename_in(&b, "llama", "lamas");
    refuses(&b, ERR_UNSUPPORTED, "family lamas is not supported; supported: llama, ");
    b = family_gguf(llama, &hp);
    rename_in(&b, "blk.1.attn_q.weight", "blk.1.attn_x.weight");
    refuses(&b, ERR_SHAPE, "tensor blk.1.attn_q.weight is missing");
    b = family_gguf(llama, &hp);
    rename_in(&b, "blk.1.attn_q.bias", "blk.1.attn_x.bias");
    refuses(&b, ERR_UNSUPPORTED, "tensor blk.1.attn_x.bias means nothing to family llama");
    b = family_gguf(llama, &hp);
    rename_in(&b, "llama.embedding_length", "llama.embedding_lengtH");
    refuses(&b, ERR_FORMAT, "llama.embedding_length is missing");
    hp.n_head = 2;
    b = family_gguf(llama, &hp);
    refuses(&b, ERR_SHAPE, "tensor blk.0.attn_q.weight is [16, 32]; family llama wants [32, 32] here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_well_formed),
        cmocka_unit_test(every_family_opens_from_its_table),
        cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
