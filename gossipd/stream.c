/* Exchanges over TCP. Runs in gossipd; knows frames and connections, nothing of membership. */
#include "gossipd/stream.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/frame.h"
#include "ipc/sockaddr.h"
#include "ipc/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_MAX     32
#define STREAM_FRAME   (1u << 20)
#define STREAM_TIME_US 5000000u

struct stream {
    struct stream_set *set;
    bool used, ours;  /* ours: we connected */
    bool exchange;    /* ours: and not for a packet of the caller's */
    bool last;        /* what is in `out` is the last that we have to say */
    unsigned packets; /* received */
    struct wire wire;
    struct member_endpoint peer;
    struct loop_watch watch;
    struct loop_timer timer;
    struct frame_reader in;
    struct buf out;
};

struct stream_set {
    struct loop *loop;
    const struct stream_ops *ops;
    struct tls_context *tls; /* of new streams; NULL: plain */
    struct loop_watch listener;
    struct stream stream[STREAM_MAX];
};

static void end(struct stream *s, bool ok)
{
    bool ours = s->ours;

    loop_remove(s->set->loop, &s->watch);
    loop_disarm(s->set->loop, &s->timer);
    wire_close(&s->wire);
    frame_reader_free(&s->in);
    buf_free(&s->out);
    s->used = false;
    if (ours || !ok)
        s->set->ops->done(s->set->ops->arg, ok);
}

static void on_timeout(void *arg)
{
    end(arg, false);
}

/* Write what is queued. Returns false if the stream has ended. */
static bool flush(struct stream *s)
{
    int rc = wire_flush(&s->wire, &s->out, NULL);

    if (rc < 0 || (rc == 1 && s->last)) {
        end(s, rc == 1);
        return false;
    }
    loop_modify(s->set->loop, &s->watch, rc == 1 ? EPOLLIN : EPOLLIN | EPOLLOUT);
    return true;
}

/* Say what there is to say at this turn. *none: nothing. */
static int tell(struct stream *s, enum member_turn turn, bool *none)
{
    struct buf packet = {0};
    int rc = s->set->ops->tell(s->set->ops->arg, turn, &packet);

    *none = buf_len(&packet) == 0;
    if (rc == 0 && !*none)
        rc = frame_append(&s->out, slice_of(buf_head(&packet), buf_len(&packet)));
    buf_free(&packet);
    return rc;
}

/* The one who accepted hears a question and answers, and may then be told more; the one who called
 * hears the answer, and says what the other lacks. Returns false if the stream has ended. */
static bool take_frame(struct stream *s)
{
    struct slice packet;
    bool none = false;
    int rc = frame_reader_next(&s->in, &packet);

    if (rc == 0)
        return true;
    if (rc == 1)
        rc = s->set->ops->take(s->set->ops->arg, &s->peer, packet);
    else
        s->set->ops->take(s->set->ops->arg, &s->peer, slice_of(NULL, 0)); /* counted as malformed */
    s->packets++;
    if (rc == 0 && (s->ours || s->packets == 1))
        rc = tell(s, s->ours ? MEMBER_ADDS : MEMBER_ANSWERS, &none);
    s->last = s->ours;
    if (rc != 0 || none || s->packets == 2) {
        end(s, rc == 0);
        return false;
    }
    return flush(s);
}

/* Returns true when the TLS handshake is done. It may end the stream. */
static bool shake(struct stream *s)
{
    uint32_t wanted = EPOLLIN;
    char why[TLS_WHY];
    int rc = wire_handshake(&s->wire, &wanted, why);

    if (rc == -ERR_AGAIN) {
        loop_modify(s->set->loop, &s->watch, wanted);
        return false;
    }
    if (rc == 0)
        return flush(s);
    if (s->ours && rc == -ERR_DENIED)
        log_warn("TLS handshake with gossipd at %s:%u failed: %s", s->peer.address, s->peer.port,
                 why);
    end(s, false);
    return false;
}

