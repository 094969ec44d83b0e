/* Who a vnode is: every way of forgetting must lead to a new id, and nothing else may. */
#include "tests/unit/store_kit.h"

#include "store/bucket.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { P = 1, KEYS = 200 };

static char dir[256];
static uint64_t id_before;

/* Flush everything and do away with the journal, which would bring keys back. */
static void recover(void)
{
    struct store_conf conf = kit_conf(dir);
    uint64_t records;

    assert_int_equal(store_recover_all(&conf, &records), 0);
}

/* A flushed store with some keys, closed. */
static int setup(void **state)
{
    (void)state;
    kit_dir(dir, sizeof dir);
    struct store *s = kit_open(dir);
    for (unsigned n = 0; n < KEYS; n++)
        kit_put(s, n, n);
    kit_flush(s);
    id_before = store_vnode_id(s, P);
    store_close(s);
    recover();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_remove(dir);
    return 0;
}

static void path_in(char *out, const char *tail)
{
    file_path(out, "%s/vnodes/%d%s", dir, P, tail);
}

/* Open everything; how many new ids were taken, whether P has one, and how many keys are there. */
struct found {
    uint64_t new_ids, quarantined;
    bool changed;
    unsigned keys;
};

static struct found look(void)
{
    struct store *s = kit_open(dir);
    struct store_stats stats;
    struct found found = {0};

    store_stats(s, &stats);
    found.new_ids = stats.new_vnode_ids;
    found.quarantined = stats.quarantined_vnodes;
    found.changed = store_vnode_id(s, P) != id_before;
    for (unsigned n = 0; n < KEYS; n++)
        found.keys += kit_get(s, n) == n;
    store_close(s);
    return found;
}

static void a_vnode_that_forgot_nothing_keeps_its_id(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct found found = look();

        assert_int_equal(found.new_ids, 0);
        assert_false(found.changed);
        assert_int_equal(found.keys, KEYS);
    }
}

static void a_lost_folder_is_noticed(void **state)
{
    char path[FILE_PATH];

    (void)state;
    path_in(path, "");
    kit_remove(path);
    struct found found = look();
    assert_int_equal(found.new_ids, 1);
    assert_true(found.changed);
    assert_true(found.keys < KEYS);
    assert_int_equal(look().new_ids, 0); /* once */
}

static void a_copy_that_came_back_is_noticed(void **state)
{
    char path[FILE_PATH], command[6 * FILE_PATH];

    (void)state;
    path_in(path, "");
    snprintf(command, sizeof command, "cp -a %s %s.copy && rm -r %s && mv %s.copy %s", path, path,
             path, path, path);
    assert_int_equal(system(command), 0);
    struct found found = look();
    assert_int_equal(found.new_ids, 1);
    assert_true(found.changed);
    assert_int_equal(found.keys, KEYS);
    assert_int_equal(look().new_ids, 0);
}

/* Put every key anew, with another number. */
static void put_again(struct store *s, unsigned more)
{
    for (unsigned n = 0; n < KEYS; n++)
        kit_put(s, n, n + more);
    kit_flush(s);
}

static void run(const char *format, const char *path)
{
    char command[2 * FILE_PATH + 64];

    snprintf(command, sizeof command, format, path, path);
    assert_int_equal(system(command), 0);
}

/* The inode and the birth time stay then: only its commits tell. */
static void an_older_copy_written_over_the_file_is_noticed(void **state)
{
    char path[FILE_PATH];

    (void)state;
    path_in(path, "/data.mdb");
    for (int other_workers = 0; other_workers < 2; other_workers++) {
        struct store *s = kit_open(dir);

        put_again(s, 1000);
        run("cp %s %s.copy", path);
        put_again(s, 0);
        id_before = store_vnode_id(s, P);
        store_close(s);
        if (other_workers)
            recover();
        run("cat %s.copy >%s", path);
        struct found found = look();
        assert_int_equal(found.new_ids, 1);
        assert_true(found.changed);
        assert_int_equal(look().new_ids, 0);
    }
}

