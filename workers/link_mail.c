/* Mailboxes: links to the sibling workers of this node through shared memory (shm/mailbox.h), with
 * the same frames as on TCP. Runs in a worker; blocks nowhere. */
#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "workers/link_impl.h"

#include <string.h>
#include <unistd.h>

#define RING_BYTES (1u << 20)

static void on_wake(void *arg, uint32_t events)
{
    struct link_set *s = arg;
    uint64_t count;

    (void)events;
    ssize_t ignored = read(s->conf.wake_fd[s->conf.worker], &count, sizeof count);
    (void)ignored;
    link_mail_take(s);
}

int link_mail_open(struct link_set *s)
{
    char why[SEGMENT_WHY_MAX] = "";

    if (s->conf.runtime_dir == NULL || s->conf.seg == NULL || s->conf.workers < 2)
        return 0;
    int rc = mailbox_out_open(&s->mail_out, s->conf.runtime_dir, s->conf.worker, s->conf.workers,
                              RING_BYTES, s->conf.seg, why);
    if (rc != 0) {
        log_error("mailboxes: %s", why);
        return rc;
    }
    rc = mailbox_in_open(&s->mail_in, s->conf.runtime_dir, s->conf.worker, s->conf.workers,
                         s->conf.seg);
    if (rc != 0)
        return rc;
    for (uint16_t i = 0; i < s->conf.workers; i++) {
        buf_init(&s->sibling[i].out, LIMIT_LINK_OUTPUT);
        frame_reader_init(&s->sibling[i].in, LIMIT_FRAME);
    }
    return loop_add(s->loop, &s->wake_watch, s->conf.wake_fd[s->conf.worker], EPOLLIN, on_wake, s);
}

void link_mail_close(struct link_set *s)
{
    if (s->mail_out == NULL)
        return;
    loop_remove(s->loop, &s->wake_watch);
    mailbox_out_close(s->mail_out);
    if (s->mail_in != NULL)
        mailbox_in_close(s->mail_in);
    for (uint16_t i = 0; i < s->conf.workers; i++) {
        buf_free(&s->sibling[i].out);
        frame_reader_free(&s->sibling[i].in);
    }
}

/* The sibling's last incarnation will not answer what it was sent. Its mail is a stream of its own: a
 * frame that its successor has half written is not touched. */
static void lose_sent(struct link_set *s, uint16_t worker)
{
    buf_clear(&s->sibling[worker].out);
    if (s->self != RING_NO_OWNER)
        s->events.on_down(s->events.arg, s->self, worker);
}

/* There is a successor. If the death was known, what has been queued since is for it; otherwise some
 * of it went to the dead one. */
static void meet_successor(struct link_set *s, uint16_t worker)
{
    if (!s->sibling[worker].down)
        lose_sent(s, worker);
    s->sibling[worker].down = false;
}

static void push(struct link_set *s, uint16_t worker)
{
    struct buf *out = &s->sibling[worker].out;

    for (int tries = 0; buf_len(out) > 0 && !s->sibling[worker].down && tries < 3; tries++) {
        int64_t n = mailbox_write(s->mail_out, worker, buf_head(out), buf_len(out));

        if (n == -ERR_CLOSED)
            meet_successor(s, worker);
        if (n <= 0)
            return;
        buf_consume(out, (size_t)n);
    }
    if (buf_len(out) == 0)
        buf_shrink(out, RING_BYTES);
}

int link_mail_send(struct link_set *s, uint16_t worker, const struct msg *m)
{
    if (s->mail_out == NULL || worker >= s->conf.workers)
        return -ERR_UNAVAILABLE;
    int rc = frame_append_msg(&s->sibling[worker].out, m);
    if (rc == -ERR_LIMIT && buf_len(&s->sibling[worker].out) > 0) {
        s->stats.backed_up++;
        return -ERR_BUSY;
    }
    if (rc == 0)
        s->stats.sent++;
    return rc;
}

