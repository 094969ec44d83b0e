/* The socket for administrators' commands. Runs in gossipd. */
#include "gossipd/admin.h"

#include "base/err.h"
#include "base/log.h"
#include "ipc/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALLS   16
#define CALL_US 5000000u
#define TELL_US 20000u   /* between looks whether others have been told, */
#define TOLD_US 1000000u /* which is waited for no longer than this */

struct admin_call {
    struct gossipd *g;
    bool used;
    int fd;
    struct loop_watch watch;
    struct loop_timer timer, told;
    uint64_t told_us; /* when it is answered at the latest */
    struct frame_reader in;
    struct buf out;
};

struct admin_set {
    struct loop_watch listener;
    struct admin_call call[CALLS];
};

static void end(struct admin_call *c)
{
    loop_remove(c->g->loop, &c->watch);
    loop_disarm(c->g->loop, &c->timer);
    loop_disarm(c->g->loop, &c->told);
    close(c->fd);
    frame_reader_free(&c->in);
    buf_free(&c->out);
    c->used = false;
}

static void on_timeout(void *arg)
{
    end(arg);
}

static void flush(struct admin_call *c)
{
    while (buf_len(&c->out) > 0) {
        ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            loop_modify(c->g->loop, &c->watch, EPOLLOUT);
            return;
        }
        if (n <= 0)
            break;
        buf_consume(&c->out, (size_t)n);
    }
    end(c);
}

static void on_told(void *arg)
{
    struct admin_call *c = arg;
    uint64_t now = loop_now_us(c->g->loop);

    if (stream_exchanges(c->g->streams) && now < c->told_us)
        loop_arm(c->g->loop, &c->told, now + TELL_US, on_told, c);
    else
        flush(c);
}

/* Who has changed something may go on at another node: it is answered when others have been told. */
static void answer_when_told(struct admin_call *c)
{
    uint64_t now = loop_now_us(c->g->loop);

    c->told_us = now + TOLD_US;
    loop_modify(c->g->loop, &c->watch, EPOLLRDHUP);
    loop_arm(c->g->loop, &c->told, now + TELL_US, on_told, c);
}

/* Split a request into words; each must end with a 0. */
static int read_words(struct slice request, struct admin_words *w)
{
    const char *at = (const char *)request.data, *limit = at + request.len;

    memset(w, 0, sizeof *w);
    if (request.len == 0 || limit[-1] != 0)
        return -ERR_FORMAT;
    for (; at < limit; at += strlen(at) + 1) {
        if (w->count == ADMIN_WORDS)
            return -ERR_FORMAT;
        w->at[w->count++] = at;
    }
    if (w->count > 1 && strcasecmp(w->at[w->count - 1], "json") == 0) {
        w->json = true;
        w->count--;
    }
    return 0;
}

/* The answer to a request: '+' or '-', and text. Owned by the caller; NULL without memory. */
static char *answer(struct gossipd *g, struct slice request, size_t *len)
{
    struct admin_words w;
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    if (out == NULL)
        return NULL;
    fputc('+', out);
    bool good = false;
    if (read_words(request, &w) != 0)
        fputs("wrong number of words", out);
    else
        good = admin_run(g, &w, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    text[0] = good ? '+' : '-';
    return text;
}

static void on_ready(void *arg, uint32_t events)
{
    struct admin_call *c = arg;
    struct slice request;
    size_t room, len;
    int rc = 0;

    if (events & EPOLLOUT) {
        flush(c);
        return;
    }
    uint8_t *at = frame_reader_space(&c->in, &room);
    ssize_t n = at == NULL ? 0 : recv(c->fd, at, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        frame_reader_filled(&c->in, (size_t)n);
        rc = frame_reader_next(&c->in, &request);
        if (rc == 0)
            return;
    }
    uint64_t staged = c->g->change->staged.version, epoch = c->g->members.ring.epoch;
    char *text = rc == 1 ? answer(c->g, request, &len) : NULL;
    if (text == NULL || len > ADMIN_ANSWER || frame_append(&c->out, slice_of(text, len)) != 0)
        end(c);
    else if (staged != c->g->change->staged.version || epoch != c->g->members.ring.epoch)
        answer_when_told(c);
    else
        flush(c);
    free(text);
}

static void on_accept(void *arg, uint32_t events)
{
    struct gossipd *g = arg;
    int fd = accept4(g->admin->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd < 0)
        return;
    for (unsigned i = 0; i < CALLS; i++) {
        struct admin_call *c = &g->admin->call[i];

        if (c->used)
            continue;
        memset(c, 0, sizeof *c);
        c->g = g;
        c->fd = fd;
        if (loop_add(g->loop, &c->watch, fd, EPOLLIN, on_ready, c) != 0)
            break;
        c->used = true;
        frame_reader_init(&c->in, ADMIN_REQUEST);
        loop_arm(g->loop, &c->timer, loop_now_us(g->loop) + CALL_US, on_timeout, c);
        return;
    }
    close(fd); /* too many at once: the worker says so */
}

int admin_open(struct gossipd *g, int listen_fd)
{
    g->admin = calloc(1, sizeof *g->admin);
    if (g->admin == NULL)
        return -ERR_NOMEM;
    return listen_fd < 0 ? 0
                         : loop_add(g->loop, &g->admin->listener, listen_fd, EPOLLIN, on_accept, g);
}

void admin_close(struct gossipd *g)
{
    for (unsigned i = 0; i < CALLS; i++)
        if (g->admin->call[i].used)
            end(&g->admin->call[i]);
    loop_remove(g->loop, &g->admin->listener);
    free(g->admin);
    g->admin = NULL;
}
