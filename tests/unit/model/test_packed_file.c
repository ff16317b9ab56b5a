/* Packed files: what is written is found again, every damage and every lie is refused with its
 * reason, and a file that could not be finished is not there. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "model/packed_file.h"

enum { FIRST = 2, LAST = 4 };

/* One of each kind: floats and blocks, rows that fill no group, stacks, vectors with padding. */
static const struct shape {
    enum weight_role role;
    enum fmt fmt;
    int layer, n, k, n_stack;
} shapes[] = {
    {W_EMBD, FMT_F16, 0, 33, 48, 1},
    {W_ROPE_FREQS, FMT_F32, 0, 1, 8, 1},
    {W_ATTN_NORM, FMT_F32, 2, 1, 64, 1},
    {W_ATTN_NORM, FMT_F32, 3, 1, 64, 1},
    {W_Q, FMT_Q4_K, 2, 40, 512, 1},
    {W_Q, FMT_Q6_K, 3, 16, 256, 1},
    {W_K, FMT_BF16, 2, 1, 7, 1},
    {W_ROUTER, FMT_F32, 3, 4, 32, 1},
    {W_GATE_EXPS, FMT_MXFP4, 3, 17, 64, 3},
    {W_DOWN_EXPS_B, FMT_F32, 3, 1, 5, 3},
    {W_UP_EXPS, FMT_IQ2_XXS, 2, 8, 256, 2},
};
enum { N = sizeof shapes / sizeof *shapes, EMBD = 0, NORM = 2, Q = 4, EXPS = 8 };

static char dir[] = "/tmp/cordee-packed-XXXXXX", path[sizeof dir + 16];

static uint64_t bytes_of(const struct shape *s)
{
    const uint64_t each = weight_kind(s->role) == WEIGHT_VECTOR
                              ? (uint64_t)s->k * sizeof(float)
                              : pack_group_bytes(s->fmt, s->k) * (uint64_t)pack_groups(s->n);
    return (each * (uint64_t)s->n_stack + 63) / 64 * 64;
}

static uint8_t byte_of(int entry, uint64_t at)
{
    return (uint8_t)((at * 2654435761u >> 7) + (uint64_t)entry * 29);
}

static struct packed_entry entry_of(const struct shape *s)
{
    struct packed_entry x = {
        .layer = s->layer, .n = s->n, .k = s->k, .n_stack = s->n_stack, .bytes = bytes_of(s)};
    snprintf(x.role, sizeof x.role, "%s", weight_role_name(s->role));
    snprintf(x.fmt, sizeof x.fmt, "%s", fmt_traits[s->fmt].name);
    return x;
}

static struct packed_writer *start(int n, err want, struct why *why)
{
    struct packed_entry entries[N] = {{.layer = 0}};
    const struct packed_head head = {.model = "0123456789abcde", .first = FIRST, .last = LAST, .embed = 1};
    struct packed_writer *w = NULL;
    for (int i = 0; i < n; i++)
        entries[i] = entry_of(&shapes[i]);
    assert_int_equal(packed_writer_open(path, &head, entries, n, &w, why), want);
    assert_int_equal(w == NULL, want != ERR_OK);
    return w;
}

/* In pieces of 1, 2, 4, ... bytes. */
static err put_entry(struct packed_writer *w, int i, struct why *why)
{
    const uint64_t bytes = bytes_of(&shapes[i]);
    uint8_t *data = malloc(bytes);
    err e = ERR_OK;
    for (uint64_t k = 0; k < bytes; k++)
        data[k] = byte_of(i, k);
    for (uint64_t at = 0, step = 1; e == ERR_OK && at < bytes; at += step, step *= 2)
        e = packed_writer_put(w, i, data + at, step < bytes - at ? step : bytes - at, why);
    free(data);
    return e;
}

static void write_file(int n)
{
    struct why why = {""};
    struct packed_writer *w = start(n, ERR_OK, &why);
    for (int i = 0; i < n; i++)
        assert_int_equal(put_entry(w, i, &why), ERR_OK);
    assert_int_equal(packed_writer_finish(w, &why), ERR_OK);
    packed_writer_close(w);
}

