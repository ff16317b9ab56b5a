/* config_yaml.c - cluster.yaml into struct config, by libyaml's event parser.
 *
 * The grammar is small and fixed: a mapping of scalars, one level of sections, a
 * list of nodes, a mapping of adapters. Aliases are refused (no billion laughs),
 * and so are duplicate keys; depth is bounded because nothing recurses.
 */
#include "coordinator/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_YAML_BYTES (4u << 20)
#define MAX_SEEN 256

struct reader {
    yaml_parser_t parser;
    yaml_event_t ev;
    bool have;
    const char *origin;
    struct config *c;
    struct why *why;
    char seen[MAX_SEEN][96]; /* keys met, for duplicates */
    int n_seen;
};

static err at_mark(struct reader *r, err e, yaml_mark_t m)
{
    return why_prefix(r->why, e, "%s:%zu:%zu", r->origin, m.line + 1, m.column + 1);
}

static err next(struct reader *r)
{
    if (r->have)
        yaml_event_delete(&r->ev);
    r->have = false;
    if (!yaml_parser_parse(&r->parser, &r->ev)) {
        why_set(r->why, ERR_INVAL, "%s", r->parser.problem ? r->parser.problem : "malformed YAML");
        return at_mark(r, ERR_INVAL, r->parser.problem_mark);
    }
    r->have = true;
    if (r->ev.type == YAML_ALIAS_EVENT) {
        why_set(r->why, ERR_INVAL, "aliases are not supported");
        return at_mark(r, ERR_INVAL, r->ev.start_mark);
    }
    return ERR_OK;
}

static err expected(struct reader *r, const char *what)
{
    why_set(r->why, ERR_INVAL, "expected %s", what);
    return at_mark(r, ERR_INVAL, r->ev.start_mark);
}

/* The scalar's text; NULL if it is none or holds a NUL. */
static const char *scalar(const struct reader *r)
{
    if (r->ev.type != YAML_SCALAR_EVENT)
        return NULL;
    const char *s = (const char *)r->ev.data.scalar.value;
    return strlen(s) == r->ev.data.scalar.length ? s : NULL;
}

static err once(struct reader *r, const char *key)
{
    for (int i = 0; i < r->n_seen; i++)
        if (!strcmp(r->seen[i], key)) {
            why_set(r->why, ERR_INVAL, "key \"%.60s\" is given twice", key);
            return at_mark(r, ERR_INVAL, r->ev.start_mark);
        }
    if (r->n_seen == MAX_SEEN || strlen(key) >= sizeof r->seen[0])
        return expected(r, "a known key");
    strcpy(r->seen[r->n_seen++], key);
    return ERR_OK;
}

static err node_number(struct reader *r, const char *text, double most, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0) || v > most)
        return expected(r, "a number in range");
    *out = v;
    return ERR_OK;
}

static err node_field(struct reader *r, struct config_node *n, const char *key)
{
    err e;
    const char *v;
    double cores = 0;
    if ((e = next(r)))
        return e;
    if (!(v = scalar(r)))
        return expected(r, "a value");
    if (!strcmp(key, "host")) {
        if (!*v || strlen(v) >= sizeof n->host || strpbrk(v, ", \t\n:;&|$`\"'\\"))
            return expected(r, "a host name");
        strcpy(n->host, v);
        return ERR_OK;
    }
    if (!strcmp(key, "memory")) {
        e = config_bytes(v, &n->memory_bytes, r->why);
        return e ? at_mark(r, e, r->ev.start_mark) : ERR_OK;
    }
    if (!strcmp(key, "cores")) {
        if ((e = node_number(r, v, 65536, &cores)))
            return e;
        n->cores = (int)cores;
        return ERR_OK;
    }
    if (!strcmp(key, "read_gbs"))
        return node_number(r, v, 1e6, &n->read_gbs);
    if (!strcmp(key, "tflops"))
        return node_number(r, v, 1e6, &n->tflops);
    if (!strcmp(key, "link_gbits"))
        return node_number(r, v, 1e6, &n->link_gbits);
    if (!strcmp(key, "link_us"))
        return node_number(r, v, 1e9, &n->link_us);
    why_set(r->why, ERR_INVAL,
            "unknown node key \"%.60s\" (host, memory, cores, read_gbs, tflops, link_gbits, link_us)", key);
    return at_mark(r, ERR_INVAL, r->ev.start_mark);
}

/* After the mapping's start. */
static err read_node(struct reader *r, struct config_node *n)
{
    err e;
    char key[64];
    for (;;) {
        if ((e = next(r)))
            return e;
        if (r->ev.type == YAML_MAPPING_END_EVENT)
            return n->host[0] ? ERR_OK : expected(r, "a node with `host:`");
        const char *k = scalar(r);
        if (!k || strlen(k) >= sizeof key)
            return expected(r, "a node key");
        strcpy(key, k);
        if ((e = node_field(r, n, key)))
            return e;
    }
}

