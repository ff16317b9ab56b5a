/* links: cordee_tokenizer */
/* fuzz_tokenizer_json.c - tokenizer.json, optionally "\0" tokenizer_config.json; what opens must
 * then encode and decode without harm. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

static const char *const texts[] = {
    "Hello  world\n<s>it's 1234 caf\xc3\xa9 \xe2\x96\x81x \xf0\x9f\x98\x80</s>", " ", "", "a\xcc\x81\xcc\xa3",
    "\xe4\xb8\x80\r\n\t[CLS] ABC",
};

static void use(const struct tokenizer *t)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (unsigned flags = 0; flags < 4; flags++) {
            struct tok_ids ids = {0};
            struct buf out;
            buf_init(&out);
            if (tokenizer_encode(t, texts[i], strlen(texts[i]), flags, &ids, NULL) == ERR_OK &&
                tokenizer_decode(t, ids.id, ids.n, flags & 1, &out, NULL) == ERR_OK && out.len > 0 &&
                utf8_valid_prefix(out.data, out.len) != out.len)
                abort(); /* output is always UTF-8 */
            tok_ids_fini(&ids);
            buf_fini(&out);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tokenizer *t = NULL;
    const uint8_t *nul = n > 0 ? memchr(data, 0, n) : NULL;
    size_t len = nul ? (size_t)(nul - data) : n;
    const char *config = nul ? (const char *)nul + 1 : NULL;
    if (tokenizer_open_json((const char *)data, len, config, nul ? n - len - 1 : 0, &t, NULL) == ERR_OK)
        use(t);
    tokenizer_close(t);
    return 0;
}
