/* Tests of clockwise-shmdump on a made-up runtime directory: what it prints for a whole node, for
 * damaged files, for a crashed writer. Runs the program beside this one's build tree. */
#include "shm_kit.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/rand.h"
#include "shm/gossip_seg.h"
#include "shm/mailbox.h"
#include "shm/node_seg.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"

#include <fcntl.h>
#include <sys/stat.h>

#define WORKERS 3

static struct node_seg node;
static struct ring_seg ring;
static struct gossip_seg gossip;
static struct repair_seg repair;
static struct worker_seg worker[WORKERS];
static struct mailbox_out *out[WORKERS];
static struct mailbox_in *in[WORKERS];

static char program[300], output[1 << 20];

static void text(char *to, const char *from)
{
    strcpy(to, from);
}

static void make_node(void)
{
    static struct node_view v;

    memset(&v, 0, sizeof v);
    rand_bytes(&v.id, sizeof v.id);
    text(v.name, "alpha");
    text(v.cluster, "demo");
    text(v.zone, "east");
    text(v.address, "127.0.0.1");
    v.port = 7100;
    v.worker_port = 7101;
    v.peer_port = 17101;
    v.gossip_port = 17100;
    v.workers = WORKERS;
    v.q_bits = 7;
    v.n = 3;
    v.r = v.w = 2;
    text(v.durability, "always");
    text(v.data_dir, "/var/lib/clockwise");
    text(v.runtime_dir, kit_dir);
    text(v.status, "serving \"all\" \xc3\xa4 \xff partitions");
    v.supervisor_pid = getpid();
    v.started_ms = clock_wall_ms() - 7384000;
    v.child_count = WORKERS + 1;
    for (uint32_t i = 0; i < v.child_count; i++) {
        struct node_child *c = &v.children[i];
        text(c->role, i < WORKERS ? "worker" : "gossipd");
        c->index = i < WORKERS ? i : 0;
        c->pid = 1000 + (int)i;
        c->state = i == 1 ? NODE_CHILD_WAITING : NODE_CHILD_READY;
        c->restarts = i;
        c->since_ms = clock_wall_ms() - 1000 * i;
        text(c->last_exit, i == 1 ? "killed by signal 9" : "");
    }
    assert_int_equal(node_seg_create(&node, kit_dir, rand_id(), &v), 0);
    counter_add(node_seg_counters(&node), CTR_children_restarted, 4);
}

static void make_ring(void)
{
    static struct ring_view v;
    static struct gossip_view g;
    static const char *const names[] = {"alpha", "beta", "gamma"};

    memset(&v, 0, sizeof v);
    v.epoch = 4;
    v.version = 17;
    v.q_bits = 7;
    v.n = 3;
    text(v.cluster, "demo");
    v.member_count = g.member_count = 3;
    for (uint16_t i = 0; i < 3; i++) {
        struct member *m = &v.members[i];
        memset(m->id.b, 0x11 * (i + 1), sizeof m->id.b);
        text(m->name, names[i]);
        text(m->zone, i == 0 ? "east" : "west");
        text(m->address, "127.0.0.1");
        m->port = (uint16_t)(7100 + 100 * i);
        m->worker_port = (uint16_t)(m->port + 1);
        m->peer_port = (uint16_t)(m->port + 10001);
        m->workers = WORKERS;
        m->weight = 1;
        m->state = i == 2 ? MEMBER_FAULTY : MEMBER_ALIVE;
        m->incarnation = i;
        g.members[i].id = m->id;
        text(g.members[i].name, names[i]);
        text(g.members[i].address, "127.0.0.1");
        g.members[i].gossip_port = (uint16_t)(m->port + 10000);
        g.members[i].state = m->state;
        g.members[i].since_ms = clock_wall_ms() - 100000;
        g.members[i].last_heard_ms = clock_wall_ms() - 300;
        g.members[i].rtt_us = 210;
    }
    v.proposer = v.members[0].id;
    for (uint32_t p = 0; p < LIMIT_PARTITIONS; p++)
        v.owner[p] = p < 128 ? (uint16_t)(p % 3) : RING_NO_OWNER;
    assert_int_equal(ring_seg_create(&ring, kit_dir, rand_id(), &v), 0);
    assert_int_equal(gossip_seg_create(&gossip, kit_dir, rand_id()), 0);
    gossip_seg_publish(&gossip, &g);
    counter_add(gossip_seg_counters(&gossip), CTR_gossip_sent, 12345);
    assert_int_equal(repair_seg_create(&repair, kit_dir, rand_id(), 128), 0);
    repair_seg_update(&repair, 5, 0, &v.members[1].id, REPAIR_ROW_IDLE, 12, 3456, clock_wall_ms());
}

