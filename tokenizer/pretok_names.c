/* pretok_names.c - pre-tokenizers by the name that GGUF files give them.
 *
 * GGUF carries no pattern, only a name for "the pattern of that model". The
 * table says, for each, the patterns (applied in turn, each cutting what the one
 * before left) and whether a word that is a piece skips the merges. The
 * patterns are those of the models' own tokenizer.json.
 */
#include <stdio.h>
#include <string.h>

#include "tokenizer/pretok.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED(mark) \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" mark \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" mark

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define QWEN2 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define QWEN35 \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL
#define GPT4O CASED(CONTRACTIONS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define TEKKEN CASED("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define DEEPSEEK3                                                                                                    \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+" \
    "[\\r\\n]*|" TAIL
#define KANA_HAN "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define CJK_HANGUL "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{0964}\\x{06d4}\\x{060c})]+"
#define BAILING                                                                                         \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|" \
    "\\s+(?!\\S)|\\s+"
#define SEED_CODER \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" TAIL

const char pretok_gpt2[] = GPT2;

/* DeepSeek LLM's letters: those with case, as of its Unicode version. */
#define CASED_LETTERS "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}" \
    "\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}ℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]"
#define DEEPSEEK_PUNCT "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+"

enum { WHOLE_WORDS = 1, NFC = 2, MAX_REGEX = 6 };

struct named {
    const char *names; /* blank-separated */
    unsigned flags;
    const char *regex[MAX_REGEX + 1]; /* NULL behind the last */
};

static const struct named table[] = {
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", WHOLE_WORDS, {LLAMA3}},
    {"chatglm-bpe glm4 dbrx smaug-bpe", 0, {LLAMA3}},
    {"mpt olmo", NFC, {GPT2}},
    {"gpt-2 phi-2 jais trillion granite-docling jina-es jina-de jina-v2-es jina-v2-de jina-v1-en "
     "roberta-bpe exaone4 a.x-4.0 mellum modern-bert gigachat", 0, {GPT2}},
    {"command-r", NFC, {"\\p{N}", GPT2}},
    {"starcoder refact smollm codeshell exaone minerva-7b", 0, {"\\p{N}", GPT2}},
    {"qwen2", NFC, {QWEN2}},
    {"deepseek-r1-qwen stablelm2 hunyuan megrez solar-open grok-2 kormo", 0, {QWEN2}},
    {"qwen35", NFC, {QWEN35}},
    {"gpt-4o llama4 minimax-m2 kanana2", 0, {GPT4O}},
    {"tekken", WHOLE_WORDS, {TEKKEN}},
    {"deepseek-v3 hunyuan-dense joyai-llm", 0, {"\\p{N}{1,3}", KANA_HAN, DEEPSEEK3}},
    {"deepseek-llm", 0, {"[\\r\\n]", "\\s?" CASED_LETTERS "+", DEEPSEEK_PUNCT, "\\s+$", CJK_HANGUL, "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_HANGUL, "\\p{N}"}},
    {"falcon", 0, {"[\\p{P}$+<=>\\^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"bloom poro-chat gpt3-finnish", 0, {BLOOM}},
    {"viking", 0, {BLOOM, "\\p{N}"}},
    {"bailingmoe bailingmoe2 llada-moe", 0, {BAILING}},
    {"seed-coder", 0, {SEED_CODER}},
    {"default", 0, {"[\\p{P}$+<=>\\^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

static bool has_name(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = names; n > 0 && (at = strstr(at, name)); at += n)
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

static err unknown(const char *name, struct why *why)
{
    char known[400];
    size_t n = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0] && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, " %s", table[i].names);
    return why_set(why, ERR_UNSUPPORTED, "tokenizer: unknown pre-tokenizer \"%.40s\"; known:%s", name, known);
}

err pretok_patterns(const char *name, const char *const **patterns, bool *whole_words, bool *nfc, struct why *why)
{
    if (!name || !*name)
        name = "default";
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct named *t = &table[i];
        if (strchr(name, ' ') || !has_name(t->names, name))
            continue;
        *patterns = t->regex;
        *whole_words = t->flags & WHOLE_WORDS;
        *nfc = t->flags & NFC;
        return ERR_OK;
    }
    return unknown(name, why);
}

err pretok_named(const char *name, struct pre_list *l, bool *whole_words, bool *nfc, struct why *why)
{
    const char *const *pattern;
    err e = pretok_patterns(name, &pattern, whole_words, nfc, why);
    for (; e == ERR_OK && *pattern; pattern++)
        e = pre_list_add_regex(l, *pattern, strlen(*pattern), PRE_ISOLATED, false, why);
    return e ? e : pre_list_add(l, (struct pre_step){.kind = PRE_BYTE_LEVEL}, why);
}
