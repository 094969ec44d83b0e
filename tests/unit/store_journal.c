/* The journal: what was appended comes back, a torn tail is cut, damage is recognised. */
#include "tests/unit/store_kit.h"

#include "store/journal.h"
#include "store/journal_file.h"
#include "store/journal_read.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void nothing(void *arg)
{
    (void)arg;
}

static struct journal *open_journal(const char *dir, uint64_t lsn, uint64_t sequence)
{
    struct journal_conf conf = {
        .dir = dir,
        .segment_bytes = 64 << 10,
        .durability = STORE_ALWAYS,
        .next_lsn = lsn,
        .next_sequence = sequence,
        .progress = nothing,
        .need_prepare = nothing,
    };
    struct journal *j;

    assert_int_equal(journal_open(&j, &conf), 0);
    return j;
}

static uint64_t append(struct journal *j, uint32_t n, size_t size)
{
    static uint8_t data[128 << 10];
    struct slice none = {0};

    memset(data, (int)n, size);
    assert_int_equal(journal_check(j, 4 + size, false), 0);
    return journal_append(j, JOURNAL_PUT, n % 8, slice_of(&n, 4), slice_of(data, size), none);
}

static void wait_durable(struct journal *j, uint64_t lsn)
{
    journal_kick(j);
    while (journal_durable(j) < lsn)
        usleep(100);
}

/* Collects what a replay brings: record number n (from the payload) was seen. */
struct seen {
    uint8_t puts[4096];
    uint32_t count;
    uint64_t last_lsn;
};

static int note(void *arg, const struct journal_record *record, struct slice payload)
{
    struct seen *seen = arg;
    uint32_t n;

    assert_true(record->lsn > seen->last_lsn);
    seen->last_lsn = record->lsn;
    if (record->type != JOURNAL_PUT)
        return 0;
    memcpy(&n, payload.data, 4);
    assert_int_equal(record->partition, n % 8);
    for (size_t i = 4; i < payload.len; i++)
        assert_int_equal(payload.data[i], (uint8_t)n);
    seen->puts[n] = 1;
    seen->count++;
    return 0;
}

static struct journal_replay replay(const char *dir, struct seen *seen)
{
    struct journal_replay r = {.each = note, .arg = seen};

    memset(seen, 0, sizeof *seen);
    assert_int_equal(journal_replay(dir, &r), 0);
    return r;
}

static void a_sparing_journal_syncs_all_and_ends_at_once(void **state)
{
    struct journal_stats stats;
    struct seen seen;
    char dir[256];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 1, 1);
    uint64_t lsn = 0;

    journal_set_sparing(j, true);
    for (uint32_t n = 0; n < 2000; n++) {
        lsn = append(j, n, n % 90);
        if (n % 7 == 0)
            journal_kick(j);
    }
    wait_durable(j, lsn);
    journal_stats(j, &stats);
    assert_in_range(stats.syncs, 1, 2000 / 7 + 2);
    for (uint32_t n = 2000; n < 2010; n++)
        append(j, n, 10); /* not kicked: closing hands them over */
    journal_close(j, true);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(seen.count, 2010);
    assert_int_equal(r.damaged + r.torn, 0);
    journal_replay_free(&r);
    kit_remove(dir);
}

static void values_of_zeros_come_back_from_the_end_of_a_segment(void **state)
{
    struct seen seen;
    char dir[256];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 1, 1);
    uint64_t lsn = 0;
    /* The record numbers 0, 256, 512, ... have payloads of zeros, larger than a segment each. */
    for (uint32_t n = 0; n < 1024; n++)
        lsn = append(j, n, n % 256 == 0 ? 120 << 10 : n % 50);
    wait_durable(j, lsn);
    lsn = append(j, 1024, 127 << 10);
    wait_durable(j, lsn);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(seen.count, 1025);
    assert_int_equal(r.damaged + r.torn, 0);
    journal_replay_free(&r);
    journal_close(j, true);
    kit_remove(dir);
}

static void a_journal_that_counts_beyond_32_bits_comes_back(void **state)
{
    const uint64_t first = (5ull << 32) + 17;
    struct seen seen;
    char dir[256];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, first, 1);
    for (uint32_t n = 0; n < 300; n++)
        append(j, n, 500);
    journal_close(j, true);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(seen.count, 300);
    assert_int_equal(r.next_lsn, first + 301); /* with the mark of a clean end */
    assert_int_equal(r.damaged + r.torn, 0);
    journal_replay_free(&r);
    kit_remove(dir);
}