static void make_worker(uint32_t i)
{
    assert_int_equal(worker_seg_create(&worker[i], kit_dir, i, WORKERS, 128, i, rand_id()), 0);
    worker_seg_heartbeat(&worker[i], clock_mono_us());
    worker_seg_set_state(&worker[i], WORKER_SERVING);
    worker_seg_count(&worker[i], CTR_commands, 1000000 * (i + 1));
    worker_seg_count(&worker[i], CTR_client_bytes_in, 123456789);
    worker_seg_count(&worker[i], CTR_loop_busy, 3500000);
    for (uint64_t us = 1; us < 2000; us++) {
        worker_seg_latency(&worker[i], WORKER_HIST_GET_LOCAL, us / 10);
        worker_seg_latency(&worker[i], WORKER_HIST_PUT_COORDINATED, us * 3);
    }
    for (uint32_t p = i; p < 128; p += WORKERS)
        worker_seg_vnode(&worker[i], p, WORKER_VNODE_OPEN, rand_id(), 1000 + p, p % 5);
}

static int setup(void **state)
{
    kit_setup(state);
    make_node();
    make_ring();
    for (uint32_t i = 0; i < WORKERS; i++)
        make_worker(i);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(mailbox_out_open(&out[i], kit_dir, i, WORKERS, 4096, &worker[i], NULL), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(mailbox_in_open(&in[i], kit_dir, i, WORKERS, &worker[i]), 0);
    assert_int_equal(mailbox_write(out[0], 1, "hello", 5), 5);
    return 0;
}

static int teardown(void **state)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        mailbox_out_close(out[i]);
        mailbox_in_close(in[i]);
        worker_seg_close(&worker[i]);
    }
    node_seg_close(&node);
    ring_seg_close(&ring);
    gossip_seg_close(&gossip);
    repair_seg_close(&repair);
    return kit_teardown(state);
}

