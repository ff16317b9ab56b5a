/* eval_text.c - see eval_text.h. */
#include "coordinator/batch/eval_text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/batch/eval_request.h"

struct window {
    struct eval_text *x;
    struct batch *b;
    int64_t i;
    struct eval_request request;
};

/* ---- the text ----------------------------------------------------------------------------- */

static err read_file(const char *path, struct buf *out, struct why *why)
{
    char part[65536];
    size_t n;
    FILE *f = fopen(path, "rbe");
    if (!f)
        return why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(out, part, n);
    err e = ferror(f) ? why_set(why, ERR_IO, "%s: %s", path, strerror(errno)) : ERR_OK;
    fclose(f);
    return out->failed ? why_set(why, ERR_NOMEM, "%s", path) : e;
}

static size_t count_words(const char *s, size_t len)
{
    size_t n = 0;
    bool in = false;
    for (size_t i = 0; i < len; i++) {
        bool space = s[i] == ' ' || (s[i] >= '\t' && s[i] <= '\r');
        n += !space && !in;
        in = !space;
    }
    return n;
}

static err hash(struct eval_text *x, const struct buf *text, struct why *why)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(text->data, text->len, digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
        return why_set(why, ERR_NOMEM, "SHA-256");
    for (unsigned i = 0; i < n; i++)
        snprintf(x->sha256 + (size_t)i * 2, 3, "%02x", digest[i]);
    return ERR_OK;
}

err eval_text_open(struct eval_text *x, const char *path, struct front *front, int window, int stride,
                   struct why *why)
{
    int most = front_backend(front)->facts.max_context - 2; /* one token before, one that is never drawn */
    struct buf text = { 0 };
    err e;
    *x = (struct eval_text){ .front = front, .window = window ? window : most };
    x->stride = stride ? stride : x->window;
    if (x->window < 1 || x->window > most)
        FAIL(ERR_INVAL, "a window of %d tokens does not fit the context: at most %d", x->window, most);
    if (x->stride < 1 || x->stride > x->window)
        FAIL(ERR_INVAL, "a stride of %d tokens is not in 1..%d", x->stride, x->window);
    TRY(read_file(path, &text, why));
    if (text.len == 0)
        FAIL(ERR_INVAL, "%s: empty", path);
    TRY(hash(x, &text, why));
    TRY(tokenizer_encode(front_tokenizer(front), text.data, text.len, 0, &x->ids, why));
    if (x->ids.n == 0 || x->ids.n > INT_MAX)
        FAIL(ERR_INVAL, "%s: %zu tokens", path, x->ids.n);
    x->n_bytes = text.len;
    x->n_words = count_words(text.data, text.len);
out:
    buf_fini(&text);
    return e;
}

void eval_text_fini(struct eval_text *x)
{
    tok_ids_fini(&x->ids);
}

int64_t eval_text_windows(const struct eval_text *x)
{
    return ((int64_t)x->ids.n + x->stride - 1) / x->stride;
}

/* ---- windows --------------------------------------------------------------------------------- */

static int64_t end_of(const struct eval_text *x, int64_t i)
{
    int64_t end = (i + 1) * x->stride, n = (int64_t)x->ids.n;
    return end < n ? end : n;
}

static void on_scored(void *ctx, struct eval_request *q, err code, const char *reason)
{
    struct window *w = ctx;
    struct buf line = { 0 };
    if (!reason || !reason[0])
        reason = err_text(code);
    if (code != ERR_OK && eval_passing(code)) {
        batch_again(w->b, w->i, code, reason);
        free(w);
        return;
    }
    buf_printf(&line, "{\"window\":%" PRId64 ",\"first\":%" PRId64 ",", w->i, w->i * w->x->stride);
    if (code == ERR_OK) {
        buf_printf(&line, "\"tokens\":%d,\"logprob\":%.17g}", q->n_scored, q->logprob);
    } else {
        buf_puts(&line, "\"error\":");
        buf_put_json(&line, reason, strlen(reason), true);
        buf_putc(&line, '}');
    }
    struct batch_result r = { .ok = code == ERR_OK && !line.failed, .line = line.data ? line.data : "{}",
                              .len = line.data ? line.len : 2, .prompt_tokens = (uint64_t)q->n_prompt,
                              .cached_tokens = (uint64_t)q->n_cached };
    batch_finish(w->b, w->i, &r);
    buf_fini(&line);
    free(w);
}

static err work_begin(void *ctx, struct batch *b, int64_t i, void **job, struct why *why)
{
    struct eval_text *x = ctx;
    const struct tokenizer *tok = front_tokenizer(x->front);
    int64_t end = end_of(x, i), start = end > x->window ? end - x->window : 0, n = end - start;
    int first = tokenizer_bos(tok) >= 0 ? tokenizer_bos(tok) : tokenizer_eos(tok);
    int scored = (int)(end - i * x->stride);
    struct window *w = calloc(1, sizeof *w);
    int32_t *ids = malloc(((size_t)n + 1) * sizeof *ids);
    err e;
    if (!w || !ids)
        FAIL(ERR_NOMEM, "a window of %lld tokens", (long long)n);
    w->x = x;
    w->b = b;
    w->i = i;
    ids[0] = start > 0 ? x->ids.id[start - 1] : first >= 0 ? first : x->ids.id[0];
    memcpy(ids + 1, x->ids.id + start, (size_t)n * sizeof *ids);
    struct eval_question q = { x->front, x->adapter, ids, (int)n + 1, (int)n + 1 - scored };
    TRY(eval_request_send(&w->request, &q, on_scored, w, why));
    *job = w;
    w = NULL;
out:
    free(w);
    free(ids);
    return e;
}

static void work_cancel(void *ctx, void *job)
{
    struct window *w = job;
    (void)ctx;
    eval_request_cancel(&w->request);
    free(w);
}

struct batch_work eval_text_work(struct eval_text *x)
{
    return (struct batch_work){ .begin = work_begin, .cancel = work_cancel, .ctx = x };
}

/* ---- perplexity --------------------------------------------------------------------------------- */

err eval_text_summary(const struct eval_text *x, struct batch *b, struct buf *out, struct why *why)
{
    struct buf line = { 0 };
    double sum = 0;
    int64_t tokens = 0, failed = 0;
    bool ok;
    err e = ERR_OK;
    for (int64_t i = 0; i < eval_text_windows(x); i++) {
        TRY(batch_get(b, i, &ok, &line, why));
        json_t *root = json_loadb(line.data, line.len, 0, NULL);
        sum += json_number_value(json_object_get(root, "logprob"));
        tokens += json_integer_value(json_object_get(root, "tokens"));
        failed += !ok;
        json_decref(root);
    }
    buf_printf(out,
               "{\"windows\":%" PRId64 ",\"failed\":%" PRId64 ",\"window\":%d,\"stride\":%d,\"tokens\":%" PRId64
               ",\"bytes\":%zu,\"words\":%zu,\"logprob\":%.17g",
               eval_text_windows(x), failed, x->window, x->stride, tokens, x->n_bytes, x->n_words, sum);
    if (tokens && !failed)
        buf_printf(out,
                   ",\"perplexity\":%.9g,\"word_perplexity\":%.9g,\"byte_perplexity\":%.9g,\"bits_per_byte\":%.9g",
                   exp(-sum / (double)tokens), exp(-sum / (double)(x->n_words ? x->n_words : 1)),
                   exp(-sum / (double)x->n_bytes), -sum / (double)x->n_bytes / log(2));
    buf_puts(out, "}\n");
out:
    buf_fini(&line);
    return e;
}
