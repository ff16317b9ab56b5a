/* http_guard.h - refuses requests that two HTTP readers could understand differently.
 *
 * evhttp takes the first of two Content-Lengths, "+5" as a length, a header named
 * "Content-Length " as unknown, and needs no Host. Behind a proxy that reads them
 * otherwise each is a way to smuggle a second request in, so such a request is
 * answered 400 and its connection closed before anything else of it is used.
 */
#ifndef CORDEE_API_HTTP_GUARD_H
#define CORDEE_API_HTTP_GUARD_H

#include <event2/keyvalq_struct.h>
#include <stdbool.h>

/* NULL: fine; else what is wrong (static text).
 * old: HTTP/1.0, where Host is optional. */
const char *http_guard(const struct evkeyvalq *headers, bool old);

#endif
