/* control_socket.c - see control_socket.h.
 *
 * Without an interface the hub listens on every address with one IPv6 socket
 * that takes IPv4 too (or an IPv4 one where the kernel has no IPv6) and names
 * them all: only the member knows which of them it can reach.
 */
#include "transport/control_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    BACKLOG = 64,
    ADDRESS_MAX = 1024, /* all addresses together; the list travels in the boot blob */
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
};

static socklen_t address_len(const union address *a)
{
    switch (a->any.sa_family) {
    case AF_INET:
        return sizeof a->v4;
    case AF_INET6:
        return sizeof a->v6;
    default:
        return sizeof a->un;
    }
}

/* "10.0.0.1:5000" or "[fd00::1]:5000", after a comma unless it is the first. */
static void put_address(struct buf *out, const union address *a, uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "";
    bool v6 = a->any.sa_family == AF_INET6;
    inet_ntop(a->any.sa_family, v6 ? (const void *)&a->v6.sin6_addr : &a->v4.sin_addr, text, sizeof text);
    if (out->len + sizeof text + 9 < ADDRESS_MAX)
        buf_printf(out, v6 ? "%s[%s]:%u" : "%s%s:%u", out->len ? "," : "", text, port);
}

static bool usable(const struct ifaddrs *i, union address *out)
{
    *out = (union address){0};
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
        return false;
    if (i->ifa_addr->sa_family == AF_INET)
        memcpy(&out->v4, i->ifa_addr, sizeof out->v4);
    else if (i->ifa_addr->sa_family == AF_INET6)
        memcpy(&out->v6, i->ifa_addr, sizeof out->v6);
    else
        return false;
    /* A link-local address means nothing without the dialer's interface. */
    return out->any.sa_family == AF_INET || !IN6_IS_ADDR_LINKLOCAL(&out->v6.sin6_addr);
}

/* Every address of this host, other than loopback first. */
static err put_all_addresses(struct buf *out, bool with_v6, uint16_t port, struct why *why)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return why_set(why, ERR_IO, "control: no list of interfaces: %s", strerror(errno));
    for (int family = AF_INET; family; family = family == AF_INET && with_v6 ? AF_INET6 : 0)
        for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
            union address a;
            if (usable(i, &a) && a.any.sa_family == family && !(i->ifa_flags & IFF_LOOPBACK))
                put_address(out, &a, port);
        }
    union address loopback = {.v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
    put_address(out, &loopback, port);
    freeifaddrs(list);
    return ERR_OK;
}

