/* seat.c - see seat.h. */
#include "worker/seat.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const pin_names[] = {
#define PIN(name, text) text,
    PINS(PIN)
#undef PIN
};

err pin_parse(const char *name, enum pin *out, struct why *why)
{
    for (size_t i = 0; i < sizeof pin_names / sizeof *pin_names; i++)
        if (strcmp(name, pin_names[i]) == 0) {
            *out = (enum pin)i;
            return ERR_OK;
        }
    return why_set(why, ERR_INVAL, "pin: \"%.32s\" is none of auto, off, on", name);
}

int seat_threads(const struct cores *c, int n_local, double quota_cores)
{
    double cores = quota_cores > 0 && quota_cores < c->n ? floor(quota_cores + 1e-6) : c->n;
    int threads = (int)cores / (n_local > 0 ? n_local : 1);
    return threads > 0 ? threads : 1;
}

static void add_domain(struct seat *s, int node)
{
    if (node >= 64 * SPREAD_WORDS)
        return;
    uint64_t bit = UINT64_C(1) << node % 64, *word = &s->nodes[node / 64];
    s->n_domains += !(*word & bit);
    *word |= bit;
}

/* ---- choosing ---- */

struct choice {
    const struct cores *cores;
    struct claims *claims;
    int per_core, want; /* threads on a core, in all */
    int *taken;         /* [n_taken] indices into cores->at */
    int n_taken;
};

static int cores_wanted(const struct choice *ch)
{
    return (ch->want + ch->per_core - 1) / ch->per_core;
}

/* Claims free cores of a memory node until there are enough. */
static void take_from(struct choice *ch, int node)
{
    const struct cores *c = ch->cores;
    for (int i = 0; i < c->n && ch->n_taken < cores_wanted(ch); i++)
        if (c->at[i].domain == node && c->at[i].n_pus >= ch->per_core && claims_take(ch->claims, c->at[i].id))
            ch->taken[ch->n_taken++] = i;
}

static void put_back(struct choice *ch)
{
    while (ch->n_taken > 0)
        claims_drop(ch->claims, ch->cores->at[ch->taken[--ch->n_taken]].id);
}

/* One domain if one has room, else as few as there are from `start` on. */
static bool choose(struct choice *ch, int start)
{
    const struct cores *c = ch->cores;
    for (int d = 0; d < c->n_domains; d++) {
        take_from(ch, c->domains[(start + d) % c->n_domains]);
        if (ch->n_taken == cores_wanted(ch))
            return true;
        put_back(ch);
    }
    for (int d = 0; d < c->n_domains; d++)
        take_from(ch, c->domains[(start + d) % c->n_domains]);
    if (ch->n_taken == cores_wanted(ch))
        return true;
    put_back(ch);
    return false;
}

