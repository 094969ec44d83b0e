/* TLS 1.3 by OpenSSL: contexts (certificate, key, whom to trust) and the streams made from them. Only
 * ipc/wire.h uses the streams: it gives a connected socket, plain or encrypted, one face. Used by
 * every process that speaks TCP, and by the supervisor to check files before anything starts.
 *
 * Nothing older than TLS 1.3, no resumption, no early data (RFC 8446): nothing of one connection is
 * good for another. */
#ifndef CLOCKWISE_IPC_TLS_H
#define CLOCKWISE_IPC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_WHY    256         /* bytes of a reason, with the final 0 */
#define TLS_RECORD (16u << 10) /* most bytes that one record carries */

/* What the other side has to show. */
enum tls_verify {
    TLS_VERIFY_NONE,     /* nothing */
    TLS_VERIFY_OPTIONAL, /* a certificate that it does show must be good */
    TLS_VERIFY_REQUIRED  /* a certificate signed by somebody in `ca` */
};

/* Paths of PEM files. The certificate may be followed by intermediate ones; the key has no
 * passphrase. ca may be empty with TLS_VERIFY_NONE. cert may be empty, for a client that shows none. */
struct tls_conf {
    const char *cert, *key, *ca;
    enum tls_verify verify;
};

struct tls_context;
struct tls;

/* Read the files. 0; -ERR_INVAL with a reason that names the file; -ERR_NOMEM. Blocks for the files. */
int tls_context_new(struct tls_context **out, const struct tls_conf *conf, char why[TLS_WHY]);

/* Streams made from it keep what they need. NULL is fine. */
void tls_context_free(struct tls_context *c);

/* A stream over a connected, non-blocking socket, which stays the caller's. called: the other side
 * connected to us. NULL without memory. */
struct tls *tls_new(struct tls_context *c, int fd, bool called);

/* Tells the other side that this is the end if that can be done at once, and frees the stream. */
void tls_free(struct tls *t);

/* One step of the handshake. 0: done. -ERR_AGAIN: when *events (EPOLLIN or EPOLLOUT) is due. Else it
 * has failed, with a reason. */
int tls_handshake(struct tls *t, uint32_t *events, char why[TLS_WHY]);

/* After the handshake: as recv() and send() with MSG_DONTWAIT, errno included. room must be at least
 * TLS_RECORD, so that nothing stays behind where epoll cannot see it. A send that was not taken
 * whole must be repeated with the rest, the same bytes first. */
ssize_t tls_recv(struct tls *t, void *to, size_t room);
ssize_t tls_send(struct tls *t, const void *data, size_t len);

#endif
