/* All links of one worker. Runs in a worker; blocks nowhere. */
#include "workers/link_set.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/control.h"
#include "workers/link_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TICK_US         25000u
#define MAIL_REFRESH_US 1000000u

/* ---- finding ---- */

uint16_t link_set_member(const struct link_set *s, const struct node_id *id)
{
    for (uint16_t i = 0; i < s->members; i++)
        if (node_id_equal(&s->member_id[i], id))
            return i;
    return RING_NO_OWNER;
}

struct link *link_set_find(const struct link_set *s, uint16_t member, uint16_t worker)
{
    if (member >= s->members || worker >= s->link_count[member])
        return NULL;
    return &s->links[member][worker];
}

/* ---- what others do with it ---- */

int link_set_send(struct link_set *s, uint16_t member, uint16_t worker, const struct msg *m)
{
    if (member == s->self) {
        ASSERT(worker != s->conf.worker);
        return link_mail_send(s, worker, m);
    }
    struct link *l = link_set_find(s, member, worker);

    return l == NULL ? -ERR_UNAVAILABLE : link_out_send(l, m);
}

bool link_set_reachable(const struct link_set *s, uint16_t member, uint16_t worker)
{
    if (member == s->self)
        return worker < s->conf.workers;
    const struct link *l = link_set_find(s, member, worker);

    /* A doubted one is: the coordination asks others first, but has to try it when they are not
     * enough. It may only be busy, and a request refused for that would be refused for nothing. */
    return l != NULL && !l->failed;
}

void link_set_doubt(struct link_set *s, uint16_t member, uint16_t worker)
{
    struct link *l = member == s->self ? NULL : link_set_find(s, member, worker);

    if (l != NULL)
        link_out_doubt(l);
}

void link_set_sibling_up(struct link_set *s, uint16_t worker, uint64_t incarnation)
{
    (void)incarnation; /* the segments name it themselves */
    link_mail_refresh(s, worker);
    if (worker < s->conf.workers)
        s->sibling[worker].down = false;
}

void link_set_sibling_down(struct link_set *s, uint16_t worker)
{
    link_mail_down(s, worker);
}

void link_set_set_tls(struct link_set *s, struct tls_context *tls)
{
    s->tls = tls;
}

void link_set_stats(const struct link_set *s, struct link_set_stats *out)
{
    *out = s->stats;
}

/* gossipd may be restarting: a verdict that cannot be sent is one probe later. */
void link_set_verdict(struct link_set *s, const struct node_id *node, uint16_t worker, bool up)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    uint8_t room[256];
    struct buf b = {.data = room, .capacity = sizeof room, .limit = sizeof room};
    struct slice id = slice_of(node->b, NODE_ID_BYTES);
    struct control c;

    if (s->gossip_fd < 0)
        return;
    memset(&c, 0, sizeof c);
    if (up) {
        c.kind = CONTROL_PEER_UP;
        c.u.PEER_UP = (struct control_PEER_UP){id, worker, s->conf.worker};
    } else {
        c.kind = CONTROL_PEER_DOWN;
        c.u.PEER_DOWN = (struct control_PEER_DOWN){id, worker, s->conf.worker};
    }
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/gossip.sock", s->conf.runtime_dir);
    if (n < 0 || (size_t)n >= sizeof a.sun_path || msg_codec_encode_control(&c, &b) != 0)
        return;
    ssize_t ignored = sendto(s->gossip_fd, buf_head(&b), buf_len(&b), MSG_DONTWAIT | MSG_NOSIGNAL,
                             (struct sockaddr *)&a, sizeof a);
    (void)ignored;
}

/* ---- views ---- */

/* Whoever is told may send, so the links are gone before anybody is. */
static void close_member(struct link_set *s, uint16_t member, bool tell)
{
    struct link *links = s->links[member];
    uint16_t count = s->link_count[member];
    uint64_t lost = 0; /* a bit for each worker that may owe answers */

    s->links[member] = NULL;
    s->link_count[member] = 0;
    for (uint16_t w = 0; w < count; w++) {
        if (!links[w].failed)
            lost |= 1ull << w;
        link_out_close(&links[w]);
    }
    free(links);
    for (uint16_t w = 0; tell && w < count; w++)
        if (lost >> w & 1)
            s->events.on_down(s->events.arg, member, w);
}

/* Links are queued by address: the list must not name closed ones. */
static void forget_dirty(struct link_set *s)
{
    for (struct link *l = s->dirty; l != NULL; l = l->next_dirty)
        l->queued = false;
    s->dirty = NULL;
}

static bool same_links(const struct link_set *s, uint16_t i, const struct member *m)
{
    return s->link_count[i] == m->workers && node_id_equal(&s->member_id[i], &m->id) &&
           s->links[i][0].port == m->peer_port && strcmp(s->links[i][0].address, m->address) == 0;
}

/* One that has left has its answers until it is gone. */
static bool wants_links(const struct link_set *s, uint16_t i, const struct member *m)
{
    return i != s->self && (m->state != MEMBER_LEFT || m->lingers) && m->address[0] != 0;
}

