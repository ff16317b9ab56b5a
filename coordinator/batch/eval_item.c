/* eval_item.c - see eval_item.h.
 *
 * Where context ends and choice begins is decided as evaluation harnesses do: spaces at
 * the context's end belong to the choice, context + choice are tokenised as one text,
 * and the choice's tokens are those behind as many as the context has alone. Behind a
 * chat template the choice is tokenised by itself, because there the context's tokens
 * are the template's.
 */
#include "coordinator/batch/eval_item.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/batch/eval_request.h"

struct item {
    struct eval_items *x;
    struct batch *b;
    int64_t i;
    json_t *root;
    int answer, n, n_done;
    int chars[EVAL_MAX_CHOICES];
    struct eval_request request[EVAL_MAX_CHOICES]; /* [n] */
};

static void item_free(struct item *it)
{
    for (int k = 0; k < it->n; k++)
        eval_request_cancel(&it->request[k]);
    json_decref(it->root);
    free(it);
}

/* ---- results --------------------------------------------------------------------------- */

static void put_value(struct buf *out, const char *name, const json_t *v)
{
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    buf_printf(out, "\"%s\":%s", name, text ? text : "null");
    free(text);
}

static void put_name(struct item *it, struct buf *out)
{
    buf_clear(out);
    buf_putc(out, '{');
    put_value(out, "id", json_object_get(it->root, "id"));
    buf_printf(out, ",\"line\":%" PRId64 ",", lines_number(it->x->lines, it->i));
    put_value(out, "group", json_object_get(it->root, "group"));
}

static void end(struct item *it, struct batch_result *r)
{
    const struct buf *line = &it->x->result;
    r->ok = r->ok && !line->failed;
    r->line = line->failed ? "{\"error\":\"no memory for the result\"}" : line->data;
    r->len = strlen(r->line);
    batch_finish(it->b, it->i, r);
    item_free(it);
}

static void end_error(struct item *it, const char *reason)
{
    struct buf *out = &it->x->result;
    struct batch_result r = { .ok = false };
    put_name(it, out);
    buf_puts(out, ",\"error\":");
    buf_put_json(out, reason, strlen(reason), true);
    buf_putc(out, '}');
    end(it, &r);
}

/* The choice with the most, the first of equal ones. */
static int best(const struct item *it, bool norm)
{
    int at = 0;
    double most = 0;
    for (int k = 0; k < it->n; k++) {
        double v = it->request[k].logprob / (norm && it->chars[k] ? it->chars[k] : 1);
        if (k == 0 || v > most) {
            at = k;
            most = v;
        }
    }
    return at;
}

static void end_scored(struct item *it)
{
    struct buf *out = &it->x->result;
    struct batch_result r = { .ok = true };
    int pred = best(it, false), pred_norm = best(it, true);
    put_name(it, out);
    buf_printf(out, ",\"answer\":%d,\"pred\":%d,\"pred_norm\":%d,\"acc\":%d,\"acc_norm\":%d,\"choices\":[", it->answer,
               pred, pred_norm, pred == it->answer, pred_norm == it->answer);
    for (int k = 0; k < it->n; k++) {
        const struct eval_request *q = &it->request[k];
        buf_printf(out, "%s{\"logprob\":%.17g,\"tokens\":%d,\"chars\":%d,\"greedy\":%s}", k ? "," : "", q->logprob,
                   q->n_scored, it->chars[k], q->greedy ? "true" : "false");
        r.prompt_tokens += (uint64_t)q->n_prompt;
        r.cached_tokens += (uint64_t)q->n_cached;
    }
    buf_puts(out, "]}");
    end(it, &r);
}

static void on_scored(void *ctx, struct eval_request *q, err code, const char *reason)
{
    struct item *it = ctx;
    (void)q;
    if (code == ERR_OK) {
        if (++it->n_done == it->n)
            end_scored(it);
        return;
    }
    if (!reason || !reason[0])
        reason = err_text(code);
    if (!eval_passing(code)) {
        end_error(it, reason);
        return;
    }
    batch_again(it->b, it->i, code, reason);
    item_free(it);
}

/* ---- an item's tokens ---------------------------------------------------------------------- */