/* A power cut can take the first records of a segment and leave its header, which says where they began. */
static void a_segment_that_lost_all_its_records_does_not_hide_later_ones(void **state)
{
    static const uint8_t zeros[4096];
    struct seen seen;
    char dir[256], path[FILE_PATH];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 280, 7);
    append(j, 1, 50);
    journal_close(j, true);
    journal_file_path(path, dir, 7);
    int fd = open(path, O_RDWR);
    assert_int_equal(file_write_at(fd, zeros, sizeof zeros, JOURNAL_HEADER), 0);
    close(fd);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(seen.count, 0);
    assert_int_equal(r.next_lsn, 280);
    journal_replay_free(&r);
    for (uint64_t lsn = 280, sequence = 8; lsn > 0;
         lsn -= 140, sequence++) { /* or cut off before */
        j = open_journal(dir, lsn, sequence);
        append(j, 2, 50);
        journal_close(j, true);
        r = replay(dir, &seen);
        assert_int_equal(seen.count, 1);
        assert_true(r.clean);
        assert_int_equal(r.damaged + r.torn, 0);
        assert_int_equal(r.next_lsn, lsn + 2);
        journal_replay_free(&r);
        journal_file_path(path, dir, sequence);
        assert_int_equal(unlink(path), 0);
    }
    kit_remove(dir);
}

static void a_segment_that_was_cut_short_or_belongs_to_another_worker_is_reported(void **state)
{
    struct seen seen;
    char dir[256], path[FILE_PATH];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 1, 1);
    for (uint32_t n = 0; n < 50; n++)
        append(j, n, 500);
    journal_close(j, true);
    struct journal_replay r = {.each = note, .arg = &seen, .worker = 1};
    memset(&seen, 0, sizeof seen);
    assert_int_equal(journal_replay(dir, &r), 0);
    assert_int_equal(seen.count, 0);
    assert_int_equal(r.damaged, 1);
    journal_replay_free(&r);
    journal_file_path(path, dir, 1);
    assert_int_equal(truncate(path, 20 * 536 + 64 + 100), 0);
    for (int i = 0; i < 2; i++) { /* it is never trimmed to hide that */
        r = replay(dir, &seen);
        assert_int_equal(seen.count, 20);
        assert_int_equal(r.damaged, 1);
        journal_replay_free(&r);
    }
    kit_remove(dir);
}

static void what_was_appended_comes_back_over_many_segments(void **state)
{
    struct seen seen;
    char dir[256];

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 1, 1);
    uint64_t lsn = 0;
    for (uint32_t n = 0; n < 1000; n++) {
        lsn = append(j, n, n % 700 == 600 ? 100 << 10 : n % 900);
        assert_int_equal(lsn, n + 1);
        if (n % 37 == 0)
            wait_durable(j, lsn);
    }
    wait_durable(j, lsn);
    journal_close(j, true);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(seen.count, 1000);
    assert_int_equal(r.damaged + r.torn, 0);
    assert_true(r.next_lsn > 1000 && r.segment_count > 5);
    journal_replay_free(&r);
    kit_remove(dir);
}

/* A journal of 3 batches of 10 records; returns the only segment's bytes. */
static size_t small_journal(char *dir, size_t dir_size, char *path, uint8_t *bytes, size_t size,
                            bool clean)
{
    size_t got;

    kit_dir(dir, dir_size);
    struct journal *j = open_journal(dir, 1, 1);
    for (uint32_t n = 0; n < 30; n++) {
        uint64_t lsn = append(j, n, 20 + n);

        if (n % 10 == 9)
            wait_durable(j, lsn);
    }
    journal_file_path(path, dir, 1);
    if (!clean)
        assert_int_equal(file_load(path, bytes, size, &got), 0);
    journal_close(j, true);
    if (clean)
        assert_int_equal(file_load(path, bytes, size, &got), 0);
    return got;
}

static void store_bytes(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(file_write_at(fd, bytes, len, 0), 0);
    close(fd);
}

/* Offsets of the records of a segment in `at`, ended by the offset after the last; how many. */
static uint32_t record_offsets(const uint8_t *bytes, size_t *at)
{
    struct journal_record record;
    uint32_t n = 0;

    at[0] = JOURNAL_HEADER;
    for (;;) {
        memcpy(&record, bytes + at[n], sizeof record);
        if (record.len == 0)
            return n;
        at[n + 1] = at[n] + journal_padded(record.len);
        n++;
    }
}