static void open_member(struct link_set *s, uint16_t i, const struct member *m)
{
    struct link *links = calloc(m->workers, sizeof *links);

    if (links == NULL) {
        log_error("no memory for links to %s", m->name);
        return;
    }
    s->links[i] = links;
    s->link_count[i] = m->workers;
    for (uint16_t w = 0; w < m->workers; w++) {
        link_out_init(&links[w], s, i, w, m);
        link_out_connect(&links[w]);
    }
}

bool link_set_may_leave(const struct link_set *s)
{
    return s->events.may_leave == NULL || s->events.may_leave(s->events.arg);
}

static void flush_dirty(struct link_set *s)
{
    while (s->dirty != NULL && link_set_may_leave(s)) {
        struct link *l = s->dirty;

        s->dirty = l->next_dirty;
        l->queued = false;
        if (l->state == LINK_UP)
            link_out_flush(l);
    }
}

static void queue_unsent(struct link_set *s)
{
    for (uint16_t i = 0; i < s->members; i++)
        for (uint16_t w = 0; w < s->link_count[i]; w++)
            if (buf_len(&s->links[i][w].out) > 0)
                link_out_queue(&s->links[i][w]);
}

void link_set_set_view(struct link_set *s, const struct ring_view *v)
{
    flush_dirty(s);
    forget_dirty(s);
    s->self = v->self;
    for (uint16_t i = 0; i < v->member_count || i < s->members; i++) {
        const struct member *m = i < v->member_count ? &v->members[i] : NULL;
        bool wanted = m != NULL && wants_links(s, i, m);

        if (s->link_count[i] > 0 && (!wanted || !same_links(s, i, m)))
            close_member(s, i, true);
        if (m != NULL)
            s->member_id[i] = m->id;
    }
    s->members = v->member_count;
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        if (wants_links(s, i, m) && s->link_count[i] == 0)
            open_member(s, i, m);
    }
    queue_unsent(s);
}

/* ---- the loop ---- */

static bool before_sleep(void *arg)
{
    struct link_set *s = arg;

    flush_dirty(s);
    return link_mail_before_sleep(s, link_set_may_leave(s));
}

static void after_sleep(void *arg)
{
    link_mail_after_sleep(arg);
}

/* We did not run for a while: the silence of the others meanwhile was ours. */
static void forgive(struct link_set *s, uint64_t now_us)
{
    for (uint16_t i = 0; i < s->members; i++)
        for (uint16_t w = 0; w < s->link_count[i]; w++)
            if (s->links[i][w].waiting_us != 0) {
                s->links[i][w].waiting_us = now_us;
                s->links[i][w].doubted_us = 0;
            }
}

static void on_tick(void *arg)
{
    struct link_set *s = arg;
    uint64_t now_us = clock_mono_us();

    if (now_us - s->timer_us > s->conf.peer_timeout_ms * 500ull)
        forgive(s, now_us);
    s->timer_us = now_us;
    for (uint16_t i = 0; i < s->members; i++)
        for (uint16_t w = 0; w < s->link_count[i]; w++)
            link_out_tick(&s->links[i][w], now_us);
    link_in_tick(s, now_us);
    if (now_us >= s->mail_refresh_us) {
        s->mail_refresh_us = now_us + MAIL_REFRESH_US;
        for (uint16_t w = 0; w < s->conf.workers; w++)
            link_mail_refresh(s, w);
    }
    loop_arm(s->loop, &s->timer, now_us + TICK_US, on_tick, s);
}

int link_set_open(struct link_set **out, const struct link_set_conf *conf,
                  const struct link_set_events *events, struct loop *loop)
{
    struct link_set *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ERR_NOMEM;
    s->conf = *conf;
    if (s->conf.peer_timeout_ms == 0)
        s->conf.peer_timeout_ms = 500;
    if (s->conf.protocol.newest == 0)
        s->conf.protocol = (struct protocol_range){PROTOCOL_OLDEST, PROTOCOL_NEWEST};
    s->events = *events;
    s->loop = loop;
    s->codec = msg_codec_new();
    s->tls = conf->tls;
    s->self = RING_NO_OWNER;
    s->gossip_fd = conf->runtime_dir == NULL
                       ? -1
                       : socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = link_mail_open(s);
    if (rc == 0)
        rc = link_in_listen(s);
    if (rc != 0) {
        link_set_close(s);
        return rc;
    }
    s->hook = (struct loop_hook){.before_sleep = before_sleep, .awake = after_sleep, .arg = s};
    loop_hook(loop, &s->hook);
    s->timer_us = clock_mono_us();
    on_tick(s);
    *out = s;
    return 0;
}

void link_set_close(struct link_set *s)
{
    loop_disarm(s->loop, &s->timer);
    for (uint16_t i = 0; i < s->members; i++)
        close_member(s, i, false);
    link_in_close_all(s);
    link_mail_close(s);
    if (s->gossip_fd >= 0)
        close(s->gossip_fd);
    msg_codec_free(s->codec);
    free(s);
}