static int characters(const char *s, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

/* ids: [prompt..choice]; from: where the choice begins. */
static err join_text(const struct eval_items *x, const char *context, size_t context_len, const char *choice,
                     size_t choice_len, struct tok_ids *ids, int *from, struct why *why)
{
    const struct tokenizer *tok = front_tokenizer(x->front);
    unsigned flags = x->add_special ? ENCODE_ADD_SPECIAL : 0;
    struct tok_ids alone = { 0 };
    struct buf whole = { 0 };
    size_t kept = context_len;
    err e;
    while (kept > 0 && strchr(" \t\r\n", context[kept - 1]) && context[kept - 1])
        kept--;
    buf_put(&whole, context, context_len);
    buf_put(&whole, choice, choice_len);
    if (whole.failed)
        FAIL(ERR_NOMEM, "a question");
    TRY(tokenizer_encode(tok, whole.data ? whole.data : "", whole.len, flags, ids, why));
    TRY(tokenizer_encode(tok, context, kept, flags, &alone, why));
    *from = (int)alone.n;
out:
    tok_ids_fini(&alone);
    buf_fini(&whole);
    return e;
}

static err join_messages(const struct eval_items *x, const json_t *root, const char *choice, size_t choice_len,
                         struct tok_ids *ids, int *from, struct why *why)
{
    struct openai_chat req = { 0 };
    struct fault fault = { 0 };
    json_t *body = json_pack("{s:O}", "messages", json_object_get(root, "messages"));
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    err e;
    if (!text)
        FAIL(ERR_NOMEM, "a question");
    e = openai_chat_parse(text, strlen(text), &req, &fault);
    if (e == ERR_OK)
        e = chat_prompt(x->chat, &req, &fault);
    if (e != ERR_OK)
        FAIL(e, "%s", fault.why.text);
    const struct openai_prompt *p = &req.completion.prompts[0];
    ids->id = malloc((size_t)p->n_ids * sizeof *ids->id);
    if (!ids->id)
        FAIL(ERR_NOMEM, "a question");
    memcpy(ids->id, p->ids, (size_t)p->n_ids * sizeof *ids->id);
    ids->n = ids->cap = (size_t)p->n_ids;
    *from = p->n_ids;
    TRY(tokenizer_encode(front_tokenizer(x->front), choice, choice_len, 0, ids, why));
out:
    openai_chat_fini(&req);
    json_decref(body);
    free(text);
    return e;
}

static err send_choice(struct item *it, int k, struct why *why)
{
    const json_t *context = json_object_get(it->root, "context");
    const json_t *choice = json_array_get(json_object_get(it->root, "choices"), (size_t)k);
    const char *text = json_string_value(choice);
    size_t len = json_string_length(choice);
    struct tok_ids ids = { 0 };
    int from = 0;
    err e;
    it->chars[k] = characters(text, len);
    if (context)
        TRY(join_text(it->x, json_string_value(context), json_string_length(context), text, len, &ids, &from, why));
    else
        TRY(join_messages(it->x, it->root, text, len, &ids, &from, why));
    if (from < 1)
        FAIL(ERR_INVAL, "the context has no token before choice %d", k);
    if ((size_t)from >= ids.n)
        FAIL(ERR_INVAL, "choice %d has no token of its own behind the context", k);
    struct eval_question q = { it->x->front, it->x->adapter, ids.id, (int)ids.n, from };
    TRY(eval_request_send(&it->request[k], &q, on_scored, it, why));
out:
    tok_ids_fini(&ids);
    return e;
}

/* ---- an item's fields -------------------------------------------------------------------------- */

static err read_answer(struct item *it, const json_t *choices, struct why *why)
{
    const json_t *answer = json_object_get(it->root, "answer");
    if (json_is_integer(answer)) {
        json_int_t v = json_integer_value(answer);
        if (v < 0 || v >= it->n)
            return why_set(why, ERR_INVAL, "answer %lld is not the number of a choice (0..%d)", (long long)v, it->n - 1);
        it->answer = (int)v;
        return ERR_OK;
    }
    for (int k = 0; json_is_string(answer) && k < it->n; k++)
        if (json_equal(json_array_get(choices, (size_t)k), answer)) {
            it->answer = k;
            return ERR_OK;
        }
    return why_set(why, ERR_INVAL, "answer must be the number (from 0) or the text of a choice");
}

static err read_fields(struct item *it, struct why *why)
{
    const json_t *choices = json_object_get(it->root, "choices"), *group = json_object_get(it->root, "group");
    bool text = json_is_string(json_object_get(it->root, "context"));
    bool chat = json_is_array(json_object_get(it->root, "messages"));
    size_t n = json_array_size(choices);
    if (text == chat)
        return why_set(why, ERR_INVAL, "either `context` (a string) or `messages` (a list) must be given");
    if (n < 1 || n > EVAL_MAX_CHOICES)
        return why_set(why, ERR_INVAL, "`choices` must be a list of 1 to %d strings", EVAL_MAX_CHOICES);
    for (size_t k = 0; k < n; k++)
        if (!json_is_string(json_array_get(choices, k)))
            return why_set(why, ERR_INVAL, "choice %zu is not a string", k);
    if (group && !json_is_string(group) && !json_is_null(group))
        return why_set(why, ERR_INVAL, "`group` must be a string");
    it->n = (int)n;
    return read_answer(it, choices, why);
}

/* ERR_FULL, ERR_NOMEM, ERR_IO are the run's; everything else is the item's. */
static err begin_item(struct item *it, struct why *why)
{
    json_error_t where = { 0 };
    struct buf *text = &it->x->text;
    err e;
    TRY(lines_get(it->x->lines, it->i, text, why));
    it->root = json_loadb(text->data ? text->data : "", text->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!json_is_object(it->root))
        FAIL(ERR_FORMAT, "not a JSON object: %s, column %d", where.text, where.column);
    TRY(read_fields(it, why));
    for (int k = 0; k < it->n; k++)
        TRY(send_choice(it, k, why));
out:
    return e;
}

static err work_begin(void *ctx, struct batch *b, int64_t i, void **job, struct why *why)
{
    struct item *it = calloc(1, sizeof *it);
    if (!it)
        return why_set(why, ERR_NOMEM, "a question");
    it->x = ctx;
    it->b = b;
    it->i = i;
    err e = begin_item(it, why);
    if (e == ERR_OK) {
        *job = it;
    } else if (e == ERR_FULL || e == ERR_NOMEM || e == ERR_IO) {
        item_free(it);
        return e;
    } else {
        end_error(it, why->text);
    }
    return ERR_OK;
}

static void work_cancel(void *ctx, void *job)
{
    (void)ctx;
    item_free(job);
}

void eval_items_fini(struct eval_items *x)
{
    buf_fini(&x->text);
    buf_fini(&x->result);
}

struct batch_work eval_items_work(struct eval_items *x)
{
    return (struct batch_work){ .begin = work_begin, .cancel = work_cancel, .ctx = x };
}
