/* test_shards.c - a directory of shards is the model that it was made from.
 *
 * Every model that is at hand (the tree's tiny ones, a random one of each family, and the
 * conformance set or the part of it in tests/golden/reference) is written as shards of three
 * stages. Opened again it must tell the same of itself, and every weight of every cut, those of
 * the stages and others, must be the same bytes as packed from the model. With arguments: just
 * these models (test_shards_quantised.py). What becomes of the directory: test_shard_directory.c.
 */
#include "tests/tools/family_gguf.h" /* first: it has names that are variables here */

#include "shards_made.h"

/* ---- the same model ---------------------------------------------------------------------------- */

/* "MXFP4 as mxfp4 8" -> "MXFP4 8": how files hold a tensor is over once it is packed. */
static void forget_codecs(char *line)
{
    for (char *as; (as = strstr(line, " as ")) != NULL;)
        memmove(as, as + 4 + strcspn(as + 4, " "), strlen(as + 4 + strcspn(as + 4, " ")) + 1);
}

/* What inspect says, without the lines in which they have to differ, and without the path that
 * has no tokenizer. */
static struct buf description(const struct source *s)
{
    struct buf all = {0}, some = {0};
    source_describe(s, false, &all);
    buf_putc(&all, 0);
    for (char *line = strtok(all.data, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "format ", 7) != 0 && strncmp(line, "stages ", 7) != 0 &&
            !strstr(line, ": there is ")) {
            if (strncmp(line, "types ", 6) == 0)
                forget_codecs(line);
            buf_printf(&some, "%s\n", line);
        }
    buf_putc(&some, 0);
    buf_fini(&all);
    return some;
}

static int n_tokenizers; /* that could be compared */

static void same_tokens(const struct source *a, const struct source *b)
{
    static const char *const texts[] = {
        "The quick brown fox",
        " 3 apples cost 12.50; n\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x8d\x8e\n\n\tend",
        "<s>not a </s> token<|endoftext|><end_of_turn>", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct tokenizer *x = NULL, *y = NULL;
    struct why other = {""};
    err e = source_tokenizer(a, &x, &why);
    assert_int_equal(source_tokenizer(b, &y, &other), e);
    n_tokenizers += e == ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < 2 * sizeof texts / sizeof *texts; i++) {
        struct tok_ids p = {0}, q = {0};
        const char *text = texts[i / 2];
        const unsigned flags = i % 2 ? ENCODE_ADD_SPECIAL | ENCODE_PARSE_SPECIAL : 0;
        const err one = tokenizer_encode(x, text, strlen(text), flags, &p, &why);
        assert_int_equal(tokenizer_encode(y, text, strlen(text), flags, &q, &why), one);
        assert_int_equal(p.n, q.n);
        if (p.n)
            assert_memory_equal(p.id, q.id, p.n * sizeof *p.id);
        tok_ids_fini(&p);
        tok_ids_fini(&q);
    }
    tokenizer_close(x);
    tokenizer_close(y);
}

static void same_words(const struct source *a, const struct source *b)
{
    struct buf x = description(a), y = description(b);
    const char *p = source_chat_template(a), *q = source_chat_template(b);
    const int32_t *ids, *others;
    assert_string_equal(x.data, y.data);
    assert_string_equal(source_hash(a), source_hash(b));
    assert_string_equal(source_load_hash(a), source_load_hash(b));
    assert_string_equal(source_name(a), source_name(b));
    assert_int_equal(p == NULL, q == NULL);
    if (p)
        assert_string_equal(p, q);
    const size_t n = source_end_tokens(a, &ids);
    assert_int_equal(source_end_tokens(b, &others), n);
    if (n)
        assert_memory_equal(ids, others, n * sizeof *ids);
    for (int i = 0; i < source_hparams(a)->n_layer; i++)
        assert_int_equal(source_layer_bytes(a, i), source_layer_bytes(b, i));
    assert_int_equal(source_embed_bytes(a), source_embed_bytes(b));
    assert_int_equal(source_head_bytes(a), source_head_bytes(b));
    assert_null(source_shards(a));
    assert_int_equal(source_shards(b)->n_stages, STAGES);
    buf_fini(&x);
    buf_fini(&y);
}

static void same_rope(const struct hparams *a, const struct hparams *b)
{
    assert_int_equal(a->rope_scaling, b->rope_scaling);
    assert_int_equal(a->rope_short == NULL, b->rope_short == NULL);
    if (!a->rope_short)
        return;
    assert_memory_equal(a->rope_short, b->rope_short, (size_t)a->n_rot / 2 * sizeof(float));
    assert_memory_equal(a->rope_long, b->rope_long, (size_t)a->n_rot / 2 * sizeof(float));
}

