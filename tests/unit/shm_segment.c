/* Tests of shm/segment and of the segments built on it: what a reader accepts, refuses, notices. */
#include "shm_kit.h"

#include "base/err.h"
#include "base/rand.h"
#include "shm/gossip_seg.h"
#include "shm/node_seg.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/segment.h"
#include "shm/worker_seg.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const struct segment_spec spec = {
    .kind = SEGMENT_RING, .fingerprint = 42, .length = sizeof(struct segment_header) + 5000};
static char path[256];

static int setup(void **state)
{
    kit_setup(state);
    snprintf(path, sizeof path, "%s/ring.seg", kit_dir);
    return 0;
}

static void make(struct segment *s, uint64_t incarnation)
{
    assert_int_equal(segment_create(s, kit_dir, "ring.seg", &spec, incarnation), 0);
    memset(segment_body(s), (int)incarnation, 5000);
    assert_int_equal(segment_publish(s), 0);
}

/* Change one byte of the file behind everybody's back. */
static void poke(off_t at, uint8_t byte)
{
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void refused(int err, const char *reason)
{
    struct segment s = {0};

    assert_int_equal(segment_attach(&s, kit_dir, "ring.seg", &spec), err);
    assert_non_null(strstr(s.why, reason));
    assert_false(segment_mapped(&s));
}

static void a_reader_sees_what_was_published(void **state)
{
    struct segment w = {0}, r = {0};

    (void)state;
    make(&w, 7);
    assert_int_equal(segment_attach(&r, kit_dir, "ring.seg", &spec), 0);
    assert_memory_equal(segment_body(&r), segment_body(&w), 5000);
    assert_int_equal(segment_incarnation(&r), 7);
    assert_int_equal(r.header->pid, getpid());
    assert_int_equal(r.header->generation, 1);
    assert_true(segment_writer_alive(&r));
    assert_int_equal(r.header->ended, 0);
    segment_close(&w);
    assert_int_equal(r.header->ended, 1);
    segment_close(&r);
}

static void a_dead_writer_is_known_as_dead_before_anyone_collects_it(void **state)
{
    struct segment w = {0}, r = {0};
    siginfo_t info;

    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        KIT_CHECK(segment_create(&w, kit_dir, "ring.seg", &spec, 9) == 0);
        KIT_CHECK(segment_publish(&w) == 0);
        _exit(0);
    }
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(segment_attach(&r, kit_dir, "ring.seg", &spec), 0);
    assert_int_equal(r.header->pid, pid);
    assert_false(segment_writer_alive(&r));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(segment_writer_alive(&r));
    segment_close(&r);
}

static void an_unpublished_segment_has_no_name_and_leaves_nothing(void **state)
{
    struct segment w = {0};

    (void)state;
    assert_int_equal(segment_create(&w, kit_dir, "ring.seg", &spec, 7), 0);
    refused(-ERR_NOTFOUND, "No such file");
    segment_close(&w);
    assert_int_equal(rmdir(kit_dir), 0); /* empty */
    assert_int_equal(mkdir(kit_dir, 0700), 0);
}

static void a_left_over_temporary_file_is_no_obstacle(void **state)
{
    struct segment w = {0};
    char tmp[300];

    (void)state;
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    close(open(tmp, O_CREAT | O_WRONLY, 0600));
    make(&w, 7);
    segment_close(&w);
}

static void a_missing_directory_is_an_error_with_a_reason(void **state)
{
    struct segment w = {0};

    (void)state;
    assert_int_equal(segment_create(&w, "/nowhere/at/all", "ring.seg", &spec, 7), -ERR_NOTFOUND);
    assert_non_null(strstr(w.why, "cannot make it"));
}

static void a_file_that_cannot_grow_is_an_error_and_not_a_signal(void **state)
{
    struct rlimit small = {.rlim_cur = 4096}, before;
    struct segment w = {0};

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = segment_create(&w, kit_dir, "ring.seg", &spec, 7);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(err == -ERR_DISKFULL || err == -ERR_IO);
    assert_non_null(strstr(w.why, "cannot allocate its space"));
    assert_false(segment_mapped(&w));
    refused(-ERR_NOTFOUND, "");
}

static void a_restarted_writer_is_noticed_and_its_predecessor_stays_readable(void **state)
{
    struct segment w[3] = {{0}}, r = {0};

    (void)state;
    make(&w[0], 1);
    assert_int_equal(segment_attach(&r, kit_dir, "ring.seg", &spec), 0);
    assert_int_equal(segment_reattach_if_replaced(&r), 0);
    make(&w[1], 2);
    assert_int_equal(((uint8_t *)segment_body(&r))[4999], 1);
    assert_int_equal(segment_reattach_if_replaced(&r), 1);
    assert_int_equal(((uint8_t *)segment_body(&r))[4999], 2);
    assert_int_equal(r.header->generation, 2);
    assert_int_equal(segment_reattach_if_replaced(&r), 0);
    unlink(path);
    assert_int_equal(segment_reattach_if_replaced(&r), -ERR_NOTFOUND);
    assert_int_equal(((uint8_t *)segment_body(&r))[4999], 2);
    make(&w[2], 3);
    assert_int_equal(segment_reattach_if_replaced(&r), 1);
    for (int i = 0; i < 3; i++)
        segment_close(&w[i]);
    segment_close(&r);
}

