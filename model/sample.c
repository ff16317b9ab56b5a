/* sample.c - penalties, truncation and the draw.
 *
 * A vocabulary of 262,144 makes sorting the row the wrong idea. Weights
 * e = exp((logit - max) / T) are positive floats, whose bit patterns order like
 * their values: top-k and top-p become a radix selection over those bits (three
 * passes of 12, 12 and 8 bits), which ends at one exact threshold value and the
 * number of tokens of that very value to keep (lowest ids first). No sort, no
 * second row, and the result does not depend on any order of equal elements.
 *
 * exp is our own: made of single f32 operations only, so that its bits are the
 * same on every machine, which the C library's are not.
 */
#include "model/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/f16.h"
#include "model/rng.h"

/* A token of the prompt or of the output, when penalties are on. */
struct seen {
    int32_t token; /* -1: free */
    bool in_prompt;
    uint32_t n_output;
};

struct sampler {
    struct sample_params params; /* bias and end point into this allocation */
    int n_vocab;
    int n_output;
    int32_t last_pos;
    struct seen *seen; /* [mask + 1] open addressing; NULL without penalties */
    uint32_t mask, n_seen;
    int32_t *output; /* [max_output] with penalties: what was pushed, in order */
    int max_output;
};

static bool penalised(const struct sample_params *p)
{
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static struct seen *seen_find(const struct sampler *s, int32_t token)
{
    uint32_t i = (uint32_t)token * 2654435769u & s->mask;
    while (s->seen[i].token != token && s->seen[i].token >= 0)
        i = (i + 1) & s->mask;
    return &s->seen[i];
}

/* The token's entry, made if it has none; NULL if the table is full. */
static struct seen *seen_add(struct sampler *s, int32_t token)
{
    struct seen *e = seen_find(s, token);
    if (e->token < 0) {
        if (s->n_seen == s->mask) /* keep one free: the search must end */
            return NULL;
        s->n_seen++;
        e->token = token;
    }
    return e;
}

static err check_params(const struct sample_params *p, const int32_t *prompt, int n_prompt, int n_vocab,
                        struct why *why)
{
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return why_set(why, ERR_INVAL, "temperature must be >= 0");
    if (p->top_k < 0 || !(p->top_p > 0 && p->top_p <= 1) || !(p->min_p >= 0 && p->min_p <= 1))
        return why_set(why, ERR_INVAL, "top_k must be >= 0, top_p in (0, 1], min_p in [0, 1]");
    if (!(p->repetition_penalty > 0) || !isfinite(p->repetition_penalty) || !isfinite(p->presence_penalty) ||
        !isfinite(p->frequency_penalty))
        return why_set(why, ERR_INVAL, "repetition_penalty must be > 0, other penalties finite");
    for (int i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || p->bias[i].token >= n_vocab || isnan(p->bias[i].bias))
            return why_set(why, ERR_INVAL, "logit_bias: token %d, of a vocabulary of %d",
                           (int)p->bias[i].token, n_vocab);
    for (int i = 0; i < p->n_end; i++)
        if (p->end[i] < 0 || p->end[i] >= n_vocab)
            return why_set(why, ERR_INVAL, "end token %d, of a vocabulary of %d", (int)p->end[i], n_vocab);
    for (int i = 0; i < n_prompt; i++)
        if (prompt[i] < 0 || prompt[i] >= n_vocab)
            return why_set(why, ERR_INVAL, "prompt token %d, of a vocabulary of %d", (int)prompt[i], n_vocab);
    return ERR_OK;
}

static err seen_open(struct sampler *s, const int32_t *prompt, int n_prompt, int max_context, struct why *why)
{
    int most = max_context < s->n_vocab ? max_context : s->n_vocab;
    uint32_t size = 16;
    while (size < 2 * (uint32_t)most)
        size *= 2;
    s->seen = malloc(size * sizeof *s->seen);
    s->output = malloc((size_t)max_context * sizeof *s->output);
    if (!s->seen || !s->output)
        return why_set(why, ERR_NOMEM, "a table of %u seen tokens", size);
    s->max_output = max_context;
    s->mask = size - 1;
    for (uint32_t i = 0; i < size; i++)
        s->seen[i] = (struct seen){.token = -1};
    for (int i = 0; i < n_prompt; i++) {
        struct seen *e = seen_add(s, prompt[i]);
        if (e)
            e->in_prompt = true;
    }
    return ERR_OK;
}

err sampler_open(const struct sample_params *params, const int32_t *prompt, int n_prompt, int n_vocab,
                 int max_context, struct sampler **out, struct why *why)
{
    err e;
    struct sampler *s = NULL;
    TRY(check_params(params, prompt, n_prompt, n_vocab, why));
    size_t n_bias = (size_t)params->n_bias, n_end = (size_t)params->n_end;
    s = malloc(sizeof *s + n_bias * sizeof(struct token_bias) + n_end * sizeof(int32_t));
    if (!s)
        FAIL(ERR_NOMEM, "a sampler of %zu biases", n_bias);
    *s = (struct sampler){.params = *params, .n_vocab = n_vocab, .last_pos = -1};
    struct token_bias *bias = (struct token_bias *)(s + 1);
    int32_t *end = (int32_t *)(bias + n_bias);
    if (n_bias)
        memcpy(bias, params->bias, n_bias * sizeof *bias);
    if (n_end)
        memcpy(end, params->end, n_end * sizeof *end);
    s->params.bias = bias;
    s->params.end = end;
    if (penalised(params))
        TRY(seen_open(s, prompt, n_prompt, max_context, why));
    *out = s;
    s = NULL;
    e = ERR_OK;
out:
    sampler_close(s);
    return e;
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    free(s->seen);
    free(s->output);
    free(s);
}

void sampler_push(struct sampler *s, int32_t token, int32_t pos)
{
    if (pos <= s->last_pos || token < 0 || token >= s->n_vocab)
        return;
    s->last_pos = pos;
    if (s->seen && s->n_output < s->max_output) {
        struct seen *e = seen_add(s, token);
        s->output[s->n_output] = token;
        if (e)
            e->n_output++;
    }
    s->n_output++;
}

/* How many tokens the output has, as of pos. */
static int output_at(const struct sampler *s, int32_t pos)
{
    int later = s->last_pos > pos ? s->last_pos - pos : 0;
    return s->n_output > later ? s->n_output - later : 0;
}

bool sampler_is_argmax(const struct sampler *s, int32_t pos)
{
    const struct sample_params *p = &s->params;
    return p->temperature == 0 && p->n_bias == 0 && !s->seen &&
           (output_at(s, pos) >= p->min_tokens || p->n_end == 0);
}

/* ---- steps before the draw ---- */

static void apply_penalties(const struct sampler *s, float *logits, int n_output)
{
    const struct sample_params *p = &s->params;
    int logged = s->n_output < s->max_output ? s->n_output : s->max_output;
    for (uint32_t i = 0; i <= s->mask; i++) {
        const struct seen *e = &s->seen[i];
        uint32_t count = e->n_output;
        if (e->token < 0)
            continue;
        for (int j = n_output; j < logged; j++)
            count -= s->output[j] == e->token;
        if (!e->in_prompt && count == 0)
            continue;
        float *x = &logits[e->token];
        *x = *x > 0 ? *x / p->repetition_penalty : *x * p->repetition_penalty;
        if (count > 0)
            *x -= p->presence_penalty + p->frequency_penalty * (float)count;
    }
}

static void adjust(const struct sampler *s, float *logits, int32_t pos)
{
    const struct sample_params *p = &s->params;
    int n_output = output_at(s, pos);
    for (int i = 0; i < p->n_bias; i++)
        logits[p->bias[i].token] += p->bias[i].bias;
    if (s->seen)
        apply_penalties(s, logits, n_output);
    if (n_output < p->min_tokens)
        for (int i = 0; i < p->n_end; i++)
            logits[p->end[i]] = -INFINITY;
}

static int32_t best(const float *x, int n)
{
    int32_t at = 0;
    float max = -INFINITY;
    for (int i = 0; i < n; i++)
        if (x[i] > max) {
            max = x[i];
            at = i;
        }
    return at;
}

/* e^x for x <= 0, relative error below 2e-7; 0 below -87. */
static inline float exp_neg(float x)
{
    float clamped = x > -87.0f ? x : -87.0f;
    float t = clamped * 1.44269504f;
    float whole = (t + 12582912.0f) - 12582912.0f; /* rounds to an integer */
    /* ln 2 in two parts: the remainder keeps its low bits. */
    float r = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    float scale = f32_from_bits((uint32_t)((int32_t)whole + 127) << 23);
    return x > -87.0f ? p * scale : 0;
}

/* ---- truncation ---- */

/* Kept: values above `at`, and the first `ties` (by id) of those equal to it.
 * Values below `least` are never kept. */
struct cut {
    uint32_t at;
    int ties;
    float least;
};

static bool kept(const struct cut *c, float e, int *ties_met)
{
    uint32_t key = f32_bits(e);
    if (key == 0 || key < c->at || e < c->least)
        return false;
    return key > c->at || (*ties_met)++ < c->ties;
}

static double mass_of(const float *e, int n, const struct cut *c)
{
    double sum = 0;
    int ties = 0;
    for (int i = 0; i < n; i++)
        if (kept(c, e[i], &ties))
            sum += e[i];
    return sum;
}

/* Tightens the cut to the greatest values whose count (by_mass false) or mass
 * reaches `limit`; at least one stays. */
static void narrow(const float *e, int n, struct cut *c, bool by_mass, double limit, struct sample_scratch *s)
{
    static const struct {
        int shift, bits;
    } level[3] = {{20, 12}, {8, 12}, {0, 8}};
    uint32_t prefix = 0;
    double before = 0; /* count or mass above the bucket in hand */
    for (int l = 0; l < 3; l++) {
        int top = level[l].shift + level[l].bits, ties = 0, b = (1 << level[l].bits) - 1, last = -1;
        memset(s->count, 0, sizeof s->count);
        memset(s->mass, 0, sizeof s->mass);
        for (int i = 0; i < n; i++) {
            if (!kept(c, e[i], &ties))
                continue;
            uint32_t key = f32_bits(e[i]);
            if (l > 0 && key >> top != prefix)
                continue;
            uint32_t bucket = key >> level[l].shift & ((1u << level[l].bits) - 1);
            s->count[bucket]++;
            s->mass[bucket] += e[i];
        }
        for (; b >= 0; b--) {
            double here = by_mass ? s->mass[b] : (double)s->count[b];
            if (s->count[b] == 0)
                continue;
            last = b;
            if (before + here >= limit)
                break;
            before += here;
        }
        if (b < 0) { /* everything kept so far is not enough: only rounding gets here */
            if (last < 0 || l == 0)
                return;
            before -= by_mass ? s->mass[last] : (double)s->count[last];
        }
        prefix = prefix << level[l].bits | (uint32_t)last;
    }
    double one = by_mass ? (double)f32_from_bits(prefix) : 1, missing = limit - before;
    int all = (int)s->count[prefix & 255], take = missing < one * all ? (int)ceil(missing / one) : all;
    c->at = prefix;
    c->ties = take > 1 ? take : 1;
}

static int32_t draw(const struct sampler *s, float *e, int32_t pos, struct sample_scratch *scratch)
{
    const struct sample_params *p = &s->params;
    struct cut c = {.at = 0, .ties = 0, .least = 0};
    float max = e[best(e, s->n_vocab)], scale = 1 / p->temperature;
    int32_t chosen = best(e, s->n_vocab);
    int ties = 0;

    for (int i = 0; i < s->n_vocab; i++)
        e[i] = exp_neg((e[i] - max) * scale);
    if (p->top_k > 0 && p->top_k < s->n_vocab)
        narrow(e, s->n_vocab, &c, false, p->top_k, scratch);
    if (p->top_p < 1)
        narrow(e, s->n_vocab, &c, true, (double)p->top_p * mass_of(e, s->n_vocab, &c), scratch);
    c.least = p->min_p; /* the greatest weight is 1 */

    double target = rng_uniform(p->seed, p->choice, (uint32_t)pos) * mass_of(e, s->n_vocab, &c), sum = 0;
    for (int i = 0; i < s->n_vocab; i++) {
        if (!kept(&c, e[i], &ties))
            continue;
        chosen = i;
        sum += e[i];
        if (sum > target)
            break;
    }
    return chosen;
}

int32_t sampler_draw(const struct sampler *s, const float *logits, float *work, int32_t pos,
                     struct sample_scratch *scratch)
{
    /* A NaN cannot win a comparison, so it must not reach the sums either. */
    for (int i = 0; i < s->n_vocab; i++)
        work[i] = logits[i] >= -INFINITY ? logits[i] : -INFINITY;
    adjust(s, work, pos);
    if (s->params.temperature == 0)
        return best(work, s->n_vocab);
    return draw(s, work, pos, scratch);
}
