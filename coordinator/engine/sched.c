/* sched.c - see sched.h. */
#include "coordinator/engine/sched.h"

#include <assert.h>
#include <limits.h>

/* ---- what one sequence could run ---------------------------------------------- */

enum work {
    WORK_NONE,
    WORK_PROMPT, /* bulk, prompt rows */
    WORK_REPLAY, /* bulk, generated rows whose tokens are all known */
    WORK_DECODE, /* one row: the newest token, known or coming over the ring */
};

static enum work work_of(const struct sched_seq *s)
{
    if (s->held || s->next >= s->n_rows)
        return WORK_NONE;
    if (s->next < s->n_prompt)
        return WORK_PROMPT;
    if (s->n_known - s->next > 1)
        return WORK_REPLAY;
    return s->next < s->n_known + s->n_pending && s->n_flight < SCHED_AHEAD ? WORK_DECODE : WORK_NONE;
}

/* Has a place in a lane: it decodes, or waits for the token to decode next. */
static bool decodes(const struct sched_seq *s)
{
    return !s->held && s->next >= s->n_prompt && s->next < s->n_rows && s->n_known - s->next <= 1;
}

/* Pages that rows up to position `end` (exclusive) still need. */
static uint32_t pages_short(const struct sched_view *v, const struct sched_seq *s, int end)
{
    int need = (end + v->lim.page_rows - 1) / v->lim.page_rows - s->n_pages;
    return need > 0 ? (uint32_t)need : 0;
}

static uint32_t age(const struct sched_view *v, const struct sched_seq *s)
{
    return s->n_flight ? v->next_step - s->last_step : UINT32_MAX;
}

/* Its token is here, or will be by the time the micro-batch gets to stage 1. */
static bool is_due(const struct sched_view *v, const struct sched_seq *s)
{
    return s->next < s->n_known || age(v, s) >= (uint32_t)v->lim.n_stages;
}

/* ---- lanes ---------------------------------------------------------------------- */

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int lane_count(const struct sched_limits *lim, int decoding)
{
    int lanes = lim->lanes, uneven = lim->full_stages && lim->full_stages < lim->n_stages;
    if (lanes == 0 && uneven)
        lanes = lim->full_stages;
    else if (lanes == 0)
        lanes = decoding >= SCHED_FULL_LANE * (lim->n_stages + 1) ? lim->n_stages + 1 : lim->n_stages;
    if (lanes > decoding)
        lanes = decoding;
    int least = ceil_div(decoding, lim->max_rows);
    return lanes > least ? lanes : least;
}

int sched_max_flight(const struct sched_limits *lim, int seqs)
{
    int lanes = lim->lanes > lim->n_stages + 1 ? lim->lanes : lim->n_stages + 1;
    int least = ceil_div(seqs, lim->max_rows);
    return SCHED_AHEAD * (lanes > least ? lanes : least) + lim->n_stages + 1;
}

static int lane_size(const struct sched_view *v, const int *lane, int which)
{
    int n = 0;
    for (int i = 0; i < v->n; i++)
        n += lane[i] == which;
    return n;
}

static int extreme_lane(const struct sched_view *v, const int *lane, int lanes, bool largest)
{
    int best = 0, best_size = lane_size(v, lane, 0);
    for (int l = 1; l < lanes; l++) {
        int size = lane_size(v, lane, l);
        if (largest ? size > best_size : size < best_size) {
            best = l;
            best_size = size;
        }
    }
    return best;
}

/* Gives every decoding sequence a lane and levels the lanes to within one row.
 * Those that stay, stay: a sequence that moves may have to wait for its token. */
static int assign_lanes(const struct sched_view *v, int *lane)
{
    int decoding = 0;
    for (int i = 0; i < v->n; i++)
        decoding += decodes(&v->seqs[i]);
    int lanes = lane_count(&v->lim, decoding);
    for (int i = 0; i < v->n; i++)
        lane[i] = decodes(&v->seqs[i]) && v->seqs[i].lane < lanes ? v->seqs[i].lane : -1;
    for (int i = 0; i < v->n; i++)
        if (lane[i] < 0 && decodes(&v->seqs[i]))
            lane[i] = extreme_lane(v, lane, lanes, false);
    while (lanes > 1) {
        int from = extreme_lane(v, lane, lanes, true), to = extreme_lane(v, lane, lanes, false);
        if (lane_size(v, lane, from) - lane_size(v, lane, to) <= 1)
            break;
        int move = -1;
        for (int i = 0; i < v->n; i++)
            if (lane[i] == from && (move < 0 || v->seqs[i].n_flight < v->seqs[move].n_flight))
                move = i;
        lane[move] = to;
    }
    return lanes;
}

