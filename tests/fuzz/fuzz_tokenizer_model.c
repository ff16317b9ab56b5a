/* links: cordee_tokenizer */
/* fuzz_tokenizer_model.c - SentencePiece's tokenizer.model from memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

static const char text[] = "Hello  world\n<s>it's 1234 caf\xc3\xa9 \xe2\x96\x81x \xef\xbc\xa1 \xf0\x9f\x98\x80</s> ";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tokenizer *t = NULL;
    if (tokenizer_open_spm(data, n, NULL, 0, &t, NULL) == ERR_OK) {
        struct tok_ids ids = {0};
        struct buf out;
        buf_init(&out);
        if (tokenizer_encode(t, text, strlen(text), ENCODE_ADD_SPECIAL | ENCODE_PARSE_SPECIAL, &ids, NULL) == ERR_OK &&
            tokenizer_decode(t, ids.id, ids.n, false, &out, NULL) == ERR_OK && out.len > 0 &&
            utf8_valid_prefix(out.data, out.len) != out.len)
            abort(); /* output is always UTF-8 */
        tok_ids_fini(&ids);
        buf_fini(&out);
    }
    tokenizer_close(t);
    return 0;
}
