/* The common start and end of every child process: arguments, inherited descriptors, obituaries,
 * signals, the channel to the supervisor. Runs in workers, gossipd and antientropyd. Must not
 * outlive the supervisor: nobody would hold the listening sockets or restart it. */
#include "ipc/child.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char *program;

static _Noreturn void usage(int status)
{
    fprintf(status == 0 ? stdout : stderr,
            "Usage: %s --config FILE [--index I] [--incarnation N] [--fds name=fd,...]\n"
            "A process of a Clockwise node; clockwised starts it.\n",
            program);
    exit(status);
}

static _Noreturn void refuse(const char *what, const char *text)
{
    fprintf(stderr, "%s: %s: %s\n", program, what, text);
    exit(2);
}

/* A decimal number not above max. */
static uint64_t number(const char *what, const char *text, uint64_t max)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || value > max)
        refuse(what, "not a number in range");
    return value;
}

/* name=fd,name=fd,...: each descriptor must be open, and from here on stays in this process. */
static void parse_fds(struct child *c, char *list)
{
    char *rest = NULL;

    for (char *item = strtok_r(list, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(item, '=');

        if (equals == NULL || equals == item || equals - item >= CHILD_FD_NAME)
            refuse("--fds", "not name=descriptor");
        if (c->fd_count == CHILD_FDS)
            refuse("--fds", "too many");
        *equals = 0;
        int fd = (int)number("--fds", equals + 1, 1 << 20);
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            refuse("--fds", "descriptor is not open");
        memcpy(c->fds[c->fd_count].name, item, (size_t)(equals - item) + 1);
        c->fds[c->fd_count++].fd = fd;
    }
}

static void parse(struct child *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];

        if (strcmp(option, "--help") == 0)
            usage(0);
        if (strcmp(option, "--version") == 0) {
            printf("%s %s\n", program, CLOCKWISE_VERSION);
            exit(0);
        }
        if (strcmp(option, "--recover") == 0) {
            c->recover = true;
            continue;
        }
        if (i + 1 == argc)
            usage(2);
        char *value = argv[++i];
        if (strcmp(option, "--config") == 0)
            c->config = value;
        else if (strcmp(option, "--index") == 0)
            c->index = (uint32_t)number(option, value, UINT16_MAX);
        else if (strcmp(option, "--incarnation") == 0)
            c->incarnation = number(option, value, UINT64_MAX);
        else if (strcmp(option, "--fds") == 0)
            parse_fds(c, value);
        else
            usage(2);
    }
    if (c->config == NULL)
        usage(2);
}

int child_fd(const struct child *c, const char *name)
{
    for (uint32_t i = 0; i < c->fd_count; i++)
        if (strcmp(c->fds[i].name, name) == 0)
            return c->fds[i].fd;
    return -1;
}

void child_start(struct child *c, const char *process_name, bool has_index, int argc, char **argv)
{
    sigset_t blocked;

    program = argc > 0 ? argv[0] : process_name;
    memset(c, 0, sizeof *c);
    c->channel = c->signal_fd = -1;
    parse(c, argc, argv);
    if (has_index)
        snprintf(c->process_name, sizeof c->process_name, "%s-%u", process_name, c->index);
    else
        snprintf(c->process_name, sizeof c->process_name, "%s", process_name);
    c->channel = child_fd(c, "channel");
    check_set_panic(child_fd(c, "panic"), c->process_name);
    check_install_handlers();
    log_setup(c->process_name, LOG_INFO);

    signal(SIGPIPE, SIG_IGN);
    /* Ctrl-C reaches the whole foreground group; the supervisor decides who stops when. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static void drain(struct child *c)
{
    if (c->draining)
        return;
    c->draining = true;
    if (c->ops != NULL && c->ops->drain != NULL)
        c->ops->drain(c->arg);
    else
        loop_stop(c->loop);
}

static void handle(struct child *c, const struct channel_msg *msg)
{
    struct channel_msg answer = {.kind = CONTROL_PONG, .token = msg->token};

    switch (msg->kind) {
    case CONTROL_PING:
        /* A full queue means that the supervisor has earlier answers to read; it loses nothing. */
        channel_send(c->channel, &answer);
        break;
    case CONTROL_RELOAD:
        if (c->ops != NULL && c->ops->reload != NULL)
            c->ops->reload(c->arg);
        break;
    case CONTROL_DRAIN:
        drain(c);
        break;
    case CONTROL_WORKER_UP:
        if (c->ops != NULL && c->ops->worker_up != NULL)
            c->ops->worker_up(c->arg, msg->index, msg->incarnation);
        break;
    case CONTROL_WORKER_DOWN:
        if (c->ops != NULL && c->ops->worker_down != NULL)
            c->ops->worker_down(c->arg, msg->index);
        break;
    default:
        UNREACHABLE(); /* channel_receive() refuses these from the supervisor */
    }
}

static void on_channel(void *arg, uint32_t events)
{
    struct child *c = arg;
    struct channel_msg msg;

    (void)events;
    for (;;) {
        int rc = channel_receive(c->channel, FROM_SUPERVISOR, &msg);

        if (rc == 0)
            return;
        if (rc == -ERR_CLOSED) {
            /* Everything acknowledged is durable: there is nothing to save first. */
            log_notice("the supervisor is gone, exiting");
            _exit(0);
        }
        ASSERT(rc == 1);
        handle(c, &msg);
    }
}

static void on_signal(void *arg, uint32_t events)
{
    struct child *c = arg;
    struct signalfd_siginfo info;

    (void)events;
    if (read(c->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        drain(c);
}

void child_attach(struct child *c, struct loop *loop, const struct child_ops *ops, void *arg)
{
    sigset_t set;

    ASSERT(c->loop == NULL);
    c->loop = loop;
    c->ops = ops;
    c->arg = arg;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ASSERT(c->signal_fd >= 0);
    int rc = loop_add(loop, &c->signal_watch, c->signal_fd, EPOLLIN, on_signal, c);
    ASSERT(rc == 0);
    if (c->channel < 0)
        return;
    rc = loop_add(loop, &c->channel_watch, c->channel, EPOLLIN, on_channel, c);
    ASSERT(rc == 0);
}

void child_ready(struct child *c)
{
    struct channel_msg msg = {.kind = CONTROL_READY};

    if (c->channel < 0)
        return;
    /* The supervisor kills whoever never becomes ready, so a READY that cannot be sent (the queue is
     * full of our own STATUS) may wait a little. */
    for (int tries = 0; tries < 100; tries++) {
        if (channel_send(c->channel, &msg) != -ERR_AGAIN)
            return;
        poll(NULL, 0, 10);
    }
}

void child_status(struct child *c, const char *format, ...)
{
    struct channel_msg msg = {.kind = CONTROL_STATUS};
    va_list args;

    if (c->channel < 0)
        return;
    va_start(args, format);
    vsnprintf(msg.text, sizeof msg.text, format, args);
    va_end(args);
    channel_send(c->channel, &msg);
}

bool child_orphaned(const struct child *c)
{
    struct pollfd p = {.fd = c->channel};

    return c->channel >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}