static int files_here(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- what is written is read ------------------------------------------------------------------ */

static void check_weight(const struct packed_weight *w, int i)
{
    const struct shape *s = &shapes[i];
    assert_non_null(w);
    assert_true(w->role == s->role && w->fmt == s->fmt && w->layer == s->layer);
    assert_true(w->n == s->n && w->k == s->k && w->n_stack == s->n_stack && w->bytes == bytes_of(s));
    assert_int_equal((uintptr_t)w->data % 64, 0);
    for (uint64_t k = 0; k < w->bytes; k++)
        assert_int_equal(((const uint8_t *)w->data)[k], byte_of(i, k));
    assert_true(packed_weight_intact(w));
}

static void what_is_written_is_found(void **state)
{
    struct packed_file *f;
    struct why why = {""};
    (void)state;
    write_file(N);
    assert_int_equal(files_here(), 1);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_OK);
    const struct packed_head *h = packed_file_head(f);
    assert_true(h->n_entries == N && h->first == FIRST && h->last == LAST && h->embed == 1 && h->head == 0);
    assert_memory_equal(h->model, "0123456789abcde", sizeof h->model);
    assert_int_equal(h->data, packed_file_data(N));
    assert_string_equal(packed_file_path(f), path);
    for (int i = 0; i < N; i++) {
        check_weight(packed_file_find(f, shapes[i].role, shapes[i].layer), i);
        const struct packed_weight *at = packed_file_at(f, (size_t)i);
        assert_ptr_equal(packed_file_find(f, at->role, at->layer), at);
    }
    assert_null(packed_file_find(f, W_HEAD, 0));
    assert_null(packed_file_find(f, W_Q, 4));
    assert_null(packed_file_find(f, W_UP_EXPS, 3));
    packed_file_close(f);
    packed_file_close(NULL);
}

/* A stage may have neither layers nor tables. */
static void a_file_of_nothing(void **state)
{
    struct packed_file *f;
    struct why why = {""};
    (void)state;
    write_file(0);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_OK);
    assert_int_equal(packed_file_head(f)->n_entries, 0);
    assert_null(packed_file_find(f, W_Q, 2));
    packed_file_close(f);
}

static void what_is_no_file(void **state)
{
    struct packed_file *f = NULL;
    struct why why = {""};
    (void)state;
    unlink(path);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, path));
    assert_int_not_equal(packed_file_open(dir, &f, &why), ERR_OK);
    fclose(fopen(path, "w"));
    assert_int_equal(packed_file_open(path, &f, &why), ERR_FORMAT);
    assert_non_null(strstr(why.text, path));
    assert_null(f);
}

/* ---- damage ------------------------------------------------------------------------------------- */

static uint8_t *image; /* of a good file */
static size_t image_size;

static int read_image(void **state)
{
    struct stat st;
    (void)state;
    write_file(N);
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) != 0)
        return 1;
    image_size = (size_t)st.st_size;
    image = malloc(image_size);
    const bool whole = image && fread(image, 1, image_size, f) == image_size;
    fclose(f);
    return whole ? 0 : 1;
}

static int drop_image(void **state)
{
    (void)state;
    free(image);
    return 0;
}

/* A copy with a page of room behind it; free(). */
static uint8_t *copy_image(void)
{
    uint8_t *copy = calloc(1, image_size + 4096);
    if (!copy)
        abort();
    memcpy(copy, image, image_size);
    return copy;
}

/* Opens exactly so many bytes; the copy is of that size, so that a sanitizer sees its end. */
static err open_bytes(const uint8_t *bytes, size_t size, struct packed_file **keep, void **memory)
{
    struct packed_file *f = NULL;
    struct why why = {""};
    void *copy = NULL;
    assert_int_equal(posix_memalign(&copy, 64, size ? size : 1), 0);
    memcpy(copy, bytes, size);
    err e = packed_file_open_memory(copy, size, "the file", &f, &why);
    assert_int_equal(e == ERR_OK, f != NULL);
    if (e)
        assert_memory_equal(why.text, "the file: ", 10);
    if (keep && e == ERR_OK) {
        *keep = f;
        *memory = copy;
        return e;
    }
    packed_file_close(f);
    free(copy);
    return e;
}

