/* Outgoing links: one connection to one worker of another node, its handshake, its output, and the
 * judgement whether that worker is there. Runs in a worker; blocks nowhere. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "ipc/sockaddr.h"
#include "workers/link_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_ready(void *arg, uint32_t events);

void link_out_init(struct link *l, struct link_set *s, uint16_t member, uint16_t worker,
                   const struct member *m)
{
    memset(l, 0, sizeof *l);
    l->set = s;
    l->member = member;
    l->worker = worker;
    l->node = m->id;
    snprintf(l->address, sizeof l->address, "%s", m->address);
    l->port = (uint16_t)(m->peer_port + worker);
    wire_init(&l->wire, -1);
    l->retry_us = LINK_RETRY_MIN;
    l->made_us = clock_mono_us();
    buf_init(&l->out, LIMIT_LINK_OUTPUT);
    buf_init(&l->hello, 4096);
    frame_reader_init(&l->in, 4096);
    s->stats.links_known++;
}

static bool is_older(const struct link *l)
{
    return l->protocol < l->set->conf.protocol.newest;
}

/* Close the socket; no callback. */
static void hang_up(struct link *l)
{
    if (l->wire.fd < 0)
        return;
    if (l->state == LINK_UP) {
        l->set->stats.links_up--;
        l->set->stats.links_older -= is_older(l);
    }
    loop_remove(l->set->loop, &l->watch);
    wire_close(&l->wire);
    l->state = LINK_WAITING;
    buf_clear(&l->hello);
    frame_reader_free(&l->in);
    frame_reader_init(&l->in, 4096);
}

/* And forget what was queued. */
static void disconnect(struct link *l)
{
    hang_up(l);
    l->waiting_us = l->doubted_us = 0;
    buf_clear(&l->out);
    buf_shrink(&l->out, 0);
}

void link_out_close(struct link *l)
{
    disconnect(l);
    buf_free(&l->out);
    buf_free(&l->hello);
    frame_reader_free(&l->in);
    l->set->stats.links_known--;
}

void link_out_fail(struct link *l)
{
    struct link_set *s = l->set;
    bool first = !l->failed;

    /* While a ring is young the other side may not have heard of us yet and turn us away: what is
     * queued waits for the next call. */
    if (l->state == LINK_GREETING && !l->ever_up && clock_mono_us() - l->made_us < LINK_GRACE) {
        hang_up(l);
        l->retry_at_us = clock_mono_us() + LINK_RETRY_MIN;
        return;
    }
    disconnect(l);
    l->failed = true;
    l->retry_at_us = clock_mono_us() + l->retry_us;
    l->retry_us = l->retry_us * 2 < LINK_RETRY_MAX ? l->retry_us * 2 : LINK_RETRY_MAX;
    if (!first)
        return;
    s->stats.downs++;
    link_set_verdict(s, &l->node, l->worker, false);
    s->events.on_down(s->events.arg, l->member, l->worker);
}

/* ---- connecting ---- */

