/* Packed files: every damage and every lie is refused with its reason. */
#include <sys/stat.h>
#include <xxhash.h>

#include "packed_made.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_byte_of_head_and_table_counts, read_image, drop_image),
        cmocka_unit_test_setup_teardown(too_short_and_too_long, read_image, drop_image),
        cmocka_unit_test_setup_teardown(a_damaged_weight_is_noticed_alone, read_image, drop_image),
        cmocka_unit_test_setup_teardown(lies_are_refused, read_image, drop_image),
        cmocka_unit_test_setup_teardown(sizes_that_overflow, read_image, drop_image),
        cmocka_unit_test_setup_teardown(words_are_exact, read_image, drop_image),
        cmocka_unit_test_setup_teardown(a_weight_is_there_once, read_image, drop_image),
        cmocka_unit_test_setup_teardown(vectors_are_f32, read_image, drop_image),
    };
    RUN_WITH_DIRECTORY(tests);
}
