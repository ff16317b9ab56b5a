/* jinja_json.h - JSON in (the request) and out (tojson). */
#ifndef CORDEE_API_JINJA_JSON_H
#define CORDEE_API_JINJA_JSON_H

#include <jansson.h>

#include "api/jinja_value.h"

/* Strings share j's bytes and are marked `from_user`. */
MUST_CHECK err jjson_get(struct jrun *r, const json_t *j, bool from_user, struct jval *out);

/* json.dumps as Python's. indent: ABSENT or NONE for one line, else a number of
 * blanks or a string; item, key: separators. */
struct jjson_style {
    bool ascii, sort_keys;
    struct jval indent;
    const struct jstr *item, *key;
};
MUST_CHECK err jjson_put(struct jrun *r, struct jval v, const struct jjson_style *style, struct jval *out);

#endif
