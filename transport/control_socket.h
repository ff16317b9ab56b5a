/* control_socket.h - listening and dialing for the control plane: addresses,
 * interfaces, port ranges, deadlines. All sockets are non-blocking, close-on-exec. */
#ifndef CORDEE_TRANSPORT_CONTROL_SOCKET_H
#define CORDEE_TRANSPORT_CONTROL_SOCKET_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Listens on `interface` (see control.h) in [port_first, port_last], 0: any port.
 *
 * address    appended: what members should dial, comma-separated
 * ERR_INVAL  no such interface or address; ERR_IO  no free port, or the system refused */
MUST_CHECK err control_socket_listen(const char *interface, uint16_t port_first, uint16_t port_last, int *fd,
                                     struct buf *address, struct why *why);

/* Connects to one address, "HOST:PORT" or "unix:PATH", until until_ms of
 * now_ms(). Looking a host name up may take longer: give numbers.
 * ERR_INVAL  not an address; ERR_TIMEOUT, ERR_IO  not reached */
MUST_CHECK err control_socket_dial(const char *address, uint64_t until_ms, int *fd, struct why *why);

/* Waits for `events` of poll(2) on fd until until_ms. ERR_TIMEOUT, ERR_IO. */
MUST_CHECK err control_socket_wait(int fd, short events, uint64_t until_ms, struct why *why);

/* Accepts one connection. ERR_AGAIN: none waits. ERR_IO: the system has no room. */
MUST_CHECK err control_socket_accept(int listener, int *fd);

#endif