static void sum_again(uint8_t *file, size_t size)
{
    struct packed_head h;
    memcpy(&h, file, sizeof h);
    const uint64_t table = (uint64_t)h.n_entries * sizeof(struct packed_entry);
    XXH3_state_t *s = XXH3_createState();
    h.sum = 0;
    XXH3_64bits_reset(s);
    XXH3_64bits_update(s, &h, sizeof h);
    XXH3_64bits_update(s, file + sizeof h, table < size - sizeof h ? table : size - sizeof h);
    h.sum = XXH3_64bits_digest(s);
    XXH3_freeState(s);
    memcpy(file, &h, sizeof h);
}

static void every_byte_of_head_and_table_counts(void **state)
{
    const size_t end = sizeof(struct packed_head) + N * sizeof(struct packed_entry);
    uint8_t *copy = copy_image();
    (void)state;
    assert_int_equal(open_bytes(copy, image_size, NULL, NULL), ERR_OK);
    for (size_t i = 0; i < end; i++)
        for (int bit = 0; bit < 8; bit += 7) {
            copy[i] ^= (uint8_t)(1 << bit);
            const bool version =
                i >= offsetof(struct packed_head, version) && i < offsetof(struct packed_head, model);
            assert_int_equal(open_bytes(copy, image_size, NULL, NULL),
                             version ? ERR_UNSUPPORTED : ERR_FORMAT);
            copy[i] ^= (uint8_t)(1 << bit);
        }
    free(copy);
}

static void too_short_and_too_long(void **state)
{
    const size_t head = sizeof(struct packed_head), table = head + N * sizeof(struct packed_entry),
                 data = (size_t)packed_file_data(N);
    const size_t sizes[] = {0,
                            1,
                            8,
                            head - 1,
                            head,
                            head + 1,
                            table - 1,
                            table,
                            table + 1,
                            data - 1,
                            data,
                            data + 1,
                            image_size - 64,
                            image_size - 1,
                            image_size + 1,
                            image_size + 64,
                            image_size + 4096};
    uint8_t *copy = copy_image();
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(open_bytes(copy, sizes[i], NULL, NULL), ERR_FORMAT);
    free(copy);
}

static void a_damaged_weight_is_noticed_alone(void **state)
{
    uint8_t *copy = copy_image();
    struct packed_file *f = NULL;
    void *memory = NULL;
    (void)state;
    for (int i = 0; i < N; i++) {
        struct packed_entry x;
        memcpy(&x, image + sizeof(struct packed_head) + (size_t)i * sizeof x, sizeof x);
        const size_t at[] = {0, x.bytes / 2, x.bytes - 1};
        for (int k = 0; k < 3; k++) {
            uint8_t *byte = copy + packed_file_data(N) + x.offset + at[k];
            *byte ^= 16;
            assert_int_equal(open_bytes(copy, image_size, &f, &memory), ERR_OK);
            for (int j = 0; j < N; j++)
                assert_int_equal(packed_weight_intact(packed_file_find(f, shapes[j].role, shapes[j].layer)),
                                 j != i);
            packed_file_close(f);
            free(memory);
            *byte ^= 16;
        }
    }
    free(copy);
}

/* ---- lies with a fitting sum ------------------------------------------------------------------ */

#define HEAD_FIELD(x) -1, offsetof(struct packed_head, x), sizeof(((struct packed_head *)NULL)->x)
#define FIELD(i, x) i, offsetof(struct packed_entry, x), sizeof(((struct packed_entry *)NULL)->x)
#define BAD ERR_FORMAT
#define NEW ERR_UNSUPPORTED

