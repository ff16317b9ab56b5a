/* config.c - values: defaults, text to value, value to text, whole-config checks. */
#include "coordinator/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void *field(const struct config *c, const struct config_key *k)
{
    return (char *)(uintptr_t)c + k->offset;
}

void config_init(struct config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < config_n_keys; i++) {
        struct why why;
        if (config_set(c, config_keys[i].name, config_keys[i].initial, &why) != ERR_OK)
            abort(); /* the table contradicts itself; a test reads every row */
    }
}

void config_fini(struct config *c)
{
    free(c->nodes);
    free(c->lora);
    memset(c, 0, sizeof *c);
}

/* Levenshtein distance, both short. */
static int distance(const char *a, const char *b)
{
    int row[64], n = (int)strlen(b);
    if (n >= 63)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int up = row[j], best = diagonal + (*a != b[j - 1]);
            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[n];
}

static const struct config_key *nearest(const char *name)
{
    const struct config_key *best = &config_keys[0];
    int least = 1000;
    for (int i = 0; i < config_n_keys; i++) {
        int d = distance(name, config_keys[i].name);
        if (d < least) {
            least = d;
            best = &config_keys[i];
        }
    }
    return best;
}

err config_bytes(const char *text, uint64_t *out, struct why *why)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1}, {"B", 1}, {"k", 1e3}, {"KB", 1e3}, {"KiB", 1024}, {"M", 1048576.0},
                 {"MB", 1e6}, {"MiB", 1048576.0}, {"G", 1073741824.0}, {"GB", 1e9},
                 {"GiB", 1073741824.0}, {"T", 1099511627776.0}, {"TB", 1e12}, {"TiB", 1099511627776.0}};
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || errno || !(v >= 0))
        return why_set(why, ERR_INVAL, "\"%.40s\" is not a size (e.g. 64GiB, 512MiB)", text);
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcasecmp(end, units[i].unit)) {
            v *= units[i].factor;
            if (v >= 9.2e18)
                return why_set(why, ERR_INVAL, "\"%.40s\" is too large", text);
            *out = (uint64_t)v;
            return ERR_OK;
        }
    return why_set(why, ERR_INVAL, "\"%.40s\" has an unknown unit (B, KiB, MiB, GiB, TiB, KB, MB, GB)", text);
}

static bool is_choice(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (!strncmp(p, value, n) && (p[n] == '|' || !p[n]))
            return n > 0;
    }
    return false;
}

static err set_int(const struct config_key *k, const char *value, int64_t *out, struct why *why)
{
    int64_t v;
    if (k->type == CONFIG_BYTES) {
        uint64_t bytes;
        err e = config_bytes(value, &bytes, why);
        if (e)
            return why_prefix(why, e, "%s", k->name);
        v = (int64_t)bytes;
    } else {
        char *end;
        errno = 0;
        v = strtoll(value, &end, 10);
        if (end == value || *end || errno)
            return why_set(why, ERR_INVAL, "%s: \"%.40s\" is not a whole number", k->name, value);
    }
    if (v < k->least || v > k->most)
        return why_set(why, ERR_INVAL, "%s: %" PRId64 " is outside %" PRId64 "..%" PRId64, k->name, v,
                       k->least, k->most);
    *out = v;
    return ERR_OK;
}

static err set_number(const struct config_key *k, const char *value, double *out, struct why *why)
{
    char *end;
    errno = 0;
    double v = strtod(value, &end);
    if (end == value || *end || errno)
        return why_set(why, ERR_INVAL, "%s: \"%.40s\" is not a number", k->name, value);
    if (!(v >= (double)k->least && v <= (double)k->most))
        return why_set(why, ERR_INVAL, "%s: %g is outside %" PRId64 "..%" PRId64, k->name, v, k->least, k->most);
    *out = v;
    return ERR_OK;
}

static err set_bool(const struct config_key *k, const char *value, bool *out, struct why *why)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (int i = 0; i < 8; i++)
        if (!strcasecmp(value, words[i])) {
            *out = i & 1;
            return ERR_OK;
        }
    return why_set(why, ERR_INVAL, "%s: \"%.40s\" is neither true nor false", k->name, value);
}

