/* Serves antientropyd. See repair_host.h. Runs in a worker; the rules are in core/coord_repair.h and
 * in the store. */
#include "workers/repair_host.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "core/coord_repair.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"
#include "ipc/wire.h"
#include "workers/coord_host.h"
#include "workers/handoff_host.h"
#include "workers/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CALLERS = 4,          /* connections; one is normal, an old one may linger */
    WAITING = 256,        /* answers of one connection that wait for the disk */
    OUT_MAX = 8 << 20,    /* bytes of answers beyond which nothing more is taken */
    PRESSURE_US = 10000u, /* until looking again whether clients are slowed down */
};

/* An answer that waits: so many bytes of `held`, until lsn is durable. */
struct waiting {
    uint64_t lsn;
    size_t bytes;
};

struct caller {
    struct repair_host *host;
    struct wire wire;
    struct loop_watch watch;
    struct loop_timer again;
    struct frame_reader in;
    struct buf held, out;
    struct waiting waiting[WAITING]; /* a ring */
    uint32_t first, count;
};

struct repair_host {
    struct worker *w;
    int listen_fd;
    struct loop_watch listener;
    struct msg_codec *codec;
    struct buf scratch;
    struct caller *callers[CALLERS];
};

static void on_caller(void *arg, uint32_t events);

static void drop(struct caller *c)
{
    struct repair_host *h = c->host;

    loop_remove(h->w->loop, &c->watch);
    loop_disarm(h->w->loop, &c->again);
    wire_close(&c->wire);
    frame_reader_free(&c->in);
    buf_free(&c->held);
    buf_free(&c->out);
    for (int i = 0; i < CALLERS; i++)
        if (h->callers[i] == c)
            h->callers[i] = NULL;
    free(c);
}

/* ---- carrying out ---- */

static uint64_t *vnode_field(struct repair *answer)
{
    switch (answer->kind) {
    case REPAIR_LOOKED:
        return &answer->u.LOOKED.vnode;
    case REPAIR_FETCHED:
        return &answer->u.FETCHED.vnode;
    case REPAIR_MERGED:
        return &answer->u.MERGED.vnode;
    default:
        ASSERT(answer->kind == REPAIR_DROPPED);
        return &answer->u.DROPPED.vnode;
    }
}

static uint32_t partition_of(const struct repair *m)
{
    switch (m->kind) {
    case REPAIR_LOOK:
        return m->u.LOOK.partition;
    case REPAIR_FETCH:
        return m->u.FETCH.partition;
    case REPAIR_MERGE:
        return m->u.MERGE.partition;
    default:
        return m->u.DROP.partition;
    }
}

static void tell_state(struct worker *w, const struct repair_STATE *m, struct repair *answer)
{
    struct store_vnode_state s = {0};
    int rc = store_vnode_state(w->store, m->partition, &s);

    *answer = (struct repair){.kind = REPAIR_STATE_DONE,
                              .u.STATE_DONE = {.request = m->request,
                                               .status = (uint32_t)-rc,
                                               .vnode = s.id,
                                               .horizon = s.horizon_ms,
                                               .generation = s.generation,
                                               .dirty_since = s.dirty_since_ms,
                                               .last_write = s.last_write_ms,
                                               .standing = s.standing,
                                               .late = s.late_ms,
                                               .root = s.root,
                                               .keys = s.keys,
                                               .tombstones = s.tombstones}};
    if (rc == 0 && m->flush != 0)
        store_flush(w->store, m->partition);
    if (rc == 0)
        answer->u.STATE_DONE.hints = handoff_host_held(w, m->partition);
}

/* A surplus vnode that nobody has written to since, and that owes nobody anything. */
static int drop_vnode(struct worker *w, const struct repair_DROP_VNODE *m)
{
    struct store_vnode_state s;
    int rc = store_vnode_state(w->store, m->partition, &s);

    if (rc != 0)
        return rc;
    if (s.id != m->vnode || s.generation != m->generation ||
        handoff_host_held(w, m->partition) != 0 ||
        ring_keeps(&w->ring_index, m->partition, w->view.self))
        return -ERR_STALE;
    rc = store_vnode_drop(w->store, m->partition);
    if (rc == 0)
        log_info("vnode %u: all of it is at the nodes that it belongs to; dropped", m->partition);
    return rc;
}