static int by_place(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void sit(struct seat *s, const struct choice *ch)
{
    int n = 0;
    qsort(ch->taken, (size_t)ch->n_taken, sizeof *ch->taken, by_place);
    for (int i = 0; i < ch->n_taken; i++) {
        const struct core *core = &ch->cores->at[ch->taken[i]];
        for (int p = 0; p < ch->per_core && n < ch->want; p++)
            s->cpus[n++] = core->pu[p];
        add_domain(s, core->domain);
    }
}

/* Hardware threads to use of each core: one, more only if so many threads are asked
 * for. 0: not even then. */
static int threads_per_core(const struct cores *c, int threads)
{
    int least = CORES_MAX_PUS;
    for (int i = 0; i < c->n; i++)
        least = c->at[i].n_pus < least ? c->at[i].n_pus : least;
    for (int per = 1; per <= least; per++)
        if (threads <= per * c->n)
            return per;
    return 0;
}

static err bind_seat(const struct cores *c, const struct seat_wish *w, const char *path, struct seat *s,
                     struct why *why)
{
    err e;
    struct choice ch = {.cores = c, .want = w->threads, .per_core = threads_per_core(c, w->threads)};
    if (ch.per_core == 0)
        FAIL(ERR_REFUSED, "%d threads and %d cores", w->threads, c->n);
    ch.taken = calloc((size_t)c->n, sizeof *ch.taken);
    s->cpus = calloc((size_t)w->threads, sizeof *s->cpus);
    if (!ch.taken || !s->cpus)
        FAIL(ERR_NOMEM, "a list of %d cores", c->n);
    TRY(claims_open(path, &s->claims, why));
    TRY(claims_begin(s->claims, why));
    ch.claims = s->claims;
    bool found = choose(&ch, w->n_local > 0 ? w->index * c->n_domains / w->n_local : 0);
    claims_end(s->claims);
    if (!found)
        FAIL(ERR_REFUSED, "%d of %d cores are wanted and others have claimed too many", cores_wanted(&ch),
             c->n);
    sit(s, &ch);
    e = ERR_OK;
out:
    free(ch.taken);
    if (e)
        seat_close(s);
    return e;
}

/* Why the cores are not this rank's alone; ERR_OK if they may be. */
static err alone(const struct cores *c, const struct seat_wish *w, struct why *why)
{
    if (w->pin == PIN_OFF)
        return why_set(why, ERR_REFUSED, "pin: off");
    if (w->pin == PIN_ON)
        return ERR_OK;
    if (w->quota_cores > 0 && w->quota_cores < c->n)
        return why_set(why, ERR_REFUSED, "a quota of %.2f cores on %d", w->quota_cores, c->n);
    if (w->threads > c->n || (c->all && w->threads * w->n_local > c->n))
        return why_set(why, ERR_REFUSED, "%d ranks of %d threads on %d cores", w->n_local, w->threads, c->n);
    return ERR_OK;
}

err seat_take(const struct cores *c, const struct seat_wish *w, const char *path, struct seat *out,
              struct why *why)
{
    struct seat s = {0};
    err e = alone(c, w, &s.floats);
    if (!e)
        e = bind_seat(c, w, path, &s, &s.floats);
    if (e && w->pin == PIN_ON)
        return why_set(why, ERR_REFUSED, "pin: on: %s", s.floats.text);
    if (e)
        for (int d = 0; d < c->n_domains; d++)
            add_domain(&s, c->domains[d]);
    else
        s.floats.text[0] = '\0';
    *out = s;
    return ERR_OK;
}

void seat_close(struct seat *s)
{
    free(s->cpus);
    claims_close(s->claims);
    s->cpus = NULL;
    s->claims = NULL;
}

/* ---- saying so ---- */

__attribute__((format(printf, 4, 5))) static size_t put(char *out, size_t size, size_t at, const char *format,
                                                        ...)
{
    va_list args;
    if (at >= size)
        return at;
    va_start(args, format);
    int n = vsnprintf(out + at, size - at, format, args);
    va_end(args);
    return n > 0 ? at + (size_t)n : at;
}

/* The n numbers at(i), in their order, runs as "4-7". */
static size_t put_list(char *out, size_t size, size_t at, const int *v, int n)
{
    for (int i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && v[j] == v[j - 1] + 1; j++)
            continue;
        at = put(out, size, at, j - i > 1 ? "%s%d-%d" : "%s%d", i ? "," : "", v[i], v[j - 1]);
    }
    return at;
}

void seat_text(const struct seat *s, int threads, char *out, size_t size)
{
    int nodes[64], n = 0;
    for (int i = 0; i < 64 * SPREAD_WORDS && n < 64; i++)
        if (s->nodes[i / 64] >> i % 64 & 1)
            nodes[n++] = i;
    size_t at = put(out, size, 0, "%d thread%s ", threads, threads == 1 ? "" : "s");
    if (s->cpus) {
        at = put(out, size, at, threads == 1 ? "bound to CPU " : "bound to CPUs ");
        at = put_list(out, size, at, s->cpus, threads);
    } else {
        at = put(out, size, at, "not bound (%s)", s->floats.text);
    }
    at = put(out, size, at, n == 1 ? ", memory domain " : ", memory interleaved over domains ");
    put_list(out, size, at, nodes, n);
}
