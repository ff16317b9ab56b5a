/* openai_embed.c - see openai_embed.h. */
#include "api/openai_embed.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "api/fields.h"
#include "api/openai_put.h"
#include "api/openai_sampling.h"

#define AT(member) offsetof(struct openai_embed, member)
static const struct field fields[] = {
    /* name                 kind        where                   min      max */
    { "dimensions",         FIELD_INT,  AT(dimensions),         1,       INT_MAX },
    { "add_special_tokens", FIELD_BOOL, AT(add_special_tokens), 0,       0 },
    { "priority",           FIELD_INT,  AT(priority),           INT_MIN, INT_MAX },
};
#undef AT

static err format_read(const json_t *root, bool *base64, struct fault *fault)
{
    const json_t *v = fields_get(root, "encoding_format");
    const char *word = json_string_value(v);
    *base64 = word && strcmp(word, "base64") == 0;
    if (!v || *base64 || (word && strcmp(word, "float") == 0))
        return ERR_OK;
    fault->param = "encoding_format";
    return why_set(&fault->why, ERR_INVAL, "encoding_format must be \"float\" or \"base64\"");
}

err openai_embed_parse(const char *body, size_t len, struct openai_embed *out, struct fault *fault)
{
    err e;
    json_t *root = NULL;
    struct openai_embed r = { .add_special_tokens = true };
    arena_init(&r.arena, 0);
    TRY(fields_parse(body, len, &root, fault));
    TRY(fields_read(root, fields, sizeof fields / sizeof *fields, &r, fault));
    TRY(fields_text(root, "model", &r.arena, &r.model, fault));
    TRY(fields_text(root, "user", &r.arena, &r.user, fault));
    TRY(format_read(root, &r.base64, fault));
    TRY(openai_prompts_read(root, "input", &r.arena, &r.inputs, &r.n_inputs, fault));
    *out = r;
    arena_init(&r.arena, 0); /* moved */
out:
    arena_fini(&r.arena);
    json_decref(root);
    return e;
}

void openai_embed_fini(struct openai_embed *r)
{
    arena_fini(&r->arena);
    *r = (struct openai_embed){ 0 };
}

/* ---- the answer ------------------------------------------------------------------- */

static void put_base64(struct buf *out, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0u);
        char four[4] = { digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63], digits[bits & 63] };
        memset(four + n + 1, '=', 3 - n);
        buf_put(out, four, 4);
    }
}

static void put_vector(struct buf *out, const float *v, int n, bool base64)
{
    if (base64) {
        buf_putc(out, '"');
        put_base64(out, v, (size_t)n * sizeof *v);
        buf_putc(out, '"');
        return;
    }
    buf_putc(out, '[');
    for (int i = 0; i < n; i++)
        buf_printf(out, i ? ",%.9g" : "%.9g", (double)v[i]);
    buf_putc(out, ']');
}

void openai_put_embeddings(struct buf *out, const char *model, const float *vectors, int n, int dimensions,
                           bool base64, uint64_t prompt_tokens)
{
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < n; i++) {
        buf_printf(out, i ? ",{\"object\":\"embedding\",\"index\":%d,\"embedding\":"
                          : "{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i);
        put_vector(out, vectors + (size_t)i * (size_t)dimensions, dimensions, base64);
        buf_putc(out, '}');
    }
    openai_put_string(out, "],\"model\"", model);
    buf_printf(out, ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}}", prompt_tokens,
               prompt_tokens);
}
