/* The control channel between the supervisor and each child: one message of ipc/control.def per
 * datagram of a Unix SOCK_SEQPACKET pair. Loss of the channel tells either end that the other is
 * gone. Used by the supervisor and by ipc/child.c; one thread of a process. */
#ifndef CLOCKWISE_IPC_CHANNEL_H
#define CLOCKWISE_IPC_CHANNEL_H

#include "ipc/control.h"

#include <stdbool.h>
#include <stdint.h>

#define CHANNEL_TEXT 200 /* bytes of a STATUS text, with the final 0 */

/* The two ends of a channel. */
enum channel_sender { FROM_SUPERVISOR = 1, FROM_CHILD = 2 };

/* One message; fields that its kind does not use are zero. */
struct channel_msg {
    enum control_kind kind;
    uint32_t index;          /* WORKER_UP, WORKER_DOWN */
    uint64_t incarnation;    /* WORKER_UP */
    uint64_t token;          /* PING, PONG */
    char text[CHANNEL_TEXT]; /* STATUS */
};

/* A connected pair, non-blocking and close-on-exec. 0 or -ERR_LIMIT. The caller closes both. */
int channel_pair(int fds[2]);

/* Send one message; never blocks. -ERR_AGAIN: the receiver's queue is full and nothing was sent;
 * -ERR_CLOSED: the other end is gone. */
int channel_send(int fd, const struct channel_msg *msg);

/* Receive one message from the given end. 1: *out is filled; 0: none is waiting; -ERR_CLOSED: the
 * other end is gone; -ERR_FORMAT: not a message, or one that this sender may not send. Texts are
 * cut to CHANNEL_TEXT and hold no control characters. */
int channel_receive(int fd, enum channel_sender sender, struct channel_msg *out);

#endif
