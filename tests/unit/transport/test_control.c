/* test_control.c - hubs and members over real sockets: joining, refusing, losing.
 *
 * Nothing here asserts how long anything takes; every wait is for an event, with
 * a deadline far beyond what it needs. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/control.h"
#include "transport/control_msg.h"

enum { PATIENCE_MS = 20000, EPOCH = 5, MEMBERS = 4 };

static struct control_options options(int member)
{
    return (struct control_options){
        .key = "a job's key", .epoch = EPOCH, .member = member, .max_members = MEMBERS, .interface = "127.0.0.1",
        .heartbeat_ms = 50, .dead_after_ms = 5000, .connect_ms = PATIENCE_MS,
    };
}

static struct control *listen_with(const struct control_options *o)
{
    struct control *hub = NULL;
    struct why why = {""};
    if (control_listen(o, &hub, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return hub;
}

static struct control *join(const struct control *hub, int member)
{
    struct control_options o = options(member);
    struct control *c = NULL;
    struct why why = {""};
    if (control_join(&o, control_address(hub), &c, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return c;
}

/* The next event, which must be of this kind. Its data is the caller's. */
static struct control_event next_event(struct control *c, enum control_kind kind)
{
    struct control_event ev = {0};
    struct pollfd p = {.fd = control_fd(c), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(control_poll(c, &ev), ERR_OK);
    if (ev.kind == CONTROL_LOST)
        print_message("lost %d: %s\n", ev.member, ev.reason);
    assert_int_equal(ev.kind, kind);
    return ev;
}

static void expect_quiet(struct control *c)
{
    struct control_event ev;
    struct pollfd p = {.fd = control_fd(c), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(control_poll(c, &ev), ERR_AGAIN);
}

static void expect_frame(struct control *c, int member, const void *data, size_t len)
{
    struct control_event ev = next_event(c, CONTROL_FRAME);
    assert_int_equal(ev.member, member);
    assert_int_equal(ev.len, len);
    assert_memory_equal(ev.data, data, len);
    free(ev.data);
}

static void expect_refused(const struct control_options *o, const char *address, err want, const char *reason)
{
    struct control *c = NULL;
    struct why why = {""};
    assert_int_equal(control_join(o, address, &c, &why), want);
    assert_null(c);
    print_message("refused: %s\n", why.text);
    assert_non_null(strstr(why.text, reason));
}

static void test_members_join_talk_and_leave(void **state)
{
    (void)state;
    struct control_options o = options(0);
    struct control *hub = listen_with(&o), *m[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        m[i] = join(hub, i);
        assert_int_equal(next_event(hub, CONTROL_JOINED).member, i);
    }
    for (int i = 0; i < MEMBERS; i++) {
        assert_int_equal(control_send(m[i], -1, "from", 4, NULL), ERR_OK);
        expect_frame(hub, i, "from", 4);
        assert_int_equal(control_send(hub, i, "", 0, NULL), ERR_OK);
        expect_frame(m[i], -1, "", 0);
    }
    expect_quiet(hub);
    control_close(m[1], PATIENCE_MS);
    struct control_event ev = next_event(hub, CONTROL_LOST);
    assert_int_equal(ev.member, 1);
    assert_string_equal(ev.reason, "closed");
    assert_int_equal(control_send(hub, 1, "x", 1, NULL), ERR_PEER);
    control_close(hub, PATIENCE_MS);
    for (int i = 0; i < MEMBERS; i++) {
        if (i == 1)
            continue;
        assert_string_equal(next_event(m[i], CONTROL_LOST).reason, "closed");
        control_close(m[i], 0);
    }
}

static void test_strangers_are_refused(void **state)
{
    (void)state;
    struct control_options o = options(0), wrong;
    struct control *hub = listen_with(&o), *first = join(hub, 2);
    const char *address = control_address(hub);
    next_event(hub, CONTROL_JOINED);

    wrong = options(1);
    wrong.key = "another key";
    expect_refused(&wrong, address, ERR_PEER, "wrong key");
    wrong = options(1);
    wrong.epoch = EPOCH - 1;
    expect_refused(&wrong, address, ERR_PEER, "epoch 4, this is epoch 5");
    wrong = options(MEMBERS);
    expect_refused(&wrong, address, ERR_PEER, "member 4");
    wrong = options(2);
    expect_refused(&wrong, address, ERR_PEER, "here already");
    expect_quiet(hub);

    control_close(first, PATIENCE_MS);
    next_event(hub, CONTROL_LOST);
    expect_refused(&wrong, address, ERR_PEER, "was lost");
    expect_refused(&wrong, address, ERR_PEER, "was lost");
    control_close(hub, 0);
}

static void test_bad_options_are_named(void **state)
{
    (void)state;
    struct control_options o = options(0);
    struct control *c = NULL;
    struct why why;
    o.connect_ms = 100;
    expect_refused(&o, "127.0.0.1:1", ERR_TIMEOUT, "Connection refused");
    expect_refused(&o, "nonsense", ERR_INVAL, "HOST:PORT");
    expect_refused(&o, ",,", ERR_INVAL, "no address");
    o.key = "";
    expect_refused(&o, "127.0.0.1:1", ERR_INVAL, "no key");
    o = options(0);
    o.interface = "no-such-interface";
    assert_int_equal(control_listen(&o, &c, &why), ERR_INVAL);
    o.interface = "127.0.0.1";
    struct control *busy = listen_with(&o);
    o.port_first = o.port_last = (uint16_t)atoi(strrchr(control_address(busy), ':') + 1);
    assert_int_equal(control_listen(&o, &c, &why), ERR_IO);
    assert_non_null(strstr(why.text, "in use"));
    o.port_last = (uint16_t)(o.port_first + 50);
    struct control *next = listen_with(&o); /* the range has another */
    control_close(busy, 0);
    control_close(next, 0);
}

static void test_the_first_address_that_answers_is_taken(void **state)
{
    (void)state;
    char list[256], path[64];
    struct control_options o = options(0), m = options(1);
    struct why why = {""};
    struct control *hub, *c = NULL;
    snprintf(path, sizeof path, "unix:/tmp/cordee-control-%d", (int)getpid());
    o.interface = path;
    hub = listen_with(&o);
    assert_string_equal(control_address(hub), path);
    snprintf(list, sizeof list, "127.0.0.1:1,[::1]:1,%s", path);
    assert_int_equal(control_join(&m, list, &c, &why), ERR_OK);
    next_event(hub, CONTROL_JOINED);
    control_close(c, 0);
    control_close(hub, 0);
    assert_int_not_equal(access(path + 5, F_OK), 0);

    /* Everywhere: named with loopback last; any of them will do. */
    o.interface = NULL;
    hub = listen_with(&o);
    print_message("addresses: %s\n", control_address(hub));
    assert_non_null(strstr(control_address(hub), "127.0.0.1:"));
    c = join(hub, 1);
    control_close(c, 0);
    control_close(hub, 0);
}

static void test_long_frames_both_ways(void **state)
{
    (void)state;
    enum { LEN = 24 << 20, N = 6 };
    struct control_options o = options(0);
    struct control *hub = listen_with(&o), *m = join(hub, 0);
    char *data = malloc(LEN);
    next_event(hub, CONTROL_JOINED);
    for (size_t i = 0; i < LEN; i++)
        data[i] = (char)(i * 2654435761u >> 24);
    for (int i = 0; i < N; i++) { /* more than fits: some are told to wait */
        struct why why;
        err e;
        while ((e = control_send(m, -1, data, LEN - (size_t)i, &why)) == ERR_FULL) {
            print_message("full\n");
            sleep_us(10000);
        }
        assert_int_equal(e, ERR_OK);
        if (i == 0)
            assert_int_equal(control_send(hub, 0, data, LEN, NULL), ERR_OK);
        if (i >= 3)
            expect_frame(hub, 0, data, LEN - (size_t)i + 3);
    }
    for (int i = 3; i > 0; i--)
        expect_frame(hub, 0, data, LEN - N + (size_t)i);
    expect_frame(m, -1, data, LEN);
    assert_int_equal(control_send(m, -1, data, (64u << 20) + 1, NULL), ERR_LIMIT);
    free(data);
    control_close(m, 0);
    next_event(hub, CONTROL_LOST);
    control_close(hub, 0);
}

static void test_what_is_queued_leaves_before_the_good_bye(void **state)
{
    (void)state;
    enum { LEN = 8 << 20 };
    struct control_options o = options(0);
    struct control *hub = listen_with(&o), *m = join(hub, 0);
    char *data = calloc(LEN, 1);
    next_event(hub, CONTROL_JOINED);
    assert_int_equal(control_send(m, -1, data, LEN, NULL), ERR_OK);
    control_close(m, PATIENCE_MS);
    expect_frame(hub, 0, data, LEN);
    assert_string_equal(next_event(hub, CONTROL_LOST).reason, "closed");
    free(data);
    control_close(hub, 0);
}

/* Bytes that no member sends, before and after the handshake. */
static int dial_raw(const struct control *hub)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    a.sin_port = htons((uint16_t)atoi(strrchr(control_address(hub), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void read_to_end(int fd)
{
    char text[4096];
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t n;
    while ((n = recv(fd, text, sizeof text, 0)) > 0)
        continue;
    assert_true(n == 0 || errno == ECONNRESET); /* closed by the hub, not timed out */
    close(fd);
}

static void test_hostile_bytes_end_only_their_own_connection(void **state)
{
    (void)state;
    struct control_options o = options(0);
    struct control *hub = listen_with(&o), *good = join(hub, 0);
    char junk[4096];
    next_event(hub, CONTROL_JOINED);
    memset(junk, 0xff, sizeof junk);

    int fd = dial_raw(hub);
    send(fd, junk, sizeof junk, MSG_NOSIGNAL);
    read_to_end(fd);
    fd = dial_raw(hub);
    send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
    read_to_end(fd);
    fd = dial_raw(hub); /* a hello of the right length, and a lie */
    memset(junk, 1, sizeof junk);
    junk[0] = 73;
    junk[1] = CONTROL_MSG_HELLO;
    send(fd, junk, 74, MSG_NOSIGNAL);
    read_to_end(fd);
    fd = dial_raw(hub); /* says nothing at all: thrown out after a while */
    read_to_end(fd);

    /* More strangers than there are places do not keep a member out. */
    int crowd[40];
    for (int i = 0; i < 40; i++)
        crowd[i] = dial_raw(hub);
    struct control *late = join(hub, 1);
    assert_int_equal(next_event(hub, CONTROL_JOINED).member, 1);
    for (int i = 0; i < 40; i++)
        close(crowd[i]);
    assert_int_equal(control_send(good, -1, "still here", 10, NULL), ERR_OK);
    expect_frame(hub, 0, "still here", 10);
    control_close(late, 0);
    control_close(good, 0);
    control_close(hub, 0);
}

/* A hand-made member that knows the key, for what follows the handshake. */
static int raw_member(const struct control *hub, uint32_t number, bool confirm)
{
    struct control_auth a = {.member = number, .epoch = EPOCH};
    struct control_view m;
    struct buf out;
    uint8_t in[42];
    struct why why;
    int fd = dial_raw(hub);
    assert_int_equal(recv(fd, in, sizeof in, MSG_WAITALL), sizeof in);
    assert_int_equal(control_msg_get(in, sizeof in, 100, &m), sizeof in);
    assert_true(control_get_challenge(&m, &a));
    buf_init(&out);
    assert_int_equal(control_put_hello(&out, &a, "a job's key", &why), ERR_OK);
    if (confirm)
        control_msg_put(&out, CONTROL_MSG_BEAT, NULL, 0);
    assert_int_equal(send(fd, out.data, out.len, MSG_NOSIGNAL), (ssize_t)out.len);
    buf_fini(&out);
    return fd;
}

static void test_a_member_that_breaks_the_protocol_is_lost(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[6];
        size_t len;
    } rows[] = {
        {{0xff, 0xff, 0xff, 0xff, 0x7f}, 5},  /* 34 GB announced */
        {{0}, 1},                             /* no kind */
        {{1, CONTROL_MSG_WELCOME}, 2},        /* a kind that is not its to say */
        {{1, 200}, 2},
    };
    struct control_options o = options(0);
    struct control *hub = listen_with(&o);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int fd = raw_member(hub, (uint32_t)i, true);
        next_event(hub, CONTROL_JOINED);
        send(fd, rows[i].bytes, rows[i].len, MSG_NOSIGNAL);
        assert_non_null(strstr(next_event(hub, CONTROL_LOST).reason, "broke the protocol"));
        read_to_end(fd);
    }
    control_close(hub, 0);
}

/* It gave up while it was being welcomed: the owner never hears of it, and the
 * number is free for its next attempt. */
static void test_a_welcome_that_nobody_hears_spends_no_number(void **state)
{
    (void)state;
    struct control_options o = options(0);
    struct control *hub = listen_with(&o);
    uint8_t welcome[34];
    int fd = raw_member(hub, 1, false);
    assert_int_equal(recv(fd, welcome, sizeof welcome, MSG_WAITALL), sizeof welcome);
    struct control *m = join(hub, 1);
    assert_int_equal(next_event(hub, CONTROL_JOINED).member, 1);
    expect_quiet(hub);
    close(fd);
    fd = raw_member(hub, 2, false);
    assert_int_equal(recv(fd, welcome, sizeof welcome, MSG_WAITALL), sizeof welcome);
    close(fd);
    expect_quiet(hub);
    control_close(m, 0);
    next_event(hub, CONTROL_LOST);
    expect_quiet(hub);
    control_close(hub, 0);
}

/* Other processes, so that they can be stopped like a hanging node. They are this
 * program started anew ("member ADDRESS NUMBER" or "hub"), not a fork of a process
 * with threads. Each writes one block to stdout when it is ready: a hub its
 * address. */
enum { BLOCK = 256 };

static pid_t start_process(const char *role, const char *address, int number, char block[BLOCK])
{
    int pipes[2];
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(pipes[1], STDOUT_FILENO) < 0)
            _exit(1);
        execl("/proc/self/exe", "test_control", role, address, text, (char *)NULL);
        _exit(1);
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], block, BLOCK), BLOCK);
    close(pipes[0]);
    return pid;
}