static void take_frames(struct link_set *s, uint16_t worker)
{
    struct frame_reader *in = &s->sibling[worker].in;
    struct slice payload;
    struct msg m;
    int rc;

    while ((rc = frame_reader_next(in, &payload)) == 1) {
        rc = msg_codec_decode(s->codec, payload, &m);
        if (rc != 0)
            break;
        s->stats.received++;
        s->events.on_message(s->events.arg, s->self, worker, &m);
    }
    /* Nobody but a sibling writes there: this is a bug or bad memory, and the stream cannot be
     * entered again in its middle. A new incarnation begins a new one. */
    if (rc < 0)
        check_panic("malformed mail from worker %u: %s", worker, err_text(rc));
}

static void copy_in(struct frame_reader *in, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t room;
        uint8_t *at = frame_reader_space(in, &room);

        if (at == NULL)
            return;
        if (room > len)
            room = len;
        memcpy(at, data, room);
        frame_reader_filled(in, room);
        data += room;
        len -= room;
    }
}

static void take_from(struct link_set *s, uint16_t worker)
{
    struct slice part[2];
    int64_t n = mailbox_peek(s->mail_in, worker, part);

    if (n == -ERR_CLOSED) {
        /* What was sent to it is lose_sent()'s business: some of it may be for its successor. */
        frame_reader_free(&s->sibling[worker].in);
        frame_reader_init(&s->sibling[worker].in, LIMIT_FRAME);
        n = mailbox_peek(s->mail_in, worker, part);
    }
    if (n <= 0)
        return;
    for (int i = 0; i < 2; i++)
        copy_in(&s->sibling[worker].in, part[i].data, part[i].len);
    mailbox_consume(s->mail_in, worker, (size_t)n);
    take_frames(s, worker);
    frame_reader_shrink(&s->sibling[worker].in);
}

void link_mail_take(struct link_set *s)
{
    if (s->mail_in == NULL || s->self == RING_NO_OWNER)
        return;
    for (uint16_t i = 0; i < s->conf.workers; i++)
        if (i != s->conf.worker)
            take_from(s, i);
}

static void wake(struct link_set *s, uint16_t worker)
{
    const uint64_t one = 1;
    ssize_t ignored = write(s->conf.wake_fd[worker], &one, sizeof one);

    (void)ignored;
}

bool link_mail_before_sleep(struct link_set *s, bool may_leave)
{
    if (s->mail_in == NULL)
        return false;
    for (uint16_t i = 0; i < s->conf.workers; i++) {
        if (i == s->conf.worker)
            continue;
        if (may_leave)
            push(s, i);
        bool due = mailbox_should_wake(s->mail_out, i);
        if (mailbox_in_should_wake(s->mail_in, i) || due)
            wake(s, i);
    }
    return s->self != RING_NO_OWNER && !mailbox_sleep_begin(s->mail_in);
}

void link_mail_after_sleep(struct link_set *s)
{
    if (s->mail_in == NULL)
        return;
    mailbox_sleep_end(s->mail_in);
    link_mail_take(s);
}

void link_mail_refresh(struct link_set *s, uint16_t worker)
{
    if (s->mail_in == NULL || worker == s->conf.worker || worker >= s->conf.workers)
        return;
    /* Told here and not at the next write: there may be none, and requests wait for answers. */
    if (mailbox_out_refresh(s->mail_out, worker) == 1) {
        if (mailbox_write(s->mail_out, worker, NULL, 0) == -ERR_CLOSED)
            meet_successor(s, worker);
        s->sibling[worker].down = false;
    }
    mailbox_in_refresh(s->mail_in, worker);
}

void link_mail_down(struct link_set *s, uint16_t worker)
{
    if (s->mail_in == NULL || worker == s->conf.worker || worker >= s->conf.workers)
        return;
    if (mailbox_out_refresh(s->mail_out, worker) ==
        1) { /* its successor was faster than the news */
        if (mailbox_write(s->mail_out, worker, NULL, 0) == -ERR_CLOSED)
            meet_successor(s, worker);
        return;
    }
    s->sibling[worker].down = true;
    lose_sent(s, worker);
}
