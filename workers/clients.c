/* The client connections of one worker. Runs in workers; the only file there that accepts clients. */
#include "workers/clients.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "workers/command.h"
#include "workers/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BATCH 32      /* connections accepted in one turn */
#define RETRY_US     2000    /* stalled connections try again at least so often */
#define TICK_US      1000000 /* idle connections are looked at so often */
#define TRIM_US      2000000 /* a connection silent for so long gives memory back */
#define TICK_BATCH   1000    /* connections looked at in one tick */

static void flush_turn(void *arg);
static void retry_due(void *arg);
static void tick_due(void *arg);

static bool before_sleep(void *arg)
{
    struct clients *c = arg;

    c->pressure = c->engine->pressure(c->engine->arg);
    c->limits.max_command = c->engine->conf.input_limit != 0 ? (uint32_t)c->engine->conf.input_limit
                                                             : LIMIT_CLIENT_INPUT;
    return false;
}

int clients_open(struct clients **out, struct loop *loop, struct engine *engine)
{
    struct clients *c = calloc(1, sizeof *c);

    *out = NULL;
    if (c == NULL)
        return -ERR_NOMEM;
    command_setup();
    if (acl_open(&c->acl, NULL) != 0) {
        free(c);
        return -ERR_NOMEM;
    }
    if (pending_open(&c->pending, LIMIT_CLIENT_REQUESTS) != 0) {
        acl_close(&c->acl);
        free(c);
        return -ERR_NOMEM;
    }
    c->loop = loop;
    c->engine = engine;
    c->limits = (struct resp_limits){
        .max_args = LIMIT_ARGS, .max_bulk = LIMIT_VALUE, .max_command = LIMIT_CLIENT_INPUT};
    resp_init(&c->discard);
    activity_init(&c->activity);
    monitor_open(&c->monitor);
    c->listening = true;
    c->hook.before_sleep = before_sleep;
    c->hook.arg = c;
    loop_hook(loop, &c->hook);
    loop_arm(loop, &c->tick, loop_now_us(loop) + TICK_US, tick_due, c);
    *out = c;
    return 0;
}

void clients_close(struct clients *c)
{
    clients_drain(c);
    while (c->active.first != NULL)
        conn_close(c->active.first);
    while (c->idle.first != NULL)
        conn_close(c->idle.first);
    loop_cancel(c->loop, &c->flush);
    loop_disarm(c->loop, &c->retry);
    loop_disarm(c->loop, &c->tick);
    loop_disarm(c->loop, &c->pause_timer);
    pending_close(&c->pending);
    resp_free(&c->discard);
    monitor_close(c);
    acl_log_clear(&c->acl_log);
    acl_close(&c->acl);
    free(c);
}

/* --- accepting --- */

static void listen_all(struct clients *c, bool on);

static void set_options(const struct clients *c, int fd)
{
    int one = 1, seconds = (int)c->engine->conf.keepalive_s;

    /* Failure is harmless, and a Unix socket pair has none of these. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (seconds > 0) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    }
}

static void list_append(struct conn_list *list, struct conn *conn)
{
    conn->listed = list;
    conn->next = NULL;
    conn->previous = list->last;
    if (list->last != NULL)
        list->last->next = conn;
    else
        list->first = conn;
    list->last = conn;
}

static void list_remove(struct conn *conn)
{
    struct conn_list *list = conn->listed;

    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        list->first = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    else
        list->last = conn->previous;
    conn->listed = NULL;
}

static struct conn **bucket(const struct clients *c, uint64_t id)
{
    return (struct conn **)&c->buckets[(id / LIMIT_WORKERS) % CLIENTS_BUCKETS];
}

static uint64_t siblings_clients(struct clients *c)
{
    const struct engine *e = c->engine;

    return e->siblings_clients == NULL ? 0 : e->siblings_clients(e->arg, c->stats.connected);
}

struct conn *clients_adopt(struct clients *c, int fd, enum clients_port port)
{
    static const char full[] = "-ERR max number of clients reached\r\n";

    if (c->stats.connected + siblings_clients(c) >= c->engine->conf.max_clients) {
        c->stats.rejected++;
        /* The socket is new and empty: this cannot block. Under TLS it would only confuse. */
        if (c->engine->conf.tls == NULL &&
            send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            log_debug("a client over the limit was already gone");
        close(fd);
        return NULL;
    }
    set_options(c, fd);
    /* Numbers are unique within the node: the worker is in the low digits. */
    uint64_t id = ++c->next_id * LIMIT_WORKERS + c->engine->worker;
    struct conn *conn = conn_open(c, fd, port, id);
    if (conn == NULL) {
        c->stats.rejected++;
        return NULL;
    }
    list_append(&c->active, conn);
    conn->next_bucket = *bucket(c, id);
    *bucket(c, id) = conn;
    c->stats.accepted++;
    c->stats.connected++;
    siblings_clients(c);
    return conn;
}

