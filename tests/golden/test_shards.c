/* test_shards.c - a directory of shards is the model that it was made from.
 *
 * Every model that is at hand (the tree's tiny ones, a random one of each family, and the
 * conformance set or the part of it in tests/golden/reference) is written as shards of three
 * stages. Opened again it must tell the same of itself, and every weight of every cut, those of
 * the stages and others, must be the same bytes as packed from the model. With arguments: just
 * these models (test_shards_quantised.py).
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "model/weights.h"
#include "shard/write.h"
#include "tests/tools/family_gguf.h"

enum { STAGES = 3 };

static struct pool *pool;
static struct why why;

static void good(err e)
{
    if (e != ERR_OK)
        fail_msg("%s: %s", err_name(e), why.text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void remove_tree(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static char all_of_it[] = "/tmp/cordee-golden-shards-XXXXXX"; /* removed in the end */

static struct path new_directory(void)
{
    struct path dir = path_of("%s/d-XXXXXX", all_of_it);
    assert_non_null(mkdtemp(dir.text));
    return dir;
}

static const char *tree(void)
{
    const char *source = getenv("CORDEE_SOURCE");
    return source ? source : ".";
}

/* A model that the tree has, too. */
static struct path hf_model(const char *name)
{
    return golden_dir() ? path_of("%s/golden/models/%s", golden_dir(), name)
                        : path_of("%s/tests/golden/reference/golden/models/%s", tree(), name);
}

static void copy_file(const char *from, const char *to)
{
    char data[1 << 16];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    while ((n = fread(data, 1, sizeof data, in)) > 0)
        assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(in);
    fclose(out);
}

/* Files only. */
static void copy_directory(const char *from, const char *to)
{
    struct dirent **names;
    int n = scandir(from, &names, NULL, NULL);
    assert_true(n > 0);
    mkdir(to, 0777);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.')
            copy_file(path_of("%s/%s", from, names[i]->d_name).text,
                      path_of("%s/%s", to, names[i]->d_name).text);
        free(names[i]);
    }
    free(names);
}

/* ---- writing ----------------------------------------------------------------------------------- */

struct told {
    int n[SHARD_MISSING + 1];
    enum shard_state last[STAGES + 1]; /* by stage, 1..STAGES */
};

static void tell(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                 const char *reason)
{
    struct told *t = ctx;
    (void)s, (void)reason;
    assert_in_range(stage, 1, STAGES);
    t->n[state]++;
    t->last[stage] = state;
}

static void say_nothing(void *ctx, int stage, const struct shard_stage *s, enum shard_state state,
                        const char *reason)
{
    (void)ctx, (void)stage, (void)s, (void)state, (void)reason;
}

static void even_cut(int layers, int n, struct plan_stage *cut)
{
    for (int i = 0; i < n; i++)
        cut[i] = (struct plan_stage){
            .first = layers * i / n, .last = layers * (i + 1) / n, .embed = i == 0, .head = i == n - 1};
}

static err make_n(const struct source *src, const char *dir, int n, int only, struct told *t)
{
    struct plan_stage cut[STAGES];
    *t = (struct told){{0}, {0}};
    even_cut(source_hparams(src)->n_layer, n, cut);
    const struct shard_job job = {.src = src,
                                  .dir = dir,
                                  .stages = cut,
                                  .n_stages = n,
                                  .only = only,
                                  .pool = pool,
                                  .told = tell,
                                  .ctx = t};
    return shards_make(&job, &why);
}

static err make(const struct source *src, const char *dir, int only, struct told *t)
{
    return make_n(src, dir, STAGES, only, t);
}

static err verify(const char *dir, bool local, struct told *t)
{
    *t = (struct told){{0}, {0}};
    return shards_verify(dir, local, pool, tell, t, &why);
}

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

