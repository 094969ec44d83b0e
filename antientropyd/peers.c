/* Connections to other antientropyds. See peers.h. The handshake is that of workers' links: the caller
 * says HELLO with a nonce, the called answers with HELLO, a nonce of its own and a proof, the caller
 * says HELLO again with its proof. A proof is an HMAC under the cluster secret over the role, both
 * nonces and what the HELLO claims. Without a secret (loopback only) proofs are empty. */
#include "antientropyd/peers.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mac.h"
#include "base/rand.h"
#include "base/varint.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"
#include "ipc/sockaddr.h"
#include "ipc/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    NONCE = 16,
    STRANGERS = 32,        /* connections that have not proved anything */
    STRANGER_FRAME = 4096, /* and their largest message */
    OUT_MAX = 80 << 20,    /* bytes that wait to be sent to one peer */
    BURST_MS = 50,         /* of the budget that may be spent at once */
    HELLO_US = 5000000,    /* time to prove oneself */
    READS = 4,             /* per connection and turn */
    PACE_US = 5000         /* between looks at an overdrawn budget */
};

enum peer_state { PEER_CONNECTING, PEER_GREETING, PEER_UP, PEER_DEAD };

struct peer {
    struct peers *set;
    struct peer *next;
    struct wire wire;
    struct loop_watch watch;
    struct frame_reader in;
    struct buf hello, out; /* what is not sent: of the handshake, and after it */
    struct node_id id;     /* of whom we call, or who says that it calls */
    enum peer_state state;
    bool ours, greeted, known; /* we called; they said HELLO; they proved it */
    uint64_t begun_us, bytes;
    uint64_t incarnation; /* that they claim */
    uint8_t protocol;     /* that both speak; 0: not known yet */
    uint8_t nonce[NONCE], their_nonce[NONCE];
};

struct peers {
    struct peers_conf conf;
    struct peers_events events;
    struct loop *loop;
    struct msg_codec *codec;
    struct loop_watch listener;
    struct loop_task reap_task;
    struct loop_timer pace;
    const struct ring_view *view;
    struct peer *first;
    uint32_t strangers;
    struct peers_stats stats;
    uint64_t budget;    /* bytes a second */
    int64_t tokens;     /* bytes that may be sent now; negative: overdrawn */
    uint64_t tokens_us; /* when they were counted */
};

static void on_peer(void *arg, uint32_t events);

/* ---- the end of a connection ---- */

static void reap(void *arg)
{
    struct peers *s = arg;
    struct peer **at = &s->first;

    while (*at != NULL) {
        struct peer *p = *at;

        if (p->state != PEER_DEAD) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        if (p->known || p->ours)
            s->events.on_lost(s->events.arg, p);
        free(p);
        at = &s->first; /* whoever was told may have changed the list */
    }
}

void peer_drop(struct peer *p)
{
    struct peers *s = p->set;

    if (p->state == PEER_DEAD)
        return;
    p->state = PEER_DEAD;
    loop_remove(s->loop, &p->watch);
    wire_close(&p->wire);
    frame_reader_free(&p->in);
    buf_free(&p->hello);
    buf_free(&p->out);
    if (!p->ours && !p->known)
        s->strangers--;
    s->stats.older -= p->known && p->protocol < s->conf.protocol.newest;
    loop_defer(s->loop, &s->reap_task, reap, s);
}

/* ---- the handshake ---- */

static void make_proof(const struct peers *s, const struct repair_HELLO *h, char role,
                       const uint8_t *caller, const uint8_t *called, uint8_t out[MAC_BYTES])
{
    uint8_t text[1 + 2 * NONCE + NODE_ID_BYTES + 4 + 8 + LIMIT_NAME], *p = text;

    *p++ = (uint8_t)role;
    memcpy(p, caller, NONCE);
    memcpy(p + NONCE, called, NONCE);
    p += 2 * NONCE;
    memcpy(p, h->node.data, NODE_ID_BYTES);
    p = store_le32(p + NODE_ID_BYTES, h->protocol);
    p = store_le64(p, h->incarnation);
    memcpy(p, h->cluster.data, h->cluster.len); /* shorter than LIMIT_NAME: checked */
    p += h->cluster.len;
    mac_compute(slice_str(s->conf.secret), slice_of(text, (size_t)(p - text)), out);
}

