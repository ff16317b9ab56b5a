/* links: cordee_api */
/* fuzz_json_request.c - bodies of HTTP requests: completions, tokenize, detokenize.
 * What is accepted must hold what openai.h promises. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/openai_chat.h"
#include "api/openai_embed.h"

static void check(int holds)
{
    if (!holds)
        abort();
}

static void check_text(struct openai_text t)
{
    check(t.text[t.len] == '\0' && utf8_valid_prefix(t.text, t.len) == t.len);
}

static void check_completion(const struct openai_completion *r)
{
    check(r->chat ? r->n_prompts == 0 : r->n_prompts >= 1 && r->n_prompts <= OPENAI_MAX_PROMPTS);
    check(r->n >= 1 && r->best_of >= r->n && r->best_of <= OPENAI_MAX_CHOICES);
    check(r->n_prompts * r->best_of <= OPENAI_MAX_PROMPTS);
    check(r->max_tokens >= (r->chat ? -1 : 0) && r->min_tokens >= 0);
    check(r->max_tokens < 0 || r->min_tokens <= r->max_tokens);
    check(r->logprobs >= -1 && r->logprobs <= OPENAI_MAX_TOP && r->top_k >= 0);
    check(r->temperature >= 0 && r->temperature <= 2 && r->top_p > 0 && r->top_p <= 1);
    check(r->min_p >= 0 && r->min_p <= 1 && r->repetition_penalty > 0);
    check(fabsf(r->presence_penalty) <= 2 && fabsf(r->frequency_penalty) <= 2);
    check(r->stream || !r->include_usage);
    for (int i = 0; i < r->n_prompts; i++) {
        const struct openai_prompt *p = &r->prompts[i];
        check((p->text.text != NULL) != (p->ids != NULL));
        if (p->text.text)
            check_text(p->text);
        check(!p->ids || p->n_ids > 0);
        for (int j = 0; j < p->n_ids; j++)
            check(p->ids[j] >= 0);
    }
    for (int i = 0; i < r->n_stop; i++) {
        check(r->stop[i].len > 0);
        check_text(r->stop[i]);
    }
    for (int i = 0; i < r->n_bias; i++)
        check(r->bias[i].token >= 0 && fabsf(r->bias[i].bias) <= 100);
}

static void check_chat(const struct openai_chat *r)
{
    const json_t *messages = json_object_get(r->variables, "messages");
    check_completion(&r->completion);
    check(r->completion.chat && json_array_size(messages) > 0);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        check(json_string_length(json_object_get(m, "role")) > 0);
        check(json_is_string(json_object_get(m, "content")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct openai_completion c;
    struct openai_tokenize t;
    struct openai_detokenize d;
    struct openai_chat chat;
    struct openai_embed embed;
    struct fault fault = { 0 };
    char *body = malloc(n ? n : 1); /* exactly as long: a read past the end is seen */
    memcpy(body, bytes, n);
    if (openai_completion_parse(body, n, &c, &fault) == ERR_OK) {
        check_completion(&c);
        openai_completion_fini(&c);
    } else {
        check(fault.why.text[0] != '\0');
    }
    if (openai_tokenize_parse(body, n, &t, &fault) == ERR_OK) {
        check_text(t.prompt);
        openai_tokenize_fini(&t);
    }
    if (openai_detokenize_parse(body, n, &d, &fault) == ERR_OK)
        openai_detokenize_fini(&d);
    if (openai_chat_parse(body, n, &chat, &fault) == ERR_OK) {
        check_chat(&chat);
        openai_chat_fini(&chat);
    }
    if (openai_embed_parse(body, n, &embed, &fault) == ERR_OK) {
        check(embed.n_inputs >= 1 && embed.dimensions >= 0);
        openai_embed_fini(&embed);
    }
    free(body);
    return 0;
}