err config_set(struct config *c, const char *name, const char *value, struct why *why)
{
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        if (strcmp(k->name, name))
            continue;
        switch (k->type) {
        case CONFIG_INT:
        case CONFIG_BYTES:
            return set_int(k, value, field(c, k), why);
        case CONFIG_BOOL:
            return set_bool(k, value, field(c, k), why);
        case CONFIG_NUMBER:
            return set_number(k, value, field(c, k), why);
        case CONFIG_STRING:
            break;
        }
        if (strlen(value) >= k->size)
            return why_set(why, ERR_INVAL, "%s: longer than %zu bytes", k->name, k->size - 1);
        if (k->choices && !is_choice(k->choices, value))
            return why_set(why, ERR_INVAL, "%s: \"%.40s\" is not one of %s", k->name, value, k->choices);
        memcpy(field(c, k), value, strlen(value) + 1);
        return ERR_OK;
    }
    return why_set(why, ERR_INVAL, "unknown key \"%.60s\"; did you mean \"%s\"?", name, nearest(name)->name);
}

static void dump_text(struct buf *out, const char *s)
{
    buf_put_json(out, s, strlen(s), true); /* a JSON string is a YAML string */
}

static void dump_value(const struct config *c, const struct config_key *k, struct buf *out)
{
    switch (k->type) {
    case CONFIG_INT:
    case CONFIG_BYTES:
        buf_printf(out, "%" PRId64, *(int64_t *)field(c, k));
        break;
    case CONFIG_BOOL:
        buf_puts(out, *(bool *)field(c, k) ? "true" : "false");
        break;
    case CONFIG_NUMBER:
        buf_printf(out, "%.17g", *(double *)field(c, k));
        break;
    case CONFIG_STRING:
        dump_text(out, field(c, k));
        break;
    }
}

static void dump_keys(const struct config *c, const struct config *initial, struct buf *out)
{
    const char *section = "";
    size_t section_len = 0;
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        bool same = k->type == CONFIG_STRING ? !strcmp(field(c, k), field(initial, k))
                                             : !memcmp(field(c, k), field(initial, k), k->size);
        if (same)
            continue;
        const char *dot = strchr(k->name, '.');
        if (dot && (strncmp(section, k->name, section_len) || (size_t)(dot - k->name) != section_len)) {
            section = k->name;
            section_len = (size_t)(dot - k->name);
            buf_printf(out, "%.*s:\n", (int)section_len, section);
        }
        buf_printf(out, "%s%s: ", dot ? "  " : "", dot ? dot + 1 : k->name);
        dump_value(c, k, out);
        buf_putc(out, '\n');
    }
}

static void dump_node(const struct config_node *n, struct buf *out)
{
    buf_puts(out, "  - {host: ");
    dump_text(out, n->host);
    if (n->memory_bytes)
        buf_printf(out, ", memory: %" PRIu64, n->memory_bytes);
    if (n->cores)
        buf_printf(out, ", cores: %d", n->cores);
    const struct {
        const char *name;
        double v;
    } rates[] = {{"read_gbs", n->read_gbs}, {"tflops", n->tflops}, {"link_gbits", n->link_gbits},
                 {"link_us", n->link_us}};
    for (int i = 0; i < 4; i++)
        if (rates[i].v > 0)
            buf_printf(out, ", %s: %.9g", rates[i].name, rates[i].v);
    buf_puts(out, "}\n");
}

void config_dump(const struct config *c, struct buf *out)
{
    struct config initial;
    config_init(&initial);
    dump_keys(c, &initial, out);
    if (c->n_nodes)
        buf_puts(out, "nodes:\n");
    for (int i = 0; i < c->n_nodes; i++)
        dump_node(&c->nodes[i], out);
    if (c->n_lora)
        buf_puts(out, "lora:\n");
    for (int i = 0; i < c->n_lora; i++) {
        buf_puts(out, "  ");
        dump_text(out, c->lora[i].name);
        buf_puts(out, ": ");
        dump_text(out, c->lora[i].path);
        buf_putc(out, '\n');
    }
    config_fini(&initial);
}

err config_check(const struct config *c, struct why *why)
{
    if (!c->model[0])
        return why_set(why, ERR_INVAL, "no model given: use --model PATH or `model:` in the configuration");
    if (!strcmp(c->launcher, "command") && !c->launcher_exec[0])
        return why_set(why, ERR_INVAL, "launcher: command needs launcher_exec: PATH");
    for (int i = 0; i < c->n_nodes; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(c->nodes[i].host, c->nodes[j].host))
                return why_set(why, ERR_INVAL, "nodes: host \"%s\" is listed twice", c->nodes[i].host);
    return ERR_OK;
}
