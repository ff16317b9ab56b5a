/* test_wire_batch.c - random batches come back as they went; damaged or wrong
 * ones are refused, or decode to something that still keeps every limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"

enum { MAX_ROWS = 40, MAX_SEQS = 12, SPACE = 1 << 14, DESC = 1 << 14, LIST = 8 };

static const struct wire_limits limits = {
    .max_rows = MAX_ROWS, .max_seqs = MAX_SEQS, .max_slots = 100, .n_pages = 500, .max_context = 256,
    .n_vocab = 1000, .page_rows = 16, .n_adapters = 2,
};

/* A batch with all that it points to. */
struct sample {
    struct wire_batch b;
    struct wire_row rows[MAX_ROWS];
    struct wire_seq seqs[MAX_SEQS];
    struct wire_sampler samplers[MAX_SEQS];
    uint32_t pages[MAX_SEQS][16];
    int32_t tokens[LIST];
    struct { int32_t token; float bias; } bias[LIST];
};

static uint32_t seed = 1;
static uint32_t draw(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void fill_seq(struct sample *s, uint32_t i)
{
    struct wire_seq *q = &s->seqs[i];
    *q = (struct wire_seq){.slot = i * 8 + draw(8), .n_pages = 16, .pages = s->pages[i], .adapter = draw(3)};
    for (int p = 0; p < 16; p++)
        s->pages[i][p] = draw(limits.n_pages);
    if (draw(2)) {
        s->samplers[i] = (struct wire_sampler){
            .temperature = 0.5f, .top_p = 0.9f, .min_p = 0.1f, .repetition_penalty = 1.1f,
            .top_k = (int32_t)draw(50), .seed = draw(1000), .choice = i, .n_bias = draw(LIST), .n_end = draw(LIST),
            .n_prompt = draw(LIST), .bias = s->bias, .end = s->tokens, .prompt = s->tokens,
        };
        q->sampler = &s->samplers[i];
    }
}

static void fill(struct sample *s)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < LIST; i++) {
        s->tokens[i] = (int32_t)draw(1000);
        s->bias[i].token = (int32_t)draw(1000);
        s->bias[i].bias = (float)draw(100) - 50;
    }
    uint32_t n_seqs = 1 + draw(MAX_SEQS), n_gen_seqs = draw(n_seqs + 1), n = 0;
    for (uint32_t i = 0; i < n_seqs; i++) {
        fill_seq(s, i);
        bool gen = i < n_gen_seqs;
        int32_t pos = 1 + (int32_t)draw(200);
        for (uint32_t k = 1 + draw(3); k > 0; k--, n++, pos++) {
            bool ring = gen && draw(2);
            s->rows[n] = (struct wire_row){
                .token = ring ? -1 : (int32_t)draw(1000), .pos = pos, .target = (int32_t)draw(1000),
                .seq = (uint16_t)i, .n_top = (uint8_t)draw(WIRE_MAX_TOP + 1),
                .flags = (uint8_t)((gen ? WIRE_ROW_GENERATED : 0) | (ring ? WIRE_ROW_RING : 0) | WIRE_ROW_SAMPLE),
            };
            s->b.n_gen += gen;
        }
    }
    s->b.n_rows = n;
    s->b.n_seqs = n_seqs;
    s->b.rows = s->rows;
    s->b.seqs = s->seqs;
}

static uint64_t desc[DESC / 8], space[SPACE / 8];

static size_t put(const struct wire_batch *b)
{
    size_t len = wire_batch_bytes(b);
    assert_true(len <= DESC && len % 64 == 0);
    memset(desc, 0xee, sizeof desc);
    wire_put_batch(desc, b);
    return len;
}

static err get(size_t len, struct wire_batch *out)
{
    struct why why;
    assert_true(wire_batch_space(&limits) <= SPACE);
    return wire_get_batch(desc, len, &limits, space, sizeof space, out, &why);
}

static void assert_same_sampler(const struct wire_sampler *a, const struct wire_sampler *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (!a)
        return;
    assert_memory_equal(a, b, offsetof(struct wire_sampler, bias));
    assert_memory_equal(a->bias, b->bias, a->n_bias * 8);
    assert_memory_equal(a->end, b->end, a->n_end * 4);
    assert_memory_equal(a->prompt, b->prompt, a->n_prompt * 4);
}

