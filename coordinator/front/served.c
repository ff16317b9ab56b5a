/* served.c - see served.h. */
#include "coordinator/front/served.h"

#include <stdio.h>
#include <string.h>

/* "a", "b" and so on for a reason; cut when there are many. */
static void put_names(const struct model_facts *f, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "\"%s\"", f->name);
    for (int i = 0; i < f->n_adapters && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, ", \"%s:%s\"", f->name, f->adapters[i]);
}

static const char *find_adapter(const struct model_facts *f, const char *name, size_t len)
{
    for (int i = 0; i < f->n_adapters; i++)
        if (strlen(f->adapters[i]) == len && memcmp(f->adapters[i], name, len) == 0)
            return f->adapters[i];
    return NULL;
}

err served_find(const struct model_facts *f, const char *model, size_t len, const char **adapter,
                struct why *why)
{
    char names[256];
    size_t own = strlen(f->name);

    *adapter = NULL;
    if (!model || len == 0 || own == 0)
        return ERR_OK;
    if (len >= own && memcmp(model, f->name, own) == 0) {
        if (len == own)
            return ERR_OK;
        if (model[own] == ':' && (*adapter = find_adapter(f, model + own + 1, len - own - 1)))
            return ERR_OK;
    }
    put_names(f, names, sizeof names);
    return why_set(why, ERR_NOTFOUND, "the model \"%.*s\" is not served here; %s %s", (int)(len < 100 ? len : 100),
                   model, names, f->n_adapters ? "are" : "is");
}

err served_number(const struct model_facts *f, const char *adapter, uint32_t *number, struct why *why)
{
    const char *found = NULL;
    *number = 0;
    if (!adapter || !adapter[0])
        return ERR_OK;
    found = find_adapter(f, adapter, strlen(adapter));
    if (!found)
        return why_set(why, ERR_NOTFOUND, "there is no adapter \"%.100s\"", adapter);
    *number = 1 + (uint32_t)((found - f->adapters[0]) / FACTS_NAME_BYTES);
    return ERR_OK;
}

void served_name(const struct model_facts *f, const char *adapter, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s", f->name, adapter ? ":" : "", adapter ? adapter : "");
}
