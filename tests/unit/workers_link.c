/* Links between workers: real sockets on 127.0.0.1 and real mailboxes, several workers in one process,
 * each with a loop of its own that can stand still. */
#include "base/clock.h"
#include "base/err.h"
#include "base/rand.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"
#include "workers/link_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US 5000000u /* a step that takes longer has failed; nothing is measured */

struct node {
    struct link_set *set;
    struct loop *loop;
    struct link_set_conf conf;
    int listen_fd;
    uint16_t port;
    bool frozen;
    bool held; /* nothing may leave */
    /* what came */
    uint64_t messages, next_token, downs;
    uint16_t last_member, last_worker;
    struct buf last_object;
};

struct world {
    struct node node[3];
    unsigned count;
    struct ring_view *view;
    char dir[64];
};

static void on_message(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct node *n = arg;

    n->messages++;
    n->last_member = member;
    n->last_worker = worker;
    if (m->kind == MSG_MERGED) { /* numbered: each once and in order */
        assert_true(m->u.MERGED.request == n->next_token);
        n->next_token++;
    }
    if (m->kind == MSG_READ_DONE) {
        buf_clear(&n->last_object);
        assert_int_equal(
            buf_append(&n->last_object, m->u.READ_DONE.object.data, m->u.READ_DONE.object.len), 0);
    }
}

static void on_down(void *arg, uint16_t member, uint16_t worker)
{
    struct node *n = arg;
    struct msg m = {.kind = MSG_PONG};

    n->downs++;
    /* Whoever is told may try to send at once. */
    m.kind = MSG_READ;
    if (n->set != NULL)
        (void)link_set_send(n->set, member, worker, &m);
}

static bool may_leave(void *arg)
{
    const struct node *n = arg;

    return !n->held;
}