/* Numbers are what is added to the field. */
static const struct lie {
    const char *what;
    int entry; /* -1: the head */
    size_t at, size;
    int64_t plus;
    err want;
} lies[] = {
    {"another version", HEAD_FIELD(version), 1, NEW},
    {"another layout", HEAD_FIELD(layout), 1, NEW},
    {"layers from -1 on", HEAD_FIELD(first), -1 - FIRST, BAD},
    {"fewer than no layers", HEAD_FIELD(last), FIRST - 1 - LAST, BAD},
    {"the layers are others than the weights'", HEAD_FIELD(first), 1, BAD},
    {"the layers end before the weights'", HEAD_FIELD(last), -1, BAD},
    {"half an embedding", HEAD_FIELD(embed), 1, BAD},
    {"two heads", HEAD_FIELD(head), 2, BAD},
    {"an entry of zeros", HEAD_FIELD(n_entries), 1, NEW},
    {"a table past the data", HEAD_FIELD(n_entries), 1 << 20, BAD},
    {"four thousand million entries", HEAD_FIELD(n_entries), -1 - N, BAD},
    {"data in the table", HEAD_FIELD(data), -(int64_t)PACKED_ALIGN, BAD},
    {"data between pages", HEAD_FIELD(data), 64, BAD},
    {"data behind the file", HEAD_FIELD(data), 1 << 30, BAD},
    {"data far behind the file", HEAD_FIELD(data), INT64_MIN, BAD},
    {"less data than there is", HEAD_FIELD(data_bytes), -64, BAD},
    {"more data than there is", HEAD_FIELD(data_bytes), 64, BAD},
    {"data around all numbers", HEAD_FIELD(data_bytes), INT64_MIN, BAD},
    {"a layer before the range", FIELD(NORM, layer), -1, BAD},
    {"a layer after it", FIELD(NORM + 1, layer), 1, BAD},
    {"a layer below zero", FIELD(NORM, layer), INT32_MIN, BAD},
    {"a layer for a weight that has none", FIELD(EMBD, layer), 1, BAD},
    {"no rows", FIELD(Q, n), -40, BAD},
    {"rows below zero", FIELD(Q, n), INT32_MIN, BAD},
    {"one group more", FIELD(Q, n), 16, BAD},
    {"all rows there are", FIELD(Q, n), INT32_MAX - 40, BAD},
    {"no columns", FIELD(Q, k), -512, BAD},
    {"columns below zero", FIELD(Q, k), -1024, BAD},
    {"columns that fill no block", FIELD(Q, k), 1, BAD},
    {"a block more", FIELD(Q, k), 256, BAD},
    {"all columns there are", FIELD(Q, k), INT32_MAX - 255 - 512, BAD},
    {"columns of a vector", FIELD(NORM, k), 16, BAD},
    {"no vector", FIELD(NORM, k), -64, BAD},
    {"a vector of two rows", FIELD(NORM, n), 1, BAD},
    {"no matrix in the stack", FIELD(EXPS, n_stack), -3, BAD},
    {"a stack below zero", FIELD(EXPS, n_stack), -4, BAD},
    {"one more in the stack", FIELD(EXPS, n_stack), 1, BAD},
    {"a stack of all there are", FIELD(EXPS, n_stack), INT32_MAX - 3, BAD},
    {"no bytes", FIELD(NORM, bytes), -256, BAD},
    {"fewer bytes", FIELD(Q, bytes), -64, BAD},
    {"more bytes", FIELD(Q, bytes), 64, BAD},
    {"bytes that are no 64", FIELD(Q, bytes), 1, BAD},
    {"bytes around all numbers", FIELD(Q, bytes), INT64_MIN, BAD},
    {"between two lines", FIELD(Q, offset), 1, BAD},
    {"between two halves of a line", FIELD(Q, offset), 32, BAD},
    {"the last one 64 on", FIELD(N - 1, offset), 64, BAD},
    {"far behind", FIELD(Q, offset), 1 << 30, BAD},
    {"around all numbers", FIELD(EMBD, offset), -64, BAD},
    {"around half of them", FIELD(EMBD, offset), INT64_MIN, BAD},
};

static void lies_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        const struct lie *l = &lies[i];
        uint8_t *copy = copy_image();
        uint8_t *at =
            copy + l->at +
            (l->entry < 0 ? 0 : sizeof(struct packed_head) + (size_t)l->entry * sizeof(struct packed_entry));
        uint64_t x = 0;
        memcpy(&x, at, l->size);
        x += (uint64_t)l->plus;
        memcpy(at, &x, l->size);
        sum_again(copy, image_size);
        err e = open_bytes(copy, image_size, NULL, NULL);
        if (e != l->want)
            print_error("%s: %s\n", l->what, err_name(e));
        assert_int_equal(e, l->want);
        free(copy);
    }
}

