/* stop.c - see stop.h.
 *
 * Nodes are made in the order of the strings, children are a linked list (a node of
 * a real stop list has one or two). Failure links are set breadth first; `match`
 * of a node is its own string, else that of its failure link, which is shorter.
 */
#include "coordinator/front/stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct stop_node {
    uint32_t child, sibling, fail; /* 0: none (the root is nobody's child) */
    uint32_t depth;
    int32_t match;
    unsigned char byte;
};

struct stop_set {
    struct stop_node *node; /* [n_nodes], 0 is the root */
    uint32_t n_nodes;
    int n;
    size_t *at;  /* [n + 1] offsets into text */
    char *text;
};

static uint32_t child_find(const struct stop_set *s, uint32_t at, unsigned char byte)
{
    uint32_t c = s->node[at].child;
    while (c && s->node[c].byte != byte)
        c = s->node[c].sibling;
    return c;
}

static void string_add(struct stop_set *s, int i)
{
    uint32_t at = 0;
    for (size_t j = s->at[i]; j < s->at[i + 1]; j++) {
        unsigned char byte = (unsigned char)s->text[j];
        uint32_t c = child_find(s, at, byte);
        if (!c) {
            c = s->n_nodes++;
            s->node[c] = (struct stop_node){ .sibling = s->node[at].child, .depth = s->node[at].depth + 1,
                                             .match = -1, .byte = byte };
            s->node[at].child = c;
        }
        at = c;
    }
    if (s->node[at].match < 0)
        s->node[at].match = i;
}

static uint32_t step(const struct stop_set *s, uint32_t at, unsigned char byte)
{
    uint32_t c;
    while (!(c = child_find(s, at, byte)) && at)
        at = s->node[at].fail;
    return c;
}

/* queue: [n_nodes] scratch */
static void links_set(struct stop_set *s, uint32_t *queue)
{
    uint32_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t at = queue[head++];
        for (uint32_t c = s->node[at].child; c; c = s->node[c].sibling) {
            struct stop_node *n = &s->node[c];
            n->fail = at ? step(s, s->node[at].fail, n->byte) : 0;
            if (n->match < 0)
                n->match = s->node[n->fail].match;
            queue[tail++] = c;
        }
    }
}

err stop_open(const struct stop_string *strings, int n, struct stop_set **out, struct why *why)
{
    err e;
    size_t total = 0;
    uint32_t *queue = NULL;
    struct stop_set *s = calloc(1, sizeof *s);
    for (int i = 0; i < n; i++) {
        if (strings[i].len == 0)
            FAIL(ERR_INVAL, "a stop string is empty");
        if (utf8_valid_prefix(strings[i].text, strings[i].len) != strings[i].len)
            FAIL(ERR_INVAL, "a stop string is not UTF-8");
        if (strings[i].len > STOP_MAX_BYTES || (total += strings[i].len) > STOP_MAX_BYTES)
            FAIL(ERR_LIMIT, "stop strings are longer than %d bytes together", STOP_MAX_BYTES);
    }
    queue = calloc(total + 1, sizeof *queue);
    if (!s || !queue || !(s->node = calloc(total + 1, sizeof *s->node)) ||
        !(s->at = calloc((size_t)n + 1, sizeof *s->at)) || !(s->text = malloc(total + 1)))
        FAIL(ERR_NOMEM, "no memory for stop strings");
    s->n = n;
    s->n_nodes = 1;
    s->node[0].match = -1;
    for (int i = 0; i < n; i++) {
        memcpy(s->text + s->at[i], strings[i].text, strings[i].len);
        s->at[i + 1] = s->at[i] + strings[i].len;
        string_add(s, i);
    }
    links_set(s, queue);
    *out = s;
    s = NULL;
    e = ERR_OK;
out:
    free(queue);
    stop_close(s);
    return e;
}

void stop_close(struct stop_set *s)
{
    if (!s)
        return;
    free(s->node);
    free(s->at);
    free(s->text);
    free(s);
}

size_t stop_feed(const struct stop_set *s, uint32_t *position, const char *text, size_t len, int *match)
{
    *match = -1;
    for (size_t i = 0; i < len; i++) {
        *position = step(s, *position, (unsigned char)text[i]);
        if (s->node[*position].match >= 0) {
            *match = s->node[*position].match;
            return i + 1;
        }
    }
    return len;
}

size_t stop_held(const struct stop_set *s, uint32_t position)
{
    return s->node[position].depth;
}

size_t stop_length(const struct stop_set *s, int i)
{
    return s->at[i + 1] - s->at[i];
}

const char *stop_text(const struct stop_set *s, int i)
{
    return s->text + s->at[i];
}
