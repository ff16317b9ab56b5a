/* test_shard_directory.c - what is kept, mended, refused and noticed in a directory of shards.
 *
 * That its weights are those of the model is for test_shards.c.
 */
#include <fcntl.h>

#include "base/spread.h"
#include "shards_made.h"

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

/* Other weights of the same shapes, as after more training: nothing is kept. */
static void trained_further(void **state)
{
    struct path dir = new_directory(), model = new_directory();
    struct path file = path_of("%s/m.gguf", model.text);
    struct source *src = NULL;
    struct told t;
    (void)state;
    copy_file(path_of("%s/tests/golden/tiny/tiny-llama-spm.gguf", tree()).text, file.text);
    good(source_open(file.text, &src, &why));
    good(make(src, dir.text, 0, &t));
    source_close(src);
    flip(file.text, -100); /* the last tensor */
    good(source_open(file.text, &src, &why));
    good(make(src, dir.text, 2, &t));
    assert_int_equal(t.last[2], SHARD_WRITTEN);
    assert_int_equal(verify(dir.text, false, &t), ERR_FORMAT); /* the others are of the old weights */
    assert_int_equal(t.n[SHARD_DAMAGED], 2);
    good(make(src, dir.text, 0, &t));
    assert_true(t.n[SHARD_WRITTEN] == 2 && t.last[2] == SHARD_KEPT);
    good(verify(dir.text, false, &t));
    source_close(src);
    remove_tree(model.text);
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
    static const char *const odd[] = {"{", "{\"cordee_shards\": 2}"};
    for (int i = 0; i < 2; i++) { /* not made here: it is not written over, and the way out is told */
        FILE *f = fopen(path_of("%s/%s", other.text, SHARDS_FILE).text, "w");
        fputs(odd[i], f);
        fclose(f);
        assert_int_equal(make(llama, other.text, 0, &t), i ? ERR_UNSUPPORTED : ERR_FORMAT);
        assert_non_null(strstr(why.text, "remove it or give another directory"));
    }
    assert_int_equal(unlink(path_of("%s/%s", other.text, SHARDS_FILE).text), 0);
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

static int mapped_stages(void)
{
    char line[4096];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, ".cordee\n") != NULL;
    fclose(f);
    return n;
}

/* Where memory is far from the cores (here: said to be) weights are copied, and nothing stays mapped. */
static void far_weights_are_copied(void **state)
{
    static const uint64_t places[] = {0, 3 /* two domains */, 1ull << 5 /* another one than ours */};
    struct source *src = tiny("tiny-gemma3-spm.gguf"), *shards = NULL;
    struct path dir = new_directory();
    struct told t;
    (void)state;
    good(make(src, dir.text, 0, &t));
    good(source_open(dir.text, &shards, &why));
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const uint64_t nodes[SPREAD_WORDS] = {places[i]};
        spread_set(i ? nodes : NULL);
        struct weights *w = load(shards, (struct weight_range){0, source_hparams(src)->n_layer, true, true});
        /* A kernel that knows no domains does not say where pages lie: then they stay. */
        assert_true(i == 2 ? mapped_stages() == 0 || mapped_stages() == STAGES
                           : mapped_stages() == (i ? 0 : STAGES));
        weights_close(w);
        assert_int_equal(mapped_stages(), 0);
        same_ranges(src, shards);
    }
    spread_set(NULL);
    source_close(shards);
    source_close(src);
    remove_tree(dir.text);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_whole_is_kept),           cmocka_unit_test(one_stage_alone),
        cmocka_unit_test(trained_further),
        cmocka_unit_test(what_is_in_the_way_is_named),     cmocka_unit_test(the_model_itself_is_no_place),
        cmocka_unit_test(changed_small_files_are_noticed), cmocka_unit_test(foreign_files),
        cmocka_unit_test(far_weights_are_copied),          cmocka_unit_test(many_stages_and_one),
    };
    return shards_main(tests);
}
