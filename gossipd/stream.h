/* Exchanges over TCP: the caller sends a packet, the other answers with one, the caller may add a third
 * and closes the connection. Each packet is in a frame (ipc/frame.h). Bounded in number, size and
 * time. Runs in gossipd. */
#ifndef CLOCKWISE_GOSSIPD_STREAM_H
#define CLOCKWISE_GOSSIPD_STREAM_H

#include "base/buf.h"
#include "core/member.h"
#include "ipc/loop.h"
#include "ipc/tls.h"

struct stream_set;

struct stream_ops {
    void *arg;
    /* Append a sealed packet with what is to be said at this turn, or nothing. */
    int (*tell)(void *arg, enum member_turn turn, struct buf *out);
    /* Take a packet that arrived. Not 0: the connection is dropped without an answer. */
    int (*take)(void *arg, const struct member_endpoint *from, struct slice packet);
    /* An exchange ended. */
    void (*done)(void *arg, bool ok);
};

/* listen_fd: listening and non-blocking, stays the caller's, or -1. ops is borrowed. -ERR_NOMEM. */
int stream_open(struct stream_set **out, struct loop *loop, int listen_fd,
                const struct stream_ops *ops);
void stream_close(struct stream_set *s);

/* From now on exchanges begin with a TLS handshake; NULL: they are plain. Borrowed until the next
 * call. */
void stream_set_tls(struct stream_set *s, struct tls_context *tls);

/* Begin an exchange; done() tells how it went. Does nothing if one with this place is under way or
 * too many are. Never blocks. */
void stream_exchange(struct stream_set *s, const char *address, uint16_t port);

/* Is an exchange that was begun here under way? */
bool stream_exchanges(const struct stream_set *s);

/* Send this sealed packet; the answer goes to take(), done() tells how it went. Does nothing if too
 * many streams are under way. Never blocks. */
void stream_send(struct stream_set *s, const char *address, uint16_t port, struct slice packet);

#endif
