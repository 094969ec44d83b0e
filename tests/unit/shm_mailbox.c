/* Tests of shm/mailbox within one process: streams, room, wake-ups, incarnations. Both workers live
 * in this process; "restarting" one means closing its handles and opening new ones. What kill -9
 * does is in shm_mailbox_kill.c. */
#include "shm_kit.h"

#include "base/err.h"
#include "base/rand.h"
#include "shm/mailbox.h"

#define RING MAILBOX_RING_MIN

/* One worker of two. */
struct side {
    uint32_t index;
    struct worker_seg seg;
    struct mailbox_out *out;
    struct mailbox_in *in;
};

static struct side p, c;

static void start(struct side *s, uint32_t index)
{
    memset(s, 0, sizeof *s);
    s->index = index;
    assert_int_equal(worker_seg_create(&s->seg, kit_dir, index, 2, 8, 0, rand_id()), 0);
    assert_int_equal(mailbox_out_open(&s->out, kit_dir, index, 2, RING, &s->seg, NULL), 0);
    assert_int_equal(mailbox_in_open(&s->in, kit_dir, index, 2, &s->seg), 0);
}

/* What is left when the process is gone. */
static void end(struct side *s)
{
    mailbox_in_close(s->in);
    mailbox_out_close(s->out);
    worker_seg_close(&s->seg);
}

static int setup(void **state)
{
    kit_setup(state);
    start(&p, 0);
    start(&c, 1);
    assert_int_equal(mailbox_out_refresh(p.out, 1), 1);
    return 0;
}

static int teardown(void **state)
{
    end(&p);
    end(&c);
    return kit_teardown(state);
}

/* Everything that can be read, appended to out. Returns its length or the error. */
static int64_t take(struct side *s, uint32_t from, char *out)
{
    struct slice two[2];
    int64_t n = mailbox_peek(s->in, from, two);

    if (n <= 0)
        return n;
    if (two[0].len > 0)
        memcpy(out, two[0].data, two[0].len);
    if (two[1].len > 0)
        memcpy(out + two[0].len, two[1].data, two[1].len);
    mailbox_consume(s->in, from, (size_t)n);
    return n;
}