static void listen_on(struct node *n, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof a;
    int one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    n->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(n->listen_fd >= 0);
    setsockopt(n->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(n->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(n->listen_fd, 64), 0);
    assert_int_equal(getsockname(n->listen_fd, (struct sockaddr *)&a, &len), 0);
    n->port = ntohs(a.sin_port);
}

static void start(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    struct link_set_events events = {
        .arg = n, .on_message = on_message, .on_down = on_down, .may_leave = may_leave};

    n->loop = loop_new();
    n->conf.self.b[0] = (uint8_t)(i + 1);
    n->conf.workers = 1;
    n->conf.incarnation++;
    n->conf.peer_timeout_ms = 200;
    n->conf.listen_fd = n->listen_fd;
    assert_int_equal(link_set_open(&n->set, &n->conf, &events, n->loop), 0);
    n->next_token = 0;
}

static void stop(struct node *n)
{
    if (n->set == NULL)
        return;
    link_set_close(n->set);
    loop_free(n->loop);
    n->set = NULL;
    n->loop = NULL;
}

static void show_view(struct world *w)
{
    struct ring_view *v = w->view;

    v->epoch = 1;
    v->q_bits = 3;
    v->n = 1;
    v->member_count = (uint16_t)w->count;
    for (unsigned i = 0; i < w->count; i++) {
        struct member *m = &v->members[i];

        m->id.b[0] = (uint8_t)(i + 1);
        snprintf(m->name, sizeof m->name, "n%u", i);
        snprintf(m->address, sizeof m->address, "127.0.0.1");
        m->peer_port = w->node[i].port;
        m->workers = 1;
    }
    for (unsigned i = 0; i < w->count; i++)
        if (w->node[i].set != NULL) {
            v->self = (uint16_t)i;
            link_set_set_view(w->node[i].set, v);
        }
}

static struct world *make_world(unsigned count, const char *secret)
{
    struct world *w = calloc(1, sizeof *w);

    w->count = count;
    w->view = calloc(1, sizeof *w->view);
    for (unsigned i = 0; i < count; i++) {
        snprintf(w->node[i].conf.cluster, sizeof w->node[i].conf.cluster, "test");
        snprintf(w->node[i].conf.secret, sizeof w->node[i].conf.secret, "%s", secret);
        listen_on(&w->node[i], 0);
        start(w, i);
    }
    return w;
}

static void free_world(struct world *w)
{
    for (unsigned i = 0; i < w->count; i++) {
        stop(&w->node[i]);
        close(w->node[i].listen_fd);
        buf_free(&w->node[i].last_object);
    }
    free(w->view);
    free(w);
}

static void turn(struct world *w)
{
    for (unsigned i = 0; i < w->count; i++)
        if (w->node[i].set != NULL && !w->node[i].frozen)
            loop_turn(w->node[i].loop, 500);
}

#define UNTIL(w, condition)                                                                        \
    do {                                                                                           \
        uint64_t end = clock_mono_us() + PATIENCE_US;                                              \
        while (!(condition) && clock_mono_us() < end)                                              \
            turn(w);                                                                               \
        assert_true(condition);                                                                    \
    } while (0)

static void run_for(struct world *w, uint64_t us)
{
    uint64_t end = clock_mono_us() + us;

    while (clock_mono_us() < end)
        turn(w);
}

static struct link_set_stats stats_of(const struct node *n)
{
    struct link_set_stats s;

    link_set_stats(n->set, &s);
    return s;
}

static void connect_all(struct world *w)
{
    show_view(w);
    for (unsigned i = 0; i < w->count; i++)
        UNTIL(w, stats_of(&w->node[i]).links_up == w->count - 1 &&
                     stats_of(&w->node[i]).accepts >= w->count - 1);
}

static int say(struct node *n, uint16_t to, uint64_t number)
{
    struct msg m = {.kind = MSG_MERGED, .u.MERGED = {.request = number}};

    return link_set_send(n->set, to, 0, &m);
}

static void test_both_ways(void **state)
{
    struct world *w = make_world(2, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];

    (void)state;
    connect_all(w);
    for (uint64_t i = 0; i < 20000; i++) {
        assert_int_equal(say(a, 1, i), 0);
        assert_int_equal(say(b, 0, i), 0);
        if (i % 1000 == 999)
            turn(w);
    }
    UNTIL(w, a->messages == 20000 && b->messages == 20000);
    assert_int_equal(a->last_member, 1);
    assert_int_equal(b->last_member, 0);
    assert_int_equal(a->downs + b->downs, 0);
    /* A turn's messages go in one write, as long as the socket takes it. */
    assert_true(stats_of(a).writes < 1000);
    free_world(w);
}

static void test_held(void **state)
{
    struct world *w = make_world(2, "");
    struct node *a = &w->node[0], *b = &w->node[1];

    (void)state;
    for (unsigned i = 0; i < w->count; i++)
        w->node[i].held = i == 0; /* from before the handshake on */
    show_view(w);
    assert_int_equal(say(a, 1, 0), 0);
    UNTIL(w, stats_of(a).links_up == 1 && stats_of(b).links_up == 1);
    assert_int_equal(say(a, 1, 1), 0);
    show_view(w); /* a new view flushes what is queued: not this */
    run_for(w, 100000);
    assert_int_equal(b->messages, 0);
    a->held = false;
    UNTIL(w, b->messages == 2);
    assert_int_equal(a->downs, 0);
    free_world(w);
}

static void test_large(void **state)
{
    struct world *w = make_world(2, "");
    size_t len = 20u << 20;
    uint8_t *value = malloc(len);
    struct msg m = {.kind = MSG_READ_DONE};
    int err = 0;

    (void)state;
    memset(value, 'v', len);
    value[len - 1] = 'w';
    connect_all(w);
    m.u.READ_DONE.object = slice_of(value, len);
    for (int i = 0; i < 10 && err == 0; i++)
        err = link_set_send(w->node[0].set, 1, 0, &m);
    assert_int_equal(err, -ERR_BUSY);
    UNTIL(w, w->node[1].messages == 3);
    assert_int_equal(buf_len(&w->node[1].last_object), len);
    assert_memory_equal(buf_head(&w->node[1].last_object), value, len);
    assert_int_equal(w->node[0].downs, 0);
    free(value);
    free_world(w);
}

static void test_strangers(void **state)
{
    (void)state;
    for (int what = 0; what < 2; what++) {
        struct world *w = make_world(2, "secret");
        struct node *a = &w->node[0], *b = &w->node[1];

        stop(b);
        if (what == 0)
            snprintf(b->conf.secret, sizeof b->conf.secret, "guess");
        else
            snprintf(b->conf.cluster, sizeof b->conf.cluster, "other");
        start(w, 1);
        show_view(w);
        assert_int_equal(say(b, 0, 0), 0);
        run_for(w, 300000);
        assert_int_equal(stats_of(a).links_up, 0);
        assert_int_equal(stats_of(b).links_up, 0);
        assert_int_equal(a->messages, 0);
        assert_true(stats_of(a).dropped_handshake + stats_of(b).dropped_handshake > 0);
        free_world(w);
    }
}

static void test_death(void **state)
{
    struct world *w = make_world(2, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];

    (void)state;
    connect_all(w);
    for (int round = 0; round < 3; round++) {
        uint64_t downs = a->downs;

        assert_int_equal(say(a, 1, 0), 0);
        stop(b);
        UNTIL(w, a->downs > downs && !link_set_reachable(a->set, 1, 0));
        assert_int_equal(say(a, 1, 0), -ERR_UNAVAILABLE);
        /* The port stays open, as the supervisor keeps it; somebody new answers there. */
        start(w, 1);
        show_view(w);
        UNTIL(w, link_set_reachable(a->set, 1, 0) && stats_of(b).links_up == 1);
        assert_int_equal(say(a, 1, 0), 0);
        UNTIL(w, b->next_token == 1);
    }
    free_world(w);
}

static void test_refused(void **state)
{
    struct world *w = make_world(2, "");
    struct node *a = &w->node[0], *b = &w->node[1];
    uint16_t port = b->port;

    (void)state;
    connect_all(w);
    stop(b);
    close(b->listen_fd);
    UNTIL(w, !link_set_reachable(a->set, 1, 0));
    run_for(w, 100000);
    listen_on(b, port);
    start(w, 1);
    show_view(w);
    UNTIL(w, link_set_reachable(a->set, 1, 0));
    free_world(w);
}

static void test_answered_at_once(void **state)
{
    struct world *w = make_world(2, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];
    uint16_t port = b->port;

    (void)state;
    connect_all(w);
    for (int round = 0; round < 5; round++) {
        uint64_t heard;

        stop(b);
        close(b->listen_fd);
        UNTIL(w, !link_set_reachable(a->set, 1, 0));
        run_for(w, 200000); /* a's next tries are far apart by now */
        listen_on(b, port);
        start(w, 1);
        a->next_token = 0;
        heard = a->messages;
        show_view(w);
        assert_int_equal(say(b, 0, 0), 0);
        UNTIL(w, a->messages > heard);
        assert_int_equal(say(a, 1, 0), 0);
        UNTIL(w, b->next_token == 1);
    }
    free_world(w);
}

static void test_frozen(void **state)
{
    struct world *w = make_world(3, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];

    (void)state;
    connect_all(w);
    for (int round = 0; round < 2; round++) {
        uint64_t downs = a->downs;

        b->frozen = true;
        assert_int_equal(say(a, 1, b->next_token), 0);
        UNTIL(w, a->downs > downs);
        assert_false(link_set_reachable(a->set, 1, 0));
        assert_true(link_set_reachable(a->set, 2, 0));
        assert_int_equal(say(a, 1, 0), -ERR_UNAVAILABLE);
        run_for(w, 300000);
        b->frozen = false;
        UNTIL(w, link_set_reachable(a->set, 1, 0) && link_set_reachable(b->set, 0, 0));
    }
    /* One that has nothing to answer is noticed as well. */
    b->frozen = true;
    UNTIL(w, !link_set_reachable(a->set, 1, 0));
    free_world(w);
}

static void test_doubted(void **state)
{
    struct world *w = make_world(3, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];

    (void)state;
    connect_all(w);
    /* Nothing is asked of it: nothing to doubt. One that runs says so in time. */
    run_for(w, 50000);
    link_set_doubt(a->set, 1, 0);
    assert_int_equal(say(a, 1, b->next_token), 0);
    link_set_doubt(a->set, 1, 0);
    run_for(w, 200000);
    UNTIL(w, link_set_reachable(a->set, 1, 0));
    b->frozen = true;
    assert_int_equal(say(a, 1, b->next_token), 0);
    link_set_doubt(a->set, 1, 0);
    UNTIL(w, !link_set_reachable(a->set, 1, 0));
    assert_true(link_set_reachable(a->set, 2, 0));
    b->frozen = false;
    UNTIL(w, link_set_reachable(a->set, 1, 0));
    free_world(w);
}

static void speak_anew(struct world *w, unsigned i, uint8_t oldest, uint8_t newest)
{
    stop(&w->node[i]);
    w->node[i].conf.protocol = (struct protocol_range){oldest, newest};
    start(w, i);
    show_view(w);
}

static void test_versions(void **state)
{
    struct world *w = make_world(2, "secret");
    struct node *a = &w->node[0], *b = &w->node[1];
    struct msg show = {.kind = MSG_SHOW};

    (void)state;
    connect_all(w);
    assert_int_equal(link_set_send(a->set, 1, 0, &show), 0);
    speak_anew(w, 1, 1, 1);
    UNTIL(w, stats_of(a).links_up == 1 && stats_of(b).links_up == 1 && stats_of(a).connects == 2);
    assert_int_equal(stats_of(a).links_older, 1);
    assert_int_equal(stats_of(b).links_older, 0);
    assert_int_equal(link_set_send(a->set, 1, 0, &show), -ERR_UNAVAILABLE);
    assert_int_equal(say(a, 1, 0), 0);
    UNTIL(w, b->next_token == 1);
    speak_anew(w, 1, 2, 3); /* of the future */
    UNTIL(w, stats_of(a).connects == 3);
    assert_int_equal(stats_of(a).links_older, 0);
    assert_int_equal(link_set_send(a->set, 1, 0, &show), 0);
    speak_anew(w, 1, 3, 3);
    UNTIL(w, stats_of(b).dropped_handshake > 0 && !link_set_reachable(a->set, 1, 0));
    assert_int_equal(stats_of(a).connects, 3);
    free_world(w);
}

static void test_idle(void **state)
{
    struct world *w = make_world(2, "");

    (void)state;
    connect_all(w);
    run_for(w, 1500000);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(w->node[i].downs, 0);
        assert_int_equal(stats_of(&w->node[i]).links_up, 1);
        assert_int_equal(stats_of(&w->node[i]).connects, 1);
    }
    free_world(w);
}

