/* A full disk: no file can grow. Writes are refused with a clear error, reads and deletes go on, a
 * restart works, and everything resumes by itself when there is room. */
#include "tests/unit/store_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

static _Atomic bool full;
static _Atomic bool no_commits; /* nothing can be written to the files of vnodes */
static _Atomic long crumbs;     /* bytes that a full disk still takes */

static bool is_data_file(int fd)
{
    char name[64], path[FILE_PATH];
    ssize_t n;

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    n = readlink(name, path, sizeof path);
    return n > 9 && memcmp(path + n - 9, "/data.mdb", 9) == 0;
}

/* How many bytes of a write find room. Like a real disk, it takes the beginning of what does not fit
 * as a whole. */
static ssize_t room_for(int fd, off_t offset, size_t len)
{
    struct stat st;
    long growth;

    if (no_commits && is_data_file(fd)) {
        errno = ENOSPC;
        return -1;
    }
    if (!full || fstat(fd, &st) != 0 || offset + (off_t)len <= st.st_size)
        return (ssize_t)len;
    growth = (long)(offset + (off_t)len - st.st_size);
    if (growth <= crumbs) {
        crumbs -= growth;
        return (ssize_t)len;
    }
    len -= (size_t)(growth - crumbs);
    crumbs = 0;
    if ((ssize_t)len > 0)
        return (ssize_t)len;
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    ssize_t room = room_for(fd, offset, len);

    return room < 0 ? -1 : syscall(SYS_pwrite64, fd, data, (size_t)room, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    off_t offset = lseek(fd, 0, SEEK_CUR);
    size_t len = 0;
    ssize_t room, done = 0;

    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    room = room_for(fd, offset, len);
    if (room == (ssize_t)len)
        return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count && done < room; i++) {
        size_t left = (size_t)(room - done);
        size_t n = parts[i].iov_len < left ? parts[i].iov_len : left;

        done += syscall(SYS_write, fd, parts[i].iov_base, n);
    }
    return room < 0 ? -1 : done;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    struct stat st;

    if (full && fstat(fd, &st) == 0 && offset + len > st.st_size + crumbs) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

static int put(struct store *s, unsigned n, unsigned v, uint64_t *lsn)
{
    int err = kit_put_full(s, n, v, 500, 0, lsn);

    if (err == 0)
        kit_wait(s, *lsn);
    kit_turn(s);
    return err;
}

/* A delete: small, and allowed to use the reserve. */
static int delete (struct store *s, unsigned n)
{
    static struct buf object;
    struct object empty;
    char text[KIT_KEY];
    struct slice key = kit_key(n, text);
    struct position pos = position_of(key);
    struct object_write w = {.tombstone = true, .time = UINT32_MAX, .sibling_limit = 64};
    uint64_t lsn;
    int err = kit_dot(s, kit_partition(key), &w.dot);

    object_empty(&empty, key);
    buf_clear(&object);
    if (err == 0)
        err = object_put(&empty, &w, &object, NULL);
    if (err == 0)
        err = store_put(s, kit_partition(key), &pos, slice_of(buf_head(&object), buf_len(&object)),
                        true, &lsn);
    if (err == 0)
        kit_wait(s, lsn);
    return err;
}

static void service_goes_on_without_writes_and_resumes_by_itself(void **state)
{
    struct store_conf conf;
    struct store_stats stats;
    uint64_t lsn = 0;
    unsigned last = 0;
    char dir[256], reserve[FILE_PATH];
    int err = 0;

    (void)state;
    kit_dir(dir, sizeof dir);
    conf = kit_conf(dir);
    conf.write_buffer_bytes = 4 << 20;
    struct store *s = kit_open_conf(&conf);
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(put(s, n, 1000 + n, &lsn), 0);
    file_path(reserve, "%s/journal/0/reserve.wal", dir);
    while (file_size(reserve) < 64 << 10) /* it is made in the background */
        usleep(1000);
    usleep(20000);
    full = true;
    for (last = 100; last < 20000 && err == 0; last++)
        err = put(s, last, 1000 + last, &lsn);
    last--;
    assert_int_equal(err, -ERR_DISKFULL);
    store_stats(s, &stats);
    assert_true(stats.disk_full > 0);
    for (unsigned n = 0; n < last; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);
    for (unsigned n = 0; n < 20;
         n++) { /* the reserve is for them alone, also while it is written */
        assert_int_equal(delete (s, n), 0);
        assert_int_equal(put(s, last, 7, &lsn), -ERR_DISKFULL);
    }

    store_close(s); /* a restart on the full disk, and one of the machine */
    s = kit_open_conf(&conf);
    store_close(s);
    conf.boot_id = "another boot";
    s = kit_open_conf(&conf);
    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids, 0); /* the end was an orderly one */
    for (unsigned n = 20; n < last; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);
    assert_int_equal(kit_get(s, 3), -ERR_INTERNAL); /* deleted */

    full = false;
    for (int i = 0; i < 6000 && (err = put(s, last, 7, &lsn)) != 0; i++)
        usleep(10000);
    assert_int_equal(err, 0);
    kit_flush(s);
    for (unsigned n = 20; n < last; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);
    assert_int_equal(kit_get(s, last), 7);
    store_close(s);
    kit_remove(dir);
}