/* Sizes whose products leave 64 bits, with bytes that would fit what is left of them. */
static void sizes_that_overflow(void **state)
{
    static const struct {
        int n, k, n_stack;
        uint64_t bytes;
    } sizes[] = {
        {INT32_MAX, 1 << 30, 1, 1ull << 63}, {INT32_MAX, 1 << 30, 2, 0},
        {INT32_MAX, 1 << 30, 2, 64},         {INT32_MAX, 1 << 30, 3, 1ull << 63},
        {1 << 30, 1 << 30, 1 << 30, 64},     {INT32_MAX, INT32_MAX, INT32_MAX, 64},
        {1, INT32_MAX, INT32_MAX, 64},       {INT32_MAX, 1, INT32_MAX, 1 << 20},
    };
    struct packed_entry x;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *copy = copy_image(),
                *at = copy + sizeof(struct packed_head) + 7 * sizeof x; /* the router: f32 */
        memcpy(&x, at, sizeof x);
        x.n = sizes[i].n;
        x.k = sizes[i].k;
        x.n_stack = sizes[i].n_stack;
        x.bytes = sizes[i].bytes;
        memcpy(at, &x, sizeof x);
        sum_again(copy, image_size);
        assert_int_equal(open_bytes(copy, image_size, NULL, NULL), ERR_FORMAT);
        free(copy);
    }
}

static void words_are_exact(void **state)
{
    static const struct {
        const char role[24], fmt[12]; /* all NUL: as it is */
        err want;
    } words[] = {
        {"nonsense", "", NEW},
        {"aaaaaaaaaaaaaaaaaaaaaaaa", "", NEW}, /* it has no end */
        {"\0x", "", NEW},
        {"Q\0x", "", NEW},
        {"q", "", NEW},
        {"", "q9_9", NEW},
        {"", "q4_k_m_and_m", NEW},
        {"", "\0x", NEW},
        {"", "q4_k\0x", NEW},
        {"", "f16", BAD}, /* it would take other bytes */
    };
    struct packed_entry x;
    (void)state;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        uint8_t *copy = copy_image(), *at = copy + sizeof(struct packed_head) + Q * sizeof x;
        memcpy(&x, at, sizeof x);
        if (memcmp(words[i].role, (char[24]){0}, sizeof x.role) != 0)
            memcpy(x.role, words[i].role, sizeof x.role);
        if (memcmp(words[i].fmt, (char[12]){0}, sizeof x.fmt) != 0)
            memcpy(x.fmt, words[i].fmt, sizeof x.fmt);
        memcpy(at, &x, sizeof x);
        sum_again(copy, image_size);
        assert_int_equal(open_bytes(copy, image_size, NULL, NULL), words[i].want);
        free(copy);
    }
}

static void a_weight_is_there_once(void **state)
{
    const size_t head = sizeof(struct packed_head), each = sizeof(struct packed_entry);
    uint8_t *copy = copy_image();
    (void)state;
    memcpy(copy + head + (N - 1) * each, image + head, each);
    sum_again(copy, image_size);
    assert_int_equal(open_bytes(copy, image_size, NULL, NULL), ERR_FORMAT);
    free(copy);
}

/* Also a vector must not come as something else than f32. */
static void vectors_are_f32(void **state)
{
    uint8_t *copy = copy_image();
    struct packed_entry x;
    (void)state;
    memcpy(&x, copy + sizeof(struct packed_head) + NORM * sizeof x, sizeof x);
    memcpy(x.fmt, "f16", 4);
    x.bytes /= 2;
    memcpy(copy + sizeof(struct packed_head) + NORM * sizeof x, &x, sizeof x);
    sum_again(copy, image_size);
    assert_int_equal(open_bytes(copy, image_size, NULL, NULL), ERR_FORMAT);
    free(copy);
}

/* ---- files that are not finished -------------------------------------------------------------- */

