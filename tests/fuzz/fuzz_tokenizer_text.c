/* links: cordee_tokenizer */
/* fuzz_tokenizer_text.c - encode, spans, decode and stream over small tokenizers of every kind.
 *
 * Byte 0 chooses the tokenizer, byte 1 the span cut; the rest is text, and ids.
 * Invariants: not UTF-8 <=> refused; no control token from a span that forbids
 * it; byte-level text comes back; a stream gives what decoding gives.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/pretok.h"
#include "tokenizer/text.h"
#include "tokenizer/tokenizer.h"

static const char *const pre_names[] = {"llama-bpe", "qwen2", "gpt-2", "deepseek-v3", "falcon", "gpt-4o", "bloom",
                                        "deepseek-llm", "default", "tekken", "bailingmoe"};
enum { N_PRE = sizeof pre_names / sizeof pre_names[0], N_KINDS = N_PRE + 3 };

static struct tokenizer *opened[N_KINDS];

static char storage[16384];
static size_t used;

static struct tok_piece piece(const char *s, size_t len, float score, uint8_t type)
{
    char *at = memcpy(storage + used, s, len);
    used += len;
    return (struct tok_piece){at, (uint32_t)len, score, type};
}

static struct tokenizer *make(struct tok_tables t)
{
    struct tokenizer *out = NULL;
    t.pad = t.sep = t.cls = t.mask = -1;
    if (tokenizer_open(&t, &out, NULL) != ERR_OK)
        abort();
    return out;
}

static struct tokenizer *make_bpe(const char *pre)
{
    struct tok_piece p[270];
    struct tok_merge m[6];
    static const char *const merges[][2] = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"\xc4\xa0", "\xc4\xa0"},
                                            {"a", "a"}, {"aa", "aa"}};
    size_t n = 0;
    used = 0;
    p[n++] = piece("<|end|>", 7, 0, TOKEN_CONTROL);
    for (int b = 0; b < 256; b++) {
        char u[4];
        p[n++] = piece(u, utf8_put(u, byte_level_char((unsigned char)b)), 0, TOKEN_NORMAL);
    }
    for (size_t i = 0; i < 6; i++) {
        char both[16];
        int len = snprintf(both, sizeof both, "%s%s", merges[i][0], merges[i][1]);
        p[n++] = piece(both, (size_t)len, 0, TOKEN_NORMAL);
        m[i] = (struct tok_merge){merges[i][0], merges[i][1], (uint32_t)strlen(merges[i][0]),
                                  (uint32_t)strlen(merges[i][1])};
    }
    p[n++] = piece("<tool>", 6, 0, TOKEN_USER_DEFINED);
    return make((struct tok_tables){.model = TOK_BPE, .pre = pre, .pieces = p, .n_pieces = n, .merges = m,
                                    .n_merges = 6, .bos = 0, .eos = 0, .unk = -1});
}

static struct tokenizer *make_scored(enum tok_model model)
{
    struct tok_piece p[300];
    static const char *const words[] = {"\xe2\x96\x81", "a", "b", "ab", "▁a", "aa", "aaaa", "h", "e",
                                        "he", "\xe2\x96\x81\xe2\x96\x81", "x\xe2\x96\x81", "\xc3\xa9"};
    size_t n = 0;
    used = 0;
    p[n++] = piece("<unk>", 5, 0, TOKEN_UNKNOWN);
    p[n++] = piece("<s>", 3, 0, TOKEN_CONTROL);
    p[n++] = piece("</s>", 4, 0, TOKEN_CONTROL);
    for (int b = 0; b < 256 && model == TOK_SPM; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        p[n++] = piece(name, 6, 0, TOKEN_BYTE);
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        p[n++] = piece(words[i], strlen(words[i]), -(float)i, TOKEN_NORMAL);
    p[n++] = piece("abab", 4, -1, TOKEN_UNUSED);
    p[n++] = piece("<tool>", 6, 0, TOKEN_USER_DEFINED);
    return make((struct tok_tables){.model = model, .pieces = p, .n_pieces = n, .bos = 1, .eos = 2, .unk = 0,
                                    .add_bos = true, .add_space_prefix = true, .escape_spaces = true,
                                    .remove_extra_spaces = model == TOK_UNIGRAM});
}

static const struct tokenizer *choose(unsigned which)
{
    which %= N_KINDS;
    if (!opened[which])
        opened[which] = which < N_PRE        ? make_bpe(pre_names[which])
                        : which == N_PRE     ? make_scored(TOK_SPM)
                        : which == N_PRE + 1 ? make_scored(TOK_UNIGRAM)
                                             : make_scored(TOK_WORDPIECE);
    return opened[which];
}

static void check_text(const struct tokenizer *t, bool lossless, const char *s, size_t n, size_t cut)
{
    struct tok_span spans[2] = {{s, cut, false}, {s + cut, n - cut, true}};
    struct tok_ids ids = {0}, two = {0};
    struct buf out;
    bool valid = utf8_valid_prefix(s, n) == n;
    buf_init(&out);
    if ((tokenizer_encode(t, s, n, 0, &ids, NULL) == ERR_OK) != valid)
        abort();
    if ((tokenizer_encode_spans(t, spans, 2, ENCODE_ADD_SPECIAL, &two, NULL) == ERR_OK) != valid)
        abort();
    for (size_t i = 0; i < ids.n; i++)
        if (tokenizer_type(t, ids.id[i]) == TOKEN_CONTROL)
            abort();
    if (tokenizer_decode(t, ids.id, ids.n, false, &out, NULL) != ERR_OK)
        abort();
    if (valid && lossless && (out.len != n || (n > 0 && memcmp(out.data, s, n) != 0)))
        abort();
    buf_fini(&out);
    tok_ids_fini(&ids);
    tok_ids_fini(&two);
}

static void check_ids(const struct tokenizer *t, bool exact, const char *s, size_t n)
{
    struct tok_stream stream;
    struct buf all, parts;
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    buf_init(&all);
    buf_init(&parts);
    tok_stream_init(&stream, t, false, true);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (unsigned char)s[i] % tokenizer_size(t);
        if (tok_stream_push(&stream, ids[i], &parts, NULL) != ERR_OK)
            abort();
        if (parts.len > 0 && utf8_valid_prefix(parts.data, parts.len) != parts.len)
            abort();
    }
    if (tok_stream_end(&stream, &parts, NULL) != ERR_OK || tokenizer_decode(t, ids, n, false, &all, NULL) != ERR_OK)
        abort();
    if (exact && (all.len != parts.len || (all.len > 0 && memcmp(all.data, parts.data, all.len) != 0)))
        abort();
    tok_stream_fini(&stream);
    buf_fini(&all);
    buf_fini(&parts);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    unsigned which = data[0] % N_KINDS;
    const struct tokenizer *t = choose(which);
    const char *s = (const char *)data + 2;
    n -= 2;
    bool lossless = which < N_PRE && strcmp(pre_names[which], "qwen2") != 0; /* NFC changes text */
    check_text(t, lossless, s, n, n > 0 ? data[1] % (n + 1) : 0);
    check_ids(t, which != N_PRE, s, n); /* runs of fallback bytes: see tok_stream */
    return 0;
}
