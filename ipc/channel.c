/* The control channel: framing of small fixed messages, and the check of who sent them. Runs in the
 * supervisor and in every child; must not block.
 *
 * A datagram is, little-endian: kind u8, then the fields that the kind has, in the order index u32,
 * incarnation u64, token u64, text (the rest of the datagram). Every byte must be consumed. Both ends
 * are always of one build: they live on one machine and are started from one installation. */
#include "ipc/channel.h"

#include "base/check.h"
#include "base/err.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define CHANNEL_BYTES (1 + 4 + 8 + 8 + CHANNEL_TEXT)

/* Which fields a kind has. */
enum { HAS_INDEX = 1, HAS_INCARNATION = 2, HAS_TOKEN = 4, HAS_TEXT = 8 };

static unsigned fields_of(enum channel_kind kind)
{
    switch (kind) {
    case CHANNEL_READY:
    case CHANNEL_RELOAD:
    case CHANNEL_DRAIN:
        return 0;
    case CHANNEL_STATUS:
        return HAS_TEXT;
    case CHANNEL_PING:
    case CHANNEL_PONG:
        return HAS_TOKEN;
    case CHANNEL_WORKER_UP:
        return HAS_INDEX | HAS_INCARNATION;
    }
    return 0;
}

/* The senders of a kind, or 0 for a number that is no kind. */
static unsigned senders_of(uint8_t number)
{
    switch (number) {
#define X(name, number, senders, text)                                                             \
    case number:                                                                                   \
        return senders;
#include "ipc/channel.def"
#undef X
    default:
        return 0;
    }
}

const char *channel_name(enum channel_kind kind)
{
    switch (kind) {
#define X(name, number, senders, text)                                                             \
    case CHANNEL_##name:                                                                           \
        return #name;
#include "ipc/channel.def"
#undef X
    }
    return "?";
}

int channel_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return -ERR_LIMIT;
    return 0;
}

static size_t put_number(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
    return bytes;
}

static uint64_t take_number(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

int channel_send(int fd, const struct channel_msg *msg)
{
    uint8_t out[CHANNEL_BYTES];
    unsigned fields = fields_of(msg->kind);
    size_t n = put_number(out, msg->kind, 1);

    if (fields & HAS_INDEX)
        n += put_number(out + n, msg->index, 4);
    if (fields & HAS_INCARNATION)
        n += put_number(out + n, msg->incarnation, 8);
    if (fields & HAS_TOKEN)
        n += put_number(out + n, msg->token, 8);
    if (fields & HAS_TEXT) {
        size_t len = strnlen(msg->text, CHANNEL_TEXT - 1);

        memcpy(out + n, msg->text, len);
        n += len;
    }
    ASSERT(n <= sizeof out);
    if (send(fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n)
        return 0;
    return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? -ERR_AGAIN : -ERR_CLOSED;
}

static int decode(const uint8_t *in, size_t len, enum channel_sender sender,
                  struct channel_msg *out)
{
    size_t n = 1;

    memset(out, 0, sizeof *out);
    if (len < 1 || !(senders_of(in[0]) & (unsigned)sender))
        return -ERR_FORMAT;
    out->kind = (enum channel_kind)in[0];
    unsigned fields = fields_of(out->kind);
    size_t fixed = (fields & HAS_INDEX ? 4u : 0) + (fields & HAS_INCARNATION ? 8u : 0) +
                   (fields & HAS_TOKEN ? 8u : 0);

    if (len - n < fixed || (!(fields & HAS_TEXT) && len - n != fixed))
        return -ERR_FORMAT;
    if (fields & HAS_INDEX) {
        out->index = (uint32_t)take_number(in + n, 4);
        n += 4;
    }
    if (fields & HAS_INCARNATION) {
        out->incarnation = take_number(in + n, 8);
        n += 8;
    }
    if (fields & HAS_TOKEN) {
        out->token = take_number(in + n, 8);
        n += 8;
    }
    if (fields & HAS_TEXT) {
        if (len - n > CHANNEL_TEXT - 1)
            return -ERR_FORMAT;
        memcpy(out->text, in + n, len - n);
        for (char *p = out->text; *p != 0; p++)
            if ((unsigned char)*p < ' ' || *p == 127)
                *p = '?';
    }
    return 1;
}

int channel_receive(int fd, enum channel_sender sender, struct channel_msg *out)
{
    uint8_t in[CHANNEL_BYTES];
    ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -ERR_CLOSED;
    if ((size_t)n > sizeof in)
        return -ERR_FORMAT;
    return decode(in, (size_t)n, sender, out);
}
