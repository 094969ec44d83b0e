/* Binds the sockets of the node. Runs in the supervisor, which accepts nothing itself. */
#include "supervisor/listeners.h"

#include "base/err.h"
#include "ipc/sockaddr.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG       4096 /* the kernel caps it at net.core.somaxconn */
#define ADMIN_BACKLOG 64
#define GOSSIP_QUEUE  (1 << 20) /* bytes of datagrams that may wait while gossipd is replaced */

/* A bound socket, listening if it is a stream. */
static int open_inet(const struct conf *c, int type, uint32_t port, int *out, char *error,
                     size_t error_size)
{
    struct sockaddr_storage a;
    socklen_t len = sockaddr_make(c->node.bind, (uint16_t)port, &a);
    const int on = 1, queue = GOSSIP_QUEUE;
    int fd = socket(a.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && type == SOCK_STREAM) {
        /* Accepted sockets inherit these. */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    } else if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof queue);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) != 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) != 0)) {
        int saved = errno;
        bool v6 = strchr(c->node.bind, ':') != NULL;

        snprintf(error, error_size, "cannot listen on %s%s%s:%u (%s): %s", v6 ? "[" : "",
                 c->node.bind, v6 ? "]" : "", port, type == SOCK_STREAM ? "tcp" : "udp",
                 strerror(saved));
        if (fd >= 0)
            close(fd);
        return err_from_errno(saved);
    }
    *out = fd;
    return 0;
}

/* A Unix socket of that name in the runtime directory; streams listen. */
static int open_unix(const struct conf *c, int type, const char *name, int *out, char *error,
                     size_t error_size)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const int queue = GOSSIP_QUEUE;
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", c->node.runtime_dir, name);
    int fd = -1, saved = ENAMETOOLONG;

    if (n > 0 && (size_t)n < sizeof a.sun_path) {
        unlink(a.sun_path); /* left behind by an earlier run; the lock says that it is over */
        fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0)
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof queue);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
            (type != SOCK_STREAM || listen(fd, ADMIN_BACKLOG) == 0)) {
            *out = fd;
            return 0;
        }
        saved = errno;
    }
    snprintf(error, error_size, "cannot bind %s: %s", a.sun_path, strerror(saved));
    if (fd >= 0)
        close(fd);
    return err_from_errno(saved);
}

int listeners_open(struct listeners *l, const struct conf *c, char *error, size_t error_size)
{
    int rc;

    memset(l, 0xff, sizeof *l); /* every descriptor -1 */
    l->workers = c->node.workers;
    if ((rc = open_inet(c, SOCK_STREAM, c->node.port, &l->front, error, error_size)) != 0)
        goto out;
    for (uint32_t i = 0; i < l->workers; i++) {
        if ((rc = open_inet(c, SOCK_STREAM, c->node.worker_port + i, &l->client[i], error,
                            error_size)) != 0)
            goto out;
        if ((rc = open_inet(c, SOCK_STREAM, c->node.peer_port + i, &l->peer[i], error,
                            error_size)) != 0)
            goto out;
        l->wake[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (l->wake[i] < 0) {
            snprintf(error, error_size, "cannot make an eventfd: %s", strerror(errno));
            rc = -ERR_LIMIT;
            goto out;
        }
    }
    if ((rc = open_inet(c, SOCK_DGRAM, c->node.gossip_port, &l->gossip_udp, error, error_size)) !=
        0)
        goto out;
    if ((rc = open_inet(c, SOCK_STREAM, c->node.gossip_port, &l->gossip_tcp, error, error_size)) !=
        0)
        goto out;
    if ((rc = open_inet(c, SOCK_STREAM, c->node.repair_port, &l->repair, error, error_size)) != 0)
        goto out;
    if ((rc = open_unix(c, SOCK_DGRAM, "gossip.sock", &l->notify, error, error_size)) != 0)
        goto out;
    rc = open_unix(c, SOCK_STREAM, "admin.sock", &l->admin, error, error_size);
out:
    if (rc != 0)
        listeners_close(l);
    return rc;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void listeners_close(struct listeners *l)
{
    close_fd(&l->front);
    for (uint32_t i = 0; i < l->workers; i++) {
        close_fd(&l->client[i]);
        close_fd(&l->peer[i]);
        close_fd(&l->wake[i]);
    }
    close_fd(&l->gossip_udp);
    close_fd(&l->gossip_tcp);
    close_fd(&l->repair);
    close_fd(&l->notify);
    close_fd(&l->admin);
}