static void a_damaged_replacement_leaves_the_old_map_in_place(void **state)
{
    struct segment w = {0}, r = {0};

    (void)state;
    make(&w, 1);
    assert_int_equal(segment_attach(&r, kit_dir, "ring.seg", &spec), 0);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(segment_reattach_if_replaced(&r), -ERR_CORRUPT);
    assert_int_equal(((uint8_t *)segment_body(&r))[0], 1);
    segment_close(&r);
    segment_close(&w);
}

static void foreign_and_damaged_files_are_refused_with_a_reason(void **state)
{
    struct segment w = {0};
    char junk[9000];

    (void)state;
    make(&w, 7);
    poke(0, 'X');
    refused(-ERR_FORMAT, "no magic number");
    poke(0, (uint8_t)(SEGMENT_MAGIC & 0xff));
    poke(8, SEGMENT_MAIL);
    refused(-ERR_INVAL, "a mail segment where a ring segment");
    poke(8, SEGMENT_RING);
    poke(12, 3);
    refused(-ERR_INVAL, "segment number 3");
    poke(12, 0);
    poke(16, 43);
    refused(-ERR_VERSION, "another layout");
    poke(16, 42);
    poke(25, 1);
    refused(-ERR_CORRUPT, "says that it has");
    segment_close(&w);

    make(&w, 7);
    assert_int_equal(truncate(path, 4000), 0);
    refused(-ERR_CORRUPT, "says that it has");
    assert_int_equal(truncate(path, 100), 0);
    refused(-ERR_CORRUPT, "too short for a header");
    assert_int_equal(truncate(path, 0), 0);
    refused(-ERR_CORRUPT, "too short for a header");

    unlink(path);
    memset(junk, 'j', sizeof junk);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    close(fd);
    refused(-ERR_FORMAT, "no magic number");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(-ERR_FORMAT, "not a regular file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(-ERR_FORMAT, "not a regular file");
    rmdir(path);
    /* The writer's map is now longer than nothing: only let go of the address range. */
    w.header = NULL;
}

static void every_field_counts_for_the_fingerprint(void **state)
{
    struct segment_field fields[2] = {{"a", 0, 8}, {"b", 8, 8}};
    uint64_t first = segment_fingerprint(fields, 2, 16, 0);

    (void)state;
    assert_int_equal(segment_fingerprint(fields, 2, 16, 0), first);
    assert_int_not_equal(segment_fingerprint(fields, 1, 16, 0), first);
    assert_int_not_equal(segment_fingerprint(fields, 2, 24, 0), first);
    assert_int_not_equal(segment_fingerprint(fields, 2, 16, 1), first);
    fields[1].size = 4;
    assert_int_not_equal(segment_fingerprint(fields, 2, 16, 0), first);
    fields[1].size = 8;
    fields[1].name = "c";
    assert_int_not_equal(segment_fingerprint(fields, 2, 16, 0), first);
}

static struct ring_view view, got_view;

static void make_view(uint64_t epoch)
{
    memset(&view, 0, sizeof view);
    view.epoch = epoch;
    view.version = epoch;
    view.q_bits = 3;
    view.n = 1;
    view.member_count = 1;
    view.members[0].id.b[0] = 1;
    view.members[0].workers = 1;
    view.members[0].weight = 1;
    snprintf(view.members[0].name, sizeof view.members[0].name, "n1");
    snprintf(view.members[0].address, sizeof view.members[0].address, "127.0.0.1");
    for (int i = 8; i < LIMIT_PARTITIONS; i++)
        view.owner[i] = RING_NO_OWNER;
}

static void a_ring_view_is_seen_once_and_again_after_a_restart(void **state)
{
    struct ring_seg w = {0}, w2 = {0}, r = {0};

    (void)state;
    make_view(1);
    assert_int_equal(ring_seg_create(&w, kit_dir, 5, NULL), 0);
    assert_int_equal(ring_seg_attach(&r, kit_dir), 0);
    assert_false(ring_seg_changed(&r));
    assert_int_equal(ring_seg_read(&r, &got_view), -ERR_NOTFOUND);
    ring_seg_publish(&w, &view);
    assert_true(ring_seg_changed(&r));
    assert_int_equal(ring_seg_read(&r, &got_view), 0);
    assert_memory_equal(&view, &got_view, sizeof view);
    assert_false(ring_seg_changed(&r));
    make_view(2);
    assert_int_equal(ring_seg_create(&w2, kit_dir, 6, &view), 0);
    assert_false(ring_seg_changed(&r));
    assert_int_equal(ring_seg_refresh(&r), 1);
    assert_true(ring_seg_changed(&r));
    assert_int_equal(ring_seg_read(&r, &got_view), 0);
    assert_int_equal(got_view.epoch, 2);
    ring_seg_close(&w);
    ring_seg_close(&w2);
    ring_seg_close(&r);
}

static void a_worker_segment_carries_heartbeat_counters_and_latencies(void **state)
{
    struct worker_seg w = {0}, r = {0};

    (void)state;
    assert_int_equal(worker_seg_create(&w, kit_dir, 3, 4, 128, 2, 99), 0);
    assert_int_equal(worker_seg_attach(&r, kit_dir, 3), 0);
    worker_seg_heartbeat(&w, 5000000);
    worker_seg_heartbeat(&w, 5000010); /* too soon to be worth a store */
    assert_int_equal(r.body->heartbeat_us, 5000000);
    worker_seg_heartbeat(&w, 5100000);
    assert_int_equal(r.body->heartbeat_us, 5100000);
    worker_seg_count(&w, CTR_commands, 3);
    worker_seg_count(&w, CTR_commands, 4);
    assert_int_equal(counter_get(&r.body->counters, CTR_commands), 7);
    worker_seg_latency(&w, WORKER_HIST_GET_LOCAL, 100);
    assert_int_equal(hist_percentile_us(&r.body->hists[WORKER_HIST_GET_LOCAL].hist, 0.5), 100);
    worker_seg_vnode(&w, 127, WORKER_VNODE_OPEN, 11, 22, 33);
    assert_int_equal(r.body->vnodes[127].keys, 22);
    assert_int_equal(r.body->vnodes[127].state, WORKER_VNODE_OPEN);
    assert_string_equal(r.body->hists[WORKER_HIST_LOOP_TURN].name, "loop_turn");
    worker_seg_close(&w);
    worker_seg_close(&r);
}

static void a_block_of_counters_describes_itself(void **state)
{
    static struct counter_block b;
    uint64_t sums[COUNTER_COUNT] = {0};

    (void)state;
    counter_init(&b);
    assert_null(counter_check(&b, sizeof b));
    assert_non_null(counter_check(&b, sizeof b - 1));
    counter_add(&b, CTR_siblings_max, 5);
    counter_add(&b, CTR_loop_busy, 5);
    counter_sub(&b, CTR_loop_busy, 1);
    counter_sum(&b, sums);
    counter_set(&b, CTR_siblings_max, 3);
    counter_sum(&b, sums);
    assert_int_equal(sums[CTR_siblings_max], 5); /* the maximum */
    assert_int_equal(sums[CTR_loop_busy], 8);    /* the sum */
    assert_string_equal(counter_desc_at(&b, CTR_loop_busy)->name, "loop_busy");
    assert_string_equal(counter_desc_at(&b, CTR_loop_busy)->unit, "us");
    assert_int_equal(counter_value_at(&b, CTR_loop_busy), 4);
    for (uint32_t i = 0; i < COUNTER_COUNT; i++) {
        for (uint32_t k = 0; k < i; k++)
            assert_string_not_equal(counter_name((enum counter)i), counter_name((enum counter)k));
    }
    b.count = 60000;
    assert_non_null(counter_check(&b, sizeof b));
}

static void node_gossip_and_repair_segments_come_back_as_published(void **state)
{
    static struct node_view nv, nv_got;
    static struct gossip_view gv, gv_got;
    struct node_seg n = {0}, nr = {0};
    struct gossip_seg g = {0}, gr = {0};
    struct repair_seg p = {0}, pr = {0};
    struct node_id peer = {{1, 2, 3}};

    (void)state;
    nv.child_count = 1;
    nv.children[0].restarts = 4;
    assert_int_equal(node_seg_create(&n, kit_dir, 1, &nv), 0);
    assert_int_equal(node_seg_attach(&nr, kit_dir), 0);
    assert_int_equal(node_seg_read(&nr, &nv_got), 0);
    assert_int_equal(nv_got.children[0].restarts, 4);
    nv.child_count = NODE_SEG_CHILDREN + 1;
    node_seg_publish(&n, &nv);
    assert_int_equal(node_seg_read(&nr, &nv_got), -ERR_CORRUPT);

    assert_int_equal(gossip_seg_create(&g, kit_dir, 1), 0);
    assert_int_equal(gossip_seg_attach(&gr, kit_dir), 0);
    assert_int_equal(gossip_seg_read(&gr, &gv_got), -ERR_NOTFOUND);
    memset(gv.members[0].name, 'x', sizeof gv.members[0].name);
    gv.member_count = 1;
    gossip_seg_publish(&g, &gv);
    assert_int_equal(gossip_seg_read(&gr, &gv_got), 0);
    assert_int_equal(strlen(gv_got.members[0].name), LIMIT_NAME - 1);
    counter_add(gossip_seg_counters(&g), CTR_gossip_acks, 2);
    assert_int_equal(counter_get(gossip_seg_counters(&gr), CTR_gossip_acks), 2);

    assert_int_equal(repair_seg_create(&p, kit_dir, 1, 128), 0);
    assert_int_equal(repair_seg_attach(&pr, kit_dir), 0);
    repair_seg_update(&p, 127, LIMIT_REPLICAS - 1, &peer, REPAIR_ROW_IDLE, 10, 100, 5);
    repair_seg_update(&p, 127, LIMIT_REPLICAS - 1, &peer, REPAIR_ROW_FAILED, 1, 1, 0);
    repair_seg_state(&p, 127, LIMIT_REPLICAS - 1, &peer, REPAIR_ROW_COMPARING);
    const struct repair_row *row = &pr.body->rows[127 * LIMIT_REPLICAS + LIMIT_REPLICAS - 1];
    assert_int_equal(row->keys_repaired, 11);
    assert_int_equal(row->rounds, 2);
    assert_int_equal(row->differences, 1);
    assert_int_equal(row->state, REPAIR_ROW_COMPARING);
    assert_int_equal(row->last_agreement_ms, 5);
    peer.b[0] = 9;
    repair_seg_update(&p, 127, LIMIT_REPLICAS - 1, &peer, REPAIR_ROW_IDLE, 2, 2, 0);
    assert_int_equal(row->keys_repaired, 2);
    assert_int_equal(row->last_agreement_ms, 0);

    static struct repair_copied copied = {.epoch = 7, .keys = 3, .step = {[5] = 1}}, copied_got;
    assert_int_equal(repair_seg_read_copied(&pr, &copied_got), -ERR_NOTFOUND);
    repair_seg_publish_copied(&p, &copied);
    assert_int_equal(repair_seg_read_copied(&pr, &copied_got), 0);
    assert_memory_equal(&copied_got, &copied, sizeof copied);
    node_seg_close(&n);
    node_seg_close(&nr);
    gossip_seg_close(&g);
    gossip_seg_close(&gr);
    repair_seg_close(&p);
    repair_seg_close(&pr);
}

static void no_flip_of_a_header_bit_is_mistaken_for_another_segment(void **state)
{
    static uint8_t bytes[sizeof(struct segment_header) + 5000];
    struct segment w = {0};

    (void)state;
    make(&w, 7);
    memcpy(bytes, w.header, sizeof bytes);
    /* Magic, kind, index, fingerprint, length: a flip in any of them is refused. */
    for (int bit = 0; bit < 32 * 8; bit++) {
        struct segment r = {0};
        poke(bit / 8, bytes[bit / 8] ^ (uint8_t)(1u << bit % 8));
        assert_true(segment_attach(&r, kit_dir, "ring.seg", &spec) < 0);
        assert_true(r.why[0] != 0);
        poke(bit / 8, bytes[bit / 8]);
    }
    segment_close(&w);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest segments[] = {
        CASE(a_reader_sees_what_was_published),
        CASE(a_dead_writer_is_known_as_dead_before_anyone_collects_it),
        CASE(an_unpublished_segment_has_no_name_and_leaves_nothing),
        CASE(a_left_over_temporary_file_is_no_obstacle),
        CASE(a_missing_directory_is_an_error_with_a_reason),
        CASE(a_file_that_cannot_grow_is_an_error_and_not_a_signal),
        CASE(a_restarted_writer_is_noticed_and_its_predecessor_stays_readable),
        CASE(a_damaged_replacement_leaves_the_old_map_in_place),
        CASE(foreign_and_damaged_files_are_refused_with_a_reason),
        CASE(no_flip_of_a_header_bit_is_mistaken_for_another_segment),
        CASE(every_field_counts_for_the_fingerprint),
    };
    const struct CMUnitTest kinds[] = {
        CASE(a_ring_view_is_seen_once_and_again_after_a_restart),
        CASE(a_worker_segment_carries_heartbeat_counters_and_latencies),
        CASE(a_block_of_counters_describes_itself),
        CASE(node_gossip_and_repair_segments_come_back_as_published),
    };
    int failed = cmocka_run_group_tests_name("a segment has one writer and wary readers", segments,
                                             NULL, NULL);
    return failed +
           cmocka_run_group_tests_name("every kind of segment does its duty", kinds, NULL, NULL);
}
