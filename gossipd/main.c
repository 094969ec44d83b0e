/* gossipd: membership and the ring view of one node. This file brings the process up and carries
 * datagrams between the network and core/member.h, where all the rules are. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "gossipd/admin.h"
#include "ipc/sockaddr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DATAGRAMS_PER_TURN 64

static struct gossipd the_gossipd;

static _Noreturn void give_up(const char *what, int rc, const char *why)
{
    log_error("%s: %s: %s", what, err_text(rc), why);
    exit(1);
}

/* ---- sending ---- */

static unsigned host_send(void *arg, const char *address, uint16_t port, const struct gossip *list,
                          unsigned must, unsigned count)
{
    struct gossipd *g = arg;
    struct sockaddr_storage to;
    socklen_t len = sockaddr_make(address, port, &to);
    unsigned sent = 0;

    buf_clear(&g->out);
    if (len == 0 || packet_begin(&g->box, &g->out) != 0)
        return 0;
    while (sent < count && packet_append(&g->out, &list[sent], LIMIT_DATAGRAM) == 0)
        sent++;
    ASSERT(sent >= must);
    packet_seal(&g->box, &g->out);
    /* A datagram that cannot be sent is a datagram lost: the protocol lives with that. */
    if (sendto(g->udp_fd, buf_head(&g->out), buf_len(&g->out), MSG_DONTWAIT, (struct sockaddr *)&to,
               len) > 0) {
        counter_add(g->counters, CTR_gossip_sent, 1);
        counter_add(g->counters, CTR_gossip_bytes_out, buf_len(&g->out));
    }
    return sent;
}

static void host_sync(void *arg, const char *address, uint16_t port)
{
    struct gossipd *g = arg;

    stream_exchange(g->streams, address, port);
}

static void host_stream(void *arg, const char *address, uint16_t port, const struct gossip *list,
                        unsigned count)
{
    struct gossipd *g = arg;
    int rc;

    buf_clear(&g->out);
    rc = packet_begin(&g->box, &g->out);
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = packet_append(&g->out, &list[i], SIZE_MAX);
    if (rc != 0)
        return; /* like a connection that is lost */
    packet_seal(&g->box, &g->out);
    stream_send(g->streams, address, port, slice_of(buf_head(&g->out), buf_len(&g->out)));
}

static void host_changed(void *arg, bool ring)
{
    gossipd_changed(arg, ring);
}

static void host_refused(void *arg, const char *text)
{
    struct gossipd *g = arg;

    log_error("the cluster refuses this node: %s", text);
    child_status(&g->child, "refused by the cluster: %s", text);
    exit(CONF_EXIT);
}

/* ---- receiving ---- */

static void on_step(void *arg);

int gossipd_take(struct gossipd *g, const struct node_id *sender,
                 const struct member_endpoint *from, struct slice messages)
{
    struct gossip m;

    while (messages.len > 0) {
        int rc = msg_codec_next_gossip(g->codec, &messages, &m);

        if (rc == 0)
            rc = member_receive(&g->members, sender, from, &m, clock_mono_us());
        if (rc != 0) {
            counter_add(g->counters, CTR_gossip_bad, 1);
            return rc;
        }
    }
    return 0;
}

static int open_packet(struct gossipd *g, enum packet_way way, struct slice packet,
                       struct node_id *sender, struct slice *messages)
{
    int rc = packet_open(&g->box, way, packet, sender, messages);

    if (rc == -ERR_DENIED)
        counter_add(g->counters, CTR_gossip_denied, 1);
    else if (rc != 0)
        counter_add(g->counters, CTR_gossip_bad, 1);
    return rc;
}

static void read_datagrams(struct gossipd *g)
{
    static uint8_t bytes[LIMIT_DATAGRAM + 1];

    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct sockaddr_storage a;
        socklen_t len = sizeof a;
        ssize_t n =
            recvfrom(g->udp_fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&a, &len);
        struct member_endpoint from;
        struct node_id sender;
        struct slice messages;

        if (n < 0)
            break;
        counter_add(g->counters, CTR_gossip_received, 1);
        counter_add(g->counters, CTR_gossip_bytes_in, (uint64_t)n);
        if (n > LIMIT_DATAGRAM) { /* nobody sends that: its code is not worth computing */
            counter_add(g->counters, CTR_gossip_bad, 1);
            continue;
        }
        sockaddr_read(&a, from.address, &from.port);
        if (open_packet(g, PACKET_DATAGRAM, slice_of(bytes, (size_t)n), &sender, &messages) == 0)
            gossipd_take(g, &sender, &from, messages);
    }
}

static void step(void *arg)
{
    struct gossipd *g = arg;
    uint64_t next = member_step(&g->members, clock_mono_us());

    loop_arm(g->loop, &g->step_timer, next, on_step, g);
}

/* After a pause both the timer is due and answers wait: these are read before anybody is judged. */
static void on_step(void *arg)
{
    read_datagrams(arg);
    step(arg);
}

static void on_datagram(void *arg, uint32_t events)
{
    (void)events;
    read_datagrams(arg);
    step(arg);
}