static int change_vnode(struct worker *w, const struct repair *m, uint64_t *request)
{
    struct position pos;

    switch (m->kind) {
    case REPAIR_SET_WHOLE:
        *request = m->u.SET_WHOLE.request;
        return store_set_standing(w->store, m->u.SET_WHOLE.partition, m->u.SET_WHOLE.vnode,
                                  STANDING_WHOLE);
    case REPAIR_SET_HORIZON:
        *request = m->u.SET_HORIZON.request;
        return store_set_horizon(w->store, m->u.SET_HORIZON.partition, m->u.SET_HORIZON.vnode,
                                 m->u.SET_HORIZON.horizon, m->u.SET_HORIZON.late);
    case REPAIR_VERIFY_BAD:
        *request = m->u.VERIFY_BAD.request;
        if (m->u.VERIFY_BAD.position.len != POSITION_BYTES)
            return -ERR_FORMAT;
        memcpy(pos.b, m->u.VERIFY_BAD.position.data, POSITION_BYTES);
        return store_verify(w->store, m->u.VERIFY_BAD.partition, &pos, m->u.VERIFY_BAD.leaf != 0);
    case REPAIR_DROP_VNODE:
        *request = m->u.DROP_VNODE.request;
        return drop_vnode(w, &m->u.DROP_VNODE);
    default:
        return -ERR_FORMAT;
    }
}

/* A damaged row's removal changes the id; so do others. Who asks must know whose answer it has. */
static void carry_out(struct repair_host *h, const struct repair *m, struct repair *answer,
                      uint64_t *lsn)
{
    struct worker *w = h->w;

    coord_repair(w->coord, m, &h->scratch, answer, lsn, w->engine.now_us, w->engine.wall_ms);
    struct store_vnode_state s;

    /* An id that is about to change is no good any more. */
    if (store_vnode_state(w->store, partition_of(m), &s) == 0)
        *vnode_field(answer) = s.id;
}

static int answer_one(struct caller *c, struct slice payload)
{
    struct repair_host *h = c->host;
    struct repair m, answer;
    uint64_t lsn = 0, request = 0;
    size_t before = buf_len(&c->held);
    int rc = msg_codec_decode_repair(h->codec, payload, &m);

    if (rc != 0)
        return rc;
    switch (m.kind) {
    case REPAIR_LOOK:
    case REPAIR_FETCH:
    case REPAIR_MERGE:
    case REPAIR_DROP:
        carry_out(h, &m, &answer, &lsn);
        break;
    case REPAIR_STATE:
        tell_state(h->w, &m.u.STATE, &answer);
        break;
    default:
        rc = change_vnode(h->w, &m, &request);
        if (request == 0)
            return -ERR_FORMAT;
        answer = (struct repair){.kind = REPAIR_DONE,
                                 .u.DONE = {.request = request, .status = (uint32_t)-rc}};
    }
    rc = frame_append_repair(&c->held, &answer);
    if (rc != 0)
        return rc;
    c->waiting[(c->first + c->count++) % WAITING] =
        (struct waiting){lsn, buf_len(&c->held) - before};
    return 0;
}

/* ---- sending ---- */

/* Move what is durable to what is sent, and send. false: the caller is gone. */
static bool flush(struct caller *c, uint64_t durable)
{
    size_t ready = 0;

    while (c->count > 0 && c->waiting[c->first].lsn <= durable) {
        ready += c->waiting[c->first].bytes;
        c->first = (c->first + 1) % WAITING;
        c->count--;
    }
    if (ready > 0) {
        if (buf_append(&c->out, buf_head(&c->held), ready) != 0)
            return false;
        buf_consume(&c->held, ready);
        buf_shrink(&c->held, 1u << 20);
    }
    if (wire_flush(&c->wire, &c->out, NULL) < 0)
        return false;
    buf_shrink(&c->out, 1u << 20);
    return true;
}

static bool is_full(const struct caller *c)
{
    return c->count == WAITING || buf_len(&c->held) + buf_len(&c->out) > OUT_MAX;
}

static void watch(struct caller *c)
{
    uint32_t events =
        (is_full(c) ? 0 : (uint32_t)EPOLLIN) | (buf_len(&c->out) > 0 ? (uint32_t)EPOLLOUT : 0);

    loop_modify(c->host->w->loop, &c->watch, events | EPOLLRDHUP);
}

