/* A store in a folder of its own, and objects to put into it, for tests of the storage engine. */
#ifndef CLOCKWISE_TESTS_STORE_KIT_H
#define CLOCKWISE_TESTS_STORE_KIT_H

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "core/object.h"
#include "store/file.h"
#include "store/store.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KIT_Q = 3, KIT_KEY = 24 };

/* A fresh folder below TMPDIR; to be removed with kit_remove(). */
static inline void kit_dir(char *out, size_t size)
{
    const char *base = getenv("TMPDIR");

    snprintf(out, size, "%s/store-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(out) == NULL)
        check_panic("cannot make %s", out);
    log_setup("test", getenv("TEST_LOG") ? LOG_DEBUG : (enum log_level)(LOG_ERROR - 1));
}

static inline void kit_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[FILE_PATH];
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        file_path(inner, "%s/%s", path, entry->d_name);
        if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            kit_remove(inner);
        else
            unlink(inner);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(path);
}

static inline struct store_conf kit_conf(const char *dir)
{
    return (struct store_conf){
        .data_dir = dir,
        .q_bits = KIT_Q,
        .durability = STORE_ALWAYS,
        .write_buffer_bytes = 8 << 20,
        .map_bytes = 256 << 20,
        .segment_bytes = 256 << 10,
        .flush_age_ms = 3600000,
    };
}

static uint64_t kit_ahead_us; /* how far the time that stores are told is ahead */

static inline void kit_turn(struct store *s)
{
    store_turn(s, clock_mono_us() + kit_ahead_us, clock_wall_ms());
}

/* Turns that take every buffer for old, until everything is flushed. */
static inline void kit_flush(struct store *s)
{
    struct store_stats stats;

    kit_turn(s);
    kit_ahead_us += 7200000000ull;
    do {
        kit_turn(s);
        store_stats(s, &stats);
        usleep(200);
    } while (stats.buffer_bytes > 0);
}

static inline void kit_wait(struct store *s, uint64_t lsn)
{
    struct pollfd pf = {store_event_fd(s), POLLIN, 0};

    store_kick(s);
    while (store_durable(s) < lsn) {
        poll(&pf, 1, 100);
        kit_turn(s);
    }
}

static inline struct slice kit_key(unsigned n, char text[KIT_KEY])
{
    return slice_of(text, (size_t)snprintf(text, KIT_KEY, "key:%u", n));
}

static inline uint32_t kit_partition(struct slice key)
{
    struct position pos = position_of(key);

    return position_partition(&pos, KIT_Q);
}

/* An object of one sibling. */
static inline struct slice kit_object(struct buf *out, struct slice key, struct dot dot,
                                      struct slice value, uint64_t expiry_ms)
{
    struct object_write w = {
        .dot = dot,
        .time = dot.n << 16,
        .expiry_ms = expiry_ms,
        .value = value,
        .sibling_limit = LIMIT_SIBLINGS,
    };
    struct object empty;

    object_empty(&empty, key);
    buf_clear(out);
    if (object_put(&empty, &w, out, NULL) != 0)
        check_panic("object_put failed");
    return slice_of(buf_head(out), buf_len(out));
}

static inline struct store *kit_open_conf(const struct store_conf *conf)
{
    struct store *s;
    uint64_t id;
    int err = store_open(&s, conf);

    if (err != 0)
        check_panic("store_open: %s", err_text(err));
    for (uint32_t p = 0; p < 1u << KIT_Q; p++)
        if ((err = store_vnode_open(s, p, true, &id)) != 0)
            check_panic("store_vnode_open: %s", err_text(err));
    return s;
}

static inline struct store *kit_open(const char *dir)
{
    struct store_conf conf = kit_conf(dir);

    return kit_open_conf(&conf);
}

static inline int kit_dot(struct store *s, uint32_t partition, struct dot *dot)
{
    int err;

    while ((err = store_next_dot(s, partition, dot)) == -ERR_BUSY) {
        usleep(100);
        kit_turn(s);
    }
    return err;
}

/* Put value `v` (a number as text, padded to `size` bytes) under key number n. */
static inline int kit_put_full(struct store *s, unsigned n, unsigned v, size_t size,
                               uint64_t expiry_ms, uint64_t *lsn)
{
    static struct buf object;
    char text[KIT_KEY];
    struct slice key = kit_key(n, text);
    struct position pos = position_of(key);
    char *value = calloc(1, size + 16);
    struct dot dot;
    int err = kit_dot(s, kit_partition(key), &dot);

    if (value == NULL)
        return -ERR_NOMEM;
    snprintf(value, 16, "%u", v);
    if (err == 0)
        err =
            store_put(s, kit_partition(key), &pos,
                      kit_object(&object, key, dot, slice_of(value, size), expiry_ms), false, lsn);
    free(value);
    return err;
}

static inline uint64_t kit_put(struct store *s, unsigned n, unsigned v)
{
    uint64_t lsn = 0;
    int err = kit_put_full(s, n, v, 16, 0, &lsn);

    if (err != 0)
        check_panic("put: %s", err_text(err));
    return lsn;
}

/* The number under key n, or a negative error. */
static inline int64_t kit_get(struct store *s, unsigned n)
{
    static struct object o;
    char text[KIT_KEY];
    struct slice key = kit_key(n, text), object;
    struct position pos = position_of(key);
    struct sibling sibling;
    int err = store_get(s, kit_partition(key), &pos, key, &object);

    if (err != 0)
        return err;
    if (object_open(&o, object) != 0 || !slice_equal(o.key, key) ||
        !object_winner(&o, 0, &sibling, NULL))
        return -ERR_INTERNAL;
    return (int64_t)strtoul((const char *)sibling.value.data, NULL, 10);
}

#endif