/* What a worker says of its links. Only processes of this node can reach the socket. */
static void on_verdict(void *arg, uint32_t events)
{
    uint8_t bytes[1024];
    struct gossipd *g = arg;
    struct control c;

    (void)events;
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        ssize_t n = recv(g->notify_fd, bytes, sizeof bytes, MSG_DONTWAIT);
        struct node_id id;

        if (n < 0)
            break;
        if (msg_codec_decode_control(g->codec, slice_of(bytes, (size_t)n), &c) != 0 ||
            (c.kind != CONTROL_PEER_DOWN && c.kind != CONTROL_PEER_UP)) {
            counter_add(g->counters, CTR_gossip_bad, 1);
            continue;
        }
        bool down = c.kind == CONTROL_PEER_DOWN;
        struct slice node = down ? c.u.PEER_DOWN.node : c.u.PEER_UP.node;
        if (node.len != NODE_ID_BYTES) {
            counter_add(g->counters, CTR_gossip_bad, 1);
            continue;
        }
        memcpy(id.b, node.data, NODE_ID_BYTES);
        counter_add(g->counters, CTR_gossip_verdicts, 1);
        if (down)
            verdict_note(&g->verdicts, &id, c.u.PEER_DOWN.from_worker, c.u.PEER_DOWN.worker, true);
        else
            verdict_note(&g->verdicts, &id, c.u.PEER_UP.from_worker, c.u.PEER_UP.worker, false);
        if (down)
            member_hint_down(&g->members, &id, clock_mono_us());
    }
    step(g);
}

/* ---- streams ---- */

struct telling {
    struct gossipd *g;
    struct buf *out;
    int rc;
};

static void append(void *arg, const struct gossip *m)
{
    struct telling *t = arg;

    if (t->rc == 0 && buf_len(t->out) == 0)
        t->rc = packet_begin(&t->g->box, t->out);
    if (t->rc == 0)
        t->rc = packet_append(t->out, m, SIZE_MAX);
}

static int stream_tell(void *arg, enum member_turn turn, struct buf *out)
{
    struct gossipd *g = arg;
    struct telling t = {.g = g, .out = out};

    member_tell(&g->members, turn, append, &t);
    if (t.rc == 0 && buf_len(out) > 0)
        packet_seal(&g->box, out);
    return t.rc;
}

static int stream_take(void *arg, const struct member_endpoint *from, struct slice packet)
{
    struct gossipd *g = arg;
    struct node_id sender;
    struct slice messages;
    int rc = open_packet(g, PACKET_STREAM, packet, &sender, &messages);

    return rc != 0 ? rc : gossipd_take(g, &sender, from, messages);
}

static void stream_done(void *arg, bool ok)
{
    struct gossipd *g = arg;

    counter_add(g->counters, ok ? CTR_gossip_syncs : CTR_gossip_syncs_failed, 1);
}

/* ---- coming up ---- */

static void fill_self(struct gossipd *g, const struct node_view *node, struct member *self)
{
    const struct conf *c = &g->conf;

    memset(self, 0, sizeof *self);
    self->id = node->id;
    snprintf(self->name, sizeof self->name, "%s", c->node.name);
    snprintf(self->zone, sizeof self->zone, "%s", c->node.zone);
    snprintf(self->address, sizeof self->address, "%s", c->node.announce);
    self->port = (uint16_t)c->node.port;
    self->worker_port = (uint16_t)c->node.worker_port;
    self->peer_port = (uint16_t)c->node.peer_port;
    self->gossip_port = (uint16_t)c->node.gossip_port;
    self->repair_port = (uint16_t)c->node.repair_port;
    self->workers = (uint16_t)c->node.workers;
    self->weight = (uint16_t)c->node.weight;
    self->protocol = (uint8_t)c->cluster.protocol_max;
    self->protocol_oldest = (uint8_t)c->cluster.protocol_min;
}

static void fill_conf(const struct conf *c, struct member_conf *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->cluster, sizeof out->cluster, "%s", c->cluster.name);
    out->q_bits = c->q_bits;
    out->n = (uint8_t)conf_replicas(c);
    out->probe_interval_us = c->cluster.probe_interval_ms * 1000ull;
    out->probe_timeout_us = c->cluster.probe_timeout_ms * 1000ull;
    out->suspicion_us = c->cluster.suspicion_timeout_ms * 1000ull;
    out->quorum = (struct ring_quorum){(uint8_t)c->cluster.r, (uint8_t)c->cluster.w};
    for (uint32_t i = 0; i < c->cluster.seeds.count && i < MEMBER_SEEDS; i++) {
        snprintf(out->seeds[i].address, sizeof out->seeds[i].address, "%s",
                 c->cluster.seeds.at[i].address);
        out->seeds[i].port = c->cluster.seeds.at[i].port;
        out->seed_count++;
    }
}

