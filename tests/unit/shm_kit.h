/* What the tests of shared memory have in common: a directory that goes away, and children. */
#ifndef CLOCKWISE_TESTS_UNIT_SHM_KIT_H
#define CLOCKWISE_TESTS_UNIT_SHM_KIT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIT_FAILED 99 /* exit status of a child that found something wrong */

static char kit_dir[128];

static inline void kit_make_dir(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(kit_dir, sizeof kit_dir, "%s/clockwise-shm-XXXXXX",
             tmp != NULL && strlen(tmp) < 64 ? tmp : "/tmp");
    assert_non_null(mkdtemp(kit_dir));
}

static inline void kit_remove_dir(void)
{
    DIR *d = opendir(kit_dir);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[512];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", kit_dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(kit_dir);
}

static inline int kit_setup(void **state)
{
    (void)state;
    kit_make_dir();
    return 0;
}

static inline int kit_teardown(void **state)
{
    (void)state;
    kit_remove_dir();
    return 0;
}

/* For children: say what is wrong and die of it. */
#define KIT_CHECK(c)                                                                               \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c);                                \
            _exit(KIT_FAILED);                                                                     \
        }                                                                                          \
    } while (0)

/* Kill -9 and collect; a child that had failed by itself before fails the test. */
static inline void kit_kill(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

#endif
