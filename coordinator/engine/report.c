/* report.c - results of the pipeline become events, each once and in order.
 *
 * Scores of shared tokens come from their pages (kvmap.h) just before the first
 * own result. After a preemption the same rows run again; next_score and n_known
 * know what was reported.
 */
#include <assert.h>
#include <math.h>

#include "coordinator/engine/engine_state.h"

#define NOT_NUMBERS "the model's logits for this text are not numbers"

static void emit(struct seq *s, struct gen_event ev)
{
    ev.n_prompt = s->n_prompt;
    ev.n_generated = s->n_known - s->n_prompt;
    ev.n_cached = s->n_cached;
    s->fn(s->ctx, &ev);
}

static void emit_score(struct seq *s, int pos, const struct kvmap_score *score)
{
    assert(pos == s->next_score);
    s->next_score++;
    emit(s, (struct gen_event){
        .kind = GEN_PROMPT, .pos = pos, .token = s->tokens[pos], .logprob = score->logprob,
        .argmax = score->argmax, .n_top = score->n_top < s->n_top ? score->n_top : s->n_top, .top = score->top,
    });
}

static void end_seq(struct engine *en, struct seq *s, struct gen_event ev)
{
    assert(s->state != SEQ_ENDED);
    seq_go(s, SEQ_ENDED);
    en->stats.cancelled += ev.kind == GEN_FINISHED && ev.finish == FINISH_CANCELLED;
    en->stats.failed += ev.kind == GEN_FAILED;
    emit(s, ev);
}

void report_finish(struct engine *en, struct seq *s, enum finish how)
{
    end_seq(en, s, (struct gen_event){.kind = GEN_FINISHED, .pos = s->n_known, .finish = how});
}

void report_failure(struct engine *en, struct seq *s, err code, const char *reason)
{
    end_seq(en, s, (struct gen_event){.kind = GEN_FAILED, .pos = s->n_known, .code = code, .reason = reason});
}

/* Reports the scores that come before the first own one: those of shared tokens,
 * which by now are there (their rows went first), or that of the first token. False:
 * the sequence is over: its owner left, or a shared row has no numbers. */
static bool emit_scores_before(struct engine *en, struct seq *s)
{
    int end = s->n_shared * ENGINE_PAGE_ROWS;
    struct kvmap_score score = {NAN, -1, 0, NULL};
    if (!s->score)
        return true;
    if (end == 0 && s->next_score == 0)
        emit_score(s, 0, &score);
    while (!s->cancelled && s->next_score < end) {
        int pos = s->next_score;
        bool there = kvmap_score_get(en->kv, s->pages[pos / ENGINE_PAGE_ROWS], pos % ENGINE_PAGE_ROWS, &score);
        assert(there);
        if (isnan(score.logprob) && pos > 0) {
            report_failure(en, s, ERR_UNSUPPORTED, NOT_NUMBERS);
            return false;
        }
        emit_score(s, pos, &score);
    }
    return !s->cancelled;
}

/* ---- results ---------------------------------------------------------------------- */

/* Files the score of a prompt token with its page, for those who share it later. */
static void keep_score(struct engine *en, struct seq *s, int pos, const struct kvmap_score *score)
{
    int page = pos / ENGINE_PAGE_ROWS;
    if (page >= s->n_shared && page < s->n_announced)
        kvmap_score_put(en->kv, s->pages[page], pos % ENGINE_PAGE_ROWS, score);
}

static void copy_top(struct token_logprob *dst, const struct wire_result *r)
{
    for (int i = 0; i < r->n_top; i++)
        dst[i] = (struct token_logprob){r->top[i].token, r->top[i].logprob};
}

static void on_score(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    struct token_logprob top[SAMPLE_MAX_TOP];
    struct kvmap_score score = {r->logprob, r->argmax, r->n_top, top};
    copy_top(top, r);
    keep_score(en, s, r->pos + 1, &score);
    if (s->cancelled || s->state == SEQ_ENDED)
        return;
    /* After a preemption, what was reported before is not reported again. */
    if (emit_scores_before(en, s) && r->pos + 1 == s->next_score)
        emit_score(s, r->pos + 1, &score);
}

static void on_sample(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    struct token_logprob top[SAMPLE_MAX_TOP];
    s->n_pending--;
    if (s->cancelled || s->state == SEQ_ENDED)
        return;
    if (!emit_scores_before(en, s))
        return;
    copy_top(top, r);
    assert(r->pos + 1 == s->n_known && s->n_known < s->max_tokens);
    s->tokens[s->n_known++] = r->token;
    en->stats.generated_tokens++;
    emit(s, (struct gen_event){
        .kind = GEN_TOKEN, .pos = r->pos + 1, .token = r->token, .logprob = r->logprob, .argmax = r->argmax,
        .n_top = r->n_top, .top = top,
    });
    if (!s->cancelled && (r->ended || s->n_known == s->max_tokens))
        report_finish(en, s, seq_finish(s));
}

static void on_embedding(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    if (!s->cancelled && s->state != SEQ_ENDED)
        end_seq(en, s, (struct gen_event){
            .kind = GEN_FINISHED, .pos = s->n_known, .finish = FINISH_STOP, .embedding = r->hidden,
            .n_embedding = (int)r->n_hidden,
        });
}

/* The last stage got no numbers for a row: a file with infinities, an adapter that
 * overflows. The same would come of it again, so it is this sequence's end. */
static void on_failed(void *ctx, struct seq *s, const struct wire_result *r)
{
    struct engine *en = ctx;
    struct kvmap_score none = {NAN, -1, 0, NULL};
    s->n_pending -= (r->flags & WIRE_ROW_SAMPLE) != 0;
    if (r->flags & WIRE_ROW_SCORE)
        keep_score(en, s, r->pos + 1, &none);
    if (!s->cancelled && s->state != SEQ_ENDED)
        report_failure(en, s, ERR_UNSUPPORTED, NOT_NUMBERS);
}

/* What has no token to wait for is complete when its last row is back. */
static void on_landed(void *ctx, struct seq *s)
{
    struct engine *en = ctx;
    if (s->cancelled || s->state != SEQ_RUNNING || s->n_flight > 0 || s->next < s->n_rows)
        return;
    if (emit_scores_before(en, s) && seq_is_complete(s))
        report_finish(en, s, seq_finish(s));
}

struct pipeline_sink report_sink(struct engine *en)
{
    return (struct pipeline_sink){en, on_score, on_sample, on_embedding, on_failed, on_landed};
}
