/* What a process had handed to the kernel survives its death and not a power cut: a vnode that may have
 * lost writes of which others have heard takes a new id, and no other does. */
#include "tests/unit/store_kit.h"

#include "store/journal_format.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { VNODES = 1 << KIT_Q, KEYS = 50 };

static char dir[256];
static uint64_t ids[VNODES];

static struct store *open_under(const char *boot, enum store_durability durability)
{
    struct store_conf conf = kit_conf(dir);

    conf.boot_id = boot;
    conf.durability = durability;
    return kit_open_conf(&conf);
}

/* A store with some keys, closed in an orderly way under boot one. */
static int setup(void **state)
{
    (void)state;
    kit_dir(dir, sizeof dir);
    struct store *s = open_under("one", STORE_ALWAYS);
    for (unsigned n = 0; n < KEYS; n++)
        kit_put(s, n, n);
    kit_flush(s);
    for (uint32_t p = 0; p < VNODES; p++)
        ids[p] = store_vnode_id(s, p);
    store_close(s);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_remove(dir);
    return 0;
}

/* Another process opens the store, hands some writes over, and dies. */
static void write_and_die(const char *boot, enum store_durability durability)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct store *s = open_under(boot, durability);

        for (unsigned n = 0; n < KEYS; n++)
            kit_put(s, n, n + 1000);
        _exit(store_kick(s) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* How many vnodes have another id than before under this boot; their new ones are noted. */
static unsigned renewed_under(const char *boot)
{
    struct store *s = open_under(boot, STORE_ALWAYS);
    struct store_stats stats;
    unsigned count = 0;

    store_stats(s, &stats);
    for (uint32_t p = 0; p < VNODES; p++) {
        count += store_vnode_id(s, p) != ids[p];
        ids[p] = store_vnode_id(s, p);
    }
    assert_int_equal(stats.new_vnode_ids, count);
    store_close(s);
    return count;
}

static void what_was_handed_over_survives_the_process_before_any_sync(void **state)
{
    static const enum store_durability kinds[] = {STORE_ALWAYS, STORE_EVERYSEC, STORE_NEVER};

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        write_and_die("one", kinds[i]);
        struct store *s = open_under("one", STORE_ALWAYS);
        for (unsigned n = 0; n < KEYS; n++)
            assert_int_equal(kit_get(s, n), n + 1000);
        store_close(s);
    }
}

static void a_killed_process_costs_no_vnode_its_id(void **state)
{
    (void)state;
    write_and_die("one", STORE_ALWAYS);
    assert_int_equal(renewed_under("one"), 0);
}

static void an_unclean_end_before_another_boot_costs_every_vnode_its_id_once(void **state)
{
    (void)state;
    write_and_die("one", STORE_ALWAYS);
    assert_int_equal(renewed_under("two"), VNODES);
    assert_int_equal(renewed_under("two"), 0);
    assert_int_equal(renewed_under("three"), 0);
}

static void an_orderly_end_costs_no_vnode_its_id_whatever_the_boot(void **state)
{
    (void)state;
    assert_int_equal(renewed_under("two"), 0);
    write_and_die("two", STORE_ALWAYS);
    assert_int_equal(renewed_under("two"), 0); /* closes in an orderly way */
    assert_int_equal(renewed_under("three"), 0);
}

static void a_boot_that_does_not_tell_its_id_counts_as_another(void **state)
{
    (void)state;
    write_and_die("", STORE_ALWAYS);
    assert_int_equal(renewed_under(""), VNODES);
}

/* As a power cut leaves it when nothing of the last run had reached the disk. */
static void lose_the_last_segment_that_was_written(void)
{
    static const uint8_t zeros[4096];
    char path[FILE_PATH], last[FILE_PATH] = "";
    struct dirent *entry;

    file_path(path, "%s/journal/0", dir);
    DIR *d = opendir(path);
    while ((entry = readdir(d)) != NULL) {
        struct journal_header h;
        size_t got;

        file_path(path, "%s/journal/0/%s", dir, entry->d_name);
        if (strstr(entry->d_name, ".wal") == NULL || entry->d_name[0] != '0')
            continue;
        file_load(path, &h, sizeof h, &got);
        if (h.first_lsn != 0 && strcmp(path, last) > 0)
            memcpy(last, path, sizeof path);
    }
    closedir(d);
    assert_true(last[0] != 0);
    int fd = open(last, O_RDWR);
    for (uint64_t at = JOURNAL_HEADER; at < file_size(last); at += sizeof zeros)
        assert_int_equal(
            file_write_at(fd, zeros,
                          file_size(last) - at < sizeof zeros ? file_size(last) - at : sizeof zeros,
                          at),
            0);
    close(fd);
}

static void an_orderly_end_of_the_run_before_does_not_hide_what_was_lost(void **state)
{
    (void)state;
    write_and_die("two", STORE_ALWAYS);
    lose_the_last_segment_that_was_written();
    assert_int_equal(renewed_under("three"), VNODES);
}

static void journals_of_a_larger_number_of_workers_are_looked_at_alike(void **state)
{
    struct store_conf conf = kit_conf(dir);
    uint64_t records;

    (void)state;
    write_and_die("one", STORE_ALWAYS);
    conf.boot_id = "two";
    assert_int_equal(store_recover_all(&conf, &records), 0);
    assert_true(records > 0);
    struct store *s = open_under("two", STORE_ALWAYS);
    for (uint32_t p = 0; p < VNODES; p++)
        assert_true(store_vnode_id(s, p) != ids[p]);
    for (unsigned n = 0; n < KEYS; n++)
        assert_int_equal(kit_get(s, n), n + 1000);
    store_close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_handed_over_survives_the_process_before_any_sync),
        TEST(a_killed_process_costs_no_vnode_its_id),
        TEST(an_unclean_end_before_another_boot_costs_every_vnode_its_id_once),
        TEST(an_orderly_end_costs_no_vnode_its_id_whatever_the_boot),
        TEST(a_boot_that_does_not_tell_its_id_counts_as_another),
        TEST(an_orderly_end_of_the_run_before_does_not_hide_what_was_lost),
        TEST(journals_of_a_larger_number_of_workers_are_looked_at_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
