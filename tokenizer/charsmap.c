/* charsmap.c - walking the double-array trie. */
#include "tokenizer/charsmap.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* One unit: bit 8 says that a value hangs below, bits 10.. are the offset
 * (shifted by 8 more when bit 9 is set), the low byte is the label; a value
 * unit has bit 31 and 31 bits of value. */
static int has_leaf(uint32_t u)
{
    return u >> 8 & 1;
}
static uint32_t offset_of(uint32_t u)
{
    return (u >> 10) << ((u & (1u << 9)) >> 6);
}
static uint32_t label_of(uint32_t u)
{
    return u & (1u << 31 | 0xff);
}

err charsmap_init(struct charsmap *m, const void *data, size_t bytes, struct why *why)
{
    const unsigned char *p = data;
    *m = (struct charsmap){0};
    if (bytes < 4)
        return why_set(why, ERR_FORMAT, "tokenizer: precompiled_charsmap of %zu bytes", bytes);
    size_t trie_bytes = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (trie_bytes > bytes - 4 || trie_bytes % 4 != 0 || trie_bytes < 4)
        return why_set(why, ERR_FORMAT, "tokenizer: precompiled_charsmap: trie of %zu bytes in %zu", trie_bytes,
                       bytes);
    m->n_units = trie_bytes / 4;
    m->text_len = bytes - 4 - trie_bytes;
    m->unit = malloc(trie_bytes);
    m->text = malloc(m->text_len + 1);
    if (!m->unit || !m->text) {
        charsmap_fini(m);
        return why_set(why, ERR_NOMEM, "tokenizer: precompiled_charsmap");
    }
    for (size_t i = 0; i < m->n_units; i++) {
        const unsigned char *u = p + 4 + i * 4;
        m->unit[i] = (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    memcpy(m->text, p + 4 + trie_bytes, m->text_len);
    m->text[m->text_len] = '\0';
    if (utf8_valid_prefix(m->text, m->text_len) != m->text_len) {
        charsmap_fini(m);
        return why_set(why, ERR_FORMAT, "tokenizer: precompiled_charsmap: replacements are not UTF-8");
    }
    return ERR_OK;
}

void charsmap_fini(struct charsmap *m)
{
    free(m->unit);
    free(m->text);
    *m = (struct charsmap){0};
}

size_t charsmap_find(const struct charsmap *m, const char *s, size_t len, int longest, const char **to, size_t *to_len)
{
    size_t best = 0, node = 0;
    uint32_t unit = m->unit[0];
    node ^= offset_of(unit);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        node ^= c;
        if (node >= m->n_units)
            break;
        unit = m->unit[node];
        if (label_of(unit) != c)
            break;
        node ^= offset_of(unit);
        bool inside = i + 1 < len && ((unsigned char)s[i + 1] & 0xc0) == 0x80; /* keys end with a character */
        if (!has_leaf(unit) || node >= m->n_units || inside)
            continue;
        size_t value = m->unit[node] & 0x7fffffffu;
        if (value > m->text_len || ((unsigned char)m->text[value] & 0xc0) == 0x80)
            continue;
        best = i + 1;
        *to = m->text + value;
        if (!longest)
            break;
    }
    if (best > 0)
        *to_len = strlen(*to);
    return best;
}
