/* Files of a vnode are damaged anywhere, under a stopped store and under a running one: never is a wrong
 * value served, the other vnodes lose nothing, and a process dies of it at most once or twice. ROUNDS in
 * the environment says how many damages of each kind (default 2). */
#include "tests/unit/store_kit.h"

#include "base/rand.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { P = 1, KEYS = 3000, DEATHS = 2 };

enum kind { FLIPS, PAGES, TRUNCATED, ZEROED, KINDS };

static char dir[256];

static void data_path(char *out)
{
    file_path(out, "%s/vnodes/%d/data.mdb", dir, P);
}

static void damage(enum kind kind, struct rand *r)
{
    char path[FILE_PATH];
    uint8_t page[4096];

    data_path(path);
    uint64_t size = file_size(path);
    int fd = open(path, O_RDWR);
    if (fd < 0)
        return;
    switch (kind) {
    case FLIPS:
        for (int i = 0; i < 200; i++) {
            off_t at = (off_t)rand_below(r, size);

            if (pread(fd, page, 1, at) != 1)
                break;
            page[0] ^= (uint8_t)(1 << rand_below(r, 8));
            ASSERT(pwrite(fd, page, 1, at) == 1);
        }
        break;
    case PAGES:
    case ZEROED:
        for (uint64_t i = 0; i <= size / sizeof page / 4; i++) {
            for (size_t k = 0; k < sizeof page; k++)
                page[k] = kind == ZEROED ? 0 : (uint8_t)rand_next(r);
            ASSERT(file_write_at(fd, page, sizeof page,
                                 rand_below(r, size / sizeof page) * sizeof page) == 0);
        }
        break;
    default:
        ASSERT(ftruncate(fd, (off_t)rand_below(r, size)) == 0);
    }
    close(fd);
}

/* Read everything; exit code 2 for a wrong value, 3 for a loss elsewhere. */
static void read_all(struct store *s)
{
    for (unsigned n = 0; n < KEYS; n++) {
        char text[KIT_KEY];
        bool damaged = kit_partition(kit_key(n, text)) == P;
        int64_t got = kit_get(s, n);

        if (got >= 0 && got != n && got != n + KEYS)
            _exit(2);
        if (got < 0 && !damaged)
            _exit(3);
        if (n % 200 == 0)
            kit_turn(s);
    }
}

static void see(void *arg, const struct position *pos, struct slice object)
{
    static struct object o;
    struct sibling sibling;

    (void)pos;
    (void)arg;
    if (object_open(&o, object) != 0 || !object_winner(&o, 0, &sibling, NULL))
        _exit(4);
}

/* Use the vnode in every way, for as long as it takes to come to rest. */
static void use(struct store *s)
{
    struct position cursor = {{0}};
    uint64_t lsn = 0;
    struct dot dot;

    read_all(s);
    for (int i = 0; i < 10000 && store_scan(s, P, &cursor, 50, see, NULL) == 0; i++)
        kit_turn(s);
    for (unsigned n = 0; n < KEYS; n += 3) {
        int err = kit_put_full(s, n, n + KEYS, 16, 0, &lsn);

        if (err != 0)
            _exit(5);
        if (n % 300 == 0) {
            kit_wait(s, lsn);
            kit_turn(s);
        }
    }
    kit_flush(s);
    read_all(s);
    if (kit_dot(s, P, &dot) != 0)
        _exit(6);
    for (unsigned n = 0; n < KEYS; n += 3) /* what was written last is there, whatever was before */
        if (kit_get(s, n) >= 0 && kit_get(s, n) != n + KEYS)
            _exit(7);
}

/* One life of a process on the damaged files; its status. */
static int live(enum kind kind, bool running, uint64_t seed)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        static const struct rlimit no_core = {0, 0};
        struct rand r;

        setrlimit(RLIMIT_CORE, &no_core);
        for (int sig = SIGILL; sig <= SIGSEGV; sig++)
            signal(sig, SIG_DFL);
        check_install_handlers();
        ASSERT(getenv("TEST_LOG") != NULL || freopen("/dev/null", "w", stderr) != NULL);
        alarm(60); /* a walk in circles */
        rand_seed(&r, seed);
        struct store *s = kit_open(dir);
        if (running) {
            read_all(s);
            damage(kind, &r);
        }
        use(s);
        store_close(s);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void make_store(void)
{
    kit_dir(dir, sizeof dir);
    struct store *s = kit_open(dir);
    for (unsigned n = 0; n < KEYS; n++)
        kit_put(s, n, n);
    kit_flush(s);
    store_close(s);
    struct store_conf conf = kit_conf(dir);
    uint64_t records;
    assert_int_equal(store_recover_all(&conf, &records), 0);
}

static void run_round(enum kind kind, bool running, uint64_t seed)
{
    struct rand r;
    int deaths = 0, status;

    rand_seed(&r, seed);
    make_store();
    if (!running)
        damage(kind, &r);
    for (status = live(kind, running, seed); status != 0; status = live(kind, false, seed)) {
        if (WIFEXITED(status) || ++deaths > DEATHS || WTERMSIG(status) == SIGALRM)
            fail_msg("kind %d, %s, seed %lu: status %x after %d deaths", (int)kind,
                     running ? "running" : "stopped", (unsigned long)seed, (unsigned)status,
                     deaths);
    }
    kit_remove(dir);
}

static void rounds(bool running)
{
    const char *text = getenv("ROUNDS");
    uint64_t count = text != NULL ? strtoull(text, NULL, 10) : 2;

    for (uint64_t seed = 1; seed <= count; seed++)
        for (int kind = 0; kind < KINDS; kind++)
            run_round((enum kind)kind, running, seed);
}

static void a_file_damaged_while_nobody_had_it_open_harms_no_other(void **state)
{
    (void)state;
    rounds(false);
}

static void a_file_damaged_while_in_use_harms_no_other(void **state)
{
    (void)state;
    rounds(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_damaged_while_nobody_had_it_open_harms_no_other),
        cmocka_unit_test(a_file_damaged_while_in_use_harms_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