static int n_longrope; /* models with such tables seen */

/* False: the model cannot be run, the reason was printed. */
static bool check_model(const char *label, const char *path)
{
    struct source *model = NULL, *shards = NULL;
    struct weights *w = NULL;
    struct told t;
    if (source_open(path, &model, &why) != ERR_OK) {
        print_message("  %-32s not run: %s\n", label, why.text);
        return false;
    }
    if (weights_open(model, (struct weight_range){0, source_hparams(model)->n_layer, true, true}, &w, &why) !=
        ERR_OK) {
        print_message("  %-32s not run: %s\n", label, why.text);
        source_close(model);
        return false;
    }
    weights_close(w);
    struct path dir = new_directory();
    good(make(model, dir.text, 0, &t));
    assert_int_equal(t.n[SHARD_WRITTEN], STAGES);
    good(verify(dir.text, false, &t));
    assert_int_equal(t.n[SHARD_GOOD], STAGES);
    good(source_open(dir.text, &shards, &why));
    same_words(model, shards);
    same_tokens(model, shards);
    same_rope(source_hparams(model), source_hparams(shards));
    same_ranges(model, shards);
    print_message("  %-32s %s, %d layers%s\n", label, source_arch(model)->name,
                  source_hparams(model)->n_layer, source_hparams(model)->rope_short ? ", longrope" : "");
    n_longrope += source_hparams(shards)->rope_short != NULL;
    source_close(shards);
    source_close(model);
    remove_tree(dir.text);
    return true;
}

/* ---- the models ------------------------------------------------------------------------------------ */

/* A directory's models: its directories and GGUF files, but for the later parts of a split one. */
static int check_folder(const char *folder)
{
    struct dirent **names;
    int n_run = 0, n = scandir(folder, &names, NULL, alphasort);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name, *end = strrchr(name, '.'), *part = strstr(name, "-of-");
        struct path path = path_of("%s/%s", folder, name);
        struct stat st;
        if (name[0] != '.' && stat(path.text, &st) == 0 && (!part || strstr(name, "-00001-of-")) &&
            (S_ISDIR(st.st_mode) || (end && strcmp(end, ".gguf") == 0)))
            n_run += check_model(name, path.text);
        free(names[i]);
    }
    free(names);
    return n_run;
}

static void tiny_models(void **state)
{
    (void)state;
    assert_int_equal(check_folder(path_of("%s/tests/golden/tiny", tree()).text), 5);
}

static void check_bytes(const char *label, const struct buf *b)
{
    struct path path = path_of("%s/model-XXXXXX", all_of_it);
    int fd = mkstemp(path.text);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b->data, b->len), (ssize_t)b->len);
    close(fd);
    assert_true(check_model(label, path.text));
    unlink(path.text);
}

static void every_family(void **state)
{
    (void)state;
    for (int i = 0; i < arch_count(); i++) {
        struct hparams hp;
        good(family_hparams(arch_at(i), &hp, &why));
        struct buf b = family_gguf(arch_at(i), &hp);
        check_bytes(arch_at(i)->name, &b);
        buf_fini(&b);
    }
}

/* A random phi3 with two tables more, each at the end of its part of the file. */
static struct buf gguf_with_tables(void)
{
    static const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    const struct arch_desc *a = arch_find("phi3");
    struct family_tensor *w = calloc(FAMILY_TENSORS, sizeof *w);
    struct hparams hp;
    uint64_t data = 0;
    assert_non_null(w);
    good(family_hparams(a, &hp, &why));
    const uint64_t n = family_tensors(a, &hp, w), half = (uint64_t)hp.n_rot / 2;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t elements = 1;
        for (int k = 0; k < w[i].n_dims; k++)
            elements *= w[i].dims[k];
        data += (elements * 4 + 31) / 32 * 32;
    }
    struct buf old = family_gguf(a, &hp), b = {0}, tables = {0};
    const char *first = memmem(old.data, old.len, w[0].name, strlen(w[0].name));
    assert_non_null(first);
    const size_t infos = (size_t)(first - old.data) - 8; /* a name's length stands in front of it */
    for (uint64_t i = 0; i < 2; i++) {
        put_text(&tables, names[i]);
        put_u32(&tables, 1);
        put_u64(&tables, half);
        put_u32(&tables, 0);
        put_u64(&tables, data + i * 64);
    }
    buf_put(&b, old.data, infos);
    put_text(&b, "room"); /* so that all is where it was by 32 */
    put_u32(&b, GGUF_STRING);
    put_u64(&b, (32 - (24 + tables.len) % 32) % 32);
    put_zeros(&b, (32 - (24 + tables.len) % 32) % 32);
    buf_put(&b, tables.data, tables.len);
    buf_put(&b, old.data + infos, old.len - infos);
    for (uint64_t i = 0; i < 2; i++) {
        for (uint64_t k = 0; k < half; k++)
            buf_put(&b, &(float){1.0f + (float)(k + 1) * (i ? 0.7f : 0.01f)}, 4);
        put_zeros(&b, 64 - half * 4);
    }
    memcpy(b.data + 8, &(uint64_t){n + 2}, 8);
    uint64_t values;
    memcpy(&values, b.data + 16, 8);
    values++;
    memcpy(b.data + 16, &values, 8);
    buf_fini(&tables);
    buf_fini(&old);
    free(w);
    return b;
}

