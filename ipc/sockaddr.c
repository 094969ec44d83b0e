/* Numeric addresses and sockets. Blocks nowhere. */
#include "ipc/sockaddr.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

socklen_t sockaddr_make(const char *address, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;

    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return sizeof *v6;
    }
    return 0;
}

void sockaddr_read(const struct sockaddr_storage *a, char address[LIMIT_ADDR], uint16_t *port)
{
    memset(address, 0, LIMIT_ADDR);
    *port = 0;
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

        inet_ntop(AF_INET6, &v6->sin6_addr, address, LIMIT_ADDR);
        *port = ntohs(v6->sin6_port);
    } else if (a->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;

        inet_ntop(AF_INET, &v4->sin_addr, address, LIMIT_ADDR);
        *port = ntohs(v4->sin_port);
    }
}

int sockaddr_connect(const char *address, uint16_t port)
{
    struct sockaddr_storage to;
    socklen_t len = sockaddr_make(address, port, &to);

    if (len == 0)
        return -ERR_INVAL;
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_from_errno(errno);
    if (connect(fd, (struct sockaddr *)&to, len) != 0 && errno != EINPROGRESS) {
        int rc = err_from_errno(errno);

        close(fd);
        return rc;
    }
    return fd;
}
