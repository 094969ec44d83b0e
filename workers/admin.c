/* Administrators' commands on their way to gossipd. Runs in a worker. */
#include "workers/admin.h"

#include "base/buf.h"
#include "base/err.h"
#include "ipc/frame.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CALLS        8
#define CALL_US      6000000u
#define LARGEST      (1u << 20)
#define LARGEST_SENT 4096

struct admin_call {
    struct admin *admin;
    bool used;
    uint64_t token;
    int fd;
    struct loop_watch watch;
    struct loop_timer timer;
    struct frame_reader in;
};

struct admin {
    struct loop *loop;
    admin_answer_fn *answer;
    void *arg;
    struct sockaddr_un to;
    struct admin_call call[CALLS];
};

static void end(struct admin_call *c, int rc, struct slice answer)
{
    struct admin *a = c->admin;

    loop_remove(a->loop, &c->watch);
    loop_disarm(a->loop, &c->timer);
    close(c->fd);
    if (a->answer != NULL)
        a->answer(a->arg, c->token, rc, answer);
    frame_reader_free(&c->in);
    c->used = false;
}

static void on_timeout(void *arg)
{
    end(arg, -ERR_TIMEOUT, slice_of(NULL, 0));
}

static void on_ready(void *arg, uint32_t events)
{
    struct admin_call *c = arg;
    struct slice answer = slice_of(NULL, 0);
    size_t room;

    (void)events;
    uint8_t *at = frame_reader_space(&c->in, &room);
    ssize_t n = at == NULL ? 0 : recv(c->fd, at, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        end(c, -ERR_UNAVAILABLE, answer);
        return;
    }
    frame_reader_filled(&c->in, (size_t)n);
    int rc = frame_reader_next(&c->in, &answer);
    if (rc != 0)
        end(c, rc == 1 ? 0 : rc, answer);
}

/* A local connection stands at once or not at all; a request fits its empty buffer. */
static int send_request(struct admin *a, struct slice request, int *out)
{
    struct buf frame = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -ERR_LIMIT : frame_append(&frame, request);

    if (rc == 0 && (connect(fd, (struct sockaddr *)&a->to, sizeof a->to) != 0 ||
                    send(fd, buf_head(&frame), buf_len(&frame), MSG_NOSIGNAL | MSG_DONTWAIT) !=
                        (ssize_t)buf_len(&frame)))
        rc = -ERR_UNAVAILABLE;
    buf_free(&frame);
    if (rc != 0 && fd >= 0)
        close(fd);
    *out = fd;
    return rc;
}

int admin_ask(struct admin *a, uint64_t token, struct slice request)
{
    struct admin_call *c = a->call;

    while (c < a->call + CALLS && c->used)
        c++;
    if (c == a->call + CALLS)
        return -ERR_BUSY;
    if (request.len > LARGEST_SENT)
        return -ERR_LIMIT;
    memset(c, 0, sizeof *c);
    int rc = send_request(a, request, &c->fd);
    if (rc == 0)
        rc = loop_add(a->loop, &c->watch, c->fd, EPOLLIN, on_ready, c);
    if (rc != 0)
        return rc;
    c->admin = a;
    c->used = true;
    c->token = token;
    frame_reader_init(&c->in, LARGEST);
    loop_arm(a->loop, &c->timer, loop_now_us(a->loop) + CALL_US, on_timeout, c);
    return 0;
}

int admin_open(struct admin **out, struct loop *loop, const char *runtime_dir,
               admin_answer_fn *answer, void *arg)
{
    struct admin *a = calloc(1, sizeof *a);

    if (a == NULL)
        return -ERR_NOMEM;
    a->loop = loop;
    a->answer = answer;
    a->arg = arg;
    a->to.sun_family = AF_UNIX;
    int n = snprintf(a->to.sun_path, sizeof a->to.sun_path, "%s/admin.sock", runtime_dir);
    if (n <= 0 || (size_t)n >= sizeof a->to.sun_path)
        a->to.sun_path[0] = 0; /* the supervisor could not bind it either */
    *out = a;
    return 0;
}

void admin_close(struct admin *a)
{
    if (a == NULL)
        return;
    a->answer = NULL;
    for (unsigned i = 0; i < CALLS; i++)
        if (a->call[i].used)
            end(&a->call[i], -ERR_CLOSED, slice_of(NULL, 0));
    free(a);
}