static void open_members(struct gossipd *g)
{
    static const char *const dir_name = "node.seg";
    struct node_seg seg;
    struct node_view *node = calloc(1, sizeof *node);
    struct member self;
    struct member_conf conf;
    const struct member_host host = {.arg = g,
                                     .send = host_send,
                                     .sync = host_sync,
                                     .stream = host_stream,
                                     .changed = host_changed,
                                     .refused = host_refused};

    memset(&seg, 0, sizeof seg);
    g->member_memory = malloc(member_memory(LIMIT_MEMBERS));
    g->change = malloc(sizeof *g->change);
    int rc = node == NULL || g->member_memory == NULL || g->change == NULL
                 ? -ERR_NOMEM
                 : node_seg_attach(&seg, g->conf.node.runtime_dir);
    if (rc == 0)
        rc = node_seg_read(&seg, node);
    if (rc != 0)
        give_up(dir_name, rc, seg.segment.why);
    fill_self(g, node, &self);
    fill_conf(&g->conf, &conf);
    member_init(&g->members, g->member_memory, LIMIT_MEMBERS, &conf, &host, &self, clock_wall_ms(),
                rand_id());
    member_change_init(&g->members, g->change);
    packet_init(&g->box, g->conf.cluster.name, &self, g->child.incarnation,
                slice_str(g->conf.cluster.secret));
    node_seg_close(&seg);
    free(node);
    gossipd_load(g);
}

static void open_sockets(struct gossipd *g)
{
    static struct stream_ops ops = {.tell = stream_tell, .take = stream_take, .done = stream_done};

    ops.arg = g;
    g->udp_fd = child_fd(&g->child, "gossip-udp");
    g->notify_fd = child_fd(&g->child, "notify");
    int rc = stream_open(&g->streams, g->loop, child_fd(&g->child, "gossip-tcp"), &ops);
    if (rc == 0)
        rc = loop_add(g->loop, &g->udp_watch, g->udp_fd, EPOLLIN, on_datagram, g);
    if (rc == 0 && g->notify_fd >= 0)
        rc = loop_add(g->loop, &g->notify_watch, g->notify_fd, EPOLLIN, on_verdict, g);
    if (rc == 0)
        rc = admin_open(g, child_fd(&g->child, "admin"));
    if (rc != 0)
        give_up("sockets", rc, "gossip port");
}

/* The node's certificate, if nodes speak TLS. What cannot be used leaves the old one in force. */
static int load_tls(struct gossipd *g, char why[TLS_WHY])
{
    struct tls_conf conf = {.cert = g->conf.security.tls_cert,
                            .key = g->conf.security.tls_key,
                            .ca = g->conf.security.tls_ca,
                            .verify = TLS_VERIFY_REQUIRED};
    struct tls_context *fresh = NULL;
    int rc = g->conf.security.tls_cluster ? tls_context_new(&fresh, &conf, why) : 0;

    if (rc != 0)
        return rc;
    stream_set_tls(g->streams, fresh);
    tls_context_free(g->tls);
    g->tls = fresh;
    return 0;
}

static void on_reload(void *arg)
{
    struct gossipd *g = arg;
    static struct conf fresh;
    char error[CONF_ERROR];

    if (conf_load(&fresh, g->child.config, error) != 0 ||
        conf_take_reloadable(&g->conf, &fresh, NULL, NULL, error) < 0) {
        log_error("reload: %s", error);
        return;
    }
    log_setup(g->child.process_name, (enum log_level)conf_log_level(&g->conf));
    fill_conf(&g->conf, &g->members.conf);
    if (load_tls(g, error) != 0)
        log_error("reload: the certificate in use stays: %s", error);
}

static void on_worker_up(void *arg, uint32_t index, uint64_t incarnation)
{
    struct gossipd *g = arg;

    (void)incarnation;
    verdict_forget(&g->verdicts, index);
}

static const struct child_ops child_ops = {.reload = on_reload, .worker_up = on_worker_up};

int main(int argc, char **argv)
{
    struct gossipd *g = &the_gossipd;
    char error[CONF_ERROR];

    child_start(&g->child, "gossipd", false, argc, argv);
    if (conf_load(&g->conf, g->child.config, error) != 0)
        give_up("configuration", -ERR_INVAL, error);
    log_setup(g->child.process_name, (enum log_level)conf_log_level(&g->conf));
    g->loop = loop_new();
    if (g->loop == NULL)
        give_up("start", -ERR_NOMEM, "no event loop");
    g->codec = msg_codec_new();
    open_members(g);
    gossipd_open_segments(g);
    open_sockets(g);
    if (load_tls(g, error) != 0) {
        log_error("%s", error);
        return CONF_EXIT;
    }
    child_attach(&g->child, g->loop, &child_ops, g);
    gossipd_refuse_spent_id(g);
    gossipd_changed(g, true);
    gossipd_change_open(g);
    step(g);
    child_ready(&g->child);
    loop_run(g->loop);
    admin_close(g);
    stream_close(g->streams);
    ring_seg_close(&g->ring_seg);
    gossip_seg_close(&g->gossip_seg);
    free(g->member_memory);
    free(g->change);
    return 0;
}