static void on_ready(void *arg, uint32_t events)
{
    struct stream *s = arg;

    if (!wire_ready(&s->wire) && !shake(s))
        return;
    if ((events & EPOLLOUT) && !flush(s))
        return;
    while (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        size_t room;
        uint8_t *at = frame_reader_space(&s->in, &room);
        ssize_t n = at == NULL ? 0 : wire_recv(&s->wire, at, room);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) { /* the caller hangs up when it has nothing to add */
            end(s, n == 0 && !s->ours && s->packets == 1 && buf_len(&s->out) == 0);
            return;
        }
        frame_reader_filled(&s->in, (size_t)n);
        if (!s->last && !take_frame(s))
            return;
    }
}

/* Takes the descriptor over, also if there is no room. */
static struct stream *start(struct stream_set *set, int fd, bool ours)
{
    for (unsigned i = 0; i < STREAM_MAX; i++) {
        struct stream *s = &set->stream[i];

        if (s->used)
            continue;
        memset(s, 0, sizeof *s);
        s->set = set;
        s->used = true;
        s->ours = ours;
        wire_init(&s->wire, fd);
        frame_reader_init(&s->in, STREAM_FRAME);
        if ((set->tls != NULL && wire_secure(&s->wire, set->tls, !ours) != 0) ||
            loop_add(set->loop, &s->watch, fd, ours ? EPOLLIN | EPOLLOUT : EPOLLIN, on_ready, s) !=
                0) {
            wire_close(&s->wire);
            s->used = false;
            return NULL;
        }
        loop_arm(set->loop, &s->timer, loop_now_us(set->loop) + STREAM_TIME_US, on_timeout, s);
        return s;
    }
    close(fd);
    return NULL;
}

static void on_accept(void *arg, uint32_t events)
{
    struct stream_set *set = arg;
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    int fd = accept4(set->listener.fd, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd < 0)
        return;
    struct stream *s = start(set, fd, false);
    if (s == NULL)
        return;
    /* It says where it really lives in its packet; the port that it calls from is of no use. */
    uint16_t port;
    sockaddr_read(&a, s->peer.address, &port);
}

static struct stream *call(struct stream_set *set, const char *address, uint16_t port)
{
    int fd = sockaddr_connect(address, port);
    struct stream *s = fd < 0 ? NULL : start(set, fd, true);

    if (s == NULL) {
        set->ops->done(set->ops->arg, false);
        return NULL;
    }
    snprintf(s->peer.address, sizeof s->peer.address, "%s", address);
    s->peer.port = port;
    return s;
}

void stream_exchange(struct stream_set *set, const char *address, uint16_t port)
{
    bool none;

    for (unsigned i = 0; i < STREAM_MAX; i++) {
        const struct stream *s = &set->stream[i];

        if (s->used && s->exchange && s->peer.port == port && strcmp(s->peer.address, address) == 0)
            return;
    }
    struct stream *s = call(set, address, port);
    if (s == NULL)
        return;
    s->exchange = true;
    if (tell(s, MEMBER_ASKS, &none) != 0 || none)
        end(s, false);
}

bool stream_exchanges(const struct stream_set *set)
{
    for (unsigned i = 0; i < STREAM_MAX; i++)
        if (set->stream[i].used && set->stream[i].exchange)
            return true;
    return false;
}

void stream_send(struct stream_set *set, const char *address, uint16_t port, struct slice packet)
{
    struct stream *s = call(set, address, port);

    if (s != NULL && frame_append(&s->out, packet) != 0)
        end(s, false);
}

void stream_set_tls(struct stream_set *set, struct tls_context *tls)
{
    set->tls = tls;
}

int stream_open(struct stream_set **out, struct loop *loop, int listen_fd,
                const struct stream_ops *ops)
{
    struct stream_set *set = calloc(1, sizeof *set);

    if (set == NULL)
        return -ERR_NOMEM;
    set->loop = loop;
    set->ops = ops;
    if (listen_fd >= 0) {
        int rc = loop_add(loop, &set->listener, listen_fd, EPOLLIN, on_accept, set);

        if (rc != 0) {
            free(set);
            return rc;
        }
    }
    *out = set;
    return 0;
}

void stream_close(struct stream_set *set)
{
    for (unsigned i = 0; i < STREAM_MAX; i++)
        if (set->stream[i].used) {
            set->stream[i].ours = false;
            end(&set->stream[i], true);
        }
    loop_remove(set->loop, &set->listener);
    free(set);
}
