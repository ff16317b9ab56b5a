/* links: cordee_api */
/* fuzz_template.c - a template, and behind a NUL the request it renders.
 *
 * Limits are small so that a run is short; whatever renders must have spans that
 * cover its text, in order. Without a NUL a fixed conversation is used.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_chat.h"

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S <|x|> \\u00e9\"},{\"role\":\"user\",\"content\":\"a "
    "b\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"hm\",\"tool_calls\":[{\"type\":"
    "\"function\","
    "\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.5,\"y\":[true,null]}}}]}],\"tools\":[{\"type\":"
    "\"function\","
    "\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":"
    "\"number\"}}}}}],"
    "\"add_generation_prompt\":true,\"n\":7,\"list\":[3,1,2],\"d\":{\"b\":1,\"a\":\"x\"}}";

static void check_spans(const struct jinja_text *x)
{
    size_t at = 0;
    for (size_t i = 0; i < x->n_spans; i++) {
        if (x->spans[i].start != at || x->spans[i].end <= at)
            abort();
        at = x->spans[i].end;
    }
    if (at != x->text.len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct jinja_options o = {.limits = {.max_steps = 200000, .max_bytes = 32 << 20, .max_output = 1 << 20}};
    const uint8_t *nul = memchr(bytes, 0, n);
    size_t len = nul ? (size_t)(nul - bytes) : n;
    char *source = malloc(len ? len : 1); /* exactly as long: a read past the end is seen */
    struct jinja_text text;
    struct jinja *t = NULL;
    struct why why;
    int line;

    if (len)
        memcpy(source, bytes, len);
    if (jinja_open(source, len, &t, &line, &why) == ERR_OK) {
        json_t *request = nul ? json_loadb((const char *)nul + 1, n - len - 1, JSON_ALLOW_NUL, NULL) : NULL;
        if (!request)
            request = json_loads(conversation, 0, NULL);
        if (jinja_render_chat(t, request, NULL, &o, &text, &line, &why) == ERR_OK) {
            check_spans(&text);
            jinja_text_fini(&text);
        }
        json_decref(request);
    }
    jinja_close(t);
    free(source);
    return 0;
}