static void commits_that_nobody_knows_of_do_no_harm(void **state)
{
    char path[FILE_PATH], journal[FILE_PATH];

    (void)state;
    assert_int_equal(look().new_ids, 0);
    file_path(journal, "%s/journal/0", dir);
    file_path(path, "%s/commits", journal);
    assert_true(file_size(path) > 0);
    assert_int_equal(file_replace(journal, "commits", slice_str("garbage")), 0);
    assert_int_equal(look().new_ids, 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(look().new_ids, 0);
    assert_true(file_size(path) > 0);
}

static void a_missing_or_foreign_id_file_is_noticed(void **state)
{
    char path[FILE_PATH], vnodes[FILE_PATH];

    (void)state;
    path_in(path, ".id");
    assert_int_equal(unlink(path), 0);
    struct found found = look();
    assert_int_equal(found.new_ids, 1);
    assert_true(found.changed);
    file_path(vnodes, "%s/vnodes", dir);
    assert_int_equal(
        file_replace(vnodes, "1.id", slice_str("clockwise-vnode 1 id 00000000000000ff worker 0\n")),
        0);
    assert_int_equal(look().new_ids, 1);
    assert_int_equal(file_replace(vnodes, "1.id", slice_str("garbage")), 0);
    assert_int_equal(look().new_ids, 1);
    assert_int_equal(look().new_ids, 0);
}

/* In each meta page of LMDB: where it says how large a page is, and which is the last one. */
static void flip_in_metas(const char *path, off_t at, int bit)
{
    for (off_t page = 0; page < 2 * 4096; page += 4096) {
        int fd = open(path, O_RDWR);
        uint8_t byte;

        assert_int_equal(pread(fd, &byte, 1, page + at), 1);
        byte ^= (uint8_t)(1 << bit);
        assert_int_equal(file_write_at(fd, &byte, 1, (uint64_t)(page + at)), 0);
        close(fd);
    }
}

static void damage_file(const char *path, int kind)
{
    uint8_t junk[8192];

    memset(junk, 0x5a, sizeof junk);
    switch (kind) {
    case 0:
        assert_int_equal(truncate(path, 8192), 0);
        break;
    case 1: {
        int fd = open(path, O_WRONLY);

        assert_int_equal(file_write_at(fd, junk, sizeof junk, 0), 0);
        close(fd);
        break;
    }
    case 2:
        assert_int_equal(unlink(path), 0);
        break;
    case 3:
        assert_int_equal(truncate(path, 0), 0);
        break;
    case 4:
        flip_in_metas(path, 41, 4); /* the page size becomes 0 */
        break;
    case 5:
        flip_in_metas(path, 42, 0); /* ... or larger than it is */
        break;
    case 6:
        flip_in_metas(path, 140, 5); /* the last page lies beyond what can be mapped */
        break;
    default: /* a folder where a file should be */
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
    }
}

/* Whether the journal has something for it or not. */
static void a_file_that_cannot_be_read_is_quarantined_and_the_others_serve(void **state)
{
    char path[FILE_PATH];

    (void)state;
    for (int kind = 0; kind < 16; kind++) {
        path_in(path, "/data.mdb");
        damage_file(path, kind / 2);
        struct found found = look();
        assert_int_equal(found.quarantined, 1);
        assert_int_equal(found.new_ids, 1);
        if (kind % 2 == 0)
            assert_true(found.keys > KEYS / 2 && found.keys < KEYS);
        else
            assert_int_equal(found.keys, KEYS);
        struct store *s = kit_open(dir); /* for the next kind */
        for (unsigned n = 0; n < KEYS; n++)
            kit_put(s, n, n);
        kit_flush(s);
        if (kind % 2 == 0)
            for (unsigned n = 0; n < KEYS; n++)
                kit_put(s, n, n);
        store_close(s);
        if (kind % 2 == 1)
            recover();
    }
}

static void a_lost_journal_is_noticed(void **state)
{
    char path[FILE_PATH];

    (void)state;
    assert_int_equal(look().new_ids, 0);
    file_path(path, "%s/journal/0", dir);
    kit_remove(path);
    assert_int_equal(look().new_ids, 1 << KIT_Q);
    assert_int_equal(look().new_ids, 0);
}

/* The places of some bytes in the data file: old versions of pages may hold them as well. */
struct places {
    off_t at[64];
    int count;
};

static struct places places_of(const char *path, const void *bytes, size_t len)
{
    static uint8_t file[4 << 20];
    struct places found = {.count = 0};
    size_t got;

    assert_int_equal(file_load(path, file, sizeof file, &got), 0);
    for (const uint8_t *at = file; (at = memmem(at, got - (size_t)(at - file), bytes, len)); at++)
        found.at[found.count++] = at - file;
    assert_true(found.count > 0);
    return found;
}

static void flip(const char *path, off_t at, int bit)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static struct places places_of_record(struct store *s, unsigned n, size_t *len)
{
    char path[FILE_PATH], text[KIT_KEY];
    static uint8_t copy[4096];
    static struct bucket_reader reader;
    struct slice key = kit_key(n, text), object, row;
    struct position pos = position_of(key);

    assert_int_equal(store_get(s, P, &pos, key, &object), 0);
    assert_int_equal(bucket_next(object, &(size_t){0}, &reader), 1);
    row = bucket_pack(object, &reader);
    *len = row.len;
    memcpy(copy, row.data, row.len);
    path_in(path, "/data.mdb");
    return places_of(path, copy, *len);
}

static void every_flipped_bit_of_a_record_is_found_reported_and_repaired_from(void **state)
{
    char path[FILE_PATH], text[KIT_KEY];
    unsigned n = 0;
    size_t len;

    (void)state;
    while (kit_partition(kit_key(n, text)) != P)
        n++;
    path_in(path, "/data.mdb");
    struct store *s = kit_open(dir);
    struct places places = places_of_record(s, n, &len);
    uint64_t lsn = 0;
    for (size_t bit = 0; bit < len * 8; bit += 13) {
        struct store_stats stats, after;
        uint64_t id = store_vnode_id(s, P);
        struct dot dot;

        for (int i = 0; i < places.count; i++)
            flip(path, places.at[i] + (off_t)(bit / 8), (int)(bit % 8));
        store_stats(s, &stats);
        assert_int_equal(kit_get(s, n), -ERR_CORRUPT);
        assert_int_equal(kit_dot(s, P, &dot), 0);
        assert_true(dot.vnode != id && dot.vnode == store_vnode_id(s, P));
        store_stats(s, &after);
        assert_int_equal(after.new_vnode_ids, stats.new_vnode_ids + 1);
        assert_true(after.corrupt_records > stats.corrupt_records);
        assert_int_equal(kit_get(s, n), -ERR_NOTFOUND);
        assert_int_equal(kit_put_full(s, n, (unsigned)bit, 16, 0, &lsn), 0); /* the repair */
        kit_flush(s);
        assert_int_equal(kit_get(s, n), bit);
        places = places_of_record(s, n, &len);
    }
    id_before = store_vnode_id(s, P);
    store_close(s);
    assert_int_equal(look().new_ids, 0);
}

static void count_object(void *arg, const struct position *pos, struct slice object)
{
    (void)pos;
    assert_true(object.len > 0);
    ++*(unsigned *)arg;
}

static unsigned scan_vnode(struct store *s)
{
    struct position cursor = {{0}};
    unsigned count = 0;
    int rc;

    while ((rc = store_scan(s, P, &cursor, 7, count_object, &count)) == 0)
        continue;
    assert_int_equal(rc, 1);
    return count;
}

static void a_walk_leaves_damaged_records_out_and_reports_them(void **state)
{
    char path[FILE_PATH], text[KIT_KEY];
    struct store_stats stats;
    struct dot dot;
    unsigned n = 0;
    size_t len;

    (void)state;
    while (kit_partition(kit_key(n, text)) != P)
        n++;
    path_in(path, "/data.mdb");
    struct store *s = kit_open(dir);
    unsigned all = scan_vnode(s);
    struct places places = places_of_record(s, n, &len);
    for (int i = 0; i < places.count; i++)
        flip(path, places.at[i] + (off_t)len - 1, 0);
    assert_int_equal(scan_vnode(s), all - 1);
    assert_int_equal(kit_dot(s, P, &dot), 0);
    assert_true(dot.vnode != id_before);
    store_stats(s, &stats);
    assert_int_equal(stats.corrupt_records, 1);
    assert_int_equal(stats.new_vnode_ids, 1);
    assert_int_equal(scan_vnode(s), all - 1);
    store_close(s);
}

static void damage_in_the_journal_is_amnesia_of_that_workers_vnodes(void **state)
{
    char path[FILE_PATH];
    struct store *s = kit_open(dir);
    uint64_t lsn = 0;

    (void)state;
    for (unsigned n = 0; n < 30; n++) {
        lsn = kit_put(s, n, n);
        kit_wait(s, lsn);
    }
    store_close(s);
    DIR *journal;
    struct dirent *entry;
    file_path(path, "%s/journal/0", dir);
    journal = opendir(path);
    char newest[FILE_PATH] = "";
    while ((entry = readdir(journal)) != NULL)
        if (entry->d_name[0] == '0') {
            uint8_t head[64];
            size_t got;
            uint64_t first;

            file_path(path, "%s/journal/0/%s", dir, entry->d_name);
            file_load(path, head, sizeof head, &got);
            memcpy(&first, head + 40, 8);
            if (first != 0 && strcmp(path, newest) > 0)
                memcpy(newest, path, sizeof path);
        }
    closedir(journal);
    flip(newest, 64 + 32 + 40, 3);
    s = kit_open(dir);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids, 1 << KIT_Q);
    assert_true(stats.corrupt_records > 0);
    for (unsigned n = 2; n < 30; n++)
        assert_int_equal(kit_get(s, n), n);
    store_close(s);
    struct found found =
        look(); /* it is answered once; the segment is kept for people to look at */
    assert_int_equal(found.new_ids, 0);
    assert_int_equal(found.keys, KEYS);
    file_path(path, "%s/quarantine", dir);
    assert_true(file_exists(path));
}

