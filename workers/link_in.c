/* Accepted links: what workers of other nodes say to this one. Runs in a worker; blocks nowhere. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/rand.h"
#include "workers/link_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32
#define READS_PER_TURN   8
#define STRANGER_FRAME   4096 /* largest frame of somebody who has not proved anything */

static void drop(struct inlink *i)
{
    struct link_set *s = i->set;

    loop_remove(s->loop, &i->watch);
    wire_close(&i->wire);
    frame_reader_free(&i->in);
    buf_free(&i->out);
    if (!i->known)
        s->strangers--;
    if (i->previous != NULL)
        i->previous->next = i->next;
    else
        s->inlinks = i->next;
    if (i->next != NULL)
        i->next->previous = i->previous;
    free(i);
}

/* The other worker's voice broke off: answers that were on their way are lost. */
static void lose(struct inlink *i)
{
    struct link_set *s = i->set;
    bool known = i->known;
    uint16_t member = link_set_member(s, &i->node), worker = i->worker;

    drop(i);
    if (known && member != RING_NO_OWNER)
        s->events.on_down(s->events.arg, member, worker);
}

/* A worker has one voice: an older connection of it is a leftover. */
static void drop_older(struct inlink *newest)
{
    struct inlink *next;

    for (struct inlink *i = newest->set->inlinks; i != NULL; i = next) {
        next = i->next;
        if (i != newest && i->known && i->worker == newest->worker &&
            node_id_equal(&i->node, &newest->node))
            lose(i);
    }
}

static bool flush(struct inlink *i)
{
    int rc = wire_flush(&i->wire, &i->out, NULL);

    if (rc < 0)
        return false;
    loop_modify(i->set->loop, &i->watch, rc == 1 ? EPOLLIN : EPOLLIN | EPOLLOUT);
    return true;
}

static int greet(struct inlink *i, const struct msg_HELLO *h)
{
    struct link_set *s = i->set;
    int rc = link_hello_check(s, h);

    if (rc != 0)
        return rc;
    if (h->to_worker != s->conf.worker)
        return -ERR_DENIED;
    memcpy(i->node.b, h->node.data, NODE_ID_BYTES);
    if (link_set_member(s, &i->node) == RING_NO_OWNER)
        return -ERR_DENIED; /* not in the ring as we know it (yet): it will call again */
    i->worker = (uint16_t)h->worker;
    i->incarnation = h->incarnation;
    memcpy(i->their_nonce, h->nonce.data, LINK_NONCE);
    rand_bytes(i->nonce, sizeof i->nonce);
    i->greeted = true;
    return link_hello_append(s, &i->out, LINK_CALLED, i->their_nonce, i->nonce, i->worker, true);
}

static int admit(struct inlink *i, const struct msg_HELLO *h)
{
    struct link_set *s = i->set;
    int rc = link_hello_check(s, h);

    if (rc != 0)
        return rc;
    if (memcmp(h->node.data, i->node.b, NODE_ID_BYTES) != 0 || h->worker != i->worker ||
        h->incarnation != i->incarnation || h->to_worker != s->conf.worker ||
        memcmp(h->nonce.data, i->their_nonce, LINK_NONCE) != 0)
        return -ERR_DENIED;
    rc = link_hello_verify(s, h, LINK_CALLER, i->their_nonce, i->nonce);
    if (rc != 0)
        return rc;
    i->known = true;
    s->strangers--;
    s->stats.accepts++;
    i->in.max = LIMIT_FRAME;
    drop_older(i);
    struct link *l = link_set_find(s, link_set_member(s, &i->node), i->worker);
    if (l != NULL)
        link_out_expect(l);
    return 0;
}

static int take(struct inlink *i, struct slice payload)
{
    struct link_set *s = i->set;
    struct msg m;
    int rc = msg_codec_decode(s->codec, payload, &m);

    if (rc != 0)
        return rc;
    if (!i->known) {
        if (m.kind != MSG_HELLO)
            return -ERR_FORMAT;
        return i->greeted ? admit(i, &m.u.HELLO) : greet(i, &m.u.HELLO);
    }
    uint16_t member = link_set_member(s, &i->node);
    if (member == RING_NO_OWNER)
        return -ERR_DENIED;
    struct link *l = link_set_find(s, member, i->worker);
    if (l != NULL)
        link_out_heard(l);
    s->stats.received++;
    if (m.kind == MSG_PING) {
        struct msg pong = {.kind = MSG_PONG, .u.PONG = {.token = m.u.PING.token}};

        return frame_append_msg(&i->out, &pong);
    }
    if (m.kind == MSG_HELLO || m.kind == MSG_PONG)
        return -ERR_FORMAT;
    s->events.on_message(s->events.arg, member, i->worker, &m);
    return 0;
}