static void same_tokens(const struct source *a, const struct source *b)
{
    static const char *const texts[] = {"The quick brown fox",
                                        " 3 apples cost 12.50; n\xc3\xa9"
                                        "e \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x8d\x8e\n\n\tend",
                                        "<s>not a </s> token<|endoftext|><end_of_turn>", "",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct tokenizer *x = NULL, *y = NULL;
    struct why other = {""};
    err e = source_tokenizer(a, &x, &why);
    assert_int_equal(source_tokenizer(b, &y, &other), e);
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

/* ---- the same weights ---------------------------------------------------------------------------- */

static uint64_t same_weight(const struct weight *a, const struct weight *b)
{
    assert_true(a->n == b->n && a->n_stack == b->n_stack && a->stack_bytes == b->stack_bytes);
    assert_int_equal(a->v == NULL, b->v == NULL);
    if (!weight_has(a))
        return 0;
    if (a->v) {
        assert_memory_equal(a->v, b->v, (size_t)a->n * sizeof *a->v);
        return (uint64_t)a->n * sizeof *a->v;
    }
    assert_true(a->w.fmt == b->w.fmt && a->w.n == b->w.n && a->w.k == b->w.k &&
                a->w.group_bytes == b->w.group_bytes);
    assert_int_equal((uintptr_t)b->w.data % 64, 0);
    assert_memory_equal(a->w.data, b->w.data, (size_t)a->n_stack * a->stack_bytes);
    return (uint64_t)a->n_stack * a->stack_bytes;
}

static struct weights *load(const struct source *src, struct weight_range r)
{
    struct weights *w = NULL;
    good(weights_open(src, r, &w, &why));
    good(weights_load(w, pool, &why));
    return w;
}

static uint64_t same_weights(const struct source *model, const struct source *shards, struct weight_range r)
{
    struct weights *a = load(model, r), *b = load(shards, r);
    uint64_t bytes = 0;
    assert_int_equal(weights_bytes(a), weights_bytes(b));
    for (int role = 0; role < W_COUNT; role++) {
        bytes += same_weight(&weights_model(a)[role], &weights_model(b)[role]);
        for (int l = r.first; l < r.last; l++)
            bytes += same_weight(&weights_layer(a, l)[role], &weights_layer(b, l)[role]);
    }
    const struct weight *x = weights_model(a), *y = weights_model(b);
    assert_int_equal(x[W_HEAD].w.data == x[W_EMBD].w.data,
                     y[W_HEAD].w.data == y[W_EMBD].w.data); /* tied ones share */
    weights_close(a);
    weights_close(b);
    return bytes;
}

/* The stages' own ranges, the whole, and cuts that cross them. */
static void same_ranges(const struct source *model, const struct source *shards)
{
    const int n = source_hparams(model)->n_layer;
    struct plan_stage cut[STAGES];
    even_cut(n, STAGES, cut);
    uint64_t bytes = same_weights(model, shards, (struct weight_range){0, n, true, true});
    assert_true(bytes > 0);
    for (int i = 0; i < STAGES; i++)
        same_weights(model, shards,
                     (struct weight_range){cut[i].first, cut[i].last, cut[i].embed, cut[i].head});
    const struct weight_range others[] = {
        {0, 0, true, false},     {0, 0, true, true},      {n, n, false, true},      {0, 0, false, false},
        {n, n, false, false},    {0, n, false, false},    {0, n / 2, true, false},  {n / 2, n, false, true},
        {0, n - 1, true, false}, {n - 1, n, false, true}, {n > 1, n, false, false}, {0, n, true, false},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        same_weights(model, shards, others[i]);
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

/* ---- the directory -------------------------------------------------------------------------------- */

static struct source *tiny(const char *name)
{
    struct source *src = NULL;
    good(source_open(path_of("%s/tests/golden/tiny/%s", tree(), name).text, &src, &why));
    return src;
}

static struct path stage_path(const char *dir, int stage)
{
    return path_of("%s/stage-%d-of-%d.cordee", dir, stage, STAGES);
}

static void flip(const char *path, off_t at)
{
    char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    if (at < 0)
        at += lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void what_is_whole_is_kept(void **state)
{
    struct source *src = tiny("tiny-llama-spm.gguf");
    struct path dir = new_directory();
    struct stat before, after;
    struct told t;
    (void)state;
    good(make(src, dir.text, 0, &t));
    assert_int_equal(stat(stage_path(dir.text, 1).text, &before), 0);
    good(make(src, dir.text, 0, &t));
    assert_int_equal(t.n[SHARD_KEPT], STAGES);
    assert_int_equal(stat(stage_path(dir.text, 1).text, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);

    assert_int_equal(unlink(stage_path(dir.text, 2).text), 0);
    assert_int_equal(truncate(stage_path(dir.text, 3).text, 100000), 0);
    assert_int_equal(verify(dir.text, false, &t), ERR_FORMAT);
    assert_true(t.last[1] == SHARD_GOOD && t.last[2] == SHARD_MISSING && t.last[3] == SHARD_DAMAGED);
    good(make(src, dir.text, 0, &t));
    assert_true(t.last[1] == SHARD_KEPT && t.last[2] == SHARD_WRITTEN && t.last[3] == SHARD_WRITTEN);

    flip(stage_path(dir.text, 2).text, -1000); /* a weight, not the table */
    assert_int_equal(verify(dir.text, false, &t), ERR_FORMAT);
    assert_true(t.last[1] == SHARD_GOOD && t.last[2] == SHARD_DAMAGED && t.last[3] == SHARD_GOOD);
    good(make(src, dir.text, 0, &t));
    assert_true(t.last[1] == SHARD_KEPT && t.last[2] == SHARD_WRITTEN && t.last[3] == SHARD_KEPT);
    good(verify(dir.text, false, &t));
    source_close(src);
    remove_tree(dir.text);
}

/* Each node writes its own stage; together they are the whole. */
static void one_stage_alone(void **state)
{
    struct source *src = tiny("tiny-gemma3-spm.gguf"), *shards = NULL;
    struct path dir = new_directory();
    struct weights *w = NULL;
    struct plan_stage cut[STAGES];
    struct told t;
    (void)state;
    good(make(src, dir.text, 2, &t));
    assert_true(t.n[SHARD_WRITTEN] == 1 && t.last[2] == SHARD_WRITTEN);
    assert_int_not_equal(access(stage_path(dir.text, 1).text, F_OK), 0);
    assert_int_equal(verify(dir.text, false, &t), ERR_NOTFOUND);
    assert_int_equal(t.n[SHARD_MISSING], 2);
    good(verify(dir.text, true, &t));

    good(source_open(dir.text, &shards, &why));
    even_cut(source_hparams(src)->n_layer, STAGES, cut);
    same_weights(src, shards, (struct weight_range){cut[1].first, cut[1].last, false, false});
    for (int i = 0; i < STAGES; i += 2) {
        good(
            weights_open(shards, (struct weight_range){cut[i].first, cut[i].last, i == 0, i == 2}, &w, &why));
        assert_int_equal(weights_load(w, pool, &why), ERR_NOTFOUND);
        assert_non_null(strstr(why.text, path_of("stage-%d-of-3.cordee", i + 1).text));
        weights_close(w);
    }
    source_close(shards);
    good(make(src, dir.text, 1, &t));
    good(make(src, dir.text, 3, &t));
    good(verify(dir.text, false, &t));
    source_close(src);
    remove_tree(dir.text);
}

static void what_is_in_the_way_is_named(void **state)
{
    struct source *llama = tiny("tiny-llama-spm.gguf"), *gemma = tiny("tiny-gemma3-spm.gguf"), *shards = NULL;
    struct path dir = new_directory(), other = new_directory();
    struct told t;
    (void)state;
    good(make(llama, dir.text, 0, &t));
    assert_int_equal(make(gemma, dir.text, 0, &t), ERR_INVAL); /* shards of another model */
    assert_non_null(strstr(why.text, dir.text));
    assert_int_equal(make_n(llama, dir.text, 2, 0, &t), ERR_INVAL); /* and of other stages */
    assert_non_null(strstr(why.text, dir.text));
    good(source_open(dir.text, &shards, &why));
    assert_int_equal(make(shards, other.text, 0, &t), ERR_INVAL); /* shards of shards */
    assert_non_null(strstr(why.text, dir.text));
    assert_int_equal(make(shards, dir.text, 0, &t), ERR_INVAL);
    source_close(shards);
    assert_int_equal(make(llama, "/nonexistent/x", 0, &t), ERR_IO);
    assert_int_equal(make(llama, stage_path(dir.text, 1).text, 0, &t), ERR_IO); /* a file */
    good(verify(dir.text, false, &t));
    assert_int_equal(verify(other.text, false, &t), ERR_NOTFOUND);
    source_close(llama);
    source_close(gemma);
    remove_tree(dir.text);
    remove_tree(other.text);
}

/* A directory of safetensors must not become its own shards. */
static void the_model_itself_is_no_place(void **state)
{
    struct path dir = new_directory();
    struct source *src = NULL;
    struct told t;
    (void)state;
    copy_directory(hf_model("llama31-gqa").text, dir.text);
    good(source_open(dir.text, &src, &why));
    assert_int_equal(make(src, dir.text, 0, &t), ERR_INVAL);
    assert_non_null(strstr(why.text, dir.text));
    assert_int_equal(make(src, path_of("%s/.", dir.text).text, 0, &t), ERR_INVAL);
    source_close(src);
    good(source_open(dir.text, &src, &why)); /* it is still what it was */
    assert_null(source_shards(src));
    source_close(src);
    remove_tree(dir.text);
}

static void changed_small_files_are_noticed(void **state)
{
    struct source *src = tiny("tiny-llama-spm.gguf"), *none = NULL;
    struct path dir = new_directory();
    struct told t;
    (void)state;
    good(make(src, dir.text, 0, &t));
    flip(path_of("%s/%s", dir.text, SHARDS_FACTS_GGUF).text, -1);
    assert_int_equal(source_open(dir.text, &none, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, SHARDS_FACTS_GGUF));
    good(make(src, dir.text, 0, &t)); /* which mends it */
    good(verify(dir.text, false, &t));
    assert_int_equal(unlink(path_of("%s/%s", dir.text, SHARDS_FACTS_GGUF).text), 0);
    assert_int_not_equal(source_open(dir.text, &none, &why), ERR_OK);
    assert_non_null(strstr(why.text, SHARDS_FACTS_GGUF));
    source_close(src);
    remove_tree(dir.text);

    dir = new_directory();
    good(source_open(hf_model("llama31-gqa").text, &src, &why));
    good(make(src, dir.text, 0, &t));
    FILE *f = fopen(path_of("%s/config.json", dir.text).text, "r+");
    char text[16384];
    size_t len = fread(text, 1, sizeof text - 1, f);
    text[len] = '\0';
    char *at = strstr(text, "rms_norm_eps\": ");
    assert_non_null(at);
    fseek(f, at - text + (long)strlen("rms_norm_eps\": "), SEEK_SET);
    fputc('7', f);
    fclose(f);
    assert_int_equal(source_open(dir.text, &none, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, "config.json"));
    source_close(src);
    remove_tree(dir.text);
}

/* A stage's file of another model, or another stage's under this name. */
static void foreign_files(void **state)
{
    struct source *llama = tiny("tiny-llama-spm.gguf"), *bpe = tiny("tiny-llama-bpe.gguf"), *shards = NULL;
    struct path a = new_directory(), b = new_directory();
    struct weights *w = NULL;
    struct told t;
    (void)state;
    good(make(llama, a.text, 0, &t));
    good(make(bpe, b.text, 0, &t));
    for (int i = 0; i < 2; i++) {
        copy_file(i ? stage_path(a.text, 1).text : stage_path(b.text, 2).text, stage_path(a.text, 2).text);
        assert_int_equal(verify(a.text, false, &t), ERR_FORMAT);
        assert_int_equal(t.last[2], SHARD_DAMAGED);
        good(source_open(a.text, &shards, &why));
        good(weights_open(shards, (struct weight_range){0, source_hparams(llama)->n_layer, true, true}, &w,
                          &why));
        assert_int_equal(weights_load(w, pool, &why), ERR_FORMAT);
        assert_non_null(strstr(why.text, "stage-2-of-3.cordee"));
        weights_close(w);
        source_close(shards);
        good(make(llama, a.text, 0, &t));
        assert_true(t.last[1] == SHARD_KEPT && t.last[2] == SHARD_WRITTEN && t.last[3] == SHARD_KEPT);
    }
    source_close(llama);
    source_close(bpe);
    remove_tree(a.text);
    remove_tree(b.text);
}

/* The embedding and the head alone, a layer each, and the whole in one file. */
static void many_stages_and_one(void **state)
{
    struct source *src = tiny("tiny-gemma3-spm.gguf"), *shards = NULL; /* its head is the embedding */
    const int n = source_hparams(src)->n_layer, most = n + 2;
    struct plan_stage *cut = calloc((size_t)most, sizeof *cut);
    (void)state;
    assert_non_null(cut);
    for (int stages = 1; stages <= most; stages += most - 1) {
        struct path dir = new_directory();
        for (int i = 0; i < stages; i++)
            cut[i] = stages == 1 ? (struct plan_stage){.last = n, .embed = true, .head = true}
                                 : (struct plan_stage){.first = i ? i - 1 : 0,
                                                       .last = i < n ? i : n,
                                                       .embed = i == 0,
                                                       .head = i == most - 1};
        const struct shard_job job = {.src = src,
                                      .dir = dir.text,
                                      .stages = cut,
                                      .n_stages = stages,
                                      .pool = pool,
                                      .told = say_nothing};
        good(shards_make(&job, &why));
        good(source_open(dir.text, &shards, &why));
        same_ranges(src, shards);
        source_close(shards);
        remove_tree(dir.text);
    }
    free(cut);
    source_close(src);
}

static void named_models(void **state)
{
    for (char **path = *state; *path; path++)
        assert_true(check_model(strrchr(*path, '/') ? strrchr(*path, '/') + 1 : *path, *path));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(what_is_whole_is_kept),
        cmocka_unit_test(one_stage_alone),
        cmocka_unit_test(what_is_in_the_way_is_named),
        cmocka_unit_test(the_model_itself_is_no_place),
        cmocka_unit_test(changed_small_files_are_noticed),
        cmocka_unit_test(foreign_files),
        cmocka_unit_test(many_stages_and_one),
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(every_family),
        cmocka_unit_test(longrope_tables),
        cmocka_unit_test(models_of_the_reference),
    };
    const struct CMUnitTest named[] = {cmocka_unit_test_prestate(named_models, argv + 1)};
    if (pool_open(2, &pool, &why) != ERR_OK || !mkdtemp(all_of_it))
        return 1;
    int failed =
        argc > 1 ? cmocka_run_group_tests(named, NULL, NULL) : cmocka_run_group_tests(all, NULL, NULL);
    pool_close(pool);
    return nftw(all_of_it, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ? failed : 1;
}
