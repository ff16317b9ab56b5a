/* address.h - "HOST:PORT" texts and listening sockets. */
#ifndef CORDEE_API_ADDRESS_H
#define CORDEE_API_ADDRESS_H

#include <event2/listener.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"

/* Binds and listens: "HOST:PORT", "[v6]:PORT", ":PORT" (all addresses) or
 * "unix:PATH". Port 0 takes any free one. A socket file that no program listens on
 * any more is replaced; a new one is for the owner only. *port: 0 for unix sockets.
 *
 * ERR_INVAL  not an address; ERR_IO  not bindable (the reason says so if it is busy) */
MUST_CHECK err address_listen(struct event_base *base, const char *address, int backlog,
                              evconnlistener_cb cb, void *ctx, struct evconnlistener **out, int *port,
                              struct why *why);

/* The address to connect to. Blocks while a name is looked up. ERR_INVAL. */
MUST_CHECK err address_resolve(const char *address, struct sockaddr_storage *to, socklen_t *len,
                               struct why *why);

#endif