/* Tables of longrope are read from shards.json: a GGUF's tensors, an HF model's lists. */
static void longrope_tables(void **state)
{
    static const char scaling[] =
        "{\"type\": \"longrope\", \"short_factor\": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "
        "\"long_factor\": [1, 2, 3.3, 4, 5, 6, 7, 8.1]}";
    struct path model = path_of("%s/longrope", all_of_it);
    struct buf b = gguf_with_tables();
    (void)state;
    n_longrope = 0;
    check_bytes("longrope (GGUF)", &b);
    buf_fini(&b);
    assert_int_equal(n_longrope, 1);

    copy_directory(hf_model("phi3").text, model.text);
    struct path config = path_of("%s/config.json", model.text);
    char text[16384];
    FILE *f = fopen(config.text, "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    char *at = strstr(text, "\"rope_scaling\": null");
    assert_non_null(at);
    f = fopen(config.text, "wb");
    fprintf(f, "%.*s\"rope_scaling\": %s%s", (int)(at - text), text, scaling,
            at + strlen("\"rope_scaling\": null"));
    fclose(f);
    assert_true(check_model("longrope (HF)", model.text));
    assert_int_equal(n_longrope, 2);
    remove_tree(model.text);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The small files of an HF model: each tokenizer of the tree, the template, the ends. */
static void small_files(void **state)
{
    static const char *const kinds[] = {"bloom",    "deepseek3",  "falcon",       "gpt4o",
                                        "llama3",   "qwen2",      "spm-gemma",    "spm-mistral",
                                        "spm-phi3", "spm-llama2", "unigram-nfkc", "wordpiece-uncased"};
    (void)state;
    n_tokenizers = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct path model = path_of("%s/with-%s", all_of_it, kinds[i]);
        copy_directory(hf_model("llama31-gqa").text, model.text);
        copy_directory(path_of("%s/tests/golden/tokenizers/%s", tree(), kinds[i]).text, model.text);
        const bool spm = access(path_of("%s/tokenizer.model", model.text).text, F_OK) == 0;
        for (int round = 0; round <= spm; round++) {
            if (round) /* then tokenizer.model is read */
                assert_int_equal(unlink(path_of("%s/tokenizer.json", model.text).text), 0);
            write_text(path_of("%s/generation_config.json", model.text).text,
                       "{\"eos_token_id\": [7, 3, 11]}");
            write_text(path_of("%s/chat_template.jinja", model.text).text, "{{ messages[0].content }}\n");
            assert_true(check_model(strrchr(model.text, '/') + 1, model.text));
        }
        remove_tree(model.text);
    }
    assert_int_equal(n_tokenizers, sizeof kinds / sizeof *kinds + 1);
}

static void models_of_the_reference(void **state)
{
    (void)state;
    if (golden_dir()) {
        assert_true(check_folder(path_of("%s/golden/models", golden_dir()).text) > 30);
        assert_true(check_folder(path_of("%s/golden/gguf", golden_dir()).text) > 20);
    } else {
        assert_true(check_folder(path_of("%s/tests/golden/reference/golden/models", tree()).text) > 5);
    }
}

static void named_models(void **state)
{
    for (char **path = *state; *path; path++)
        assert_true(check_model(strrchr(*path, '/') ? strrchr(*path, '/') + 1 : *path, *path));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(every_family),
        cmocka_unit_test(longrope_tables),
        cmocka_unit_test(small_files),
        cmocka_unit_test(models_of_the_reference),
    };
    const struct CMUnitTest named[] = {cmocka_unit_test_prestate(named_models, argv + 1)};
    return argc > 1 ? shards_main(named) : shards_main(all);
}