static int begin_connect(const struct link *l)
{
    int fd = sockaddr_connect(l->address, l->port), one = 1;

    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void link_out_connect(struct link *l)
{
    ASSERT(l->state == LINK_WAITING && l->wire.fd < 0);
    l->begun_us = clock_mono_us();
    wire_init(&l->wire, begin_connect(l));
    if (l->wire.fd < 0 ||
        loop_add(l->set->loop, &l->watch, l->wire.fd, EPOLLIN | EPOLLOUT, on_ready, l) != 0) {
        wire_close(&l->wire);
        link_out_fail(l);
        return;
    }
    l->state = LINK_CONNECTING;
}

/* Answers to what it asks must not be refused because our own connection has not come back yet: they wait
 * for it, as they do when a ring is young. */
void link_out_expect(struct link *l)
{
    if (l->failed) {
        l->failed = false;
        link_set_verdict(l->set, &l->node, l->worker, true);
    }
    l->retry_us = LINK_RETRY_MIN;
    if (l->state == LINK_WAITING)
        link_out_connect(l);
}

/* Is the connection there, and its TLS handshake done if there is one? */
static bool connected(struct link *l)
{
    struct tls_context *tls = l->set->tls;
    uint32_t wanted = EPOLLIN;
    char why[TLS_WHY];
    int error = 0, rc = 0;
    socklen_t len = sizeof error;

    if (l->wire.tls == NULL) {
        if (getsockopt(l->wire.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
            rc = -ERR_CLOSED;
        else if (tls != NULL)
            rc = wire_secure(&l->wire, tls, false);
    }
    if (rc == 0 && !wire_ready(&l->wire))
        rc = wire_handshake(&l->wire, &wanted, why);
    if (rc == -ERR_AGAIN) {
        loop_modify(l->set->loop, &l->watch, wanted);
        return false;
    }
    if (rc == -ERR_DENIED) {
        l->set->stats.dropped_handshake++;
        if (!l->failed)
            log_warn("TLS handshake with the worker at %s:%u failed: %s", l->address, l->port, why);
    }
    if (rc != 0)
        link_out_fail(l);
    return rc == 0;
}

static void greet(struct link *l)
{
    static const uint8_t zeros[LINK_NONCE];

    rand_bytes(l->nonce, sizeof l->nonce);
    l->state = LINK_GREETING;
    if (link_hello_append(l->set, &l->hello, LINK_CALLER, l->nonce, zeros, l->worker, false) != 0)
        link_out_fail(l);
    else
        link_out_flush(l);
}

/* The called worker has answered. */
static int finish_greeting(struct link *l, const struct msg *m)
{
    struct link_set *s = l->set;
    const struct msg_HELLO *h = &m->u.HELLO;

    if (m->kind != MSG_HELLO)
        return -ERR_FORMAT;
    int rc = link_hello_check(s, h);
    if (rc == 0 && (memcmp(h->node.data, l->node.b, NODE_ID_BYTES) != 0 || h->worker != l->worker))
        rc = -ERR_DENIED; /* somebody else lives there now */
    if (rc == 0)
        rc = link_hello_verify(s, h, LINK_CALLED, l->nonce, h->nonce.data);
    if (rc == 0)
        rc = link_hello_append(s, &l->hello, LINK_CALLER, l->nonce, h->nonce.data, l->worker, true);
    if (rc != 0)
        return rc;
    l->state = LINK_UP;
    l->ever_up = true;
    l->protocol = protocol_common(s->conf.protocol, protocol_unpack(h->protocol));
    s->stats.links_up++;
    s->stats.links_older += is_older(l);
    s->stats.connects++;
    l->retry_us = LINK_RETRY_MIN;
    l->heard_us = clock_mono_us();
    l->waiting_us = buf_len(&l->out) > 0 ? l->heard_us : 0;
    if (l->failed) {
        l->failed = false;
        link_set_verdict(s, &l->node, l->worker, true);
    }
    link_out_flush(l);
    return 0;
}

/* ---- output ---- */

static void want_write(struct link *l, bool yes)
{
    loop_modify(l->set->loop, &l->watch, yes ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int write_out(struct link *l, struct buf *b)
{
    if (buf_len(b) == 0)
        return 1;
    l->set->stats.writes++;
    return wire_flush(&l->wire, b, &l->set->stats.bytes_out);
}

void link_out_queue(struct link *l)
{
    if (l->queued)
        return;
    l->queued = true;
    l->next_dirty = l->set->dirty;
    l->set->dirty = l;
}

void link_out_flush(struct link *l)
{
    int rc = write_out(l, &l->hello);

    if (rc == 1 && l->state == LINK_UP && !link_set_may_leave(l->set))
        link_out_queue(l);
    else if (rc == 1 && l->state == LINK_UP)
        rc = write_out(l, &l->out);
    if (rc < 0) {
        link_out_fail(l);
        return;
    }
    buf_shrink(&l->out, LINK_READ_BYTES);
    want_write(l, rc == 0);
}

/* The first protocol version that knows a message; whoever gets one that it does not know hangs up. */
static uint8_t known_since(const struct msg *m)
{
    return m->kind == MSG_SHOW || m->kind == MSG_SHOWN ? PROTOCOL_SHOW : 0;
}

int link_out_send(struct link *l, const struct msg *m)
{
    struct link_set *s = l->set;

    if (l->failed || l->protocol < known_since(m))
        return -ERR_UNAVAILABLE;
    int rc = frame_append_msg(&l->out, m);
    if (rc == -ERR_LIMIT && buf_len(&l->out) > 0) {
        s->stats.backed_up++;
        return -ERR_BUSY;
    }
    if (rc != 0)
        return rc;
    s->stats.sent++;
    if (l->waiting_us == 0)
        l->waiting_us = loop_now_us(s->loop);
    link_out_queue(l);
    return 0;
}

/* ---- input: the answer to HELLO, then PONGs ---- */

static int take(struct link *l, struct slice payload)
{
    struct msg m;
    int rc = msg_codec_decode(l->set->codec, payload, &m);

    if (rc != 0)
        return rc;
    if (l->state == LINK_GREETING)
        return finish_greeting(l, &m);
    if (m.kind != MSG_PONG)
        return -ERR_FORMAT;
    link_out_heard(l);
    return 0;
}

static void on_input(struct link *l)
{
    for (;;) {
        size_t room;
        struct slice payload;
        uint8_t *at = frame_reader_space(&l->in, &room);
        ssize_t n = at == NULL ? 0 : wire_recv(&l->wire, at, room);
        int rc = 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            link_out_fail(l);
            return;
        }
        frame_reader_filled(&l->in, (size_t)n);
        while (l->wire.fd >= 0 && (rc = frame_reader_next(&l->in, &payload)) == 1)
            if ((rc = take(l, payload)) != 0)
                break;
        if (l->wire.fd < 0)
            return;
        if (rc < 0) {
            if (rc == -ERR_FORMAT)
                l->set->stats.dropped_format++;
            else
                l->set->stats.dropped_handshake++;
            link_out_fail(l);
            return;
        }
    }
}

static void on_ready(void *arg, uint32_t events)
{
    struct link *l = arg;

    if (l->state == LINK_CONNECTING) {
        if (connected(l))
            greet(l);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_input(l);
    if (l->wire.fd < 0 || !(events & EPOLLOUT))
        return;
    uint64_t before = l->set->stats.bytes_out;
    link_out_flush(l);
    /* The socket was full and is not any more: somebody reads there, though it may take a while
     * until a PING behind a large message is read. */
    if (l->state == LINK_UP && l->waiting_us != 0 && l->set->stats.bytes_out > before)
        l->waiting_us = loop_now_us(l->set->loop);
}

/* ---- judgement ---- */

void link_out_heard(struct link *l)
{
    l->heard_us = loop_now_us(l->set->loop);
    l->waiting_us = l->doubted_us = 0;
}

static void ping(struct link *l, uint64_t now_us)
{
    struct msg m = {.kind = MSG_PING, .u.PING = {.token = now_us}};

    if (now_us - l->pinged_us < l->set->conf.peer_timeout_ms * 250ull)
        return; /* one every quarter of the timeout is enough */
    l->pinged_us = now_us;
    link_out_send(l, &m);
}

void link_out_doubt(struct link *l)
{
    uint64_t now_us = loop_now_us(l->set->loop);

    if (l->state != LINK_UP || l->waiting_us == 0 || l->doubted_us != 0)
        return;
    l->doubted_us = now_us;
    l->pinged_us = 0; /* the answer to an earlier PING may have come already */
    ping(l, now_us);
}

void link_out_tick(struct link *l, uint64_t now_us)
{
    uint64_t timeout_us = l->set->conf.peer_timeout_ms * 1000ull;

    switch (l->state) {
    case LINK_WAITING:
        if (now_us >= l->retry_at_us)
            link_out_connect(l);
        break;
    case LINK_CONNECTING:
    case LINK_GREETING:
        if (now_us - l->begun_us > (l->failed ? LINK_HELLO_TIME : timeout_us))
            link_out_fail(l);
        break;
    case LINK_UP:
        if (l->waiting_us != 0 && now_us > l->waiting_us + timeout_us)
            link_out_fail(l);
        else if (l->waiting_us != 0 && now_us > l->waiting_us + timeout_us / 2)
            ping(l, now_us);
        else if (l->waiting_us == 0 && now_us > l->heard_us + 2 * timeout_us)
            ping(l, now_us);
        break;
    }
}