static void an_unfinished_file_is_not_there(void **state)
{
    struct why why = {""};
    (void)state;
    unlink(path);
    packed_writer_close(NULL);
    for (int n = 0; n <= N; n += N / 2) {
        struct packed_writer *w = start(N, ERR_OK, &why);
        for (int i = 0; i < n; i++)
            assert_int_equal(put_entry(w, i, &why), ERR_OK);
        assert_int_not_equal(access(path, F_OK), 0);
        packed_writer_close(w);
        assert_int_equal(files_here(), 0);
    }
}

/* What was there under the name stays until the new one is whole. */
static void the_old_file_stays(void **state)
{
    struct packed_file *f;
    struct why why = {""};
    (void)state;
    write_file(1);
    struct packed_writer *w = start(N, ERR_OK, &why);
    assert_int_equal(put_entry(w, 0, &why), ERR_OK);
    packed_writer_close(w);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_OK);
    assert_int_equal(packed_file_head(f)->n_entries, 1);
    packed_file_close(f);
    write_file(N);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_OK);
    assert_int_equal(packed_file_head(f)->n_entries, N);
    packed_file_close(f);
    assert_int_equal(files_here(), 1);
}

/* A directory at the file's name: all is written, and the last step fails. */
static void the_name_is_taken(void **state)
{
    struct why why = {""};
    (void)state;
    unlink(path);
    assert_int_equal(mkdir(path, 0777), 0);
    struct packed_writer *w = start(1, ERR_OK, &why);
    assert_int_equal(put_entry(w, 0, &why), ERR_OK);
    assert_int_equal(packed_writer_finish(w, &why), ERR_IO);
    packed_writer_close(w);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(files_here(), 0);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* The system's limit on the size of files stands for a full disk. */
static void a_full_disk(void **state)
{
    struct why why = {""};
    (void)state;
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(PACKED_ALIGN);
    start(N, ERR_IO, &why); /* said at once */
    limit_files(RLIM_INFINITY);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(files_here(), 0);

    struct packed_writer *w = start(N, ERR_OK, &why);
    why.text[0] = '\0';
    limit_files(PACKED_ALIGN + 1000);
    err e = put_entry(w, 0, &why);
    limit_files(RLIM_INFINITY);
    assert_int_equal(e, ERR_IO);
    assert_non_null(strstr(why.text, path));
    packed_writer_close(w);
    assert_int_equal(files_here(), 0);

    w = start(1, ERR_OK, &why);
    assert_int_equal(put_entry(w, 0, &why), ERR_OK);
    limit_files(100); /* between head and table */
    e = packed_writer_finish(w, &why);
    limit_files(RLIM_INFINITY);
    assert_int_equal(e, ERR_IO);
    packed_writer_close(w);
    assert_int_equal(files_here(), 0);
}

static void no_such_directory(void **state)
{
    struct packed_writer *w = NULL;
    struct why why = {""};
    const struct packed_head head = {.last = 1};
    const struct packed_entry none = {.layer = 0};
    (void)state;
    assert_int_equal(packed_writer_open("/nonexistent/x.cordee", &head, &none, 0, &w, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/nonexistent/x.cordee"));
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_found),
        cmocka_unit_test(a_file_of_nothing),
        cmocka_unit_test(what_is_no_file),
        cmocka_unit_test_setup_teardown(every_byte_of_head_and_table_counts, read_image, drop_image),
        cmocka_unit_test_setup_teardown(too_short_and_too_long, read_image, drop_image),
        cmocka_unit_test_setup_teardown(a_damaged_weight_is_noticed_alone, read_image, drop_image),
        cmocka_unit_test_setup_teardown(lies_are_refused, read_image, drop_image),
        cmocka_unit_test_setup_teardown(sizes_that_overflow, read_image, drop_image),
        cmocka_unit_test_setup_teardown(words_are_exact, read_image, drop_image),
        cmocka_unit_test_setup_teardown(a_weight_is_there_once, read_image, drop_image),
        cmocka_unit_test_setup_teardown(vectors_are_f32, read_image, drop_image),
        cmocka_unit_test(an_unfinished_file_is_not_there),
        cmocka_unit_test(the_old_file_stays),
        cmocka_unit_test(the_name_is_taken),
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(no_such_directory),
    };
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/x.cordee", dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rmdir(dir) == 0 ? failed : 1;
}