static int say_hello(struct peer *p, bool with_proof)
{
    const struct peers *s = p->set;
    uint8_t proof[MAC_BYTES];
    struct repair m = {.kind = REPAIR_HELLO,
                       .u.HELLO = {.protocol = protocol_pack(s->conf.protocol),
                                   .cluster = slice_str(s->conf.cluster),
                                   .node = slice_of(s->conf.self.b, NODE_ID_BYTES),
                                   .incarnation = s->conf.incarnation,
                                   .nonce = slice_of(p->nonce, NONCE)}};

    if (with_proof && s->conf.secret[0] != 0) {
        make_proof(s, &m.u.HELLO, p->ours ? 'c' : 'd', p->ours ? p->nonce : p->their_nonce,
                   p->ours ? p->their_nonce : p->nonce, proof);
        m.u.HELLO.proof = slice_of(proof, sizeof proof);
    }
    return frame_append_repair(&p->hello, &m);
}

static int check_hello(const struct peers *s, const struct repair_HELLO *h)
{
    if (h->node.len != NODE_ID_BYTES || h->nonce.len != NONCE || h->cluster.len >= LIMIT_NAME)
        return -ERR_FORMAT;
    if (protocol_common(s->conf.protocol, protocol_unpack(h->protocol)) == 0)
        return -ERR_VERSION;
    return slice_equal(h->cluster, slice_str(s->conf.cluster)) ? 0 : -ERR_DENIED;
}

static int verify(const struct peer *p, const struct repair_HELLO *h)
{
    const struct peers *s = p->set;
    uint8_t proof[MAC_BYTES];

    if (s->conf.secret[0] == 0)
        return 0;
    if (h->proof.len != MAC_BYTES)
        return -ERR_DENIED;
    make_proof(s, h, p->ours ? 'd' : 'c', p->ours ? p->nonce : p->their_nonce,
               p->ours ? p->their_nonce : p->nonce, proof);
    return mac_equal(proof, h->proof.data, MAC_BYTES) ? 0 : -ERR_DENIED;
}

/* One that has left still has things to give. */
static bool is_member(const struct peers *s, const struct node_id *id)
{
    uint16_t i = s->view == NULL ? RING_NO_OWNER : ring_find(s->view, id);

    return i != RING_NO_OWNER && i != s->view->self;
}

/* The called hears the caller's first HELLO. */
static int greet(struct peer *p, const struct repair_HELLO *h)
{
    memcpy(p->id.b, h->node.data, NODE_ID_BYTES);
    if (!is_member(p->set, &p->id))
        return -ERR_DENIED;
    p->incarnation = h->incarnation;
    memcpy(p->their_nonce, h->nonce.data, NONCE);
    p->greeted = true;
    return say_hello(p, true);
}

static void be_known(struct peer *p, const struct repair_HELLO *h)
{
    p->known = true;
    p->protocol = protocol_common(p->set->conf.protocol, protocol_unpack(h->protocol));
    p->set->stats.older += p->protocol < p->set->conf.protocol.newest;
    p->state = PEER_UP;
    p->in.max = LIMIT_FRAME;
}

/* And the second one. */
static int admit(struct peer *p, const struct repair_HELLO *h)
{
    int rc = verify(p, h);

    if (memcmp(h->node.data, p->id.b, NODE_ID_BYTES) != 0 || h->incarnation != p->incarnation ||
        memcmp(h->nonce.data, p->their_nonce, NONCE) != 0)
        rc = -ERR_DENIED;
    if (rc != 0)
        return rc;
    p->set->strangers--;
    be_known(p, h);
    return 0;
}

/* The caller hears the called's HELLO. */
static int hear(struct peer *p, const struct repair_HELLO *h)
{
    int rc;

    if (memcmp(h->node.data, p->id.b, NODE_ID_BYTES) != 0)
        return -ERR_DENIED;
    memcpy(p->their_nonce, h->nonce.data, NONCE);
    rc = verify(p, h);
    if (rc != 0)
        return rc;
    be_known(p, h);
    return say_hello(p, true);
}

/* ---- messages ---- */

static int take(struct peer *p, struct slice payload)
{
    struct peers *s = p->set;
    struct repair m;
    int rc = msg_codec_decode_repair(s->codec, payload, &m);

    if (rc != 0)
        return rc;
    if (p->known) {
        if (m.kind >= REPAIR_LOOK || m.kind == REPAIR_HELLO)
            return -ERR_FORMAT;
        s->tokens -= (int64_t)payload.len;
        return s->events.on_message(s->events.arg, p, &m);
    }
    if (m.kind != REPAIR_HELLO)
        return -ERR_FORMAT;
    rc = check_hello(s, &m.u.HELLO);
    if (rc != 0)
        return rc;
    return p->ours ? hear(p, &m.u.HELLO) : p->greeted ? admit(p, &m.u.HELLO) : greet(p, &m.u.HELLO);
}