static void accept_ready(void *arg, uint32_t events)
{
    struct clients_listener *l = arg;
    struct clients *c = l->clients;

    (void)events;
    /* On the shared port one at a time, so that the workers get equal shares of a crowd. */
    for (int i = l->port == CLIENTS_FRONT ? ACCEPT_BATCH - 1 : 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            clients_adopt(c, fd, l->port);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("cannot accept a client: no descriptors or memory; accepting pauses");
            listen_all(c, false);
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void listen_all(struct clients *c, bool on)
{
    if (c->draining)
        on = false;
    if (c->listening == on)
        return;
    c->listening = on;
    for (uint32_t i = 0; i < c->listener_count; i++) {
        struct clients_listener *l = &c->listeners[i];

        if (!on)
            loop_remove(c->loop, &l->watch);
        else if (loop_add(c->loop, &l->watch, l->fd, EPOLLIN | EPOLLEXCLUSIVE, accept_ready, l))
            c->listening = false; /* tried again by the next tick */
    }
}

int clients_listen(struct clients *c, int fd, enum clients_port port)
{
    if (c->listener_count == CLIENTS_LISTENERS)
        return -ERR_LIMIT;
    struct clients_listener *l = &c->listeners[c->listener_count];
    l->clients = c;
    l->fd = fd;
    l->port = port;
    int rc = loop_add(c->loop, &l->watch, fd, EPOLLIN | EPOLLEXCLUSIVE, accept_ready, l);
    if (rc == 0)
        c->listener_count++;
    return rc;
}

/* --- answers --- */

void clients_reply(struct clients *c, uint64_t token, const struct coord_reply *answer)
{
    uint32_t part;
    struct pending *p = pending_answered(&c->pending, token, &part);

    if (p == NULL)
        return;
    struct conn *conn = p->conn;
    c->answered = true;
    if (c->stalled.first != NULL)
        loop_defer(c->loop, &c->flush, flush_turn, c);
    if (conn == NULL) {
        if (p->waiting == 0)
            pending_release(&c->pending, p);
        return;
    }
    conn_answered(conn, p);
    if (conn->stall == CONN_PIPELINE || conn->stall == CONN_ORDER || conn->stall == CONN_OUTPUT)
        clients_dirty(c, conn);
    if (p->finish != NULL) {
        p->answer(p, part, answer, &p->parts);
        conn_hold(conn, p);
        if (p->waiting > 0)
            return;
    }
    struct resp_out *out = conn_answer_out(conn, p);
    size_t before = buf_len(&out->buf);
    uint64_t errors = c->stats.command_errors;
    if (p->finish != NULL)
        p->finish(p, out);
    else
        p->answer(p, part, answer, out);
    conn_learn_size(conn, buf_len(&out->buf) - before);
    command_ended(conn, p, c->stats.command_errors != errors);
    conn_ready(conn, p);
}

/* --- the end of a turn --- */

void clients_dirty(struct clients *c, struct conn *conn)
{
    if (conn->is_dirty)
        return;
    conn->is_dirty = true;
    conn->next_dirty = c->dirty;
    c->dirty = conn;
    loop_defer(c->loop, &c->flush, flush_turn, c);
}

void clients_stall(struct clients *c, struct conn *conn)
{
    if (conn->is_stalled)
        return;
    conn->is_stalled = true;
    conn->next_stalled = NULL;
    conn->previous_stalled = c->stalled.last;
    if (c->stalled.last != NULL)
        c->stalled.last->next_stalled = conn;
    else
        c->stalled.first = conn;
    c->stalled.last = conn;
    if (!c->retry.armed)
        loop_arm(c->loop, &c->retry, loop_now_us(c->loop) + RETRY_US, retry_due, c);
}

static void unstall(struct clients *c, struct conn *conn)
{
    if (!conn->is_stalled)
        return;
    conn->is_stalled = false;
    if (conn->previous_stalled != NULL)
        conn->previous_stalled->next_stalled = conn->next_stalled;
    else
        c->stalled.first = conn->next_stalled;
    if (conn->next_stalled != NULL)
        conn->next_stalled->previous_stalled = conn->previous_stalled;
    else
        c->stalled.last = conn->previous_stalled;
}

/* Give stalled connections another chance, the one that waits longest first, until the engine has
 * enough again. */
static void resume_stalled(struct clients *c)
{
    struct conn *conn;

    c->pressure = c->engine->pressure(c->engine->arg);
    while (!c->pressure && (conn = c->stalled.first) != NULL) {
        unstall(c, conn);
        if (!conn_resume(conn))
            break;
    }
}

/* Close those that hold the most until the rest is within the limit. Rare, and each round frees at
 * least the average: so a walk over all is no matter. */
static void enforce_output_total(struct clients *c)
{
    uint64_t most = c->engine->conf.output_total;

    while (most != 0 && c->output_bytes > most) {
        struct conn_list *lists[] = {&c->idle, &c->active};
        struct conn *largest = NULL;

        for (int l = 0; l < 2; l++)
            for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next)
                if (largest == NULL || conn->counted_out > largest->counted_out)
                    largest = conn;
        if (largest == NULL || largest->counted_out == 0)
            return;
        c->stats.slow_readers++;
        log_warn("clients hold too many unread replies: client %llu is disconnected",
                 (unsigned long long)largest->id);
        conn_close(largest);
    }
}

static void flush_turn(void *arg)
{
    struct clients *c = arg;

    if (c->answered && c->stalled.first != NULL)
        resume_stalled(c);
    c->answered = false;
    struct conn *conn = c->dirty, *next;
    c->dirty = NULL;
    for (; conn != NULL; conn = next) {
        next = conn->next_dirty;
        conn->is_dirty = false;
        conn_flush(conn);
    }
    enforce_output_total(c);
}

static void retry_due(void *arg)
{
    struct clients *c = arg;

    resume_stalled(c);
    if (c->stalled.first != NULL)
        loop_arm(c->loop, &c->retry, loop_now_us(c->loop) + RETRY_US, retry_due, c);
}

void clients_touch(struct clients *c, struct conn *conn)
{
    if (conn->listed == &c->active && c->active.last == conn)
        return;
    list_remove(conn);
    list_append(&c->active, conn);
}

void clients_forget(struct clients *c, struct conn *conn)
{
    list_remove(conn);
    unstall(c, conn);
    monitor_leave(c, conn);
    if (conn->is_dirty) {
        struct conn **at = &c->dirty;
        while (*at != conn)
            at = &(*at)->next_dirty;
        *at = conn->next_dirty;
    }
    struct conn **at = bucket(c, conn->id);
    while (*at != conn)
        at = &(*at)->next_bucket;
    *at = conn->next_bucket;
    c->stats.connected--;
    siblings_clients(c);
}

struct conn *clients_find(const struct clients *c, uint64_t id)
{
    struct conn *conn = *bucket(c, id);

    while (conn != NULL && conn->id != id)
        conn = conn->next_bucket;
    return conn;
}

/* --- users --- */

static void follow_user(struct conn *conn, struct conn *running)
{
    struct acl_user *now = acl_find(&conn->clients->acl, slice_str(conn->user->name));

    if (now == conn->user)
        return;
    if (now != NULL && now->birth == conn->user->birth) {
        acl_user_unref(conn->user);
        conn->user = acl_user_ref(now);
        return;
    }
    conn_logout(conn);
    if (conn == running)
        conn_finish(conn);
    else
        conn_doom(conn);
}

void clients_users_changed(struct clients *c, struct conn *running)
{
    for (struct conn *conn = c->active.first; conn != NULL; conn = conn->next)
        follow_user(conn, running);
    for (struct conn *conn = c->idle.first; conn != NULL; conn = conn->next)
        follow_user(conn, running);
}

/* --- idle connections --- */

static void tick_due(void *arg)
{
    struct clients *c = arg;
    uint64_t now = c->engine->now_us;
    uint64_t timeout_us = (uint64_t)c->engine->conf.timeout_s * 1000000u;
    struct conn *conn, *next;
    int budget = TICK_BATCH;

    listen_all(c, true);
    monitor_tick(c);
    while ((conn = c->active.first) != NULL && now > conn->active_us + TRIM_US && budget-- > 0) {
        conn_trim(conn);
        list_remove(conn);
        list_append(&c->idle, conn);
    }
    for (conn = c->idle.first; conn != NULL && budget-- > 0; conn = next) {
        next = conn->next;
        /* Those behind it have been silent for less. */
        if (timeout_us == 0 || now <= conn->active_us + timeout_us)
            break;
        if (conn->owed == 0 && !monitor_is_watcher(c, conn))
            conn_doom(conn);
    }
    loop_arm(c->loop, &c->tick, loop_now_us(c->loop) + TICK_US, tick_due, c);
}

/* --- the end --- */

void clients_drain(struct clients *c)
{
    listen_all(c, false);
    c->draining = true;
    for (struct conn *conn = c->active.first; conn != NULL; conn = conn->next)
        conn_finish(conn);
    for (struct conn *conn = c->idle.first; conn != NULL; conn = conn->next)
        conn_finish(conn);
}

bool clients_drained(const struct clients *c)
{
    return c->draining && c->stats.connected == 0;
}

void clients_count_error(struct clients *c, const char *text)
{
    c->stats.command_errors++;
    activity_errors(c->activity.errors, text, 1);
}

const struct client_stats *clients_stats(const struct clients *c)
{
    return &c->stats;
}