/* ---- receiving ---- */

static void on_again(void *arg)
{
    on_caller(arg, EPOLLIN);
}

/* Take one message, so that clients have their turn between two; come back soon if there may be more.
 * false: the caller is gone. */
static bool take(struct caller *c)
{
    struct worker *w = c->host->w;
    uint64_t now = loop_now_us(w->loop);
    struct slice payload;
    int rc;

    if (is_full(c))
        return true;
    if (store_pressure(w->store)) {
        loop_arm(w->loop, &c->again, now + PRESSURE_US, on_again, c);
        return true;
    }
    rc = frame_reader_next(&c->in, &payload);
    if (rc == 1) {
        rc = answer_one(c, payload);
        loop_arm(w->loop, &c->again, now, on_again, c);
    }
    if (rc < 0)
        log_error("antientropyd sends what cannot be understood: %s", err_text(rc));
    return rc >= 0;
}

static bool receive(struct caller *c)
{
    size_t room;
    uint8_t *at = frame_reader_space(&c->in, &room);
    ssize_t n = at == NULL ? 0 : wire_recv(&c->wire, at, room);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    frame_reader_filled(&c->in, (size_t)n);
    return true;
}

static void on_caller(void *arg, uint32_t events)
{
    struct caller *c = arg;
    bool lives = true;

    if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        lives = false;
    /* What has been received is worked off before more is. */
    if (lives && (events & EPOLLIN) && !c->again.armed && !is_full(c))
        lives = receive(c);
    if (lives && !c->again.armed)
        lives = take(c);
    if (lives)
        lives = flush(c, store_durable(c->host->w->store));
    if (!lives) {
        drop(c);
        return;
    }
    frame_reader_shrink(&c->in);
    watch(c);
}

void repair_host_durable(struct repair_host *h, uint64_t lsn)
{
    if (h == NULL)
        return;
    for (int i = 0; i < CALLERS; i++) {
        struct caller *c = h->callers[i];

        if (c == NULL || c->count == 0 || c->waiting[c->first].lsn > lsn)
            continue;
        if (!flush(c, lsn)) {
            drop(c);
            continue;
        }
        watch(c);
    }
}

static void on_accept(void *arg, uint32_t events)
{
    struct repair_host *h = arg;
    int fd = accept4(h->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int place = 0;

    (void)events;
    if (fd < 0)
        return;
    while (place < CALLERS && h->callers[place] != NULL)
        place++;
    struct caller *c = place < CALLERS ? calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        close(fd);
        return;
    }
    c->host = h;
    wire_init(&c->wire, fd);
    frame_reader_init(&c->in, LIMIT_FRAME);
    if (loop_add(h->w->loop, &c->watch, fd, EPOLLIN | EPOLLRDHUP, on_caller, c) != 0) {
        wire_close(&c->wire);
        free(c);
        return;
    }
    h->callers[place] = c;
}

static int listen_at(struct repair_host *h)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/repair-%u.sock",
                     h->w->conf.node.runtime_dir, h->w->index);

    if (n < 0 || (size_t)n >= sizeof a.sun_path)
        return -ERR_LIMIT;
    unlink(a.sun_path); /* left behind by the worker before this one */
    h->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (h->listen_fd < 0 || bind(h->listen_fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(h->listen_fd, CALLERS) != 0)
        return err_from_errno(errno);
    return loop_add(h->w->loop, &h->listener, h->listen_fd, EPOLLIN, on_accept, h);
}

int repair_host_open(struct repair_host **out, struct worker *w)
{
    struct repair_host *h = calloc(1, sizeof *h);
    int rc;

    if (h == NULL)
        return -ERR_NOMEM;
    h->w = w;
    h->listen_fd = -1;
    h->codec = msg_codec_new();
    rc = listen_at(h);
    if (rc != 0) {
        repair_host_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

void repair_host_close(struct repair_host *h)
{
    if (h == NULL)
        return;
    for (int i = 0; i < CALLERS; i++)
        if (h->callers[i] != NULL)
            drop(h->callers[i]);
    loop_remove(h->w->loop, &h->listener);
    if (h->listen_fd >= 0)
        close(h->listen_fd);
    msg_codec_free(h->codec);
    buf_free(&h->scratch);
    free(h);
}
