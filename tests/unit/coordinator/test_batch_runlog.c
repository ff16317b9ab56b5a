/* The run log, the index of input lines, manifests: what a resumed run stands on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "coordinator/batch/lines.h"
#include "coordinator/batch/manifest.h"
#include "coordinator/batch/runlog.h"

static char dir[] = "/tmp/cordee-runlog-XXXXXX", path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/file", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_file(const char *text, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

/* ---- other file systems ----------------------------------------------------------------
 *
 * These stand in for the C library's: with lock_errno set there are no locks, with
 * write_errno a write stops after ten bytes and then fails. */

static int lock_errno, write_errno;
static bool short_write;

int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *argument = va_arg(args, void *);
    va_end(args);
    if (command == F_OFD_SETLK && lock_errno) {
        errno = lock_errno;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    if (!write_errno)
        return syscall(SYS_pwritev, fd, v, n, at, 0);
    short_write = !short_write;
    if (short_write)
        return pwrite(fd, v->iov_base, 10, at);
    errno = write_errno;
    return -1;
}

/* ---- the log --------------------------------------------------------------------------- */

static err collect(void *ctx, uint32_t kind, uint64_t offset, const char *body, size_t len, struct why *why)
{
    struct buf *seen = ctx;
    (void)offset;
    (void)why;
    buf_printf(seen, "%u:%.*s;", kind, (int)len, body);
    return ERR_OK;
}

static struct runlog *open_log(void)
{
    struct why why;
    struct runlog *l = NULL;
    if (runlog_open(path, &l, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return l;
}

static void assert_log(const char *expected)
{
    struct runlog *l = open_log();
    struct buf seen = { 0 };
    assert_int_equal(runlog_each(l, collect, &seen, NULL), ERR_OK);
    assert_string_equal(seen.data ? seen.data : "", expected);
    buf_fini(&seen);
    runlog_close(l);
}

static void append(const char *a, const char *b, uint64_t *offset)
{
    struct runlog *l = open_log();
    assert_int_equal(runlog_append(l, 7, a, strlen(a), b, strlen(b), offset, NULL), ERR_OK);
    assert_int_equal(runlog_sync(l, NULL), ERR_OK);
    runlog_close(l);
}

static void records_come_back(void **state)
{
    uint64_t first, second;
    struct buf body = { 0 };
    (void)state;
    unlink(path);
    append("one", "", &first);
    append("t", "wo", &second);
    append("", "", NULL);
    assert_log("7:one;7:two;7:;");
    struct runlog *l = open_log();
    assert_false(runlog_is_empty(l));
    assert_int_equal(runlog_read(l, second, &body, NULL), ERR_OK);
    assert_string_equal(body.data, "two");
    assert_int_not_equal(runlog_read(l, second + 1, &body, NULL), ERR_OK);
    buf_fini(&body);
    runlog_close(l);
}

/* A log of "one" and "two", and its bytes; returns how many. */
static size_t two_entries(char *bytes, size_t room)
{
    unlink(path);
    append("one", "", NULL);
    append("two", "", NULL);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(bytes, 1, room, f);
    fclose(f);
    return len;
}

/* Cut the file at every byte: what was whole before is there, nothing else is. */
static void torn_tails_are_cut(void **state)
{
    static const char *const expected[] = { "", "7:one;", "7:one;7:two;" };
    char whole[256];
    (void)state;
    size_t len = two_entries(whole, sizeof whole);
    assert_int_equal(len, 2 * (24 + 3));
    for (size_t cut = 0; cut <= len; cut++) {
        write_file(whole, cut);
        assert_log(expected[cut / 27]);
        append("new", "", NULL);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, (cut / 27 + 1) * 27);
    }
}

static void damage_is_noticed(void **state)
{
    char whole[256];
    (void)state;
    size_t len = two_entries(whole, sizeof whole);
    for (size_t at = 27; at < len; at++) {
        whole[at] ^= 0x40;
        write_file(whole, len);
        assert_log("7:one;");
        whole[at] ^= 0x40;
    }
}

static void other_files_are_left_alone(void **state)
{
    struct runlog *l = NULL;
    struct why why;
    struct stat st;
    (void)state;
    write_file("{\"custom_id\": 1}\n", 17);
    assert_int_equal(runlog_open(path, &l, &why), ERR_FORMAT);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 17);
}

static void one_owner_at_a_time(void **state)
{
    struct runlog *again = NULL;
    struct why why;
    (void)state;
    unlink(path);
    struct runlog *l = open_log();
    assert_int_equal(runlog_open(path, &again, &why), ERR_FULL);
    runlog_close(l);
    runlog_close(open_log());
}

/* ---- lines -------------------------------------------------------------------------------- */

static err open_lines(const char *text, struct lines **out, struct why *why)
{
    write_file(text, strlen(text));
    return lines_open(path, "custom_id", out, why);
}