/* ---- the budget ---- */

static void on_pace(void *arg);

static void earn(struct peers *s)
{
    uint64_t now = clock_mono_us();
    int64_t most = (int64_t)(s->budget / (1000 / BURST_MS));

    s->tokens += (int64_t)((now - s->tokens_us) * (s->budget / 1000) / 1000);
    s->tokens_us = now;
    if (s->tokens > most)
        s->tokens = most;
}

static bool may_send(struct peers *s)
{
    earn(s);
    if (s->tokens > 0)
        return true;
    if (!s->pace.armed)
        loop_arm(s->loop, &s->pace, loop_now_us(s->loop) + PACE_US, on_pace, s);
    return false;
}

void peers_budget(struct peers *s, uint64_t bytes)
{
    earn(s);
    s->budget = bytes;
}

/* ---- sending ---- */

static bool send_all(struct peer *p, struct buf *b)
{
    uint64_t sent = 0;
    bool whole = wire_flush(&p->wire, b, &sent) >= 0;

    p->bytes += sent;
    p->set->stats.bytes_out += sent;
    p->set->tokens -= (int64_t)sent;
    return whole;
}

/* Send what may be sent. false: the connection is gone. */
static bool flush(struct peer *p)
{
    bool blocked, waits = false;

    if (!send_all(p, &p->hello))
        return false;
    blocked = buf_len(&p->hello) > 0;
    if (!blocked && p->state == PEER_UP && buf_len(&p->out) > 0) {
        waits = !may_send(p->set);
        if (!waits && !send_all(p, &p->out))
            return false;
        blocked = !waits && buf_len(&p->out) > 0;
    }
    buf_shrink(&p->out, 1u << 20);
    loop_modify(p->set->loop, &p->watch, (uint32_t)EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0));
    return true;
}

static void on_pace(void *arg)
{
    struct peers *s = arg;

    for (struct peer *p = s->first; p != NULL; p = p->next)
        if (p->state == PEER_UP && buf_len(&p->out) > 0 && !flush(p))
            peer_drop(p);
}

int peer_send(struct peer *p, const struct repair *m)
{
    int rc;

    if (p->state == PEER_DEAD)
        return -ERR_CLOSED;
    rc = frame_append_repair(&p->out, m);
    if (rc == 0 && p->state == PEER_UP)
        loop_modify(p->set->loop, &p->watch, EPOLLIN | EPOLLOUT);
    return rc;
}

/* ---- receiving ---- */

