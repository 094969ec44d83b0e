/* The notification protocol of systemd, by hand: one datagram each time. Runs in the supervisor. */
#include "supervisor/sd_notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un manager;
static socklen_t manager_len;
static int notify_fd = -1;
static uint64_t watchdog_us;

/* WATCHDOG_PID says whom the interval is for. */
static void read_watchdog(void)
{
    const char *interval = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (interval == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return;
    errno = 0;
    unsigned long long us = strtoull(interval, NULL, 10);
    if (errno == 0 && us >= 2)
        watchdog_us = us / 2;
}

void sd_notify_setup(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;

    if (len >= 2 && len < sizeof manager.sun_path && (path[0] == '/' || path[0] == '@')) {
        manager.sun_family = AF_UNIX;
        memcpy(manager.sun_path, path, len);
        manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        if (path[0] == '@')
            manager.sun_path[0] = 0; /* an abstract socket; its name has no final 0 */
        else
            manager_len++;
        notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        read_watchdog();
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void sd_notify_send(const char *format, ...)
{
    char text[1024];
    va_list args;

    if (notify_fd < 0)
        return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof text)
        n = sizeof text - 1;
    ssize_t ignored =
        sendto(notify_fd, text, (size_t)n, MSG_NOSIGNAL, (struct sockaddr *)&manager, manager_len);
    (void)ignored;
}

uint64_t sd_notify_watchdog_us(void)
{
    return watchdog_us;
}
