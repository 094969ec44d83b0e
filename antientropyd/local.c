/* The connections to the own workers. See local.h. Runs in antientropyd. */
#include "antientropyd/local.h"

#include "base/err.h"
#include "base/log.h"
#include "core/ring.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"
#include "ipc/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PENDING = 256, OUT_MAX = LIMIT_FRAME + (64 << 20) };

struct pending {
    uint64_t request; /* 0: free */
    uint16_t worker;
    local_fn *done;
    void *arg;
};

struct voice {
    struct local *local;
    uint16_t worker;
    struct wire wire;
    struct loop_watch watch;
    struct frame_reader in;
    struct buf out;
};

struct local {
    struct local_conf conf;
    struct loop *loop;
    struct msg_codec *codec;
    uint64_t next_request;
    struct pending pending[PENDING];
    struct voice voices[LIMIT_WORKERS];
};

static uint64_t *request_of(struct repair *m)
{
    switch (m->kind) {
#define ONE(name)                                                                                  \
    case REPAIR_##name:                                                                            \
        return &m->u.name.request;
        ONE(LOOK)
        ONE(LOOKED)
        ONE(FETCH)
        ONE(FETCHED)
        ONE(MERGE)
        ONE(MERGED)
        ONE(DROP)
        ONE(DROPPED)
        ONE(SET_WHOLE)
        ONE(SET_HORIZON)
        ONE(VERIFY_BAD)
        ONE(DROP_VNODE)
        ONE(DONE)
        ONE(STATE)
        ONE(STATE_DONE)
#undef ONE
    default:
        return NULL;
    }
}

static void hang_up(struct voice *v)
{
    struct local *l = v->local;

    if (v->wire.fd < 0)
        return;
    loop_remove(l->loop, &v->watch);
    wire_close(&v->wire);
    v->wire.fd = -1;
    frame_reader_free(&v->in);
    buf_free(&v->out);
    /* Whoever is told may ask again at once, and is refused. */
    for (int i = 0; i < PENDING; i++) {
        struct pending p = l->pending[i];

        if (p.request == 0 || p.worker != v->worker)
            continue;
        l->pending[i].request = 0;
        if (p.done != NULL)
            p.done(p.arg, NULL);
    }
}

static bool flush(struct voice *v)
{
    if (wire_flush(&v->wire, &v->out, NULL) < 0)
        return false;
    buf_shrink(&v->out, 1u << 20);
    loop_modify(v->local->loop, &v->watch,
                (uint32_t)EPOLLIN | (buf_len(&v->out) > 0 ? (uint32_t)EPOLLOUT : 0));
    return true;
}

static int take(struct local *l, struct slice payload)
{
    struct repair m;
    int rc = msg_codec_decode_repair(l->codec, payload, &m);
    uint64_t *request = rc == 0 ? request_of(&m) : NULL;

    if (request == NULL)
        return -ERR_FORMAT;
    for (int i = 0; i < PENDING; i++) {
        struct pending p = l->pending[i];

        if (p.request != *request || p.request == 0)
            continue;
        l->pending[i].request = 0;
        if (p.done != NULL)
            p.done(p.arg, &m);
        return 0;
    }
    return -ERR_FORMAT;
}

static void on_voice(void *arg, uint32_t events)
{
    struct voice *v = arg;
    struct slice payload;
    size_t room;
    int rc = 0;

    if ((events & EPOLLOUT) && !flush(v)) {
        hang_up(v);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    uint8_t *at = frame_reader_space(&v->in, &room);
    ssize_t n = at == NULL ? 0 : wire_recv(&v->wire, at, room);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(v);
        return;
    }
    frame_reader_filled(&v->in, (size_t)n);
    while (v->wire.fd >= 0 && (rc = frame_reader_next(&v->in, &payload)) == 1)
        if ((rc = take(v->local, payload)) != 0)
            break;
    if (v->wire.fd < 0)
        return;
    if (rc < 0) {
        log_error("worker %u sends what cannot be understood", v->worker);
        hang_up(v);
        return;
    }
    frame_reader_shrink(&v->in);
}

static void dial(struct voice *v)
{
    struct local *l = v->local;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/repair-%u.sock", l->conf.runtime_dir,
                     v->worker);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    if (n < 0 || (size_t)n >= sizeof a.sun_path ||
        connect(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        loop_add(l->loop, &v->watch, fd, EPOLLIN, on_voice, v) != 0) {
        close(fd);
        return;
    }
    wire_init(&v->wire, fd);
    frame_reader_init(&v->in, LIMIT_FRAME);
    buf_init(&v->out, OUT_MAX);
}

struct local *local_new(const struct local_conf *conf, struct loop *loop)
{
    struct local *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->conf = *conf;
    l->loop = loop;
    l->codec = msg_codec_new();
    for (uint16_t i = 0; i < LIMIT_WORKERS; i++) {
        l->voices[i].local = l;
        l->voices[i].worker = i;
        l->voices[i].wire.fd = -1;
    }
    return l;
}

void local_tick(struct local *l)
{
    for (uint16_t i = 0; i < l->conf.workers; i++)
        if (l->voices[i].wire.fd < 0)
            dial(&l->voices[i]);
}

int local_ask(struct local *l, uint32_t partition, struct repair *m, local_fn *done, void *arg)
{
    struct voice *v = &l->voices[ring_worker_of(partition, l->conf.workers)];
    int place = 0, rc;

    if (v->wire.fd < 0)
        return -ERR_UNAVAILABLE;
    while (place < PENDING && l->pending[place].request != 0)
        place++;
    if (place == PENDING)
        return -ERR_BUSY;
    *request_of(m) = ++l->next_request;
    rc = frame_append_repair(&v->out, m);
    if (rc != 0)
        return rc;
    l->pending[place] = (struct pending){l->next_request, v->worker, done, arg};
    /* Sent when the loop sees that there is room: nobody is told of a loss from within this call. */
    loop_modify(l->loop, &v->watch, EPOLLIN | EPOLLOUT);
    return 0;
}

void local_forget(struct local *l, const void *arg)
{
    for (int i = 0; i < PENDING; i++)
        if (l->pending[i].request != 0 && l->pending[i].arg == arg)
            l->pending[i].done = NULL;
}
