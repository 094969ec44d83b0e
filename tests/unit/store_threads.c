/* How the threads of the engine share the CPU. */
#include "tests/unit/store_kit.h"

#include "base/cpu.h"

#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The thread of this process with that name. */
static pid_t thread_called(const char *name)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    pid_t found = 0;

    assert_non_null(d);
    while (found == 0 && (e = readdir(d)) != NULL) {
        char path[300], is[32] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        f = fopen(path, "r");
        if (f == NULL)
            continue;
        if (fgets(is, sizeof is, f) != NULL && strncmp(is, name, strlen(name)) == 0)
            found = (pid_t)atoi(e->d_name);
        fclose(f);
    }
    closedir(d);
    assert_int_not_equal(found, 0);
    return found;
}

static void the_lowest_class_is_entered_only_where_it_can_be_left(void **state)
{
    bool can = cpu_can_idle();

    (void)state;
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER); /* trying has not changed this thread */
    if (!can) {
        print_message("skipped the rest: no CAP_SYS_NICE, and RLIMIT_NICE is too low\n");
        return;
    }
    char dir[256];
    kit_dir(dir, sizeof dir);
    struct store *s = kit_open(dir);
    uint64_t lsn;

    assert_int_equal(kit_put_full(s, 1, 1, 100, 0, &lsn), 0);
    kit_wait(s, lsn);
    kit_flush(s); /* whatever the start needed is done */
    pid_t flush = thread_called("flush");
    for (int i = 0; i < 1000 && sched_getscheduler(flush) != SCHED_IDLE; i++)
        usleep(1000);
    assert_int_equal(sched_getscheduler(flush), SCHED_IDLE);
    store_set_sparing(s, true); /* the CPU is short: it must get some */
    store_kick(s);
    assert_int_equal(sched_getscheduler(flush), SCHED_BATCH);
    store_set_sparing(s, false);
    store_kick(s);
    assert_int_equal(sched_getscheduler(flush), SCHED_IDLE);
    assert_int_equal(sched_getscheduler(thread_called("journal")), SCHED_OTHER);
    store_close(s);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_class_is_entered_only_where_it_can_be_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
