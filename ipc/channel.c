/* The control channel: small messages, and the check of who sent them. Runs in the supervisor and in
 * every child; must not block. */
#include "ipc/channel.h"

#include "base/check.h"
#include "base/err.h"
#include "ipc/msg_codec.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define CHANNEL_BYTES 512 /* no message of this channel needs as many */

/* Who may send a message of this kind over a channel: a set of enum channel_sender. */
static unsigned senders_of(enum control_kind kind)
{
    switch (kind) {
    case CONTROL_READY:
    case CONTROL_STATUS:
    case CONTROL_PONG:
        return FROM_CHILD;
    case CONTROL_PING:
    case CONTROL_RELOAD:
    case CONTROL_DRAIN:
    case CONTROL_WORKER_UP:
    case CONTROL_WORKER_DOWN:
        return FROM_SUPERVISOR;
    default:
        return 0; /* it has no business on this channel */
    }
}

int channel_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return -ERR_LIMIT;
    return 0;
}

int channel_send(int fd, const struct channel_msg *msg)
{
    static struct buf out;
    struct control m = {.kind = msg->kind};

    ASSERT(senders_of(msg->kind) != 0);
    if (msg->kind == CONTROL_STATUS)
        m.u.STATUS.text = slice_of(msg->text, strnlen(msg->text, CHANNEL_TEXT - 1));
    if (msg->kind == CONTROL_PING)
        m.u.PING.token = msg->token;
    if (msg->kind == CONTROL_PONG)
        m.u.PONG.token = msg->token;
    if (msg->kind == CONTROL_WORKER_UP) {
        m.u.WORKER_UP.index = msg->index;
        m.u.WORKER_UP.incarnation = msg->incarnation;
    }
    if (msg->kind == CONTROL_WORKER_DOWN)
        m.u.WORKER_DOWN.index = msg->index;
    buf_clear(&out);
    if (msg_codec_encode_control(&m, &out) != 0)
        return -ERR_AGAIN;
    ASSERT(buf_len(&out) <= CHANNEL_BYTES);
    if (send(fd, buf_head(&out), buf_len(&out), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? -ERR_AGAIN : -ERR_CLOSED;
}

static void copy_text(char out[CHANNEL_TEXT], struct slice text)
{
    size_t len = text.len < CHANNEL_TEXT - 1 ? text.len : CHANNEL_TEXT - 1;

    for (size_t i = 0; i < len; i++)
        out[i] = text.data[i] < ' ' || text.data[i] == 127 ? '?' : (char)text.data[i];
    out[len] = 0;
}

int channel_receive(int fd, enum channel_sender sender, struct channel_msg *out)
{
    static struct msg_codec *codec;
    uint8_t in[CHANNEL_BYTES];
    struct control m;
    ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -ERR_CLOSED;
    if (codec == NULL)
        codec = msg_codec_new();
    if ((size_t)n > sizeof in ||
        msg_codec_decode_control(codec, slice_of(in, (size_t)n), &m) != 0 ||
        !(senders_of(m.kind) & (unsigned)sender))
        return -ERR_FORMAT;
    memset(out, 0, sizeof *out);
    out->kind = m.kind;
    if (m.kind == CONTROL_STATUS)
        copy_text(out->text, m.u.STATUS.text);
    if (m.kind == CONTROL_PING)
        out->token = m.u.PING.token;
    if (m.kind == CONTROL_PONG)
        out->token = m.u.PONG.token;
    if (m.kind == CONTROL_WORKER_UP) {
        out->index = m.u.WORKER_UP.index;
        out->incarnation = m.u.WORKER_UP.incarnation;
    }
    if (m.kind == CONTROL_WORKER_DOWN)
        out->index = m.u.WORKER_DOWN.index;
    return 1;
}
