/* Tests of shm/mailbox between real processes: kill -9 of either side under traffic, and wake-ups
 * without any timeout to help them. */
#include "shm_kit.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/rand.h"
#include "shm/mailbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#define RING    MAILBOX_RING_MIN
#define LONGEST (3 * RING)
#define ROUNDS  400

static int wake[2]; /* eventfd of each worker */

/* What travels: the reader can tell any damage, loss, repetition or disorder from it. */
struct frame_head {
    uint32_t length; /* of the bytes behind the head */
    uint32_t magic;
    uint64_t producer; /* incarnation */
    uint64_t number;   /* 1, 2, ... of that incarnation */
    uint64_t checksum; /* of the bytes behind the head */
};
#define FRAME_MAGIC 0x52464d43u

static size_t make_frame(uint8_t *out, uint64_t producer, uint64_t number)
{
    struct frame_head h = {.magic = FRAME_MAGIC, .producer = producer, .number = number};
    struct rand r;

    rand_seed(&r, producer ^ number);
    h.length = (uint32_t)rand_below(&r, rand_chance(&r, 50000) ? LONGEST : 600);
    for (uint32_t i = 0; i < h.length; i++)
        out[sizeof h + i] = (uint8_t)(number + i * 31);
    h.checksum = hash64(out + sizeof h, h.length);
    memcpy(out, &h, sizeof h);
    return sizeof h + h.length;
}

static void knock(int fd)
{
    uint64_t one = 1;

    KIT_CHECK(write(fd, &one, sizeof one) == sizeof one);
}

static void await(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t n;

    int ready = poll(&p, 1, timeout_ms);
    KIT_CHECK(ready >= 0 || errno == EINTR);
    if (ready > 0)
        KIT_CHECK(read(fd, &n, sizeof n) == sizeof n);
}

static void open_side(struct worker_seg *seg, struct mailbox_out **out, struct mailbox_in **in,
                      uint32_t self)
{
    KIT_CHECK(worker_seg_create(seg, kit_dir, self, 2, 8, 0, rand_id()) == 0);
    KIT_CHECK(mailbox_out_open(out, kit_dir, self, 2, RING, seg, NULL) == 0);
    KIT_CHECK(mailbox_in_open(in, kit_dir, self, 2, seg) == 0);
}

/* Worker 0: frames without end. */
static _Noreturn void produce(void)
{
    static uint8_t frame[sizeof(struct frame_head) + LONGEST];
    struct worker_seg seg = {0};
    struct mailbox_out *out;
    struct mailbox_in *in;
    size_t len = 0, sent = 0;
    uint64_t number = 0;

    open_side(&seg, &out, &in, 0);
    for (unsigned turn = 0;; turn++) {
        if (turn % 16 == 0)
            mailbox_out_refresh(out, 1);
        for (int i = 0; i < 8; i++) {
            if (sent == len) {
                len = make_frame(frame, segment_incarnation(&seg.segment), ++number);
                sent = 0;
            }
            int64_t n = mailbox_write(out, 1, frame + sent, len - sent);
            KIT_CHECK(n >= 0 || n == -ERR_CLOSED);
            if (n <= 0) {
                if (n == -ERR_CLOSED)
                    len = sent = 0; /* the next frame from its beginning */
                break;
            }
            sent += (size_t)n;
        }
        if (mailbox_should_wake(out, 1))
            knock(wake[1]);
        if (sent < len && mailbox_sleep_begin(in)) {
            await(wake[0], 2);
            mailbox_sleep_end(in);
        }
    }
}

/* What readers hand on to their successors through a file: the newest frame of the newest producer
 * and how many frames there were. */
struct ledger {
    uint64_t producer, number, frames, continued, resets;
};

static int ledger_fd;

/* One whole frame has come. `fresh`: the first after a restart of either side. */
static void check_frame(const uint8_t *frame, size_t len, struct ledger *l, int *fresh)
{
    static uint8_t expected[sizeof(struct frame_head) + LONGEST];
    struct frame_head h;

    memcpy(&h, frame, sizeof h);
    KIT_CHECK(make_frame(expected, h.producer, h.number) == len);
    KIT_CHECK(memcmp(frame, expected, len) == 0);
    if (h.producer == l->producer) {
        KIT_CHECK(h.number > l->number);                /* never twice, never out of order */
        KIT_CHECK(*fresh || h.number == l->number + 1); /* nothing lost without a restart */
        l->continued++;
    } else {
        KIT_CHECK(*fresh);
    }
    *fresh = 0;
    l->producer = h.producer;
    l->number = h.number;
    l->frames++;
    KIT_CHECK(pwrite(ledger_fd, l, sizeof *l, 0) == sizeof *l);
}