static err read_nodes(struct reader *r)
{
    err e;
    struct config *c = r->c;
    if (r->ev.type != YAML_SEQUENCE_START_EVENT)
        return expected(r, "a list of nodes: [{host: NAME, ...}, ...]");
    c->n_nodes = 0;
    for (;;) {
        if ((e = next(r)))
            return e;
        if (r->ev.type == YAML_SEQUENCE_END_EVENT)
            return ERR_OK;
        if (r->ev.type != YAML_MAPPING_START_EVENT)
            return expected(r, "{host: NAME, ...}");
        if (c->n_nodes == CONFIG_MAX_NODES)
            return expected(r, "at most 1024 nodes");
        struct config_node *grown = realloc(c->nodes, (size_t)(c->n_nodes + 1) * sizeof *grown);
        if (!grown)
            return why_set(r->why, ERR_NOMEM, "nodes");
        c->nodes = grown;
        grown[c->n_nodes] = (struct config_node){0};
        if ((e = read_node(r, &grown[c->n_nodes])))
            return e;
        c->n_nodes++;
    }
}

static err read_lora(struct reader *r)
{
    err e;
    struct config *c = r->c;
    if (r->ev.type != YAML_MAPPING_START_EVENT)
        return expected(r, "adapters: {NAME: PATH, ...}");
    for (;;) {
        if ((e = next(r)))
            return e;
        if (r->ev.type == YAML_MAPPING_END_EVENT)
            return ERR_OK;
        struct config_lora one = {0};
        const char *s = scalar(r);
        if (!s || !*s || strlen(s) >= sizeof one.name || c->n_lora == CONFIG_MAX_LORA)
            return expected(r, "an adapter's name (at most 32 of them)");
        strcpy(one.name, s);
        if ((e = next(r)))
            return e;
        if (!(s = scalar(r)) || strlen(s) >= sizeof one.path)
            return expected(r, "an adapter's path");
        strcpy(one.path, s);
        struct config_lora *grown = realloc(c->lora, (size_t)(c->n_lora + 1) * sizeof *grown);
        if (!grown)
            return why_set(r->why, ERR_NOMEM, "lora");
        c->lora = grown;
        grown[c->n_lora++] = one;
    }
}

/* Does some key live under this name ("network.interface")? */
static bool is_section(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < config_n_keys; i++)
        if (!strncmp(config_keys[i].name, name, n) && config_keys[i].name[n] == '.')
            return true;
    return false;
}

/* section: "" or "network." */
static err read_mapping(struct reader *r, const char *section)
{
    err e;
    char key[96];
    for (;;) {
        if ((e = next(r)))
            return e;
        if (r->ev.type == YAML_MAPPING_END_EVENT)
            return ERR_OK;
        const char *k = scalar(r);
        if (!k || strlen(section) + strlen(k) + 1 >= sizeof key)
            return expected(r, "a key");
        stpcpy(stpcpy(key, section), k);
        yaml_mark_t mark = r->ev.start_mark;
        if ((e = once(r, key)) || (e = next(r)))
            return e;
        if (!*section && !strcmp(key, "nodes"))
            e = read_nodes(r);
        else if (!*section && !strcmp(key, "lora"))
            e = read_lora(r);
        else if (!*section && is_section(key) && r->ev.type == YAML_MAPPING_START_EVENT) {
            strcat(key, ".");
            e = read_mapping(r, key);
        } else if (!scalar(r))
            e = expected(r, "a plain value");
        else if ((e = config_set(r->c, key, scalar(r), r->why)))
            e = at_mark(r, e, mark);
        if (e)
            return e;
    }
}

static err read_document(struct reader *r)
{
    err e;
    do {
        if ((e = next(r)))
            return e;
    } while (r->ev.type == YAML_STREAM_START_EVENT || r->ev.type == YAML_DOCUMENT_START_EVENT);
    if (r->ev.type == YAML_STREAM_END_EVENT || (scalar(r) && !*scalar(r)))
        return ERR_OK; /* empty file */
    if (r->ev.type != YAML_MAPPING_START_EVENT)
        return expected(r, "`key: value` lines");
    if ((e = read_mapping(r, "")))
        return e;
    if ((e = next(r)) || (e = next(r))) /* document end, stream end */
        return e;
    return r->ev.type == YAML_STREAM_END_EVENT ? ERR_OK : expected(r, "one document only");
}

err config_parse(struct config *c, const char *yaml, size_t len, const char *origin, struct why *why)
{
    if (len > MAX_YAML_BYTES)
        return why_set(why, ERR_INVAL, "%s: larger than 4 MiB", origin);
    struct reader *r = calloc(1, sizeof *r);
    if (!r || !yaml_parser_initialize(&r->parser)) {
        free(r);
        return why_set(why, ERR_NOMEM, "%s", origin);
    }
    r->origin = origin;
    r->c = c;
    r->why = why;
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)yaml, len);
    err e = read_document(r);
    if (r->have)
        yaml_event_delete(&r->ev);
    yaml_parser_delete(&r->parser);
    free(r);
    return e;
}

err config_load(struct config *c, const char *path, struct why *why)
{
    err e = ERR_OK;
    struct buf text;
    char part[4096];
    size_t n;

    buf_init(&text);
    FILE *f = fopen(path, "rb");
    if (!f)
        return why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    while ((n = fread(part, 1, sizeof part, f)) > 0 && text.len <= MAX_YAML_BYTES)
        buf_put(&text, part, n);
    if (ferror(f))
        e = why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    else if (text.failed)
        e = why_set(why, ERR_NOMEM, "%s", path);
    else
        e = config_parse(c, text.data ? text.data : "", text.len, path, why);
    fclose(f);
    buf_fini(&text);
    return e;
}