/* As a bad block would: a folder has the name of a segment. */
static void a_journal_segment_that_cannot_be_read_is_damage_and_set_aside(void **state)
{
    char path[FILE_PATH];

    (void)state;
    assert_int_equal(look().new_ids, 0);
    file_path(path, "%s/journal/0/000000000099.wal", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    struct found found = look();
    assert_int_equal(found.new_ids, 1 << KIT_Q);
    assert_int_equal(found.keys, KEYS);
    found = look();
    assert_int_equal(found.new_ids, 0);
    assert_int_equal(found.keys, KEYS);
}

static void a_dot_that_was_never_issued_here_gives_the_vnode_a_new_id(void **state)
{
    struct store *s = kit_open(dir);
    uint64_t id = store_vnode_id(s, P);
    struct dot dot;

    (void)state;
    assert_int_equal(kit_dot(s, P, &dot), 0);
    assert_int_equal(store_witness_dot(s, P, dot), 0);
    assert_int_equal(store_witness_dot(s, P, (struct dot){id + 1, 1ull << 60}), 0);
    assert_int_equal(store_vnode_id(s, P), id);
    dot.n++;
    assert_int_equal(store_witness_dot(s, P, dot), 1);
    assert_int_equal(kit_dot(s, P, &dot), 0);
    assert_true(dot.vnode != id);
    assert_int_equal(dot.n, 1);
    id = dot.vnode;
    store_close(s);
    s = kit_open(dir);
    assert_int_equal(store_vnode_id(s, P), id);
    store_close(s);
}

static void another_number_of_partitions_is_refused(void **state)
{
    struct store_conf conf = kit_conf(dir);
    struct store *s;
    uint64_t id;

    (void)state;
    conf.q_bits = KIT_Q + 1;
    assert_int_equal(store_open(&s, &conf), 0);
    assert_int_equal(store_vnode_open(s, P, true, &id), -ERR_INVAL);
    store_close(s);
    assert_int_equal(look().new_ids, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_vnode_that_forgot_nothing_keeps_its_id),
        TEST(a_lost_folder_is_noticed),
        TEST(a_copy_that_came_back_is_noticed),
        TEST(an_older_copy_written_over_the_file_is_noticed),
        TEST(commits_that_nobody_knows_of_do_no_harm),
        TEST(a_missing_or_foreign_id_file_is_noticed),
        TEST(a_file_that_cannot_be_read_is_quarantined_and_the_others_serve),
        TEST(a_lost_journal_is_noticed),
        TEST(every_flipped_bit_of_a_record_is_found_reported_and_repaired_from),
        TEST(a_walk_leaves_damaged_records_out_and_reports_them),
        TEST(damage_in_the_journal_is_amnesia_of_that_workers_vnodes),
        TEST(a_journal_segment_that_cannot_be_read_is_damage_and_set_aside),
        TEST(a_dot_that_was_never_issued_here_gives_the_vnode_a_new_id),
        TEST(another_number_of_partitions_is_refused),
    };

    return cmocka_run_group_tests_name("a vnode that has forgotten anything takes a new id", tests,
                                       NULL, NULL);
}
