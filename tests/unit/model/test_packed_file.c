/* Packed files: what is written is found again, and a file that could not be finished is not there. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "packed_made.h"

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

/* A second writer of the same file is refused, and leaves the first one's alone. */
static void one_writer_at_a_time(void **state)
{
    struct packed_entry entries[1] = {entry_of(&shapes[0])};
    const struct packed_head head = {.model = "0123456789abcde", .last = LAST, .embed = 1};
    struct packed_writer *second = NULL;
    struct packed_file *f;
    struct why why = {""};
    (void)state;
    unlink(path);
    struct packed_writer *w = start(1, ERR_OK, &why);
    assert_int_equal(packed_writer_open(path, &head, entries, 1, &second, &why), ERR_IO);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(put_entry(w, 0, &why), ERR_OK);
    assert_int_equal(packed_writer_finish(w, &why), ERR_OK);
    packed_writer_close(w);
    assert_int_equal(packed_file_open(path, &f, &why), ERR_OK);
    packed_file_close(f);
    write_file(1); /* now it may */
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
        cmocka_unit_test(an_unfinished_file_is_not_there),
        cmocka_unit_test(the_old_file_stays),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(the_name_is_taken),
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(no_such_directory),
    };
    RUN_WITH_DIRECTORY(tests);
}
