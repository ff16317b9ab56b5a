/* http_guard.c - see http_guard.h. */
#include "api/http_guard.h"

#include <string.h>
#include <strings.h>
#include <sys/queue.h>

/* RFC 9110 5.6.2: the bytes a header name may have. */
static bool is_token(const char *s)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return *s && s[strspn(s, allowed)] == '\0';
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return true;
    return false;
}

const char *http_guard(const struct evkeyvalq *headers, bool old)
{
    int lengths = 0, hosts = 0, codings = 0;
    const struct evkeyval *h;
    for (h = headers->tqh_first; h; h = h->next.tqe_next) {
        if (!is_token(h->key))
            return "a header name has bytes that names may not have";
        if (has_control(h->value))
            return "a header value has control bytes";
        if (strcasecmp(h->key, "Content-Length") == 0) {
            lengths++;
            if (h->value[0] == '\0' || h->value[strspn(h->value, "0123456789")] || strlen(h->value) > 18)
                return "Content-Length is not a number";
        } else if (strcasecmp(h->key, "Transfer-Encoding") == 0) {
            codings++;
            if (strcasecmp(h->value, "chunked") != 0)
                return "Transfer-Encoding other than chunked is not supported";
        } else if (strcasecmp(h->key, "Host") == 0) {
            hosts++;
        }
    }
    if (lengths > 1)
        return "more than one Content-Length";
    if (codings > 1)
        return "more than one Transfer-Encoding";
    if (lengths && codings)
        return "both Content-Length and Transfer-Encoding";
    if (hosts > 1 || (hosts == 0 && !old))
        return "exactly one Host header is needed";
    return NULL;
}
