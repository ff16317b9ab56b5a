/* status.c - see status.h.
 *
 * Messages describe themselves (protobuf-c keeps names and offsets), so a field
 * added to the schema appears in the report without a line here.
 */
#include "coordinator/front/status.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void put_value(struct buf *out, const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_UINT32:
        buf_printf(out, "%" PRIu32, *(const uint32_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT64:
        buf_printf(out, "%" PRIu64, *(const uint64_t *)at);
        break;
    case PROTOBUF_C_TYPE_DOUBLE: {
        double x = *(const double *)at;
        buf_printf(out, "%.9g", isfinite(x) ? x : 0.0);
        break;
    }
    case PROTOBUF_C_TYPE_BOOL:
        buf_puts(out, *(const protobuf_c_boolean *)at ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(char *const *)at;
        buf_put_json(out, s ? s : "", s ? strlen(s) : 0, false);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        status_put_json(out, *(const ProtobufCMessage *const *)at);
        break;
    default:
        buf_puts(out, "null"); /* no such field in a report's messages */
    }
}

/* Number of values of a field: 0 or 1, or those of a list. */
static size_t count_of(const ProtobufCFieldDescriptor *f, const char *base)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)(base + f->quantifier_offset);
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(const void *const *)(base + f->offset) != NULL;
    return f->label == PROTOBUF_C_LABEL_REQUIRED || *(const protobuf_c_boolean *)(base + f->quantifier_offset);
}

void status_put_json(struct buf *out, const ProtobufCMessage *m)
{
    const char *base = (const char *)m, *comma = "";
    buf_putc(out, '{');
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
        size_t n = count_of(f, base);
        if (n == 0 && !list)
            continue;
        buf_printf(out, "%s\"%s\":%s", comma, f->name, list ? "[" : "");
        comma = ",";
        for (size_t j = 0; j < n; j++) {
            const char *at = base + f->offset;
            if (list) /* lists in a report hold messages only: an array of pointers */
                at = *(const char *const *)at + j * sizeof(void *);
            if (j)
                buf_putc(out, ',');
            put_value(out, f, at);
        }
        if (list)
            buf_putc(out, ']');
    }
    buf_putc(out, '}');
}