/* A sequence that has not run in its lane yet is out of step with it. */
static bool is_joining(const struct sched_seq *s, int lane)
{
    return s->lane != lane;
}

/* Does sequence i go when its lane goes? Newcomers wait for their token elsewhere. */
static bool goes_with_lane(const struct sched_view *v, const int *lane, int i, bool due_only)
{
    const struct sched_seq *s = &v->seqs[i];
    return work_of(s) == WORK_DECODE && (!due_only || !is_joining(s, lane[i]) || is_due(v, s));
}

/* A lane goes as one: when none of its own sequences is still two steps ahead and,
 * with due_only, the tokens of all are near. Otherwise it would fall apart into
 * micro-batches of few rows. Returns how long its youngest row has waited, 0: it
 * cannot go. */
static uint32_t lane_age(const struct sched_view *v, const int *lane, int which, bool due_only)
{
    uint32_t youngest = UINT32_MAX;
    bool any = false;
    for (int i = 0; i < v->n; i++) {
        const struct sched_seq *s = &v->seqs[i];
        if (lane[i] != which)
            continue;
        if (!is_joining(s, which) && s->n_flight >= SCHED_AHEAD)
            return 0;
        if (!goes_with_lane(v, lane, i, due_only))
            continue;
        if (due_only && !is_due(v, s))
            return 0;
        any = true;
        youngest = age(v, s) < youngest ? age(v, s) : youngest;
    }
    return any ? youngest : 0;
}

/* The lane whose turn it is: of those that can go, the one that waited longest; -1: none. */
static int next_lane(const struct sched_view *v, const int *lane, int lanes, bool due_only)
{
    int best = -1;
    uint32_t best_age = 0;
    for (int l = 0; l < lanes; l++) {
        uint32_t waited = lane_age(v, lane, l, due_only);
        if (waited > best_age) {
            best = l;
            best_age = waited;
        }
    }
    return best;
}

/* ---- filling a micro-batch -------------------------------------------------------- */

struct fill {
    const struct sched_view *v;
    struct sched_plan *out;
    uint32_t room;
    size_t open_bytes;
    bool starved; /* a decode row found no page */
};

/* Adds rows if their pages and their sampler fit. */
static bool add_item(struct fill *f, int seq, int first, int n)
{
    const struct sched_seq *s = &f->v->seqs[seq];
    uint32_t pages = pages_short(f->v, s, first + n);
    if (pages > f->room) {
        f->starved |= first >= s->n_prompt;
        return false;
    }
    if (f->open_bytes + s->open_bytes > f->v->lim.open_bytes && f->open_bytes > 0)
        return false;
    f->room -= pages;
    f->open_bytes += s->open_bytes;
    f->out->items[f->out->n_items++] = (struct sched_item){seq, first, n};
    f->out->n_rows += n;
    return true;
}

static void fill_lane(struct fill *f, int lane, bool due_only)
{
    for (int i = 0; i < f->v->n && f->out->n_rows < f->v->lim.max_rows; i++) {
        if (f->out->lane[i] == lane && goes_with_lane(f->v, f->out->lane, i, due_only))
            add_item(f, i, f->v->seqs[i].next, 1);
    }
}

static bool goes_before(const struct sched_seq *a, const struct sched_seq *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->arrival < b->arrival;
}