/* Worker 1: collects frames from pieces and checks them. */
static _Noreturn void consume(void)
{
    static uint8_t frame[sizeof(struct frame_head) + LONGEST];
    struct worker_seg seg = {0};
    struct mailbox_out *out;
    struct mailbox_in *in;
    struct ledger l = {0};
    size_t have = 0;
    int fresh = 1;

    KIT_CHECK(pread(ledger_fd, &l, sizeof l, 0) >= 0);
    open_side(&seg, &out, &in, 1);
    for (unsigned turn = 0;; turn++) {
        struct slice two[2];
        int64_t n = mailbox_peek(in, 0, two);

        KIT_CHECK(n >= 0 || n == -ERR_CLOSED);
        if (n == -ERR_CLOSED) {
            have = 0;
            fresh = 1;
            l.resets++;
            continue;
        }
        for (int i = 0; i < 2; i++) {
            for (size_t at = 0; at < two[i].len;) {
                struct frame_head h;
                size_t want = sizeof h;
                if (have >= sizeof h) {
                    memcpy(&h, frame, sizeof h);
                    KIT_CHECK(h.magic == FRAME_MAGIC && h.length < LONGEST);
                    want += h.length;
                }
                size_t part = want - have < two[i].len - at ? want - have : two[i].len - at;
                memcpy(frame + have, two[i].data + at, part);
                have += part;
                at += part;
                memcpy(&h, frame, sizeof h);
                if (have >= sizeof h && have == sizeof h + h.length) {
                    check_frame(frame, have, &l, &fresh);
                    have = 0;
                }
            }
        }
        mailbox_consume(in, 0, (size_t)n);
        if (mailbox_in_should_wake(in, 0))
            knock(wake[0]);
        if (turn % 16 == 0 || n == 0)
            mailbox_in_refresh(in, 0);
        if (n == 0 && mailbox_sleep_begin(in)) {
            await(wake[1], 2);
            mailbox_sleep_end(in);
        }
    }
}

static pid_t start(void (*run)(void))
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    return pid;
}

static struct ledger read_ledger(void)
{
    struct ledger l = {0};

    assert_true(pread(ledger_fd, &l, sizeof l, 0) >= 0);
    return l;
}

static int make_wakes(void **state)
{
    char path[256];

    kit_setup(state);
    wake[0] = eventfd(0, EFD_NONBLOCK);
    wake[1] = eventfd(0, EFD_NONBLOCK);
    snprintf(path, sizeof path, "%s/ledger", kit_dir);
    ledger_fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(wake[0] >= 0 && wake[1] >= 0 && ledger_fd >= 0);
    return 0;
}

static int close_wakes(void **state)
{
    close(wake[0]);
    close(wake[1]);
    close(ledger_fd);
    return kit_teardown(state);
}

static void frames_stay_whole_ordered_and_single_while_either_side_is_killed(void **state)
{
    void (*const runs[2])(void) = {produce, consume};
    pid_t pids[2] = {start(produce), start(consume)};
    struct rand r;

    (void)state;
    rand_seed(&r, 3);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t which = rand_below(&r, 5);

        usleep((useconds_t)rand_below(&r, 12000));
        for (unsigned i = 0; i < 2; i++) {
            if (which == i || which == 4)
                kit_kill(pids[i]);
        }
        for (unsigned i = 0; i < 2; i++) {
            if (which == i || which == 4)
                pids[i] = start(runs[i]);
        }
    }
    /* Traffic flows again after the last restart. */
    uint64_t before = read_ledger().frames;
    for (int i = 0; i < 5000 && read_ledger().frames < before + 100; i++)
        usleep(2000);
    kit_kill(pids[0]);
    kit_kill(pids[1]);
    struct ledger l = read_ledger();
    assert_true(l.frames >= before + 100);
    print_message("%llu frames, %llu in sequence, over %d kills\n", (unsigned long long)l.frames,
                  (unsigned long long)l.continued, ROUNDS);
}

/* Ball games: each side sleeps without a timeout to speak of until the other has written. */
static void play(uint32_t self, int turns)
{
    struct worker_seg seg = {0};
    struct mailbox_out *out;
    struct mailbox_in *in;
    struct slice two[2];
    int got = 0, owed = self == 0 ? 1 : 0;

    open_side(&seg, &out, &in, self);
    while (mailbox_out_refresh(out, 1 - self) == -ERR_NOTFOUND ||
           mailbox_in_refresh(in, 1 - self) == -ERR_NOTFOUND)
        usleep(100);
    while (got < turns || owed > 0) {
        while (owed > 0 && mailbox_write(out, 1 - self, "b", 1) == 1)
            owed--;
        if (mailbox_should_wake(out, 1 - self))
            knock(wake[1 - self]);
        int64_t n = mailbox_peek(in, 1 - self, two);
        KIT_CHECK(n >= 0);
        mailbox_consume(in, 1 - self, (size_t)n);
        got += (int)n;
        owed += got < turns || self == 1 ? (int)n : 0;
        if (n == 0 && got < turns && mailbox_sleep_begin(in)) {
            struct pollfd p = {.fd = wake[self], .events = POLLIN};
            uint64_t drained;
            KIT_CHECK(poll(&p, 1, 20000) == 1); /* else a wake-up was lost */
            KIT_CHECK(read(wake[self], &drained, sizeof drained) == sizeof drained);
            mailbox_sleep_end(in);
        }
    }
    _exit(0);
}

static void no_wake_up_is_lost_in_a_hundred_thousand(void **state)
{
    enum { TURNS = 100000 };
    pid_t pids[2];

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            play(i, TURNS);
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest processes[] = {
        cmocka_unit_test_setup_teardown(no_wake_up_is_lost_in_a_hundred_thousand, make_wakes,
                                        close_wakes),
        cmocka_unit_test_setup_teardown(
            frames_stay_whole_ordered_and_single_while_either_side_is_killed, make_wakes,
            close_wakes),
    };
    return cmocka_run_group_tests_name("mailboxes between processes that get killed", processes,
                                       NULL, NULL);
}
