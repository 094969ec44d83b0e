/* Directories, lock and identity of a node. */
#include "supervisor/node_id.h"

#include "base/err.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/clockwise-node-id-XXXXXX";
static char error[256];

static int make(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int clean(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in_dir(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void an_identity_is_made_once(void **state)
{
    struct node_id first, second;

    (void)state;
    assert_int_equal(node_id_load(dir, &first, error, sizeof error), 0);
    assert_false(node_id_is_zero(&first));
    assert_int_equal(node_id_load(dir, &second, error, sizeof error), 0);
    assert_true(node_id_equal(&first, &second));
}

static void a_damaged_identity_is_not_replaced(void **state)
{
    static const char *const bad[] = {"", "0123\n", "00000000000000000000000000000000\n",
                                      "0123456789abcdef0123456789abcdefff\n",
                                      "0123456789abcdeg0123456789abcdef\n"};
    struct node_id id;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("node-id", bad[i]);
        assert_int_equal(node_id_load(dir, &id, error, sizeof error), -ERR_CORRUPT);
        assert_non_null(strstr(error, "/node-id is damaged"));
    }
    assert_int_equal(unlink(in_dir("node-id")), 0);
}

static void the_number_of_workers_is_remembered(void **state)
{
    uint32_t workers = 7;

    (void)state;
    assert_int_equal(node_id_read_workers(dir, &workers, error, sizeof error), 0);
    assert_int_equal(workers, 0);
    assert_int_equal(node_id_write_workers(dir, 3, error, sizeof error), 0);
    assert_int_equal(node_id_read_workers(dir, &workers, error, sizeof error), 0);
    assert_int_equal(workers, 3);
    put("workers", "65\n");
    assert_int_equal(node_id_read_workers(dir, &workers, error, sizeof error), -ERR_CORRUPT);
}

static void directories_are_made_and_must_be_ours(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(node_id_make_dir(in_dir("a/b/c"), error, sizeof error), 0);
    assert_int_equal(stat(in_dir("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(node_id_make_dir(in_dir("a/b/c"), error, sizeof error), 0);
    assert_int_equal(chmod(in_dir("a/b/c"), 0777), 0);
    assert_int_equal(node_id_make_dir(in_dir("a/b/c"), error, sizeof error), -ERR_DENIED);
    put("file", "");
    assert_true(node_id_make_dir(in_dir("file"), error, sizeof error) < 0);
    assert_true(node_id_make_dir(in_dir("file/below"), error, sizeof error) < 0);
}

static void the_lock_has_one_holder_and_names_it(void **state)
{
    char expected[64];
    uint64_t started_ms = 1000;
    int fd, second;

    (void)state;
    assert_int_equal(node_id_lock(dir, "data", &fd, &started_ms, error, sizeof error), 0);
    assert_int_equal(node_id_lock(dir, "data", &second, &started_ms, error, sizeof error),
                     -ERR_BUSY);
    snprintf(expected, sizeof expected, "another clockwised with pid %d uses", (int)getpid());
    assert_non_null(strstr(error, expected));
    close(fd);
}

static void starts_rise_when_the_clock_is_set_back(void **state)
{
    uint64_t started_ms = 5000;
    int fd;

    (void)state;
    assert_int_equal(node_id_lock(dir, "data", &fd, &started_ms, error, sizeof error), 0);
    assert_int_equal(started_ms, 5000);
    close(fd);
    started_ms = 4000;
    assert_int_equal(node_id_lock(dir, "data", &fd, &started_ms, error, sizeof error), 0);
    assert_int_equal(started_ms, 5001);
    close(fd);
    started_ms = 6000;
    assert_int_equal(node_id_lock(dir, "data", &fd, &started_ms, error, sizeof error), 0);
    assert_int_equal(started_ms, 6000);
    close(fd);
    put("lock", "garbage");
    assert_int_equal(node_id_lock(dir, "data", &fd, &started_ms, error, sizeof error), 0);
    assert_int_equal(started_ms, 6000);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_identity_is_made_once),
        cmocka_unit_test(a_damaged_identity_is_not_replaced),
        cmocka_unit_test(the_number_of_workers_is_remembered),
        cmocka_unit_test(directories_are_made_and_must_be_ours),
        cmocka_unit_test(the_lock_has_one_holder_and_names_it),
        cmocka_unit_test(starts_rise_when_the_clock_is_set_back),
    };

    return cmocka_run_group_tests_name("the identity of a node", tests, make, clean);
}
