/* links: cordee_model */
/* fuzz_config.c - a config.json, and behind NULs a generation_config.json and the pooling of
 * a sentence encoder, as a directory is opened: family, variant, text_config, rope tables,
 * quantisation, end tokens, hyper-parameters, binding.
 *
 * The directory holds a safetensors file whose embeddings go by every family's name, so
 * that what the config says meets tensors. First the hyper-parameters are read without
 * files, which is how most inputs end; what hparams_check() promises is checked there. */
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "model/desc.h"
#include "model/facts.h"
#include "model/source.h"

enum { VOCAB = 32, EMBD = 8 };
static char root[] = "/dev/shm/cordee-fuzz-XXXXXX"; /* thousands of files a second */
static const char *const names[] = {"config.json", "generation_config.json", "1_Pooling/config.json",
                                    "model.safetensors"};

static void write_file(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    close(fd);
}

static void remove_all(void)
{
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", root);
    rmdir(path);
    rmdir(root);
}

static void write_tensors(void)
{
    static const char *const embeddings[] = {"model.embed_tokens.weight", "transformer.wte.weight",
                                             "word_embeddings.weight", "gpt_neox.embed_in.weight",
                                             "embeddings.word_embeddings.weight"};
    static const float zeros[VOCAB * EMBD];
    struct buf head, file;
    buf_init(&head);
    buf_init(&file);
    for (size_t i = 0; i < sizeof embeddings / sizeof embeddings[0]; i++)
        buf_printf(&head, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                   i ? "," : "{", embeddings[i], VOCAB, EMBD, i * sizeof zeros, (i + 1) * sizeof zeros);
    buf_puts(&head, "}");
    uint64_t len = head.len;
    buf_put(&file, &len, sizeof len);
    buf_put(&file, head.data, head.len);
    for (size_t i = 0; i < sizeof embeddings / sizeof embeddings[0]; i++)
        buf_put(&file, zeros, sizeof zeros);
    write_file("model.safetensors", file.data, file.len);
    buf_fini(&head);
    buf_fini(&file);
}

static void make_directory(void)
{
    char path[128];
    if (!mkdtemp(root))
        abort();
    atexit(remove_all);
    snprintf(path, sizeof path, "%s/1_Pooling", root);
    if (mkdir(path, 0700))
        abort();
    write_tensors();
}

static void check(const struct hparams *hp)
{
    assert(hp->n_layer >= 1 && hp->n_layer <= MAX_LAYERS && hp->n_head % hp->n_head_kv == 0);
    assert(isfinite(hp->attn_scale) && isfinite(hp->norm_eps) && isfinite(hp->rope_base));
    for (int d = 0; d < DIM_COUNT; d++)
        assert(dim_value(hp, (enum dim)d) >= 0);
}

static void read_hparams(const uint8_t *data, size_t size)
{
    struct facts f;
    struct hparams hp;
    struct why why = {""};
    json_t *config = json_loadb((const char *)data, size, 0, NULL);
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const struct arch_desc *arch = type ? arch_find_hf(type) : NULL;

    if (arch) {
        facts_init_json(&f, config, "config.json");
        const struct arch_desc *variant = arch->variant ? arch->variant(&f) : NULL;
        if (hparams_read(&f, variant ? variant : arch, VOCAB, &hp, &why) == ERR_OK)
            check(&hp);
        else
            assert(why.text[0]);
    }
    json_decref(config);
}

static void open_directory(void)
{
    struct source *src = NULL;
    struct why why = {""};
    struct buf text;

    if (source_open_any(root, &src, &why)) {
        assert(why.text[0]);
        return;
    }
    buf_init(&text);
    if (source_runnable(src, &why) == ERR_OK)
        check(source_hparams(src));
    else
        assert(why.text[0]);
    source_describe(src, true, &text);
    buf_fini(&text);
    source_close(src);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    const uint8_t *end = data + size;

    if (!made)
        make_directory();
    made = true;
    for (int i = 0; i < 3; i++) {
        const uint8_t *nul = data < end ? memchr(data, 0, (size_t)(end - data)) : NULL;
        const uint8_t *stop = nul ? nul : end;
        if (i == 0)
            read_hparams(data, (size_t)(stop - data));
        write_file(names[i], stop > data ? (const void *)data : "{}", stop > data ? (size_t)(stop - data) : 2);
        data = nul ? nul + 1 : end;
    }
    open_directory();
    return 0;
}