static void lines_are_found(void **state)
{
    struct lines *l = NULL;
    struct buf text = { 0 };
    struct why why;
    (void)state;
    assert_int_equal(open_lines("{\"custom_id\":\"a\"}\n\n  \t\r\nnot json\r\n{\"custom_id\":\"b\"}", &l, &why), ERR_OK);
    assert_int_equal(lines_count(l), 3);
    assert_int_equal(lines_number(l, 0), 1);
    assert_int_equal(lines_number(l, 1), 4);
    assert_int_equal(lines_get(l, 2, &text, &why), ERR_OK);
    assert_string_equal(text.data, "{\"custom_id\":\"b\"}");
    assert_int_equal(lines_get(l, 1, &text, &why), ERR_OK);
    assert_string_equal(text.data, "not json");
    buf_fini(&text);
    lines_close(l);
    assert_int_equal(open_lines("", &l, &why), ERR_OK);
    assert_int_equal(lines_count(l), 0);
    assert_string_equal(lines_sha256(l), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    lines_close(l);
}

static void ids_are_unique(void **state)
{
    struct lines *l = NULL;
    struct why why;
    (void)state;
    assert_int_equal(open_lines("{\"custom_id\":\"a\"}\n{\"custom_id\":\"b\"}\nx\n{\"custom_id\":\"\\u0061\"}\n", &l, &why),
                     ERR_INVAL);
    assert_non_null(strstr(why.text, "lines 1 and 4"));
    /* what has no id, or one that is no string, cannot clash */
    assert_int_equal(open_lines("{\"custom_id\":1}\n{\"custom_id\":1}\n{}\n{}\n", &l, &why), ERR_OK);
    lines_close(l);
}

/* ---- manifests ------------------------------------------------------------------------------- */

static void manifest_of(const char *name, const char *value, struct buf *out)
{
    struct manifest m;
    manifest_init(&m);
    manifest_put(&m, "command", "batch");
    manifest_put(&m, name, value);
    assert_int_equal(manifest_text(&m, out, NULL), ERR_OK);
    manifest_fini(&m);
}

static void manifests_name_what_changed(void **state)
{
    struct buf a = { 0 }, b = { 0 };
    struct why why;
    (void)state;
    manifest_of("precision", "fast", &a);
    manifest_of("precision", "fast", &b);
    assert_int_equal(manifest_compare(a.data, a.len, b.data, b.len, &why), ERR_OK);
    manifest_of("precision", "exact \"quoted\"", &b);
    assert_int_equal(manifest_compare(a.data, a.len, b.data, b.len, &why), ERR_INVAL);
    assert_non_null(strstr(why.text, "precision was \"fast\", is \"exact"));
    assert_null(strstr(why.text, "command"));
    manifest_of("context", "512", &b);
    assert_int_equal(manifest_compare(a.data, a.len, b.data, b.len, &why), ERR_INVAL);
    assert_non_null(strstr(why.text, "context was \"(absent)\""));
    assert_non_null(strstr(why.text, "precision was \"fast\", is \"(absent)\""));
    assert_int_equal(manifest_compare("rubbish", 7, b.data, b.len, &why), ERR_FORMAT);
    buf_fini(&a);
    buf_fini(&b);
}

static void a_used_up_quota_loses_nothing(void **state)
{
    const int numbers[] = { EDQUOT, ENOSPC };
    const char *const names[] = { "EDQUOT", "ENOSPC" };
    struct buf seen = { 0 };
    struct why why;
    (void)state;
    unlink(path);
    struct runlog *l = open_log();
    assert_int_equal(runlog_append(l, 7, "first", 5, NULL, 0, NULL, &why), ERR_OK);
    for (int i = 0; i < 2; i++) {
        write_errno = numbers[i];
        assert_int_equal(runlog_append(l, 7, "lost", 4, NULL, 0, NULL, &why), ERR_IO);
        assert_non_null(strstr(why.text, names[i]));
        assert_non_null(strstr(why.text, "run the same command again"));
        write_errno = 0;
    }
    assert_int_equal(runlog_append(l, 7, "second", 6, NULL, 0, NULL, &why), ERR_OK);
    runlog_close(l);
    l = open_log();
    assert_int_equal(runlog_each(l, collect, &seen, &why), ERR_OK);
    assert_string_equal(seen.data, "7:first;7:second;");
    runlog_close(l);
    buf_fini(&seen);
    unlink(path);
}

static void write_lock(const char *lock, const char *host, long pid)
{
    FILE *f = fopen(lock, "w");
    assert_non_null(f);
    fprintf(f, "%s %ld\n", host, pid);
    fclose(f);
}

static void where_there_are_no_locks_a_file_stands_in(void **state)
{
    const int numbers[] = { ENOLCK, EOPNOTSUPP, ENOSYS };
    char lock[80], host[256] = "";
    struct runlog *l, *other = NULL;
    struct why why;
    (void)state;
    snprintf(lock, sizeof lock, "%s.lock", path);
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 3; i++) {
        lock_errno = numbers[i];
        l = open_log();
        assert_int_equal(access(lock, F_OK), 0);
        assert_int_equal(runlog_open(path, &other, &why), ERR_FULL);
        assert_non_null(strstr(why.text, lock));
        assert_int_equal(access(lock, F_OK), 0); /* the loser did not take it along */
        runlog_close(l);
        assert_int_equal(access(lock, F_OK), -1);
    }
    write_lock(lock, host, 0x7ffffffe); /* its owner is gone */
    runlog_close(open_log());
    write_lock(lock, "another-host", 1); /* nobody can tell from here */
    assert_int_equal(runlog_open(path, &other, &why), ERR_FULL);
    unlink(lock);
    lock_errno = 0;
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),    cmocka_unit_test(torn_tails_are_cut),
        cmocka_unit_test(damage_is_noticed),    cmocka_unit_test(other_files_are_left_alone),
        cmocka_unit_test(one_owner_at_a_time),  cmocka_unit_test(lines_are_found),
        cmocka_unit_test(ids_are_unique),       cmocka_unit_test(manifests_name_what_changed),
        cmocka_unit_test(a_used_up_quota_loses_nothing),
        cmocka_unit_test(where_there_are_no_locks_a_file_stands_in),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
