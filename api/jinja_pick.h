/* jinja_pick.h - ordering values, for sort, dictsort and tojson(sort_keys). */
#ifndef CORDEE_API_JINJA_PICK_H
#define CORDEE_API_JINJA_PICK_H

#include "api/jinja_value.h"

/* Sorts v[n] by key[n] (may be the same array), stably; both are rearranged. */
MUST_CHECK err jsort(struct jrun *r, struct jval *key, struct jval *v, size_t n, bool reverse);

#endif
