/* The n-th call of a system function fails, for every n that a workload reaches: the store must
 * return an error or the process must end with an obituary; what was acknowledged must be there
 * afterwards and nothing may be wrong. The functions are defined here, so that LMDB's calls fail as
 * well. Late calls are sampled; with FAULTS_ALL in the environment they are not. */
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
    kit_flush(s);
    check_values(s);
    store_close(s);
}

static void faulty_workload(const char *dir)
{
    workload(dir);
}

/* Fail call n = 1, 2, ... until the workload does not reach it. `again`: on a store that has data. */
static void every_call(enum fault kind, bool all_later, bool again, long step)
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
        status = in_child(faulty_workload, dir);
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
        cmocka_unit_test(allocations_that_fail),
    };

    return cmocka_run_group_tests_name("a call that fails gives an error or a restart", tests,
                                       setup, NULL);
}