/* Run the program on the directory, collect what it prints on both outputs, return its exit code. */
static int dump(const char *arguments)
{
    char command[600];
    size_t len = 0, n;

    snprintf(command, sizeof command, "%s %s %s 2>&1", program, kit_dir, arguments);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    while ((n = fread(output + len, 1, sizeof output - 1 - len, p)) > 0)
        len += n;
    output[len] = 0;
    int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define says(part)     assert_non_null(strstr(output, part))
#define says_not(part) assert_null(strstr(output, part))

static void poke(const char *file, off_t at, uint8_t xor)
{
    char path[300];
    uint8_t byte;

    snprintf(path, sizeof path, "%s/%s", kit_dir, file);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= xor;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void a_whole_node_is_shown(void **state)
{
    (void)state;
    assert_int_equal(dump("--key user:1"), 0);
    says("worker-2.seg");
    says("alpha");
    says("epoch 4");
    says("RING");
    says("PROCESSES");
    says("killed by signal 9");
    says("faulty");
    says("WORKERS");
    says("MAILBOXES");
    says("0 -> 1");
    says("put_coordinated");
    says("6,000,000"); /* commands of all workers */
    says("353.2 MiB"); /* client_bytes_in of all workers */
    says("gossip_sent");
    says("REPAIR");
    says("primary");
    says_not("VNODES");
}

static void only_the_named_segments_are_shown(void **state)
{
    (void)state;
    assert_int_equal(dump("worker-1 mail-1.seg"), 0);
    says("worker-1.seg");
    says("mail-1.seg");
    says("VNODES");
    says_not("worker-0.seg");
    says_not("RING");
    assert_int_equal(dump("worker-7"), 1);
    says("worker-7: refused: no such segment");
}

static void json_is_json(void **state)
{
    char command[700];

    (void)state;
    assert_int_equal(dump("--json --key k"), 0);
    says("\"unread_bytes\": 5");
    if (system("python3 -c pass") != 0)
        skip();
    snprintf(command, sizeof command,
             "%s %s --json --key '\"\\\n\xfe' | python3 -m json.tool >/dev/null", program, kit_dir);
    assert_int_equal(system(command), 0);
    poke("ring.seg", 0, 1);
    poke("worker-1.seg", 16, 1);
    assert_int_equal(system(command), 0);
    kit_remove_dir();
    assert_int_equal(mkdir(kit_dir, 0700), 0);
    assert_int_equal(system(command), 0);
}

static void damaged_segments_are_refused_and_the_others_shown(void **state)
{
    char path[300];

    (void)state;
    poke("ring.seg", 0, 1);
    poke("worker-0.seg", 17, 4);
    snprintf(path, sizeof path, "%s/mail-2.seg", kit_dir);
    assert_int_equal(truncate(path, 5000), 0);
    snprintf(path, sizeof path, "%s/stranger.seg", kit_dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(dump(""), 1);
    says("ring.seg: refused: not a Clockwise segment");
    says("worker-0.seg: refused: another layout");
    says("mail-2.seg: refused: says that it has");
    says("stranger.seg: refused: no segment of Clockwise has this name");
    says("COUNTERS of worker-0.seg"); /* a segment of another build still describes its counters */
    says("worker-1.seg");
    says("GOSSIP");
}

static void damage_inside_a_published_value_is_noticed(void **state)
{
    off_t slots = sizeof(struct segment_header) + sizeof(struct slot_pair);

    (void)state;
    poke("ring.seg", slots + 100, 1);
    poke("ring.seg", slots + (off_t)SLOT_ROUND(sizeof(struct ring_view)) + 100, 1);
    assert_int_equal(dump("ring"), 1);
    says("neither of its two slots");
    assert_int_equal(dump("worker-0"), 0);
}

static void no_byte_of_damage_makes_it_crash(void **state)
{
    static const char *const names[] = {"node.seg",   "ring.seg",     "gossip.seg",
                                        "mail-0.seg", "worker-0.seg", "repair.seg"};
    struct rand r;

    (void)state;
    rand_seed(&r, 5);
    for (int i = 0; i < 60; i++) {
        const char *name = names[i % 6];

        for (int k = 0; k < 8; k++)
            poke(name, (off_t)rand_below(&r, k < 4 ? 128 : 9000), (uint8_t)rand_next(&r));
        int status = dump(i % 2 == 0 ? "--key k" : "--json --key k");
        assert_true(status == 0 || status == 1);
    }
}

static void a_dead_writer_is_called_dead(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct worker_seg w = {0};
        KIT_CHECK(worker_seg_create(&w, kit_dir, 0, WORKERS, 128, 0, 77) == 0);
        worker_seg_count(&w, CTR_commands, 4711);
        pause();
        _exit(0);
    }
    struct worker_seg seen = {0};
    assert_int_equal(worker_seg_attach(&seen, kit_dir, 0), 0);
    for (int i = 0; i < 5000 && seen.segment.header->pid != (uint32_t)pid; i++) {
        usleep(1000);
        assert_true(worker_seg_refresh(&seen) >= 0);
    }
    for (int i = 0; i < 5000 && counter_get(&seen.body->counters, CTR_commands) == 0; i++)
        usleep(1000);
    worker_seg_close(&seen);
    kit_kill(pid);
    assert_int_equal(dump("worker-0"), 0);
    says("DEAD");
    says("4,711");
}

static void wrong_usage_and_empty_directories_say_so(void **state)
{
    (void)state;
    assert_int_equal(dump("--nonsense"), 64);
    says("usage:");
    assert_int_equal(dump("--help"), 0);
    says("Exit status");
    kit_remove_dir();
    assert_int_equal(dump(""), 1);
    says("no such directory");
    assert_int_equal(mkdir(kit_dir, 0700), 0);
    assert_int_equal(dump(""), 1);
    says("no segments");
}

/* The program is in the build tree that this test is in. */
static int find_program(void **state)
{
    ssize_t n = readlink("/proc/self/exe", program, 200);

    (void)state;
    assert_true(n > 0);
    program[n] = 0;
    *strrchr(program, '/') = 0;
    strcat(program, "/../clockwise-shmdump");
    return access(program, X_OK);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest dumps[] = {
        CASE(a_whole_node_is_shown),
        CASE(only_the_named_segments_are_shown),
        CASE(json_is_json),
        CASE(damaged_segments_are_refused_and_the_others_shown),
        CASE(damage_inside_a_published_value_is_noticed),
        CASE(no_byte_of_damage_makes_it_crash),
        CASE(a_dead_writer_is_called_dead),
        CASE(wrong_usage_and_empty_directories_say_so),
    };
    return cmocka_run_group_tests_name("clockwise-shmdump shows a node and survives its damage",
                                       dumps, find_program, NULL);
}