static void flushes_that_find_no_room_are_tried_again(void **state)
{
    struct store_stats stats;
    char dir[256];
    uint64_t lsn;

    (void)state;
    kit_dir(dir, sizeof dir);
    struct store *s = kit_open(dir);
    for (unsigned n = 0; n < 2000; n++)
        assert_int_equal(kit_put_full(s, n, n, 100, 0, &lsn), 0);
    kit_wait(s, lsn);
    full = true;
    crumbs = 10000; /* the first flush is cut short in the middle of a write */
    kit_ahead_us += 7200000000ull;
    for (int i = 0; i < 50; i++) {
        kit_turn(s);
        usleep(1000);
    }
    store_stats(s, &stats);
    assert_true(stats.buffer_bytes > 0);
    for (unsigned n = 0; n < 2000; n++)
        assert_int_equal(kit_get(s, n), n);
    full = false;
    kit_flush(s);
    for (unsigned n = 0; n < 2000; n++)
        assert_int_equal(kit_get(s, n), n);
    store_close(s);
    kit_remove(dir);
}

static void buffers_that_cannot_be_flushed_hold_up_no_client(void **state)
{
    struct store_conf conf;
    uint64_t lsn;
    unsigned last;
    char dir[256];
    int err = 0;

    (void)state;
    kit_dir(dir, sizeof dir);
    conf = kit_conf(dir);
    conf.write_buffer_bytes = 1 << 20;
    conf.segment_bytes = 8 << 20; /* the journal has room for longer than the buffers */
    struct store *s = kit_open_conf(&conf);
    assert_int_equal(put(s, 0, 1000, &lsn), 0);
    full = true;
    for (last = 1; last < 20000; last++) /* as far as they go before a flush has failed */
        if ((err = kit_put_full(s, last, 1000 + last, 500, 0, &lsn)) != 0)
            break;
    assert_int_equal(err, -ERR_BUSY);
    while ((err = put(s, last, 1000 + last, &lsn)) == -ERR_BUSY)
        usleep(1000);
    assert_int_equal(err, -ERR_DISKFULL);
    assert_false(store_pressure(s));
    for (unsigned n = 0; n < 20; n++)
        assert_int_equal(delete (s, n), 0);
    for (unsigned n = 20; n < last; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);

    full = false;
    for (int i = 0; i < 6000 && (err = put(s, last, 7, &lsn)) != 0; i++)
        usleep(10000);
    assert_int_equal(err, 0);
    kit_flush(s);
    for (unsigned n = 20; n < last; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);
    store_close(s);
    kit_remove(dir);
}

/* Write until the disk is full, and end without a word. */
static void fill_and_die(const struct store_conf *conf)
{
    uint64_t lsn;
    int err = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct store *s = kit_open_conf(conf);

        for (unsigned n = 0; n < 100 && err == 0; n++)
            err = put(s, n, 1000 + n, &lsn);
        kit_flush(s);
        full = true;
        for (unsigned n = 100; n < 20000 && err == 0; n++)
            err = put(s, n, 1000 + n, &lsn);
        _exit(err == -ERR_DISKFULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_power_cut_with_a_full_disk_leaves_what_can_be_read(void **state)
{
    struct store_conf conf;
    struct store_stats stats;
    uint64_t before[1 << KIT_Q], id, lsn;
    char dir[256];
    int err = 0;

    (void)state;
    kit_dir(dir, sizeof dir);
    conf = kit_conf(dir);
    fill_and_die(&conf);
    conf.boot_id = "another boot";
    full = true;
    no_commits = true; /* not even pages that are free in the files */
    for (int again = 0; again < 2; again++) {
        struct store *s = kit_open_conf(&conf);

        for (unsigned n = 0; n < 100; n++)
            assert_int_equal(kit_get(s, n), 1000 + n);
        assert_int_equal(put(s, 0, 7, &lsn), -ERR_DISKFULL);
        for (uint32_t p = 0; p < 1u << KIT_Q; p++)
            before[p] = store_vnode_id(s, p);
        store_close(s);
    }
    full = no_commits = false;
    struct store *s = kit_open_conf(&conf);
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(kit_get(s, n), 1000 + n);
    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids, 1 << KIT_Q); /* it was not forgotten that they are due */
    for (uint32_t p = 0; p < 1u << KIT_Q; p++) {
        assert_int_equal(store_vnode_open(s, p, false, &id), 0);
        assert_true(id != before[p]);
    }
    assert_int_equal(put(s, 0, 7, &lsn), 0);
    store_close(s);
    s = kit_open_conf(&conf);
    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids, 0);
    store_close(s);

    fill_and_die(&conf); /* there is room again while it runs */
    conf.boot_id = "a third boot";
    full = no_commits = true;
    s = kit_open_conf(&conf);
    full = no_commits = false;
    for (int i = 0; i < 6000 && (err = put(s, 0, 8, &lsn)) != 0; i++)
        usleep(10000);
    assert_int_equal(err, 0);
    assert_int_equal(kit_get(s, 0), 8);
    store_close(s);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_goes_on_without_writes_and_resumes_by_itself),
        cmocka_unit_test(flushes_that_find_no_room_are_tried_again),
        cmocka_unit_test(buffers_that_cannot_be_flushed_hold_up_no_client),
        cmocka_unit_test(a_power_cut_with_a_full_disk_leaves_what_can_be_read),
    };

    return cmocka_run_group_tests_name("a full disk refuses writes and loses nothing", tests, NULL,
                                       NULL);
}