/* The connection stands, and its TLS handshake is done. false: not yet, or it is gone. */
static bool connected(struct peer *p)
{
    struct peers *s = p->set;
    uint32_t wanted = EPOLLIN;
    char why[TLS_WHY] = "";
    int error = 0, rc = 0;
    socklen_t len = sizeof error;

    if (p->state == PEER_CONNECTING) {
        if (getsockopt(p->wire.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
            rc = -ERR_CLOSED;
        else if (s->conf.tls != NULL)
            rc = wire_secure(&p->wire, s->conf.tls, false);
        if (rc == 0) {
            p->state = PEER_GREETING;
            rand_bytes(p->nonce, sizeof p->nonce);
            rc = say_hello(p, false);
        }
    }
    if (rc == 0 && !wire_ready(&p->wire))
        rc = wire_handshake(&p->wire, &wanted, why);
    if (rc == -ERR_AGAIN) {
        loop_modify(s->loop, &p->watch, wanted);
        return false;
    }
    if (rc != 0) {
        s->stats.denied += rc == -ERR_DENIED;
        peer_drop(p);
    }
    return rc == 0;
}

static int receive(struct peer *p)
{
    struct slice payload;
    size_t room;
    int rc = 0;

    for (int i = 0; i < READS; i++) {
        uint8_t *at = frame_reader_space(&p->in, &room);
        ssize_t n = at == NULL ? 0 : wire_recv(&p->wire, at, room);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -ERR_CLOSED;
        p->bytes += (uint64_t)n;
        p->set->stats.bytes_in += (uint64_t)n;
        frame_reader_filled(&p->in, (size_t)n);
        while (p->state != PEER_DEAD && (rc = frame_reader_next(&p->in, &payload)) == 1)
            if ((rc = take(p, payload)) != 0)
                return rc;
        if (p->state == PEER_DEAD || rc < 0)
            return rc;
        if ((size_t)n < room)
            return 0;
    }
    return 0;
}

static void on_peer(void *arg, uint32_t events)
{
    struct peer *p = arg;
    int rc = 0;

    if ((p->state == PEER_CONNECTING || !wire_ready(&p->wire)) && !connected(p))
        return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        rc = receive(p);
    /* Whoever broke a rule of an exchange has been dropped already, and counts all the same. */
    if (rc == -ERR_FORMAT || rc == -ERR_VERSION)
        p->set->stats.dropped++;
    if (rc == -ERR_DENIED)
        p->set->stats.denied++;
    if (p->state == PEER_DEAD)
        return;
    if (rc == -ERR_FORMAT)
        log_warn("another antientropyd breaks the rules: connection dropped");
    if (rc != 0 || !flush(p)) {
        peer_drop(p);
        return;
    }
    frame_reader_shrink(&p->in);
}

static struct peer *make_peer(struct peers *s, int fd, bool ours)
{
    struct peer *p = calloc(1, sizeof *p);
    int one = 1;

    if (p == NULL) {
        close(fd);
        return NULL;
    }
    p->set = s;
    p->ours = ours;
    p->begun_us = clock_mono_us();
    p->state = ours ? PEER_CONNECTING : PEER_GREETING;
    wire_init(&p->wire, fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    frame_reader_init(&p->in, STRANGER_FRAME);
    buf_init(&p->out, OUT_MAX);
    if ((!ours && s->conf.tls != NULL && wire_secure(&p->wire, s->conf.tls, true) != 0) ||
        loop_add(s->loop, &p->watch, fd, ours ? EPOLLIN | EPOLLOUT : EPOLLIN, on_peer, p) != 0) {
        wire_close(&p->wire);
        free(p);
        return NULL;
    }
    p->next = s->first;
    s->first = p;
    return p;
}

static void on_accept(void *arg, uint32_t events)
{
    struct peers *s = arg;
    int fd = accept4(s->conf.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd < 0)
        return;
    if (s->strangers >= STRANGERS) {
        close(fd);
        return;
    }
    struct peer *p = make_peer(s, fd, false);

    if (p == NULL)
        return;
    rand_bytes(p->nonce, sizeof p->nonce);
    s->strangers++;
}

/* ---- the set ---- */

struct peers *peers_new(const struct peers_conf *conf, const struct peers_events *events,
                        struct loop *loop)
{
    struct peers *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->conf = *conf;
    s->events = *events;
    s->loop = loop;
    s->codec = msg_codec_new();
    s->budget = 1 << 20;
    s->tokens_us = clock_mono_us();
    if (conf->listen_fd >= 0 &&
        loop_add(loop, &s->listener, conf->listen_fd, EPOLLIN, on_accept, s) != 0) {
        msg_codec_free(s->codec);
        free(s);
        return NULL;
    }
    return s;
}

void peers_set_view(struct peers *s, const struct ring_view *view)
{
    s->view = view;
}

void peers_set_tls(struct peers *s, struct tls_context *tls)
{
    s->conf.tls = tls;
}

struct peer *peers_call(struct peers *s, const struct member *m)
{
    for (struct peer *p = s->first; p != NULL; p = p->next)
        if (p->ours && p->state != PEER_DEAD && node_id_equal(&p->id, &m->id))
            return p;
    int fd = sockaddr_connect(m->address, m->repair_port);

    if (fd < 0)
        return NULL;
    struct peer *p = make_peer(s, fd, true);

    if (p != NULL)
        p->id = m->id;
    return p;
}

const struct node_id *peer_id(const struct peer *p)
{
    return &p->id;
}

bool peer_is_ours(const struct peer *p)
{
    return p->ours;
}

uint64_t peer_bytes(const struct peer *p)
{
    return p->bytes;
}

void peers_stats(const struct peers *s, struct peers_stats *out)
{
    *out = s->stats;
}

void peers_tick(struct peers *s)
{
    uint64_t now = clock_mono_us();

    for (struct peer *p = s->first; p != NULL; p = p->next) {
        if (p->state != PEER_DEAD && p->state != PEER_UP && now - p->begun_us > HELLO_US) {
            s->stats.denied += !p->ours;
            peer_drop(p);
        } else if (p->state == PEER_UP && !is_member(s, &p->id)) {
            peer_drop(p);
        }
    }
}
