/* Numeric addresses and sockets: the one place that knows both families. */
#ifndef CLOCKWISE_IPC_SOCKADDR_H
#define CLOCKWISE_IPC_SOCKADDR_H

#include "core/limits.h"

#include <stdint.h>
#include <sys/socket.h>

/* Make a socket address of a numeric IPv4 or IPv6 address. Returns its length, 0 if the text is
 * neither. */
socklen_t sockaddr_make(const char *address, uint16_t port, struct sockaddr_storage *out);

/* The address as text, and the port. What is neither family gives "" and 0. */
void sockaddr_read(const struct sockaddr_storage *a, char address[LIMIT_ADDR], uint16_t *port);

/* Begin a TCP connection. Returns a non-blocking close-on-exec descriptor, the caller's, which becomes
 * writable when the connection stands or has failed (SO_ERROR says which); or -ERR_INVAL for text that
 * is no address, or what the system says. Never blocks. */
int sockaddr_connect(const char *address, uint16_t port);

#endif
