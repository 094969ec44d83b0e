/* Sockets with or without TLS. Runs in every process that speaks TCP; never blocks. */
#include "ipc/wire.h"

#include "base/err.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int wire_secure(struct wire *w, struct tls_context *c, bool called)
{
    w->tls = tls_new(c, w->fd, called);
    if (w->tls == NULL)
        return -ERR_NOMEM;
    w->shaking = true;
    return 0;
}

int wire_handshake(struct wire *w, uint32_t *events, char why[TLS_WHY])
{
    int rc = tls_handshake(w->tls, events, why);

    if (rc == 0)
        w->shaking = false;
    return rc;
}

ssize_t wire_recv(struct wire *w, void *to, size_t room)
{
    return w->tls != NULL ? tls_recv(w->tls, to, room) : recv(w->fd, to, room, MSG_DONTWAIT);
}

ssize_t wire_send(struct wire *w, const void *data, size_t len)
{
    return w->tls != NULL ? tls_send(w->tls, data, len)
                          : send(w->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int wire_flush(struct wire *w, struct buf *out, uint64_t *sent)
{
    while (buf_len(out) > 0) {
        ssize_t n = wire_send(w, buf_head(out), buf_len(out));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 0 : -1;
        buf_consume(out, (size_t)n);
        if (sent != NULL)
            *sent += (uint64_t)n;
    }
    return 1;
}

void wire_close(struct wire *w)
{
    if (w->fd < 0)
        return;
    if (w->tls != NULL)
        tls_free(w->tls);
    close(w->fd);
    *w = (struct wire){.fd = -1};
}
