/* test_fault.c - each row is one rule and what the receiver then gets of the
 * messages 0..7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/transport.h"

enum { SENT = 8, BYTES = 64 };

/* Sends 0..7 through the rules with few buffers; got[] holds what came, -1 what
 * came damaged. Returns how many. */
static int run(const struct fault_rule *rules, int n_rules, int got[2 * SENT])
{
    static const int zero = 0;
    struct transport *ends[2], *t = NULL;
    struct transport_event ev;
    int n = 0;
    assert_int_equal(transport_loop_open(2, ends, NULL), ERR_OK);
    assert_int_equal(transport_fault_open(ends[0], rules, n_rules, &t, NULL), ERR_OK);
    assert_int_equal(transport_start(t, NULL, 0, BYTES, 2, NULL), ERR_OK);
    assert_int_equal(transport_start(ends[1], &zero, 1, BYTES, 1, NULL), ERR_OK);
    for (int i = 0; i < SENT || transport_unsent(t) > 0;) {
        struct tbuf *b = i < SENT ? transport_buf(t) : NULL;
        if (b) {
            memset(b->data, i++, BYTES);
            b->len = BYTES;
            assert_int_equal(transport_send(t, 1, b, NULL), ERR_OK);
        }
        assert_int_equal(transport_poll(t, &ev, NULL), ERR_AGAIN);
        while (transport_poll(ends[1], &ev, NULL) == ERR_OK) {
            const unsigned char *p = ev.buf->data;
            bool whole = memcmp(p, p + 1, BYTES - 1) == 0;
            assert_true(n < 2 * SENT);
            got[n++] = whole ? p[0] : -1;
            transport_release(ends[1], ev.buf);
        }
    }
    transport_close(t);
    transport_close(ends[1]);
    return n;
}

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        struct fault_rule rules[2];
        int n_rules, n_want;
        int want[2 * SENT];
    } rows[] = {
        {"without rules all arrives", {{0}}, 0, 8, {0, 1, 2, 3, 4, 5, 6, 7}},
        {"every third is dropped", {{FAULT_DROP, -1, 3, 0}}, 1, 6, {0, 1, 3, 4, 6, 7}},
        {"a delay keeps the order", {{FAULT_DELAY, 1, 4, 5}}, 1, 8, {0, 1, 2, 3, 4, 5, 6, 7}},
        {"every fourth is damaged", {{FAULT_CORRUPT, -1, 4, 0}}, 1, 8, {0, 1, 2, -1, 4, 5, 6, -1}},
        {"every second comes twice", {{FAULT_DUPLICATE, 1, 2, 0}}, 1, 12, {0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7}},
        {"a cut link stays cut", {{FAULT_CUT, 1, 5, 0}}, 1, 4, {0, 1, 2, 3}},
        {"a rule for another rank does nothing", {{FAULT_CUT, 0, 1, 0}}, 1, 8, {0, 1, 2, 3, 4, 5, 6, 7}},
        {"two rules: the copy of a delayed message is late too",
         {{FAULT_DUPLICATE, -1, 8, 0}, {FAULT_DELAY, -1, 8, 5}}, 2, 9, {0, 1, 2, 3, 4, 5, 6, 7, 7}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int got[2 * SENT];
        print_message("%s\n", rows[i].why);
        assert_int_equal(run(rows[i].rules, rows[i].n_rules, got), rows[i].n_want);
        assert_memory_equal(got, rows[i].want, (size_t)rows[i].n_want * sizeof *got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
