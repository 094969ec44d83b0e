/* The n-th call of a system function fails, for every n that a workload reaches: the store must
 * return an error or the process must end with an obituary; what was acknowledged must be there
 * afterwards and nothing may be wrong. The functions are defined here, so that LMDB's calls fail as
 * well. Late calls are sampled; with FAULTS_ALL in the environment they are not. */
#include "core/horizon.h"
#include "store/snapshot.h"
#include "tests/unit/store_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

enum fault { NONE, WRITE, WRITE_FULL, SYNC, MAP, ALLOCATE, ROOM };

static enum fault armed;
static _Atomic long *left; /* calls until the one that fails; shared with the child */
static bool lasting;       /* all later calls fail, too */

static bool fails(enum fault kind)
{
    long n;

    if (armed != kind)
        return false;
    n = atomic_fetch_sub(left, 1);
    return lasting ? n <= 1 : n == 1;
}

static bool write_fails(void)
{
    if (fails(WRITE)) {
        errno = EIO;
        return true;
    }
    if (fails(WRITE_FULL)) {
        errno = ENOSPC;
        return true;
    }
    return false;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return write_fails() ? -1 : syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_fails() ? -1 : syscall(SYS_writev, fd, parts, count);
}

int fdatasync(int fd)
{
    if (fails(SYNC)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    if (fails(SYNC)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (fails(ROOM)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (fails(MAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    if (fails(ALLOCATE)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (fails(ALLOCATE)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    if (fails(ALLOCATE)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(old, size);
}
#endif

enum { KEYS = 40, REACHED_END = 0, GAVE_ERROR = 10, WRONG = 20 };

/* Shared with the child: what it had acknowledged. */
struct board {
    unsigned acked[KEYS], issued[KEYS];
    bool twin_acked; /* a second key at the position of the first */
    bool hint_acked;
};
static struct board *board;

static int try_put(struct store *s, unsigned n, unsigned v)
{
    uint64_t lsn;
    int err;

    board->issued[n] = v;
    err = kit_put_full(s, n, v, n % 7 == 0 ? 5000 : 50, 0, &lsn);
    if (err != 0)
        return err;
    kit_wait(s, lsn);
    board->acked[n] = v;
    return 0;
}

static void check_values(struct store *s)
{
    for (unsigned n = 0; n < KEYS; n++) {
        int64_t got = kit_get(s, n);

        if (got == -ERR_NOTFOUND && board->acked[n] == 0)
            continue;
        if (got < 0 && got != -ERR_INTERNAL && got != -ERR_NOTFOUND && got != -ERR_CORRUPT)
            _exit(GAVE_ERROR);
        if (got < (int64_t)board->acked[n] || got > (int64_t)board->issued[n])
            _exit(WRONG);
    }
}

static void workload(const char *dir)
{
    struct store_conf conf = kit_conf(dir);
    struct store *s;
    uint64_t id;

    conf.segment_bytes = 64 << 10;
    if (store_open(&s, &conf) != 0)
        _exit(GAVE_ERROR);
    for (uint32_t p = 0; p < 1u << KIT_Q; p++)
        if (store_vnode_open(s, p, true, &id) != 0)
            _exit(GAVE_ERROR);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned n = 0; n < KEYS; n++)
            if (try_put(s, n, board->issued[n] + 1) != 0)
                _exit(GAVE_ERROR);
        check_values(s);
        kit_flush(s);
        check_values(s);
    }
    store_close(s);
    _exit(REACHED_END);
}

/* --- what else is done with a store, on one that has data --- */

enum { P_UPKEEP = 1, P_DROPPED = 2 };
static const uint8_t target[16] = "node that is off", other[16] = "node that is up!";

/* The position of a key of this partition, and its number. */
static struct position key_in(uint32_t partition, unsigned *n)
{
    char text[KIT_KEY];

    for (*n = 0; kit_partition(kit_key(*n, text)) != partition; (*n)++)
        continue;
    return position_of(kit_key(*n, text));
}

static const struct slice twin = {(const uint8_t *)"twin", 4};

static void check_upkeep(struct store *s)
{
    unsigned n;
    struct position pos = key_in(P_UPKEEP, &n);
    struct slice object;
    uint64_t time_ms;
    int err = store_get(s, P_UPKEEP, &pos, twin, &object);

    if (err == -ERR_NOTFOUND && board->twin_acked)
        _exit(WRONG);
    err = store_hint_get(s, P_UPKEEP, target, &pos, &time_ms);
    if ((err == -ERR_NOTFOUND && board->hint_acked) || (err == 0 && time_ms != 77))
        _exit(WRONG);
}

static void must(int err)
{
    if (err != 0)
        _exit(GAVE_ERROR);
}

static void put_hints(struct store *s, const struct position *pos)
{
    uint64_t lsn;

    must(store_hint_add(s, P_UPKEEP, target, pos, 77, &lsn));
    kit_wait(s, lsn);
    board->hint_acked = true;
    must(store_hint_add(s, P_UPKEEP, other, pos, 78, &lsn));
    must(store_hint_remove(s, P_UPKEEP, other, pos));
}

static void put_twin(struct store *s, const struct position *pos)
{
    static struct buf object;
    struct dot dot;
    uint64_t lsn;

    must(kit_dot(s, P_UPKEEP, &dot));
    must(store_put(s, P_UPKEEP, pos, kit_object(&object, twin, dot, twin, 0), false, &lsn));
    kit_wait(s, lsn);
    board->twin_acked = true;
}

/* A value that expires at once, a row that is removed, and a vnode that is given away. */
static void take_away(struct store *s)
{
    char text[KIT_KEY];
    unsigned n;
    struct position pos = key_in(P_DROPPED, &n);
    uint64_t lsn, id;

    board->acked[n] = 0;
    must(store_remove(s, P_DROPPED, &pos, kit_key(n, text), &lsn));
    must(kit_put_full(s, KEYS, 1, 50, 1, &lsn));
    kit_wait(s, lsn);
    kit_flush(s);
    check_values(s);
    for (n = 0; n < KEYS; n++)
        if (kit_partition(kit_key(n, text)) == P_DROPPED)
            board->acked[n] = 0;
    must(store_vnode_drop(s, P_DROPPED));
    must(store_vnode_open(s, P_DROPPED, true, &id));
}

static void see_value(void *arg, const struct position *pos, struct slice object)
{
    static struct object o;

    (void)pos;
    (void)arg;
    if (object_open(&o, object) != 0)
        _exit(WRONG);
}

/* The files as another process of the node reads them. */
static void look_from_outside(const char *dir)
{
    struct snapshot *s;
    const uint64_t *leaves;
    struct position cursor = {{0}}, last;
    struct buf out = {0};
    uint64_t rows, bytes;
    unsigned bits;
    int rc;

    memset(last.b, 0xff, sizeof last.b);
    must(snapshot_open(&s, dir, P_UPKEEP, KIT_Q, 256 << 20));
    must(snapshot_leaves(s, &leaves, &bits));
    if (snapshot_objects(s, &cursor, &last, 1 << 20, &out) < 0)
        _exit(GAVE_ERROR);
    for (uint32_t i = 0;
         (rc = snapshot_verify(s, i, &rows, &bytes, &cursor)) != SNAPSHOT_END && rc >= 0; i++)
        if (rc != SNAPSHOT_SOUND)
            _exit(WRONG);
    buf_free(&out);
    snapshot_close(s);
}

static void upkeep(const char *dir)
{
    struct store_conf conf = kit_conf(dir);
    struct position cursor = {{0}}, pos;
    struct store *s;
    uint64_t id, unused;
    unsigned n;
    int rc;

    conf.segment_bytes = 64 << 10;
    must(store_open(&s, &conf));
    for (uint32_t p = 0; p < 1u << KIT_Q; p++)
        must(store_vnode_open(s, p, true, &id));
    pos = key_in(P_UPKEEP, &n);
    put_hints(s, &pos);
    put_twin(s, &pos);
    kit_flush(s);
    check_values(s);
    check_upkeep(s);
    id = store_vnode_id(s, P_UPKEEP);
    must(store_set_standing(s, P_UPKEEP, id, STANDING_WHOLE));
    must(store_verify(s, P_UPKEEP, &pos, false));
    while ((rc = store_scan(s, P_UPKEEP, &cursor, 3, see_value, NULL)) == 0)
        kit_turn(s);
    must(rc < 0 ? rc : 0);
    /* A dot that was never given out: the vnode takes a new id. */
    if (store_witness_dot(s, P_UPKEEP, (struct dot){id, UINT64_MAX / 2}) == 1 &&
        kit_dot(s, P_UPKEEP, &(struct dot){0}) != 0)
        _exit(GAVE_ERROR);
    take_away(s);
    check_upkeep(s);
    store_close(s);
    look_from_outside(dir);
    must(store_recover_all(&conf, &unused));
    _exit(REACHED_END);
}

static int in_child(void (*body)(const char *), const char *dir)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(30);
        for (int sig = SIGILL; sig <= SIGSEGV; sig++) /* cmocka's handlers would go on testing */
            signal(sig, SIG_DFL);
        freopen("/dev/null", "w", stderr);
        body(dir);
        _exit(REACHED_END);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void verify(const char *dir)
{
    struct store *s;

    armed = NONE;
    s = kit_open(dir);
    check_values(s);
    check_upkeep(s);
    kit_flush(s);
    check_values(s);
    check_upkeep(s);
    store_close(s);
}

/* Fail call n = 1, 2, ... until the body does not reach it. `again`: on a store that has data. */
static void every_call_of(void (*body)(const char *), enum fault kind, bool all_later, bool again,
                          long step)
{
    char dir[256];
    long n = 1;

    if (getenv("FAULTS_ALL") != NULL)
        step = LONG_MAX;

    for (;; n += 1 + n / step) {
        int status;

        setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 1);
        kit_dir(dir, sizeof dir);
        memset(board, 0, sizeof *board);
        armed = NONE;
        if (again)
            assert_int_equal(in_child(workload, dir), 0);
        armed = kind;
        lasting = all_later;
        atomic_store(left, n);
        status = in_child(body, dir);
        armed = NONE;
        bool ended = WIFEXITED(status) && WEXITSTATUS(status) != WRONG;
        bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
        if (!ended && !died)
            fail_msg("call %ld: status %x", n, status);
        bool reached = atomic_load(left) < 1;
        status = in_child(verify, dir);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("after call %ld: status %x, left in %s", n, status, dir);
        kit_remove(dir);
        if (!reached)
            break;
    }
    assert_true(n > 1);
}

static void every_call(enum fault kind, bool all_later, bool again, long step)
{
    every_call_of(workload, kind, all_later, again, step);
}

/* Hints, two keys at one position, removal, standing, checks, a new id, walks, expiry, a vnode given away,
 * the files read from outside, recovery without a worker. */
static void upkeep_with_calls_that_fail(void **state)
{
    (void)state;
    every_call_of(upkeep, WRITE, false, true, 8);
    every_call_of(upkeep, WRITE_FULL, false, true, 8);
    every_call_of(upkeep, SYNC, false, true, 8);
    every_call_of(upkeep, MAP, false, true, 20);
#ifndef __SANITIZE_ADDRESS__
    every_call_of(upkeep, ALLOCATE, false, true, 7);
#endif
}

static void writes_that_fail(void **state)
{
    (void)state;
    every_call(WRITE, false, false, 15);
    every_call(WRITE, false, true, 8);
}

static void writes_to_a_full_disk(void **state)
{
    (void)state;
    every_call(WRITE_FULL, false, true, 8);
}

static void syncs_that_fail(void **state)
{
    (void)state;
    every_call(SYNC, false, false, 15);
    every_call(SYNC, true, true, 8);
}

static void maps_that_fail(void **state)
{
    (void)state;
    every_call(MAP, false, false, 100);
}

static void allocations_that_fail(void **state)
{
    (void)state;
#ifndef __SANITIZE_ADDRESS__
    every_call(ALLOCATE, false, true, 7);
#endif
}

static int setup(void **state)
{
    (void)state;
    board = (void *)syscall(SYS_mmap, NULL, sizeof *board, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    left = (void *)syscall(SYS_mmap, NULL, sizeof *left, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return board == MAP_FAILED || (void *)left == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_that_fail),      cmocka_unit_test(writes_to_a_full_disk),
        cmocka_unit_test(syncs_that_fail),       cmocka_unit_test(maps_that_fail),
        cmocka_unit_test(allocations_that_fail), cmocka_unit_test(upkeep_with_calls_that_fail),
    };

    return cmocka_run_group_tests_name("a call that fails gives an error or a restart", tests,
                                       setup, NULL);
}