/* "eth0" -> its first address, IPv4 if it has one; or an address as it is. */
static err find_interface(const char *name, union address *out, struct why *why)
{
    struct ifaddrs *list;
    *out = (union address){0};
    if (inet_pton(AF_INET, name, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        return ERR_OK;
    }
    if (inet_pton(AF_INET6, name, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        return ERR_OK;
    }
    if (getifaddrs(&list) != 0)
        return why_set(why, ERR_IO, "control: no list of interfaces: %s", strerror(errno));
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        union address a;
        if (strcmp(i->ifa_name, name) != 0 || !usable(i, &a))
            continue;
        if (!out->any.sa_family || (out->any.sa_family == AF_INET6 && a.any.sa_family == AF_INET))
            *out = a;
    }
    freeifaddrs(list);
    if (!out->any.sa_family)
        return why_set(why, ERR_INVAL, "network interface %s: not there, or without an address", name);
    return ERR_OK;
}

static int open_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static uint16_t bound_port(int fd)
{
    union address a = {0};
    socklen_t len = sizeof a;
    getsockname(fd, &a.any, &len);
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

/* Binds and listens at `a` in the range of ports; -1 with errno set. */
static int listen_in_range(union address *a, uint16_t first, uint16_t last)
{
    int fd = open_socket(a->any.sa_family), one = 1, zero = 0;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    for (unsigned port = first; port <= last; port++) {
        if (a->any.sa_family == AF_INET6)
            a->v6.sin6_port = htons((uint16_t)port);
        else
            a->v4.sin_port = htons((uint16_t)port);
        if (bind(fd, &a->any, address_len(a)) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
        if (errno != EADDRINUSE)
            break;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static err listen_tcp(const char *interface, uint16_t first, uint16_t last, int *fd, struct buf *address,
                      struct why *why)
{
    union address a = {.v6 = {.sin6_family = AF_INET6}};
    err e = ERR_OK;
    if (interface)
        TRY(find_interface(interface, &a, why));
    int s = listen_in_range(&a, first, last);
    if (s < 0 && !interface && errno != EADDRINUSE) {
        a = (union address){.v4 = {.sin_family = AF_INET}};
        s = listen_in_range(&a, first, last);
    }
    if (s < 0)
        FAIL(ERR_IO, "control: cannot listen at %s, ports %u to %u: %s", interface ? interface : "any address", first,
             last, strerror(errno));
    if (interface)
        put_address(address, &a, bound_port(s));
    else
        e = put_all_addresses(address, a.any.sa_family == AF_INET6, bound_port(s), why);
    if (e != ERR_OK)
        close(s);
    else
        *fd = s;
out:
    return e;
}

static err unix_address(const char *path, union address *a, struct why *why)
{
    *a = (union address){.un = {.sun_family = AF_UNIX}};
    if (!*path || strlen(path) >= sizeof a->un.sun_path)
        return why_set(why, ERR_INVAL, "unix socket path \"%s\": 1 to %zu bytes", path, sizeof a->un.sun_path - 1);
    memcpy(a->un.sun_path, path, strlen(path) + 1);
    return ERR_OK;
}

static err listen_unix(const char *path, int *fd, struct buf *address, struct why *why)
{
    union address a;
    int s = -1, probe = -1;
    err e;
    TRY(unix_address(path, &a, why));
    s = open_socket(AF_UNIX);
    int failed = s < 0 || bind(s, &a.any, sizeof a.un) != 0;
    if (failed && s >= 0 && errno == EADDRINUSE) {
        /* A file that nobody listens at was left behind by a killed process. */
        probe = open_socket(AF_UNIX);
        if (probe >= 0 && connect(probe, &a.any, sizeof a.un) != 0 && errno == ECONNREFUSED && unlink(path) == 0)
            failed = bind(s, &a.any, sizeof a.un) != 0;
        else
            errno = EADDRINUSE;
    }
    if (failed || chmod(path, S_IRUSR | S_IWUSR) != 0 || listen(s, BACKLOG) != 0)
        FAIL(ERR_IO, "control: cannot listen at unix:%s: %s", path, strerror(errno));
    buf_printf(address, "unix:%s", path);
    *fd = s;
    s = -1;
out:
    if (probe >= 0)
        close(probe);
    if (s >= 0)
        close(s);
    return e;
}

err control_socket_listen(const char *interface, uint16_t port_first, uint16_t port_last, int *fd,
                          struct buf *address, struct why *why)
{
    int s = -1;
    err e;
    if (interface && strncmp(interface, "unix:", 5) == 0)
        TRY(listen_unix(interface + 5, &s, address, why));
    else
        TRY(listen_tcp(interface, port_first, port_last ? port_last : port_first, &s, address, why));
    if (address->failed) {
        close(s);
        FAIL(ERR_NOMEM, "control: list of addresses");
    }
    *fd = s;
out:
    return e;
}

err control_socket_accept(int listener, int *fd)
{
    int one = 1, s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM ? ERR_IO : ERR_AGAIN;
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* a unix socket says no: fine */
    *fd = s;
    return ERR_OK;
}

/* "HOST:PORT" or "[V6]:PORT" -> its addresses; *list is freed by the caller. */
static err look_up(const char *address, struct addrinfo **list, struct why *why)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    const char *from = address;
    if (len >= 2 && from[0] == '[' && from[len - 1] == ']') {
        from++;
        len -= 2;
    }
    if (!colon || !len || len >= sizeof host || !colon[1])
        return why_set(why, ERR_INVAL, "address \"%s\": expected HOST:PORT or unix:PATH", address);
    memcpy(host, from, len);
    host[len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int code = getaddrinfo(host, colon + 1, &hints, list);
    if (code != 0)
        return why_set(why, ERR_IO, "%s", gai_strerror(code));
    return ERR_OK;
}

err control_socket_wait(int fd, short events, uint64_t until_ms, struct why *why)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0);
        if (n > 0)
            return ERR_OK;
        if (n < 0 && errno != EINTR)
            return why_set(why, ERR_IO, "poll: %s", strerror(errno));
        if (n == 0 && now >= until_ms)
            return why_set(why, ERR_TIMEOUT, "no answer");
    }
}

static err connect_to(const struct sockaddr *a, socklen_t len, uint64_t until_ms, int *fd, struct why *why)
{
    int s = open_socket(a->sa_family), one = 1, code = 0;
    socklen_t code_len = sizeof code;
    err e = ERR_OK;
    if (s < 0)
        FAIL(ERR_IO, "socket: %s", strerror(errno));
    if (connect(s, a, len) != 0) {
        if (errno != EINPROGRESS)
            FAIL(ERR_IO, "%s", strerror(errno));
        TRY(control_socket_wait(s, POLLOUT, until_ms, why));
        if (getsockopt(s, SOL_SOCKET, SO_ERROR, &code, &code_len) != 0 || code != 0)
            FAIL(ERR_IO, "%s", strerror(code ? code : errno));
    }
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *fd = s;
    s = -1;
out:
    if (s >= 0)
        close(s);
    return e;
}

err control_socket_dial(const char *address, uint64_t until_ms, int *fd, struct why *why)
{
    struct addrinfo *list = NULL;
    err e;
    if (strncmp(address, "unix:", 5) == 0) {
        union address a;
        TRY(unix_address(address + 5, &a, why));
        TRY(connect_to(&a.any, sizeof a.un, until_ms, fd, why));
    } else {
        TRY(look_up(address, &list, why));
        e = ERR_IO;
        for (const struct addrinfo *i = list; i && e != ERR_OK; i = i->ai_next)
            e = connect_to(i->ai_addr, i->ai_addrlen, until_ms, fd, why);
    }
out:
    if (e != ERR_OK && e != ERR_INVAL)
        why_prefix(why, e, "%s", address);
    if (list)
        freeaddrinfo(list);
    return e;
}
