/* links: cordee_model */
/* fuzz_gguf.c - GGUF from memory, as far as a rank would go: metadata, tensor table, hyper-
 * parameters, binding, every tensor brought into order, the tokenizer. */
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "model/bind.h"
#include "model/facts.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"

#define COPY_LIMIT (1 << 20) /* a view is free; do not spend the fuzzer's time on huge copies */

static void walk_values(const struct gguf *g)
{
    for (size_t i = 0; i < gguf_n_values(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        double x, sum = 0;
        if (v->type == GGUF_STRING) {
            struct gguf_strings w = gguf_strings(v);
            const char *s;
            size_t len;
            while (gguf_string_next(&w, &s, &len))
                sum += len ? s[0] + s[len - 1] : 0;
        } else {
            for (uint64_t k = 0; k < v->n; k++)
                sum += gguf_number(v, k, &x) ? x : 0;
        }
        if (gguf_find(g, v->key) != v || sum == 0.5)
            continue;
    }
}

static void read_all(const struct binding *b, const struct hparams *hp)
{
    for (int layer = 0; layer < hp->n_layer; layer++)
        for (int role = 0; role < W_COUNT; role++) {
            const struct bound *d = binding_at(b, (enum weight_role)role, layer);
            struct tensor_view v;
            if (!d->spec || (d->layout && d->t->bytes > COPY_LIMIT) || bound_read(d, hp, &v, NULL))
                continue;
            volatile uint8_t last = ((const uint8_t *)v.data)[v.bytes - 1];
            (void)last;
            tensor_view_fini(&v);
        }
}

static void run_model(const struct gguf *g)
{
    const struct catalog *c = gguf_tensors(g);
    struct facts f;
    struct hparams hp;
    struct binding b;
    struct arena arena;

    facts_init_gguf(&f, g, "");
    const struct arch_desc *arch = arch_find(fact_text_or(&f, ".general.architecture", ""));
    if (!arch)
        return;
    facts_init_gguf(&f, g, arch->name);
    int64_t n_vocab = bind_vocab(c, NAMES_GGUF, arch);
    if (n_vocab > INT32_MAX || hparams_read(&f, arch, (int)n_vocab, &hp, NULL))
        return;
    arena_init(&arena, 0);
    if (bind_tensors(c, NAMES_GGUF, arch, &hp, "fuzz", &arena, &b, NULL) == ERR_OK)
        read_all(&b, &hp);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct why why;

    if (gguf_open_memory(data, size, "fuzz", &g, &why))
        return 0;
    walk_values(g);
    run_model(g);
    if (gguf_tokenizer_open(g, &t, &why) == ERR_OK)
        tokenizer_close(t);
    gguf_close(g);
    return 0;
}