static void test_random_batches_come_back(void **state)
{
    (void)state;
    static struct sample s;
    for (int round = 0; round < 500; round++) {
        struct wire_batch b;
        fill(&s);
        assert_int_equal(get(put(&s.b), &b), ERR_OK);
        assert_int_equal(b.n_rows, s.b.n_rows);
        assert_int_equal(b.n_gen, s.b.n_gen);
        assert_int_equal(b.n_seqs, s.b.n_seqs);
        assert_memory_equal(b.rows, s.rows, b.n_rows * sizeof *b.rows);
        for (uint32_t i = 0; i < b.n_seqs; i++) {
            assert_int_equal(b.seqs[i].slot, s.seqs[i].slot);
            assert_int_equal(b.seqs[i].n_pages, s.seqs[i].n_pages);
            assert_int_equal(b.seqs[i].adapter, s.seqs[i].adapter);
            assert_memory_equal(b.seqs[i].pages, s.pages[i], b.seqs[i].n_pages * 4);
            assert_same_sampler(s.seqs[i].sampler, b.seqs[i].sampler);
        }
    }
}

/* What a stage relies on without looking again. */
static void assert_within_limits(const struct wire_batch *b)
{
    assert_true(b->n_rows >= 1 && b->n_rows <= limits.max_rows && b->n_gen <= b->n_rows);
    assert_true(b->n_seqs >= 1 && b->n_seqs <= limits.max_seqs);
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const struct wire_row *r = &b->rows[i];
        assert_true(r->token < limits.n_vocab && (r->token >= 0 || (r->flags & WIRE_ROW_RING)));
        assert_true(r->pos >= 0 && (uint32_t)r->pos < limits.max_context && r->seq < b->n_seqs);
        assert_true((uint32_t)r->pos / limits.page_rows < b->seqs[r->seq].n_pages);
    }
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        assert_true(b->seqs[i].slot < limits.max_slots && b->seqs[i].n_pages <= limits.n_pages);
        for (uint32_t p = 0; p < b->seqs[i].n_pages; p++)
            assert_true(b->seqs[i].pages[p] < limits.n_pages);
    }
}

