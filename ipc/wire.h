/* A connected, non-blocking stream socket, plain or under TLS, with one face: receive and send as the
 * system calls do, errno included. Used wherever this product speaks TCP.
 *
 * A wire that was made secure has a handshake before anything else. On every event of the descriptor:
 *
 *   if (!wire_ready(w)) {
 *       rc = wire_handshake(w, &events, why);
 *       -ERR_AGAIN: watch the descriptor for `events` alone, and return
 *       other errors: close
 *       0: watch for what you would watch otherwise, and go on as if EPOLLIN and EPOLLOUT were due
 *   }
 *
 * How long a handshake may take is the caller's to say, by a timer. Nothing here blocks. The process
 * must ignore SIGPIPE. A wire of
 * zero bytes with fd -1 is none. */
#ifndef CLOCKWISE_IPC_WIRE_H
#define CLOCKWISE_IPC_WIRE_H

#include "base/buf.h"
#include "ipc/tls.h"

struct wire {
    int fd;
    bool shaking;    /* the handshake is not done */
    struct tls *tls; /* NULL: plain */
};

/* Take a connected (or connecting) socket over; it is plain. */
static inline void wire_init(struct wire *w, int fd)
{
    *w = (struct wire){.fd = fd};
}

/* Put TLS over it; called: the other side connected to us. Before the first byte. -ERR_NOMEM. */
int wire_secure(struct wire *w, struct tls_context *c, bool called);

/* May bytes be received and sent? */
static inline bool wire_ready(const struct wire *w)
{
    return !w->shaking;
}

/* Go on with the handshake; see tls_handshake(). */
int wire_handshake(struct wire *w, uint32_t *events, char why[TLS_WHY]);

/* As recv() and send() with MSG_DONTWAIT and MSG_NOSIGNAL. room must be at least TLS_RECORD. A short
 * send means that the socket takes no more just now. */
ssize_t wire_recv(struct wire *w, void *to, size_t room);
ssize_t wire_send(struct wire *w, const void *data, size_t len);

/* Send what the buffer holds, as far as the socket takes it. 1: all of it, 0: the rest waits for EPOLLOUT,
 * -1: the connection is broken. Adds the bytes sent to *sent unless that is NULL. */
int wire_flush(struct wire *w, struct buf *out, uint64_t *sent);

/* Close the socket, saying goodbye under TLS. Does nothing to a wire that is none. */
void wire_close(struct wire *w);

#endif
