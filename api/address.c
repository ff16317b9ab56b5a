/* address.c - see address.h. */
#include "api/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FLAGS = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE };

static err listen_failed(const char *address, struct why *why)
{
    return why_set(why, ERR_IO, "%s: %s%s", address, strerror(errno),
                   errno == EADDRINUSE ? "; another program listens there, choose another address" : "");
}

/* True when a program answers behind the socket file. */
static bool unix_alive(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true; /* cannot tell: rather keep the file */
    bool alive = connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno == EAGAIN;
    close(fd);
    return alive;
}

/* The address of "unix:PATH". */
static err unix_address(const char *address, struct sockaddr_un *a, struct why *why)
{
    const char *path = address + strlen("unix:");
    if (*path == '\0' || strlen(path) >= sizeof a->sun_path)
        return why_set(why, ERR_INVAL, "%s: a socket path has 1 to %zu bytes", address, sizeof a->sun_path - 1);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, path);
    return ERR_OK;
}

static err listen_unix(struct event_base *base, const char *address, int backlog, evconnlistener_cb cb,
                       void *ctx, struct evconnlistener **out, struct why *why)
{
    const char *path = address + strlen("unix:");
    struct sockaddr_un a = { 0 };
    struct stat st;
    err e = unix_address(address, &a, why);
    if (e != ERR_OK)
        return e;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return why_set(why, ERR_IO, "%s: the file is there and is not a socket", address);
        if (unix_alive(&a)) {
            errno = EADDRINUSE;
            return listen_failed(address, why);
        }
        unlink(path);
    }
    mode_t old = umask(0177);
    struct evconnlistener *l = evconnlistener_new_bind(base, cb, ctx, FLAGS & ~LEV_OPT_REUSEABLE, backlog,
                                                       (struct sockaddr *)&a, sizeof a);
    int saved = errno;
    umask(old);
    errno = saved;
    if (!l)
        return listen_failed(address, why);
    *out = l;
    return ERR_OK;
}

/* Cuts "HOST:PORT" in two; brackets around an IPv6 address go. */
static err address_split(const char *address, char host[256], char port[8], struct why *why)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    if (!colon || len >= 256 || strlen(colon + 1) > 5 || colon[1] == '\0' ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return why_set(why, ERR_INVAL, "\"%s\" is not HOST:PORT", address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']')
        snprintf(host, 256, "%.*s", (int)len - 2, address + 1);
    else
        snprintf(host, 256, "%.*s", (int)len, address);
    snprintf(port, 8, "%s", colon + 1);
    return ERR_OK;
}

static int port_of(evutil_socket_t fd)
{
    struct sockaddr_storage a = { 0 };
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return 0;
    return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port)
                                   : ntohs(((struct sockaddr_in *)&a)->sin_port);
}

err address_listen(struct event_base *base, const char *address, int backlog, evconnlistener_cb cb, void *ctx,
                   struct evconnlistener **out, int *port, struct why *why)
{
    char host[256], service[8];
    struct addrinfo *list = NULL, hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                            .ai_socktype = SOCK_STREAM };
    struct evconnlistener *l = NULL;
    *port = 0;
    if (strncmp(address, "unix:", 5) == 0)
        return listen_unix(base, address, backlog, cb, ctx, out, why);
    err e = address_split(address, host, service, why);
    if (e != ERR_OK)
        return e;
    int rc = getaddrinfo(host[0] ? host : NULL, service, &hints, &list);
    if (rc != 0)
        return why_set(why, ERR_INVAL, "%s: %s", address, gai_strerror(rc));
    for (struct addrinfo *a = list; a && !l; a = a->ai_next)
        l = evconnlistener_new_bind(base, cb, ctx, FLAGS, backlog, a->ai_addr, (int)a->ai_addrlen);
    int saved = errno;
    freeaddrinfo(list);
    errno = saved;
    if (!l)
        return listen_failed(address, why);
    *port = port_of(evconnlistener_get_fd(l));
    *out = l;
    return ERR_OK;
}

err address_resolve(const char *address, struct sockaddr_storage *to, socklen_t *len, struct why *why)
{
    char host[256], service[8];
    struct addrinfo *list = NULL, hints = { .ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    memset(to, 0, sizeof *to);
    if (strncmp(address, "unix:", 5) == 0) {
        *len = sizeof(struct sockaddr_un);
        return unix_address(address, (struct sockaddr_un *)to, why);
    }
    err e = address_split(address, host, service, why);
    if (e != ERR_OK)
        return e;
    int rc = getaddrinfo(host[0] ? host : NULL, service, &hints, &list);
    if (rc != 0)
        return why_set(why, ERR_INVAL, "%s: %s", address, gai_strerror(rc));
    memcpy(to, list->ai_addr, list->ai_addrlen);
    *len = list->ai_addrlen;
    freeaddrinfo(list);
    return ERR_OK;
}