/* The batch after the last sync may arrive in any part: every subset of its records. */
static void an_unsynced_tail_is_cut_whatever_of_it_arrived(void **state)
{
    static uint8_t bytes[64 << 10], changed[64 << 10];
    char dir[256], path[FILE_PATH];
    size_t at[64];
    struct seen seen;

    (void)state;
    size_t len = small_journal(dir, sizeof dir, path, bytes, sizeof bytes, false);
    assert_int_equal(record_offsets(bytes, at), 30);
    for (unsigned mask = 0; mask < 1023;
         mask += mask < 32 ? 1 : 5) { /* which of the last ten are there */
        memcpy(changed, bytes, len);
        for (int i = 0; i < 10; i++)
            if (!(mask >> i & 1))
                memset(changed + at[20 + i], 0xa5, at[21 + i] - at[20 + i]);
        store_bytes(path, changed, len);
        struct journal_replay r = replay(dir, &seen);
        uint32_t whole = (uint32_t)__builtin_ctz(~mask);

        assert_int_equal(r.damaged, 0);
        assert_int_equal(seen.count, 20 + whole);
        assert_int_equal(r.next_lsn, 21 + whole);
        journal_replay_free(&r);
        r = replay(dir, &seen); /* what was cut stays cut */
        assert_int_equal(r.torn, 0);
        assert_int_equal(seen.count, 20 + whole);
        journal_replay_free(&r);
    }
    kit_remove(dir);
}

static void every_flipped_bit_before_the_end_mark_is_reported(void **state)
{
    static uint8_t bytes[64 << 10];
    char dir[256], path[FILE_PATH];
    size_t at[64];
    struct seen seen;

    (void)state;
    size_t len = small_journal(dir, sizeof dir, path, bytes, sizeof bytes, true);
    uint32_t count = record_offsets(bytes, at);
    assert_true(count >= 31);
    for (size_t bit = 0; bit < at[count - 1] * 8; bit += bit < 64 * 8 ? 1 : 3) {
        struct journal_record record;
        bool padding = false;

        for (uint32_t i = 0; i < count; i++) {
            memcpy(&record, bytes + at[i], sizeof record);
            padding |= bit / 8 >= at[i] + record.len && bit / 8 < at[i + 1];
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        store_bytes(path, bytes, len);
        struct journal_replay r = {.each = note, .arg = &seen};
        memset(&seen, 0, sizeof seen);
        int err = journal_replay(dir, &r);
        if (err == 0 && !padding)
            assert_true(r.damaged > 0);
        if (padding)
            assert_int_equal(seen.count, 30);
        journal_replay_free(&r);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    kit_remove(dir);
}

static void a_missing_or_empty_journal_is_empty(void **state)
{
    struct seen seen;
    char dir[256], missing[FILE_PATH];

    (void)state;
    kit_dir(dir, sizeof dir);
    file_path(missing, "%s/none", dir);
    struct journal_replay r = replay(missing, &seen);
    assert_int_equal(r.next_lsn, 1);
    assert_int_equal(r.next_sequence, 1);
    journal_replay_free(&r);
    journal_close(open_journal(dir, 1, 1), true);
    r = replay(dir, &seen);
    assert_int_equal(seen.count, 0);
    assert_int_equal(r.next_lsn, 2); /* the mark of an orderly end */
    journal_replay_free(&r);
    kit_remove(dir);
}

static void released_segments_are_recycled_and_stale_bytes_never_come_back(void **state)
{
    struct seen seen;
    char dir[256];
    uint64_t lsn = 0;

    (void)state;
    kit_dir(dir, sizeof dir);
    struct journal *j = open_journal(dir, 1, 1);
    for (uint32_t n = 0; n < 4000; n++) {
        lsn = append(j, n, 100);
        if (n % 100 == 99) {
            wait_durable(j, lsn);
            journal_release(j, lsn - 150);
            assert_int_equal(journal_prepare(j), 0);
        }
    }
    struct journal_stats stats;
    journal_stats(j, &stats);
    assert_true(stats.segments <= 4);
    journal_close(j, true);
    struct journal_replay r = replay(dir, &seen);
    assert_int_equal(r.damaged + r.torn, 0);
    for (uint32_t n = 4000 - 150; n < 4000; n++)
        assert_int_equal(seen.puts[n], 1);
    assert_true(r.segment_count < 10);
    journal_replay_free(&r);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_appended_comes_back_over_many_segments),
        cmocka_unit_test(a_segment_that_lost_all_its_records_does_not_hide_later_ones),
        cmocka_unit_test(a_segment_that_was_cut_short_or_belongs_to_another_worker_is_reported),
        cmocka_unit_test(a_journal_that_counts_beyond_32_bits_comes_back),
        cmocka_unit_test(a_sparing_journal_syncs_all_and_ends_at_once),
        cmocka_unit_test(values_of_zeros_come_back_from_the_end_of_a_segment),
        cmocka_unit_test(an_unsynced_tail_is_cut_whatever_of_it_arrived),
        cmocka_unit_test(every_flipped_bit_before_the_end_mark_is_reported),
        cmocka_unit_test(a_missing_or_empty_journal_is_empty),
        cmocka_unit_test(released_segments_are_recycled_and_stale_bytes_never_come_back),
    };

    return cmocka_run_group_tests_name("the journal gives back what was durable, or says so", tests,
                                       NULL, NULL);
}
