/* vocab.c - open addressing over ids; strings in large chunks. */
#include "tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/text.h"
#include "tokenizer/tokenizer.h"

enum { CHUNK_BYTES = 1 << 18 };

struct vocab_chunk {
    struct vocab_chunk *next;
    size_t used, cap;
    char data[];
};

err vocab_init(struct vocab *v, size_t n, struct why *why)
{
    *v = (struct vocab){0};
    for (int i = 0; i < 256; i++)
        v->byte_id[i] = -1;
    if (n == 0 || n > VOCAB_MAX_IDS)
        return why_set(why, ERR_FORMAT, "tokenizer: %zu ids (1 to %d are possible)", n, VOCAB_MAX_IDS);

    size_t slots = 16;
    while (slots < n * 2)
        slots *= 2;
    v->piece = calloc(n, sizeof *v->piece);
    v->slot = calloc(slots, sizeof *v->slot);
    if (!v->piece || !v->slot) {
        vocab_fini(v);
        return why_set(why, ERR_NOMEM, "tokenizer: table of %zu ids", n);
    }
    for (size_t i = 0; i < n; i++)
        v->piece[i].type = TOKEN_UNUSED;
    v->n = n;
    v->mask = slots - 1;
    return ERR_OK;
}

void vocab_fini(struct vocab *v)
{
    for (struct vocab_chunk *c = v->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(v->piece);
    free(v->slot);
    *v = (struct vocab){0};
}

static char *store(struct vocab *v, const char *text, size_t len)
{
    struct vocab_chunk *c = v->chunks;
    if (!c || c->cap - c->used < len + 1) {
        size_t cap = len + 1 > CHUNK_BYTES ? len + 1 : CHUNK_BYTES;
        c = malloc(sizeof *c + cap);
        if (!c)
            return NULL;
        *c = (struct vocab_chunk){.next = v->chunks, .cap = cap};
        v->chunks = c;
    }
    char *at = c->data + c->used;
    if (len > 0)
        memcpy(at, text, len);
    at[len] = '\0';
    c->used += len + 1;
    return at;
}

/* Slot that holds the text, or the free one where it belongs. */
static size_t probe(const struct vocab *v, const char *text, size_t len)
{
    size_t i = text_hash(text, len) & v->mask;
    for (; v->slot[i] != 0; i = (i + 1) & v->mask) {
        const struct vocab_piece *p = &v->piece[v->slot[i] - 1];
        if (p->len == len && memcmp(p->text, text, len) == 0)
            break;
    }
    return i;
}

err vocab_put(struct vocab *v, int32_t id, const char *text, size_t len, double score, uint8_t type, bool in_model,
              struct why *why)
{
    if (id < 0 || (size_t)id >= v->n)
        return why_set(why, ERR_FORMAT, "tokenizer: id %d is not in 0..%zu", id, v->n - 1);
    if (len > VOCAB_MAX_PIECE_BYTES)
        return why_set(why, ERR_FORMAT, "tokenizer: piece %d has %zu bytes", id, len);
    if (v->piece[id].text)
        return why_set(why, ERR_FORMAT, "tokenizer: id %d is given twice", id);

    size_t at = probe(v, text ? text : "", len);
    if (v->slot[at] != 0)
        return why_set(why, ERR_FORMAT, "tokenizer: ids %u and %d are the same piece \"%.*s\"", v->slot[at] - 1, id,
                       (int)(len > 40 ? 40 : len), text);
    char *copy = store(v, text, len);
    if (!copy)
        return why_set(why, ERR_NOMEM, "tokenizer: piece %d", id);
    v->piece[id] = (struct vocab_piece){
        .text = copy, .len = (uint32_t)len, .type = type, .in_model = in_model, .score = score};
    v->slot[at] = (uint32_t)id + 1;
    return ERR_OK;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t len)
{
    size_t at = probe(v, text, len);
    return (int32_t)v->slot[at] - 1;
}

int32_t vocab_find_model(const struct vocab *v, const char *text, size_t len)
{
    int32_t id = vocab_find(v, text, len);
    return id >= 0 && v->piece[id].in_model ? id : -1;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int vocab_byte_value(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int hi = hex_digit(text[3]), lo = hex_digit(text[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

int vocab_find_bytes(struct vocab *v)
{
    static const char hex[] = "0123456789ABCDEF";
    int found = 0;
    for (int i = 0; i < 256; i++) {
        char name[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        v->byte_id[i] = vocab_find(v, name, sizeof name);
        found += v->byte_id[i] >= 0;
    }
    return found;
}