static void expect(const char *text)
{
    char got[RING];

    assert_int_equal(take(&c, 0, got), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static int64_t put(const char *text)
{
    return mailbox_write(p.out, 1, text, strlen(text));
}

static void bytes_come_out_as_they_went_in(void **state)
{
    char got[RING];

    (void)state;
    assert_int_equal(take(&c, 0, got), 0);
    assert_int_equal(put("hello"), 5);
    assert_int_equal(put(", world"), 7);
    expect("hello, world");
    assert_int_equal(take(&c, 0, got), 0);
}

static void a_stream_longer_than_the_ring_gets_through_in_pieces(void **state)
{
    static uint8_t sent[20 * RING + 123], got[sizeof sent];
    size_t in = 0, out = 0;
    struct rand r;

    (void)state;
    rand_seed(&r, 1);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)rand_next(&r);
    while (out < sizeof sent) {
        size_t want = 1 + rand_below(&r, 2 * RING);
        if (want > sizeof sent - in)
            want = sizeof sent - in;
        size_t room = mailbox_write_room(p.out, 1);
        int64_t n = mailbox_write(p.out, 1, sent + in, want);
        assert_int_equal(n, want < room ? want : room);
        in += (size_t)n;
        struct slice two[2];
        n = mailbox_peek(c.in, 0, two);
        assert_true(n >= 0 && (size_t)n == in - out);
        size_t part = rand_below(&r, (uint64_t)n + 1);
        size_t first = part < two[0].len ? part : two[0].len;
        if (first > 0)
            memcpy(got + out, two[0].data, first);
        if (part > first)
            memcpy(got + out + first, two[1].data, part - first);
        mailbox_consume(c.in, 0, part);
        out += part;
    }
    assert_memory_equal(sent, got, sizeof sent);
}

static void a_writer_that_waits_for_room_is_woken(void **state)
{
    static char block[RING], got[RING];

    (void)state;
    assert_int_equal(mailbox_write(p.out, 1, block, RING), RING);
    assert_int_equal(take(&c, 0, got), RING);
    assert_false(mailbox_in_should_wake(c.in, 0)); /* it has not asked */
    assert_int_equal(mailbox_write(p.out, 1, block, RING), RING);
    assert_int_equal(mailbox_write(p.out, 1, block, 10), 0);
    assert_int_equal(take(&c, 0, got), RING);
    assert_true(mailbox_in_should_wake(c.in, 0));
    assert_false(mailbox_in_should_wake(c.in, 0)); /* once for what was consumed */
    assert_int_equal(mailbox_write(p.out, 1, block, 10), 10);
    assert_int_equal(take(&c, 0, got), 10);
    assert_false(mailbox_in_should_wake(c.in, 0));
}

static void only_a_sleeper_is_woken(void **state)
{
    char got[RING];

    (void)state;
    mailbox_should_wake(p.out, 1);
    put("a");
    assert_false(mailbox_should_wake(p.out, 1));
    assert_false(mailbox_sleep_begin(c.in)); /* there is mail */
    assert_int_equal(take(&c, 0, got), 1);
    assert_true(mailbox_sleep_begin(c.in));
    assert_false(mailbox_should_wake(p.out, 1)); /* nothing written since */
    put("b");
    assert_true(mailbox_should_wake(p.out, 1));
    assert_false(mailbox_should_wake(p.out, 1));
    mailbox_sleep_end(c.in);
    put("c");
    assert_false(mailbox_should_wake(p.out, 1));
    expect("bc");
}

static void a_restarted_reader_begins_at_a_frame_boundary(void **state)
{
    char got[RING];

    (void)state;
    put("frame one, half of fra");
    assert_int_equal(take(&c, 0, got), 22);
    put("me two, lost");
    end(&c);
    start(&c, 1);
    put("still for the dead one");
    assert_int_equal(take(&c, 0, got), 0); /* the epoch does not name this reader yet */
    assert_int_equal(mailbox_out_refresh(p.out, 1), 1);
    assert_int_equal(take(&c, 0, got), 0);
    assert_int_equal(put("not taken"), -ERR_CLOSED);
    assert_int_equal(put("frame three"), 11);
    expect("frame three");
    assert_int_equal(mailbox_out_refresh(p.out, 1), 0);
}

static void a_reader_restarted_before_anything_was_sent_is_no_loss(void **state)
{
    (void)state;
    end(&c);
    start(&c, 1);
    assert_int_equal(mailbox_out_refresh(p.out, 1), 1);
    assert_int_equal(put("first"), 5);
    expect("first");
}

static void a_restarted_writer_is_told_apart_before_its_first_byte(void **state)
{
    char got[RING];

    (void)state;
    put("whole frame, half a fr");
    assert_int_equal(take(&c, 0, got), 22);
    put("ame that nobody reads");
    end(&p);
    start(&p, 0);
    assert_int_equal(put("new frame"), 9);
    assert_int_equal(mailbox_in_refresh(c.in, 0), 1);
    assert_int_equal(take(&c, 0, got), -ERR_CLOSED);
    expect("new frame");
    assert_int_equal(mailbox_in_refresh(c.in, 0), 0);
    put("more");
    expect("more");
}

static void the_new_writer_does_not_believe_the_head_of_its_predecessor(void **state)
{
    static char block[RING], got[RING];

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mailbox_write(p.out, 1, block, RING - 5), RING - 5);
        assert_int_equal(take(&c, 0, got), RING - 5);
    }
    end(&p);
    start(&p, 0);
    /* The reader has not looked yet: its head still counts in the old stream. */
    assert_int_equal(mailbox_write_room(p.out, 1), RING);
    assert_int_equal(mailbox_write(p.out, 1, block, RING), RING);
    assert_int_equal(mailbox_write(p.out, 1, block, 1), 0);
    assert_int_equal(mailbox_in_refresh(c.in, 0), 1);
    assert_int_equal(take(&c, 0, got), -ERR_CLOSED);
    assert_int_equal(take(&c, 0, got), RING);
    assert_int_equal(mailbox_write_room(p.out, 1), RING);
}

static void both_restarted_in_any_order_start_clean(void **state)
{
    char got[RING];

    (void)state;
    for (int order = 0; order < 4; order++) {
        put("old");
        take(&c, 0, got);
        put("older half");
        end(order & 1 ? &p : &c);
        start(order & 1 ? &p : &c, order & 1 ? 0 : 1);
        end(order & 1 ? &c : &p);
        start(order & 1 ? &c : &p, order & 1 ? 1 : 0);
        if (order & 2)
            mailbox_in_refresh(c.in, 0);
        mailbox_out_refresh(p.out, 1);
        mailbox_in_refresh(c.in, 0);
        assert_int_equal(take(&c, 0, got), 0);
        assert_int_equal(put("new"), 3);
        expect("new");
    }
}

static void impossible_numbers_from_the_other_side_are_refused_and_survived(void **state)
{
    char got[RING];

    (void)state;
    put("x");
    assert_int_equal(take(&c, 0, got), 1);
    atomic_store(&c.seg.body->inbox[0].head, 1ull << 40);
    assert_int_equal(mailbox_write_room(p.out, 1), 0);
    assert_int_equal(put("x"), -ERR_CORRUPT);
    assert_int_equal(put("x"), -ERR_CORRUPT);
    end(&c);
    start(&c, 1);
    assert_int_equal(mailbox_out_refresh(p.out, 1), 1);
    assert_int_equal(put("y"), -ERR_CLOSED);
    assert_int_equal(put("y"), 1);
    expect("y");
}