/* Adds bulk rows of one kind, best sequence first, within budget. */
static void fill_bulk(struct fill *f, enum work kind, int budget)
{
    const struct sched_view *v = f->v;
    const struct sched_seq *last = NULL; /* the selection below is a sort without memory */
    while (budget > 0) {
        int best = -1;
        for (int i = 0; i < v->n; i++) {
            const struct sched_seq *s = &v->seqs[i];
            if (work_of(s) == kind && (!last || goes_before(last, s)) &&
                (best < 0 || goes_before(s, &v->seqs[best])))
                best = i;
        }
        if (best < 0)
            return;
        const struct sched_seq *s = last = &v->seqs[best];
        int end = kind == WORK_PROMPT ? s->n_prompt : s->n_known;
        int n = end < s->n_rows ? end - s->next : s->n_rows - s->next;
        if (s->whole && f->out->n_rows + n > v->lim.max_rows)
            return;
        if (n > budget && !s->whole) {
            /* Chunks end where pages do; a short rest is not worth a cut. */
            int cut = (s->next + budget) / v->lim.page_rows * v->lim.page_rows - s->next;
            if (cut <= 0 && f->out->n_items > 0)
                return;
            n = cut > 0 ? cut : budget;
        }
        if (add_item(f, best, s->next, n))
            budget -= n;
    }
}

/* Rows of a bulk micro-batch that travels alone: all stages should work on what is
 * there, in pieces that are still worth their way. */
static int bulk_budget(const struct sched_view *v)
{
    long rows = 0;
    for (int i = 0; i < v->n; i++) {
        enum work w = work_of(&v->seqs[i]);
        if (w == WORK_PROMPT || w == WORK_REPLAY)
            rows += v->seqs[i].n_prompt;
    }
    if (v->lim.n_stages == 1)
        return v->lim.max_rows;
    long n = rows / (4 * v->lim.n_stages) / v->lim.page_rows * v->lim.page_rows;
    if (n < SCHED_MIN_CHUNK)
        n = SCHED_MIN_CHUNK;
    return n < v->lim.max_rows ? (int)n : v->lim.max_rows;
}

static bool has_bulk(const struct sched_view *v)
{
    for (int i = 0; i < v->n; i++) {
        enum work w = work_of(&v->seqs[i]);
        if (w == WORK_PROMPT || w == WORK_REPLAY)
            return true;
    }
    return false;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static void fill_all(struct fill *f, int lane, bool due_only, bool bulk, int lanes)
{
    struct sched_plan *out = f->out;
    if (lane >= 0)
        fill_lane(f, lane, due_only);
    int left = f->v->lim.max_rows - out->n_rows;
    int budget = !bulk ? 0 : min_int(left, lanes > 0 ? f->v->lim.mix_rows : bulk_budget(f->v));
    int before = out->n_rows;
    fill_bulk(f, WORK_REPLAY, budget);
    out->n_gen_items = out->n_items;
    fill_bulk(f, WORK_PROMPT, budget - (out->n_rows - before));
}

bool sched_batch(const struct sched_view *v, struct sched_plan *out)
{
    assert(v->lim.n_stages > 0 && v->lim.max_rows > 0 && v->lim.page_rows > 0);
    out->n_items = out->n_gen_items = out->n_rows = 0;
    out->victim = -1;
    struct fill f = {.v = v, .out = out, .room = v->room};
    int lanes = assign_lanes(v, out->lane);
    bool bulk = has_bulk(v);
    bool bulk_may_go = bulk && v->n_flight < v->lim.n_stages + 1;

    int lane = next_lane(v, out->lane, lanes, true);
    if (lane >= 0)
        fill_all(&f, lane, true, bulk, lanes);
    else if (bulk)
        fill_all(&f, -1, true, bulk_may_go, lanes);
    else if ((lane = next_lane(v, out->lane, lanes, false)) >= 0)
        fill_all(&f, lane, false, false, lanes);

    if (f.starved && !v->draining)
        out->victim = sched_victim(v, LONG_MAX);
    return out->n_items > 0;
}

/* ---- admission and preemption ------------------------------------------------------ */

int sched_pick(const struct sched_wait *w, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++) {
        if (w[i].priority != w[best].priority) {
            if (w[i].priority > w[best].priority)
                best = i;
        } else if (w[i].served != w[best].served) {
            if (w[i].served < w[best].served)
                best = i;
        } else if (w[i].arrival < w[best].arrival) {
            best = i;
        }
    }
    return best;
}

bool sched_fits(uint32_t need, uint32_t room, int n_active)
{
    return need + (uint64_t)n_active <= room;
}

int sched_victim(const struct sched_view *v, long below)
{
    int worst = -1;
    for (int i = 0; i < v->n; i++) {
        const struct sched_seq *s = &v->seqs[i];
        if (!s->held && s->priority < below && (worst < 0 || goes_before(&v->seqs[worst], s)))
            worst = i;
    }
    return worst;
}