static void end_process(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int other_process(const char *role, const char *address, int number)
{
    struct control_options o = options(number);
    struct control *c;
    char block[BLOCK] = "";
    bool hub = strcmp(role, "hub") == 0;
    err e = hub ? control_listen(&o, &c, NULL) : control_join(&o, address, &c, NULL);
    if (e != ERR_OK)
        return 1;
    if (hub)
        snprintf(block, sizeof block, "%s", control_address(c));
    if (write(STDOUT_FILENO, block, sizeof block) != sizeof block)
        return 1;
    pause();
    return 0;
}

static void test_silence_and_death_are_noticed(void **state)
{
    (void)state;
    struct control_options o = options(0);
    char block[BLOCK];
    o.dead_after_ms = 1000;
    struct control *hub = listen_with(&o);

    pid_t stopped = start_process("member", control_address(hub), 0, block);
    next_event(hub, CONTROL_JOINED);
    kill(stopped, SIGSTOP);
    struct control_event ev = next_event(hub, CONTROL_LOST);
    assert_int_equal(ev.member, 0);
    assert_non_null(strstr(ev.reason, "nothing heard"));
    end_process(stopped);

    pid_t killed = start_process("member", control_address(hub), 1, block);
    next_event(hub, CONTROL_JOINED);
    end_process(killed);
    ev = next_event(hub, CONTROL_LOST);
    assert_int_equal(ev.member, 1);
    assert_null(strstr(ev.reason, "nothing heard")); /* the socket says it at once */
    control_close(hub, 0);
}

static atomic_int fenced;
static void on_fence(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

/* A hub that hangs: the member calls it lost, then fences itself, once. */
static void test_a_member_without_its_hub_is_fenced(void **state)
{
    (void)state;
    char address[BLOCK];
    pid_t pid = start_process("hub", "", 0, address);
    struct control_options o = options(2);
    struct control *c = NULL;
    o.dead_after_ms = 1000;
    o.fence_after_ms = 1500;
    o.on_fence = on_fence;
    o.fence_ctx = &fenced;
    assert_int_equal(control_join(&o, address, &c, NULL), ERR_OK);
    kill(pid, SIGSTOP);
    assert_int_equal(next_event(c, CONTROL_LOST).member, -1);
    for (uint64_t until = now_ms() + PATIENCE_MS; !atomic_load(&fenced) && now_ms() < until;)
        sleep_us(10000);
    assert_int_equal(atomic_load(&fenced), 1);
    sleep_us(200000);
    assert_int_equal(atomic_load(&fenced), 1);
    control_close(c, 0);
    end_process(pid);
}

/* Heartbeats carry a quiet connection well past the time of death. */
static void test_a_quiet_member_lives(void **state)
{
    (void)state;
    struct control_options o = options(0);
    o.dead_after_ms = 1000;
    struct control *hub = listen_with(&o), *m = join(hub, 3);
    next_event(hub, CONTROL_JOINED);
    sleep_us(2500 * 1000);
    expect_quiet(hub);
    expect_quiet(m);
    control_close(m, 0);
    control_close(hub, 0);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return other_process(argv[1], argv[2], atoi(argv[3]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_join_talk_and_leave),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_bad_options_are_named),
        cmocka_unit_test(test_the_first_address_that_answers_is_taken),
        cmocka_unit_test(test_long_frames_both_ways),
        cmocka_unit_test(test_what_is_queued_leaves_before_the_good_bye),
        cmocka_unit_test(test_hostile_bytes_end_only_their_own_connection),
        cmocka_unit_test(test_a_member_that_breaks_the_protocol_is_lost),
        cmocka_unit_test(test_a_welcome_that_nobody_hears_spends_no_number),
        cmocka_unit_test(test_silence_and_death_are_noticed),
        cmocka_unit_test(test_a_member_without_its_hub_is_fenced),
        cmocka_unit_test(test_a_quiet_member_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