static void a_sibling_that_was_never_up_gets_nothing(void **state)
{
    struct side lone;
    char got[RING];

    (void)state;
    end(&c);
    end(&p);
    kit_remove_dir();
    kit_make_dir();
    start(&lone, 0);
    assert_int_equal(mailbox_write(lone.out, 1, "x", 1), 0);
    assert_int_equal(mailbox_write_room(lone.out, 1), 0);
    assert_false(mailbox_should_wake(lone.out, 1));
    assert_int_equal(take(&lone, 1, got), 0);
    assert_true(mailbox_sleep_begin(lone.in));
    mailbox_sleep_end(lone.in);
    assert_int_equal(mailbox_out_refresh(lone.out, 1), -ERR_NOTFOUND);
    assert_int_equal(mailbox_in_refresh(lone.in, 1), -ERR_NOTFOUND);
    end(&lone);
    start(&p, 0);
    start(&c, 1);
}

static void a_bad_ring_size_is_refused(void **state)
{
    struct mailbox_out *o = NULL;
    char why[SEGMENT_WHY_MAX];

    (void)state;
    assert_int_equal(mailbox_out_open(&o, kit_dir, 0, 2, 5000, &p.seg, why), -ERR_INVAL);
    assert_int_equal(mailbox_out_open(&o, kit_dir, 0, 2, 64, &p.seg, why), -ERR_INVAL);
    assert_null(o);
}

static void a_tool_sees_the_rings(void **state)
{
    struct segment s = {0};
    struct mailbox_row row;
    uint32_t workers;
    size_t bytes;

    (void)state;
    put("12345");
    assert_int_equal(mailbox_view_attach(&s, kit_dir, 0), 0);
    mailbox_view_shape(&s, &workers, &bytes);
    assert_int_equal(workers, 2);
    assert_int_equal(bytes, RING);
    mailbox_view_row(&s, 1, &row);
    assert_int_equal(row.consumer, segment_incarnation(&c.seg.segment));
    assert_int_equal(row.tail - row.base, 5);
    assert_int_equal(row.epochs, 1);
    segment_close(&s);
}

/* Frames of the random walk: {length, producer incarnation, number, bytes}. */
struct walk {
    struct rand r;
    uint8_t frame[3 * RING]; /* being written */
    size_t len, sent;
    uint64_t number; /* of the producer's newest frame */
    uint8_t got[3 * RING];
    size_t have;
    uint64_t last_producer, last_number; /* of the newest frame that came out */
    bool fresh;                          /* a restart may have cost frames */
    uint64_t frames;
};

static void next_frame(struct walk *w)
{
    uint64_t head[3] = {24 + rand_below(&w->r, rand_chance(&w->r, 100000) ? 2 * RING : 200),
                        segment_incarnation(&p.seg.segment), ++w->number};

    w->len = head[0];
    w->sent = 0;
    memset(w->frame, (int)(uint8_t)w->number, w->len);
    memcpy(w->frame, head, sizeof head);
}

static void walk_write(struct walk *w)
{
    for (int i = 0; i < 5; i++) {
        if (w->sent == w->len)
            next_frame(w);
        int64_t n = mailbox_write(p.out, 1, w->frame + w->sent, w->len - w->sent);
        assert_true(n >= 0 || n == -ERR_CLOSED);
        if (n == -ERR_CLOSED)
            w->sent = w->len = 0;
        else
            w->sent += (size_t)n;
    }
}

static void walk_check(struct walk *w, size_t len)
{
    uint64_t head[3];

    memcpy(head, w->got, sizeof head);
    for (size_t i = sizeof head; i < len; i++)
        assert_int_equal(w->got[i], (uint8_t)head[2]);
    if (head[1] == w->last_producer) {
        assert_true(head[2] > w->last_number);
        assert_true(w->fresh || head[2] == w->last_number + 1);
    } else {
        assert_true(w->fresh);
    }
    w->last_producer = head[1];
    w->last_number = head[2];
    w->fresh = false;
    w->frames++;
}

static void walk_read(struct walk *w)
{
    struct slice two[2];
    int64_t n = mailbox_peek(c.in, 0, two);

    assert_true(n >= 0 || n == -ERR_CLOSED);
    if (n == -ERR_CLOSED) {
        w->have = 0;
        w->fresh = true;
        return;
    }
    size_t taken = (size_t)rand_below(&w->r, (uint64_t)n + 1);
    for (size_t i = 0; i < taken; i++) {
        uint64_t len = 0;
        w->got[w->have++] = i < two[0].len ? two[0].data[i] : two[1].data[i - two[0].len];
        memcpy(&len, w->got, sizeof len);
        assert_true(w->have < 8 || (len >= 24 && len < sizeof w->got));
        if (w->have >= 8 && w->have == len) {
            walk_check(w, w->have);
            w->have = 0;
        }
    }
    mailbox_consume(c.in, 0, taken);
}