static void test_view_changes(void **state)
{
    struct world *w = make_world(3, "");
    struct node *a = &w->node[0];

    (void)state;
    connect_all(w);
    assert_int_equal(say(a, 1, 0), 0);
    assert_int_equal(say(a, 2, 0), 0);
    /* Member 1 is replaced by one with another id, member 2 leaves. */
    w->view->members[1].id.b[0] = 77;
    w->view->members[2].state = MEMBER_LEFT;
    w->view->self = 0;
    link_set_set_view(a->set, w->view);
    assert_int_equal(a->downs, 2);
    assert_int_equal(say(a, 2, 0), -ERR_UNAVAILABLE);
    assert_int_equal(stats_of(a).links_known, 1);
    run_for(w, 100000);
    w->view->members[2].state = MEMBER_ALIVE;
    show_view(w);
    UNTIL(w, stats_of(a).links_up == 2);
    free_world(w);
}

/* ---- somebody who says what he likes ---- */

static int call(const struct node *n)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(n->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Say the bytes and wait until the other side hangs up. */
static void say_until_closed(struct world *w, const struct node *to, const void *data, size_t len)
{
    int fd = call(to);
    uint8_t sink[4096];
    ssize_t n = -1;
    uint64_t end = clock_mono_us() + PATIENCE_US;

    send(fd, data, len, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (n != 0 && clock_mono_us() < end) {
        turn(w);
        n = recv(fd, sink, sizeof sink, 0);
        if (n < 0 && errno == ECONNRESET)
            n = 0;
    }
    assert_int_equal(n, 0);
    close(fd);
}

static void append_hello(struct buf *out, uint8_t node, const uint8_t nonce[16])
{
    struct node_id id = {{node}};
    struct msg m = {.kind = MSG_HELLO,
                    .u.HELLO = {.protocol = 1,
                                .cluster = slice_str("test"),
                                .node = slice_of(id.b, sizeof id.b),
                                .incarnation = 5,
                                .nonce = slice_of(nonce, 16)}};

    assert_int_equal(frame_append_msg(out, &m), 0);
}

static void test_garbage(void **state)
{
    struct world *w = make_world(2, "");
    struct node *a = &w->node[0];
    struct buf bytes = {0};
    static const uint8_t nonce[16] = {1};
    static uint8_t noise[5000];
    struct rand r;

    (void)state;
    connect_all(w);
    rand_seed(&r, 5);
    append_hello(&bytes, 2, nonce);
    size_t len = buf_len(&bytes);
    uint64_t accepts = stats_of(a).accepts;
    for (size_t bit = 0; bit < len * 8; bit += 3) { /* flipped */
        buf_head(&bytes)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        say_until_closed(w, a, buf_head(&bytes), len);
        buf_head(&bytes)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut += 5) /* cut off */
        say_until_closed(w, a, buf_head(&bytes), cut);
    for (int i = 0; i < 20; i++) { /* anything */
        for (size_t k = 0; k < sizeof noise; k++)
            noise[k] = (uint8_t)rand_next(&r);
        say_until_closed(w, a, noise, sizeof noise);
    }
    say_until_closed(w, a, "\xff\xff\xff\xff\0\0\0\0", 8); /* 4 GiB */
    assert_true(stats_of(a).dropped_format > 20);
    assert_int_equal(stats_of(a).accepts, accepts);
    assert_int_equal(w->node[0].downs + w->node[1].downs, 0);
    assert_int_equal(say(&w->node[1], 0, 0), 0);
    UNTIL(w, a->next_token == 1);
    buf_free(&bytes);
    free_world(w);
}

/* A peer that is known, and then talks nonsense: its connection goes, nothing else does. */
static void test_known_and_broken(void **state)
{
    struct world *w = make_world(3, "");
    struct node *a = &w->node[0];
    static const uint8_t nonce[16] = {1};
    struct buf bytes = {0};

    (void)state;
    stop(&w->node[2]); /* its place is taken by this test */
    show_view(w);
    UNTIL(w, stats_of(a).links_up == 1 && stats_of(a).accepts == 1);
    int fd = call(a);
    append_hello(&bytes, 3, nonce);
    append_hello(&bytes, 3, nonce); /* the second is the proof, empty without a secret */
    struct msg m = {.kind = MSG_MERGED};
    assert_int_equal(frame_append_msg(&bytes, &m), 0);
    assert_int_equal(send(fd, buf_head(&bytes), buf_len(&bytes), 0), (ssize_t)buf_len(&bytes));
    UNTIL(w, a->messages == 1);
    assert_int_equal(a->last_member, 2);
    uint64_t downs = a->downs, dropped = stats_of(a).dropped_format;
    buf_clear(&bytes);
    assert_int_equal(frame_append_msg(&bytes, &m), 0);
    buf_head(&bytes)[buf_len(&bytes) - 1] ^= 1;
    assert_int_equal(send(fd, buf_head(&bytes), buf_len(&bytes), 0), (ssize_t)buf_len(&bytes));
    UNTIL(w, stats_of(a).dropped_format == dropped + 1);
    assert_true(a->downs > downs);
    assert_int_equal(a->messages, 1);
    assert_true(link_set_reachable(a->set, 1, 0));
    close(fd);
    buf_free(&bytes);
    free_world(w);
}

/* ---- siblings ---- */

struct family {
    struct world *w;
    struct worker_seg seg[2];
    int wake[2];
};

static void start_sibling(struct family *f, unsigned i)
{
    struct node *n = &f->w->node[i];
    struct link_set_events events = {
        .arg = n, .on_message = on_message, .on_down = on_down, .may_leave = may_leave};

    n->conf.self.b[0] = 1;
    n->conf.worker = (uint16_t)i;
    n->conf.workers = 2;
    n->conf.incarnation++;
    n->conf.listen_fd = -1;
    n->conf.runtime_dir = f->w->dir;
    n->conf.wake_fd = f->wake;
    n->conf.seg = &f->seg[i];
    memset(&f->seg[i], 0, sizeof f->seg[i]);
    assert_int_equal(
        worker_seg_create(&f->seg[i], f->w->dir, i, 2, 8, 0, n->conf.incarnation * 2 + i), 0);
    n->loop = loop_new();
    n->next_token = 0;
    assert_int_equal(link_set_open(&n->set, &n->conf, &events, n->loop), 0);
    f->w->view->self = 0;
    f->w->view->member_count = 1;
    f->w->view->members[0].id.b[0] = 1;
    f->w->view->members[0].workers = 2;
    link_set_set_view(n->set, f->w->view);
}

static void stop_sibling(struct family *f, unsigned i)
{
    stop(&f->w->node[i]);
    worker_seg_close(&f->seg[i]);
}

static void test_siblings(void **state)
{
    struct family f = {.w = calloc(1, sizeof *f.w)};
    struct node *a = &f.w->node[0], *b = &f.w->node[1];
    char command[128];

    (void)state;
    f.w->count = 2;
    f.w->view = calloc(1, sizeof *f.w->view);
    snprintf(f.w->dir, sizeof f.w->dir, "/tmp/workers_link.XXXXXX");
    assert_non_null(mkdtemp(f.w->dir));
    for (unsigned i = 0; i < 2; i++) {
        f.wake[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        start_sibling(&f, i);
    }
    link_set_sibling_up(a->set, 1, b->conf.incarnation);
    link_set_sibling_up(b->set, 0, a->conf.incarnation);
    for (uint64_t i = 0; i < 20000; i++) {
        struct msg m = {.kind = MSG_MERGED, .u.MERGED = {.request = i}};

        assert_int_equal(link_set_send(a->set, 0, 1, &m), 0);
        assert_int_equal(link_set_send(b->set, 0, 0, &m), 0);
        if (i % 500 == 499)
            turn(f.w);
    }
    UNTIL(f.w, a->messages == 20000 && b->messages == 20000);
    assert_int_equal(b->last_worker, 0);
    /* What may not leave yet stays. */
    struct msg held = {.kind = MSG_MERGED, .u.MERGED = {.request = 20000}};
    a->held = true;
    assert_int_equal(link_set_send(a->set, 0, 1, &held), 0);
    run_for(f.w, 20000);
    assert_int_equal(b->messages, 20000);
    a->held = false;
    UNTIL(f.w, b->messages == 20001);
    /* Larger than the ring. */
    struct msg big = {.kind = MSG_READ_DONE};
    uint8_t *value = calloc(1, 5u << 20);
    big.u.READ_DONE.object = slice_of(value, 5u << 20);
    assert_int_equal(link_set_send(a->set, 0, 1, &big), 0);
    UNTIL(f.w, b->messages == 20002);
    assert_int_equal(buf_len(&b->last_object), 5u << 20);
    /* A restart: told once, then the successor is spoken to. */
    stop_sibling(&f, 1);
    assert_int_equal(link_set_send(a->set, 0, 1, &big), 0);
    turn(f.w);
    start_sibling(&f, 1);
    link_set_sibling_up(a->set, 1, b->conf.incarnation);
    assert_int_equal(a->downs, 1);
    b->messages = 0;
    struct msg m = {.kind = MSG_MERGED};
    assert_int_equal(link_set_send(a->set, 0, 1, &m), 0);
    UNTIL(f.w, b->next_token == 1);
    assert_int_equal(a->downs, 1);
    free(value);
    for (unsigned i = 0; i < 2; i++) {
        stop_sibling(&f, i);
        close(f.wake[i]);
        buf_free(&f.w->node[i].last_object);
    }
    snprintf(command, sizeof command, "rm -r %s", f.w->dir);
    assert_int_equal(system(command), 0);
    free(f.w->view);
    free(f.w);
}

#define TEST(text, function)                                                                       \
    {                                                                                              \
        text, function, NULL, NULL, NULL                                                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("messages arrive both ways, each once, in order, in few writes", test_both_ways),
        TEST("nothing leaves before what it tells of may be known", test_held),
        TEST("large messages pass, and output is bounded", test_large),
        TEST("another secret or another cluster is not let in", test_strangers),
        TEST("a dead worker is told of, skipped, and found again", test_death),
        TEST("a worker that calls is answered, though it was given up", test_answered_at_once),
        TEST("a refused connection is tried again", test_refused),
        TEST("a frozen worker is skipped and comes back", test_frozen),
        TEST("a doubted worker that is silent is left out until it is heard", test_doubted),
        TEST("workers of mixed versions speak the lowest common one", test_versions),
        TEST("idle links stay", test_idle),
        TEST("links follow the view", test_view_changes),
        TEST("garbage from strangers is dropped and counted, nothing else is harmed", test_garbage),
        TEST("garbage from a known peer costs its connection only", test_known_and_broken),
        TEST("siblings speak through mailboxes, across a restart", test_siblings),
    };

    return cmocka_run_group_tests_name("links between workers", tests, NULL, NULL);
}
