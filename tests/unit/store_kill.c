/* A writer is killed with SIGKILL again and again; what it had acknowledged must be there and no dot
 * may come twice; nor may what others can have heard of be lost. KILL_ROUNDS in the environment says how often (default 20). */
#include "tests/unit/store_kit.h"

#include "base/rand.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { KEYS = 2000, IN_FLIGHT = 32, ISSUED = 1, HANDED, ACKED };

/* What the writer tells through a pipe, which survives it. */
struct event {
    uint32_t kind, key;
    uint64_t version;
    struct dot dot;
};

struct vnode_dots {
    uint64_t vnode, last;
};

static struct {
    uint64_t acked[KEYS], handed[KEYS], issued[KEYS];
    struct vnode_dots dots[1 << KIT_Q];
    uint64_t acks, version;
} model;

static void tell(int fd, struct event e)
{
    if (write(fd, &e, sizeof e) != sizeof e)
        _exit(1);
}

/* Write for ever, with many small buffers and segments so that every kind of work is going on. */
static void write_for_ever(const char *dir, uint64_t version, uint64_t seed, int fd)
{
    struct store_conf conf = kit_conf(dir);
    static struct buf object;
    struct event flight[IN_FLIGHT];
    uint64_t lsns[IN_FLIGHT];
    struct rand r;

    conf.write_buffer_bytes = 512 << 10;
    conf.flush_age_ms = 20;
    struct store *s = kit_open_conf(&conf);
    rand_seed(&r, seed);
    for (;;) {
        int n = 0;

        for (; n < IN_FLIGHT; n++) {
            struct event e = {.kind = ISSUED, .key = (uint32_t)rand_below(&r, KEYS)};
            char text[KIT_KEY], value[300];
            struct slice key = kit_key(e.key, text);
            struct position pos = position_of(key);
            int err;

            e.version = ++version;
            if (kit_dot(s, kit_partition(key), &e.dot) != 0)
                _exit(2);
            tell(fd, e);
            snprintf(value, sizeof value, "%lu", (unsigned long)version);
            err = store_put(
                s, kit_partition(key), &pos,
                kit_object(&object, key, e.dot, slice_of(value, 20 + rand_below(&r, 250)), 0),
                false, &lsns[n]);
            if (err == -ERR_BUSY)
                break;
            if (err != 0)
                _exit(3);
            flight[n] = e;
        }
        while (!store_kick(s)) {
            usleep(100);
            kit_turn(s);
        }
        for (int i = 0; i < n; i++) { /* from here on others may have heard of it */
            flight[i].kind = HANDED;
            tell(fd, flight[i]);
        }
        if (n > 0)
            kit_wait(s, lsns[n - 1]);
        kit_turn(s);
        for (int i = 0; i < n; i++) {
            flight[i].kind = ACKED;
            tell(fd, flight[i]);
        }
    }
}

static void take(const struct event *e)
{
    if (e->kind == ACKED) {
        model.acked[e->key] = e->version;
        model.acks++;
        return;
    }
    if (e->kind == HANDED) {
        model.handed[e->key] = e->version;
        return;
    }
    model.issued[e->key] = model.version = e->version;
    for (int i = 0; i < 1 << KIT_Q; i++)
        if (model.dots[i].vnode == e->dot.vnode) {
            assert_true(e->dot.n > model.dots[i].last);
            model.dots[i].last = e->dot.n;
            return;
        }
    for (int i = 0; i < 1 << KIT_Q; i++)
        if (model.dots[i].vnode == 0) {
            model.dots[i] = (struct vnode_dots){e->dot.vnode, e->dot.n};
            return;
        }
    fail_msg("a vnode took a new id without having forgotten anything");
}

static void check(const char *dir)
{
    struct store *s = kit_open(dir);
    struct store_stats stats;

    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids + stats.corrupt_records + stats.quarantined_vnodes, 0);
    for (unsigned n = 0; n < KEYS; n++) {
        int64_t got = kit_get(s, n);

        if (model.handed[n] == 0 && got == -ERR_NOTFOUND)
            continue;
        assert_true(got >= (int64_t)model.acked[n] && got >= (int64_t)model.handed[n] &&
                    got <= (int64_t)model.issued[n]);
        model.acked[n] = model.handed[n] = (uint64_t)got; /* once seen, it must stay */
    }
    store_close(s);
}

static void nothing_acknowledged_is_lost(void **state)
{
    const char *rounds_text = getenv("KILL_ROUNDS");
    int rounds = rounds_text != NULL ? atoi(rounds_text) : 20;
    struct rand r;
    char dir[256];

    (void)state;
    rand_seed(&r, 11);
    kit_dir(dir, sizeof dir);
    for (int round = 0; round < rounds; round++) {
        uint64_t until = model.acks + rand_below(&r, 3000);
        struct event e;
        int fds[2], status;

        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            write_for_ever(dir, model.version, rand_next(&r), fds[1]);
        }
        close(fds[1]);
        rand_next(&r);
        while (model.acks < until && read(fds[0], &e, sizeof e) == sizeof e)
            take(&e);
        usleep((useconds_t)rand_below(&r, 3000));
        kill(pid, SIGKILL);
        while (read(fds[0], &e, sizeof e) == sizeof e)
            take(&e);
        close(fds[0]);
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        check(dir);
    }
    assert_true(model.acks > (uint64_t)rounds * 100);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_acknowledged_is_lost)};

    return cmocka_run_group_tests_name("kill -9 loses nothing", tests, NULL, NULL);
}