static void walk_step(struct walk *w)
{
    uint64_t dice = rand_below(&w->r, 100);

    if (dice < 40) {
        walk_write(w);
    } else if (dice < 80) {
        walk_read(w);
    } else if (dice < 88) {
        mailbox_out_refresh(p.out, 1);
    } else if (dice < 96) {
        mailbox_in_refresh(c.in, 0);
    } else if (dice < 98) {
        end(&p);
        start(&p, 0);
        w->sent = w->len = 0;
        w->number = 0;
        w->fresh = true;
    } else {
        end(&c);
        start(&c, 1);
        w->have = 0;
        w->fresh = true;
    }
}

static void any_order_of_restarts_and_refreshes_keeps_frames_whole(void **state)
{
    uint64_t frames = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static struct walk w;

        memset(&w, 0, sizeof w);
        w.fresh = true;
        rand_seed(&w.r, seed);
        for (int i = 0; i < 400; i++)
            walk_step(&w);
        /* In the end everyone looks, and what is written then arrives. */
        mailbox_out_refresh(p.out, 1);
        mailbox_in_refresh(c.in, 0);
        uint64_t before = w.frames;
        for (int i = 0; i < 2000 && w.frames < before + 20; i++) {
            walk_write(&w);
            walk_read(&w);
        }
        assert_true(w.frames >= before + 20);
        frames += w.frames;
        end(&p);
        end(&c);
        start(&p, 0);
        start(&c, 1);
    }
    print_message("%llu frames over 60 walks\n", (unsigned long long)frames);
}

static void every_pair_of_workers_has_a_ring_of_its_own(void **state)
{
    enum { COUNT = 5 };
    static struct worker_seg seg[COUNT];
    struct mailbox_out *out[COUNT];
    struct mailbox_in *in[COUNT];
    uint8_t block[RING];

    (void)state;
    memset(seg, 0, sizeof seg);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(worker_seg_create(&seg[i], kit_dir, i, COUNT, 8, 0, rand_id()), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(mailbox_out_open(&out[i], kit_dir, i, COUNT, RING, &seg[i], NULL), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(mailbox_in_open(&in[i], kit_dir, i, COUNT, &seg[i]), 0);
    for (uint32_t i = 0; i < COUNT * COUNT; i++) {
        memset(block, (int)i, RING);
        if (i / COUNT != i % COUNT)
            assert_int_equal(mailbox_write(out[i / COUNT], i % COUNT, block, RING), RING);
    }
    for (uint32_t i = 0; i < COUNT * COUNT; i++) {
        struct slice two[2];
        if (i / COUNT == i % COUNT)
            continue;
        assert_int_equal(mailbox_peek(in[i % COUNT], i / COUNT, two), RING);
        memset(block, (int)i, RING);
        assert_memory_equal(two[0].data, block, RING);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        mailbox_out_close(out[i]);
        mailbox_in_close(in[i]);
        worker_seg_close(&seg[i]);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest streams[] = {
        CASE(bytes_come_out_as_they_went_in),
        CASE(a_stream_longer_than_the_ring_gets_through_in_pieces),
        CASE(a_writer_that_waits_for_room_is_woken),
        CASE(only_a_sleeper_is_woken),
        CASE(a_sibling_that_was_never_up_gets_nothing),
        CASE(a_bad_ring_size_is_refused),
        CASE(a_tool_sees_the_rings),
        CASE(every_pair_of_workers_has_a_ring_of_its_own),
    };
    const struct CMUnitTest incarnations[] = {
        CASE(a_restarted_reader_begins_at_a_frame_boundary),
        CASE(a_reader_restarted_before_anything_was_sent_is_no_loss),
        CASE(a_restarted_writer_is_told_apart_before_its_first_byte),
        CASE(the_new_writer_does_not_believe_the_head_of_its_predecessor),
        CASE(both_restarted_in_any_order_start_clean),
        CASE(impossible_numbers_from_the_other_side_are_refused_and_survived),
        CASE(any_order_of_restarts_and_refreshes_keeps_frames_whole),
    };
    int failed = cmocka_run_group_tests_name("a mailbox is a stream of bytes", streams, NULL, NULL);
    return failed + cmocka_run_group_tests_name("a mailbox survives restarts of either side",
                                                incarnations, NULL, NULL);
}