static void test_every_truncation_is_refused_and_every_flip_is_harmless(void **state)
{
    (void)state;
    static struct sample s;
    struct wire_batch b;
    for (int round = 0; round < 4; round++) {
        fill(&s);
        size_t len = put(&s.b);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(get(cut, &b), ERR_FORMAT);
        for (size_t bit = 0; bit < len * 8; bit++) {
            ((unsigned char *)desc)[bit / 8] ^= (unsigned char)(1 << bit % 8);
            if (get(len, &b) == ERR_OK)
                assert_within_limits(&b);
            ((unsigned char *)desc)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
    }
}

static struct wire_row ok_rows(int i)
{
    return (struct wire_row){.token = 3, .pos = 20 + i, .seq = (uint16_t)(i / 2), .flags = 0};
}

#define WRONG(name, change)                                                                    \
    static void name(void **state)                                                             \
    {                                                                                          \
        (void)state;                                                                           \
        uint32_t pages[] = {1, 2};                                                             \
        struct wire_row r[] = {ok_rows(0), ok_rows(1), ok_rows(2), ok_rows(3)};                \
        struct wire_sampler sampler = {.temperature = 1, .top_p = 1};                          \
        struct wire_seq q[] = {{.slot = 5, .n_pages = 2, .pages = pages, .sampler = &sampler}, \
                               {.slot = 6, .n_pages = 2, .pages = pages}};                     \
        struct wire_batch b = {.n_rows = 4, .n_seqs = 2, .rows = r, .seqs = q}, out;           \
        assert_int_equal(get(put(&b), &out), ERR_OK);                                          \
        change;                                                                                \
        assert_int_equal(get(put(&b), &out), ERR_FORMAT);                                      \
    }

WRONG(test_no_rows, (b.n_rows = 0, b.n_seqs = 0))
WRONG(test_more_generated_than_rows, b.n_gen = 5)
WRONG(test_an_unknown_flag, r[1].flags = 0x20)
WRONG(test_a_prompt_row_called_generated, r[1].flags = WIRE_ROW_GENERATED)
WRONG(test_a_generated_row_called_prompt, b.n_gen = 2)
WRONG(test_a_ring_row_in_the_prompt, (r[1].flags = WIRE_ROW_RING, r[1].token = -1))
WRONG(test_a_token_out_of_range, r[1].token = 1000)
WRONG(test_a_negative_token, r[1].token = -1)
WRONG(test_a_target_out_of_range, (r[1].flags = WIRE_ROW_SCORE, r[1].target = -1))
WRONG(test_a_position_out_of_range, r[3].pos = 256)
WRONG(test_a_gap_in_positions, r[1].pos = 23)
WRONG(test_positions_backwards, (r[0].pos = 21, r[1].pos = 20))
WRONG(test_a_row_of_no_sequence, r[3].seq = 2)
WRONG(test_rows_apart, (r[1].seq = 1, r[2].seq = 0))
WRONG(test_a_sequence_without_rows, (r[2].seq = r[3].seq = 0))
WRONG(test_a_slot_twice, q[1].slot = 5)
WRONG(test_a_slot_out_of_range, q[1].slot = 100)
WRONG(test_an_adapter_out_of_range, q[1].adapter = 3)
WRONG(test_a_page_out_of_range, pages[1] = 500)
WRONG(test_too_few_pages, q[1].n_pages = 1)
WRONG(test_too_many_alternatives, r[0].n_top = 21)
WRONG(test_a_temperature_that_is_no_number, sampler.temperature = __builtin_nanf(""))
WRONG(test_a_negative_temperature, sampler.temperature = -1)
WRONG(test_a_negative_top_k, sampler.top_k = -1)

static void test_patching_fills_a_ring_row_or_kills_it(void **state)
{
    (void)state;
    uint32_t page = 1;
    struct wire_row r[] = {
        {.token = -1, .pos = 4, .flags = WIRE_ROW_GENERATED | WIRE_ROW_RING | WIRE_ROW_SAMPLE},
        {.token = -1, .pos = 5, .flags = WIRE_ROW_GENERATED | WIRE_ROW_RING | WIRE_ROW_SAMPLE},
    };
    struct wire_seq q = {.slot = 0, .n_pages = 1, .pages = &page};
    struct wire_batch b = {.n_rows = 2, .n_gen = 2, .n_seqs = 1, .rows = r, .seqs = &q}, out;
    struct wire_limits later = limits;
    struct why why;
    later.no_ring = true;
    size_t len = put(&b);
    assert_int_equal(get(len, &out), ERR_OK);
    assert_int_equal(wire_get_batch(desc, len, &later, space, sizeof space, &out, &why), ERR_FORMAT);
    wire_batch_patch(desc, 0, 77, 0);
    wire_batch_patch(desc, 1, 0, 1);
    assert_int_equal(wire_get_batch(desc, len, &later, space, sizeof space, &out, &why), ERR_OK);
    assert_int_equal(out.rows[0].token, 77);
    assert_int_equal(out.rows[0].flags, WIRE_ROW_GENERATED | WIRE_ROW_SAMPLE);
    assert_int_equal(out.rows[1].flags, WIRE_ROW_GENERATED | WIRE_ROW_SAMPLE | WIRE_ROW_DEAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_batches_come_back),
        cmocka_unit_test(test_every_truncation_is_refused_and_every_flip_is_harmless),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_more_generated_than_rows),
        cmocka_unit_test(test_an_unknown_flag),
        cmocka_unit_test(test_a_prompt_row_called_generated),
        cmocka_unit_test(test_a_generated_row_called_prompt),
        cmocka_unit_test(test_a_ring_row_in_the_prompt),
        cmocka_unit_test(test_a_token_out_of_range),
        cmocka_unit_test(test_a_negative_token),
        cmocka_unit_test(test_a_target_out_of_range),
        cmocka_unit_test(test_a_position_out_of_range),
        cmocka_unit_test(test_a_gap_in_positions),
        cmocka_unit_test(test_positions_backwards),
        cmocka_unit_test(test_a_row_of_no_sequence),
        cmocka_unit_test(test_rows_apart),
        cmocka_unit_test(test_a_sequence_without_rows),
        cmocka_unit_test(test_a_slot_twice),
        cmocka_unit_test(test_a_slot_out_of_range),
        cmocka_unit_test(test_an_adapter_out_of_range),
        cmocka_unit_test(test_a_page_out_of_range),
        cmocka_unit_test(test_too_few_pages),
        cmocka_unit_test(test_too_many_alternatives),
        cmocka_unit_test(test_a_temperature_that_is_no_number),
        cmocka_unit_test(test_a_negative_temperature),
        cmocka_unit_test(test_a_negative_top_k),
        cmocka_unit_test(test_patching_fills_a_ring_row_or_kills_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
