/* Connections of the load generator: connecting, buffers, the queue of what waits for an answer. */
#include "base/check.h"
#include "base/err.h"
#include "ipc/sockaddr.h"
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define BAD_US     250000u
#define READ_BYTES 65536u

static void flush(struct conn *c)
{
    while (buf_len(&c->out) > 0) {
        ssize_t n = write(c->fd, buf_head(&c->out), buf_len(&c->out));

        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            conn_close(c);
            return;
        }
        buf_consume(&c->out, (size_t)n);
    }
    loop_modify(c->load->loop, &c->watch, EPOLLIN | (buf_len(&c->out) > 0 ? EPOLLOUT : 0u));
}

static bool finish_connecting(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
        return false;
    c->connecting = false;
    return true;
}

static void on_ready(void *arg, uint32_t events)
{
    struct conn *c = arg;

    if (c->connecting) {
        if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0)
            return;
        if (!finish_connecting(c)) {
            conn_close(c);
            return;
        }
        flush(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        uint8_t *room = buf_reserve(&c->in, READ_BYTES);
        ssize_t n = read(c->fd, room, READ_BYTES);

        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            conn_close(c);
            return;
        }
        if (n > 0)
            buf_filled(&c->in, (size_t)n);
        if (!c->load->protocol->receive(c)) {
            conn_close(c);
            return;
        }
    }
    if (c->open)
        flush(c);
}

static bool conn_open(struct conn *c)
{
    const struct endpoint *e = &c->load->endpoints[c->endpoint];
    int one = 1;

    c->fd = sockaddr_connect(e->host, e->port);
    if (c->fd < 0)
        return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->open = c->connecting = true;
    c->head = NULL;
    c->tail = &c->head;
    if (!c->load->protocol->opened(c))
        return false;
    return loop_add(c->load->loop, &c->watch, c->fd, EPOLLIN | EPOLLOUT, on_ready, c) == 0;
}

struct conn *conn_get(struct lane *lane, uint16_t endpoint)
{
    struct conn *c = lane->conns[endpoint];

    if (c == NULL) {
        c = calloc(1, sizeof *c);
        ASSERT(c != NULL);
        c->load = lane->load;
        c->lane = lane;
        c->endpoint = endpoint;
        c->fd = -1;
        lane->conns[endpoint] = c;
    }
    if (!c->open && !conn_open(c)) {
        if (c->open)
            conn_close(c);
        return NULL;
    }
    return c;
}

void conn_push(struct conn *c, struct op *op)
{
    op->next = NULL;
    *c->tail = op;
    c->tail = &op->next;
}

struct op *conn_pop(struct conn *c)
{
    struct op *op = c->head;

    if (op == NULL)
        return NULL;
    c->head = op->next;
    if (c->head == NULL)
        c->tail = &c->head;
    return op;
}

void conn_flush_later(struct conn *c)
{
    if (c->open && !c->connecting)
        loop_modify(c->load->loop, &c->watch, EPOLLIN | EPOLLOUT);
}

void conn_close(struct conn *c)
{
    struct op *op, *list = c->head;

    if (!c->open)
        return;
    c->open = c->connecting = false;
    c->load->broken++;
    loop_remove(c->load->loop, &c->watch);
    close(c->fd);
    c->fd = -1;
    c->load->protocol->closed(c);
    buf_clear(&c->in);
    buf_clear(&c->out);
    c->load->endpoints[c->endpoint].bad_until_us = loop_now_us(c->load->loop) + BAD_US;
    c->head = NULL;
    c->tail = &c->head;
    while ((op = list) != NULL) {
        list = op->next;
        lane_done(op, RESULT_RETRY);
    }
}

void conn_check_timeouts(struct load *l)
{
    uint64_t now = loop_now_us(l->loop);

    for (uint32_t i = 0; i < l->lanes; i++)
        for (uint16_t e = 0; e < l->endpoint_count; e++) {
            struct conn *c = l->lane[i].conns[e];

            if (c != NULL && c->open && c->head != NULL && now > c->head->sent_us + l->timeout_us)
                conn_close(c);
        }
}
