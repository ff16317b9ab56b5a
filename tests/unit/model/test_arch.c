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

#include "gguf_writer.h"
#include "model/facts.h"
#include "model/source.h"

/* ---- a GGUF from a descriptor ------------------------------------------------------ */

enum { LAYERS = 4, EMBD = 32, VOCAB = 48 };

static void number(struct buf *b, uint64_t *n, const char *arch, const char *key, uint32_t v)
{
    char full[128];

    snprintf(full, sizeof full, "%s.%s", arch, key);
    put_value_u32(b, full, v);
    ++*n;
}

static bool has_role(const struct arch_desc *a, enum weight_role role)
{
    for (const struct tensor_spec *s = a->tensors; s->role != W_COUNT; s++)
        if (s->role == role)
            return true;
    return false;
}

/* Numbers that any family can be made of; each reads the keys it knows. */
static uint64_t metadata(struct buf *b, const struct arch_desc *a)
{
    uint64_t n = 1;
    char full[128];

    put_value_text(b, "general.architecture", a->name);
    number(b, &n, a->name, "block_count", LAYERS);
    number(b, &n, a->name, "embedding_length", EMBD);
    number(b, &n, a->name, "context_length", 64);
    number(b, &n, a->name, "feed_forward_length", 64);
    number(b, &n, a->name, "attention.head_count", 4);
    number(b, &n, a->name, "attention.key_length", 8);
    number(b, &n, a->name, "attention.value_length", 8);
    number(b, &n, a->name, "rope.dimension_count", a->attn.latent ? 4 : 8);
    number(b, &n, a->name, "attention.sliding_window", 16);
    if (has_role(a, W_ROUTER)) {
        number(b, &n, a->name, "expert_count", 4);
        number(b, &n, a->name, "expert_used_count", 2);
        number(b, &n, a->name, "expert_feed_forward_length", 24);
        number(b, &n, a->name, "expert_shared_count", 1);
        number(b, &n, a->name, "leading_dense_block_count", 1);
    }
    if (a->attn.latent) {
        number(b, &n, a->name, "attention.kv_lora_rank", 16);
        number(b, &n, a->name, "attention.q_lora_rank", 12);
    }
    snprintf(full, sizeof full, "%s.attention.max_alibi_bias", a->name);
    put_value_f32(b, full, 8);
    return n + 1;
}

/* Optional tensors that exclude one another: the first of each choice is made. */
static bool is_written(const struct tensor_spec *s)
{
    switch (s->role) {
    case W_ROPE_FREQS:
    case W_ROPE_SHORT:
    case W_ROPE_LONG:
    case W_KV_B:
        return false;
    case W_Q:
    case W_K:
    case W_V:
        return s->need != MAY;
    default:
        return s->gguf && !(s->gguf_layout & LAYOUT_EACH);
    }
}

struct wanted {
    char name[64];
    uint64_t dims[4];
    int n_dims;
};

/* Names and shapes of all tensors of a model with these numbers. */
static size_t tensors_of(const struct arch_desc *a, const struct hparams *hp, struct wanted *out, size_t max)
{
    size_t n = 0;

    for (const struct tensor_spec *s = a->tensors; s->role != W_COUNT; s++)
        for (int layer = 0; layer < (weight_is_layer(s->role) ? hp->n_layer : 1); layer++) {
            bool dense = hp->layer_dense[layer];
            struct wanted w = {.n_dims = 0};
            if (!is_written(s) || (s->need == MUST_DENSE && !dense) || (s->need == MUST_EXPERTS && dense))
                continue;
            for (int i = 0; i < 3 && s->shape[i] != DIM_NONE; i++)
                w.dims[w.n_dims++] = (uint64_t)dim_value(hp, s->shape[i]);
            bool room = true;
            for (int i = 0; i < w.n_dims; i++)
                room = room && w.dims[i] > 0;
            const char *at = strstr(s->gguf, "%d");
            if (at)
                snprintf(w.name, sizeof w.name, "%.*s%d%s", (int)(at - s->gguf), s->gguf, layer, at + 2);
            else
                snprintf(w.name, sizeof w.name, "%s", s->gguf);
            for (size_t k = 0; k < n; k++) /* several roles may name one tensor */
                room = room && strcmp(out[k].name, w.name) != 0;
            if (!room)
                continue;
            assert_true(n < max);
            out[n++] = w;
        }
    return n;
}

static struct buf model_of(const struct arch_desc *a, const struct hparams *hp)
{
    static struct wanted w[4096];
    struct buf meta, b;
    size_t n = hp ? tensors_of(a, hp, w, sizeof w / sizeof w[0]) : 0;
    uint64_t offset = 0;

    buf_init(&meta);
    uint64_t n_values = metadata(&meta, a);
    put_head(&b, 3, n, n_values);
    buf_put(&b, meta.data, meta.len);
    for (size_t i = 0; i < n; i++) {
        uint64_t elements = 1;
        put_text(&b, w[i].name);
        put_u32(&b, (uint32_t)w[i].n_dims);
        for (int k = 0; k < w[i].n_dims; k++) {
            put_u64(&b, w[i].dims[k]);
            elements *= w[i].dims[k];
        }
        put_u32(&b, 0);
        put_u64(&b, offset);
        offset += (elements * 4 + 31) / 32 * 32;
    }
    put_pad(&b, 32);
    put_zeros(&b, offset);
    buf_fini(&meta);
    return b;
}

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

/* The family's numbers for the metadata above. */
static void hparams_of(const struct arch_desc *a, struct hparams *hp)
{
    struct buf b = model_of(a, NULL);
    struct gguf *g;
    struct facts f;
    struct why why = {""};

    assert_int_equal(gguf_open_memory(b.data, b.len, "numbers", &g, &why), ERR_OK);
    facts_init_gguf(&f, g, a->name);
    err e = hparams_read(&f, a, VOCAB, hp, &why);
    if (e)
        print_error("%s: %s\n", a->name, why.text);
    assert_int_equal(e, ERR_OK);
    gguf_close(g);
    buf_fini(&b);
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
        struct buf b = model_of(a, &hp);
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
    b = model_of(llama, &hp);
    rename_in(&b, "llama", "lamas");
    refuses(&b, ERR_UNSUPPORTED, "family lamas is not supported; supported: llama, ");
    b = model_of(llama, &hp);
    rename_in(&b, "blk.1.attn_q.weight", "blk.1.attn_x.weight");
    refuses(&b, ERR_SHAPE, "tensor blk.1.attn_q.weight is missing");
    b = model_of(llama, &hp);
    rename_in(&b, "blk.1.attn_q.bias", "blk.1.attn_x.bias");
    refuses(&b, ERR_UNSUPPORTED, "tensor blk.1.attn_x.bias means nothing to family llama");
    b = model_of(llama, &hp);
    rename_in(&b, "llama.embedding_length", "llama.embedding_lengtH");
    refuses(&b, ERR_FORMAT, "llama.embedding_length is missing");
    hp.n_head = 2;
    b = model_of(llama, &hp);
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