static void count_drop(struct link_set *s, int rc)
{
    if (rc == -ERR_FORMAT)
        s->stats.dropped_format++;
    else
        s->stats.dropped_handshake++;
}

/* Returns true when the TLS handshake is done. It may end the link. */
static bool shake(struct inlink *i)
{
    uint32_t wanted = EPOLLIN;
    char why[TLS_WHY];
    int rc = wire_handshake(&i->wire, &wanted, why);

    if (rc == 0 || rc == -ERR_AGAIN) {
        loop_modify(i->set->loop, &i->watch, rc == 0 ? (uint32_t)EPOLLIN : wanted);
        return rc == 0;
    }
    i->set->stats.dropped_handshake++;
    drop(i);
    return false;
}

static void on_ready(void *arg, uint32_t events)
{
    struct inlink *i = arg;

    if (!wire_ready(&i->wire) && !shake(i))
        return;
    if ((events & EPOLLOUT) && !flush(i)) {
        lose(i);
        return;
    }
    for (int reads = 0; (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && reads < READS_PER_TURN;
         reads++) {
        size_t room;
        struct slice payload;
        uint8_t *at = frame_reader_space(&i->in, &room);
        ssize_t n = at == NULL ? 0 : wire_recv(&i->wire, at, room);
        int rc;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            lose(i);
            return;
        }
        i->set->stats.bytes_in += (uint64_t)n;
        frame_reader_filled(&i->in, (size_t)n);
        while ((rc = frame_reader_next(&i->in, &payload)) == 1)
            if ((rc = take(i, payload)) != 0)
                break;
        if (rc < 0) {
            count_drop(i->set, rc);
            lose(i);
            return;
        }
        if ((size_t)n < room)
            break;
    }
    frame_reader_shrink(&i->in);
    if (buf_len(&i->out) > 0 && !flush(i))
        lose(i);
}

static void on_accept(void *arg, uint32_t events)
{
    struct link_set *s = arg;
    int one = 1;

    (void)events;
    for (int k = 0; k < ACCEPTS_PER_TURN; k++) {
        int fd = accept4(s->conf.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct inlink *i = fd < 0 || s->strangers >= LINK_STRANGERS ? NULL : calloc(1, sizeof *i);

        if (fd < 0) {
            /* Without a descriptor for it the caller stays in the queue: look again at the next
             * tick instead of turning round and round. */
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                loop_remove(s->loop, &s->listener);
            return;
        }
        if (i == NULL) {
            close(fd);
            continue;
        }
        i->set = s;
        wire_init(&i->wire, fd);
        i->begun_us = clock_mono_us();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        frame_reader_init(&i->in, STRANGER_FRAME);
        buf_init(&i->out, 1u << 20);
        if ((s->tls != NULL && wire_secure(&i->wire, s->tls, true) != 0) ||
            loop_add(s->loop, &i->watch, fd, EPOLLIN, on_ready, i) != 0) {
            wire_close(&i->wire);
            free(i);
            continue;
        }
        i->next = s->inlinks;
        if (i->next != NULL)
            i->next->previous = i;
        s->inlinks = i;
        s->strangers++;
    }
}

int link_in_listen(struct link_set *s)
{
    if (s->conf.listen_fd < 0)
        return 0;
    return loop_add(s->loop, &s->listener, s->conf.listen_fd, EPOLLIN, on_accept, s);
}

void link_in_close_all(struct link_set *s)
{
    loop_remove(s->loop, &s->listener);
    while (s->inlinks != NULL)
        drop(s->inlinks);
}

/* Strangers have to prove themselves in time. */
void link_in_tick(struct link_set *s, uint64_t now_us)
{
    struct inlink *next;

    if (s->listener.events == 0)
        link_in_listen(s);
    if (s->strangers == 0)
        return;
    for (struct inlink *i = s->inlinks; i != NULL; i = next) {
        next = i->next;
        if (!i->known && now_us - i->begun_us > LINK_HELLO_TIME) {
            s->stats.dropped_handshake++;
            drop(i);
        }
    }
}
