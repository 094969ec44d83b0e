/* How large values are best kept in LMDB: whole, in overflow pages, or cut into pieces of one page
 * each. Values of random size around a mean are overwritten at random, in sorted transactions of
 * 4 MiB as a flush makes them; then all are read. The file's growth over the bytes that live in it
 * shows how much fragmentation costs.
 *
 * usage: bench-layout [--dir D] [--live MIB] [--rounds N] */
#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "store/file.h"
#include "store/lmdb_env.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PIECE_PAGE = 4080, /* fills one overflow page */
    TXN_BYTES = 4 << 20,
    KEYS_MAX = 1 << 15,
    VALUE_MAX = 2 << 20,
};

static uint64_t live_bytes = 64 << 20, rounds = 60;
static uint8_t value[VALUE_MAX], assembled[VALUE_MAX];
static uint32_t sizes[KEYS_MAX];

static void key_of(uint32_t n, uint32_t piece, uint8_t key[20])
{
    memset(key, 0, 20);
    for (int i = 0; i < 4; i++) {
        key[i] = (uint8_t)(n >> (24 - 8 * i));
        key[16 + i] = (uint8_t)(piece >> (24 - 8 * i));
    }
}

static void put_whole(struct lmdb_env *e, uint32_t n, uint32_t len)
{
    uint8_t key[20];

    key_of(n, 0, key);
    ASSERT(lmdb_write_put(e, LMDB_DATA, slice_of(key, 16), slice_of(value, len)) == 0);
}

/* The row in `data` says how long the value is; its pieces lie in another database. */
static void put_pieces(struct lmdb_env *e, uint32_t n, uint32_t len)
{
    uint8_t key[20];
    uint32_t old = sizes[n], piece = 0;

    key_of(n, 0, key);
    ASSERT(lmdb_write_put(e, LMDB_DATA, slice_of(key, 16), slice_of(&len, sizeof len)) == 0);
    for (uint32_t at = 0; at < len; at += PIECE_PAGE, piece++) {
        key_of(n, piece, key);
        ASSERT(lmdb_write_put(
                   e, LMDB_EXPIRY, slice_of(key, 20),
                   slice_of(value + at, len - at < PIECE_PAGE ? len - at : PIECE_PAGE)) == 0);
    }
    for (; (uint64_t)piece * PIECE_PAGE < old; piece++) {
        key_of(n, piece, key);
        lmdb_write_del(e, LMDB_EXPIRY, slice_of(key, 20));
    }
}

static uint64_t read_one(struct lmdb_env *e, uint32_t n, bool pieces)
{
    uint8_t key[20];
    struct slice row, found;
    uint32_t len, at = 0;

    key_of(n, 0, key);
    ASSERT(lmdb_reader_get(e, LMDB_DATA, slice_of(key, 16), &row) == 0);
    if (!pieces) {
        memcpy(assembled, row.data, row.len);
        return row.len;
    }
    memcpy(&len, row.data, sizeof len);
    ASSERT(lmdb_reader_seek(e, LMDB_EXPIRY, slice_of(key, 20), &found, &row) == 0);
    while (at < len) {
        memcpy(assembled + at, row.data, row.len);
        at += (uint32_t)row.len;
        if (at < len)
            ASSERT(lmdb_reader_step(e, LMDB_EXPIRY, &found, &row) == 0);
    }
    return len;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t random_size(struct rand *r, uint32_t mean)
{
    return mean / 2 + (uint32_t)rand_below(r, mean);
}

static void churn(struct lmdb_env *e, struct rand *r, uint32_t keys, uint32_t mean, bool pieces)
{
    static uint32_t chosen[KEYS_MAX];
    uint32_t count = TXN_BYTES / mean, done = 0;

    for (uint32_t i = 0; i < count; i++)
        chosen[i] = (uint32_t)rand_below(r, keys);
    qsort(chosen, count, sizeof *chosen, compare);
    ASSERT(lmdb_write_begin(e) == 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = random_size(r, mean);

        if (i > 0 && chosen[i] == chosen[i - 1])
            continue;
        (pieces ? put_pieces : put_whole)(e, chosen[i], len);
        sizes[chosen[i]] = len;
        done++;
    }
    ASSERT(lmdb_write_commit(e) == 0 && done > 0);
}

static void measure(const char *dir, uint32_t mean, bool pieces)
{
    char path[FILE_PATH], data[FILE_PATH];
    struct lmdb_env *e;
    struct rand r;
    uint32_t keys = (uint32_t)(live_bytes / mean);
    uint64_t begin, wrote, live = 0, read = 0;

    rand_seed(&r, mean);
    memset(sizes, 0, sizeof sizes);
    file_path(path, "%s/layout", dir);
    file_path(data, "%s/layout/data.mdb", dir);
    ASSERT(keys <= KEYS_MAX && file_make_dir(path) == 0);
    ASSERT(lmdb_env_open(&e, path, 8ull << 30, true) == 0);
    for (uint32_t n = 0; n < keys; n++) {
        if (n % (TXN_BYTES / mean) == 0)
            ASSERT(lmdb_write_begin(e) == 0);
        uint32_t len = random_size(&r, mean);
        (pieces ? put_pieces : put_whole)(e, n, len);
        sizes[n] = len;
        if (n % (TXN_BYTES / mean) == TXN_BYTES / mean - 1 || n == keys - 1)
            ASSERT(lmdb_write_commit(e) == 0);
    }
    begin = clock_mono_us();
    for (uint64_t i = 0; i < rounds; i++)
        churn(e, &r, keys, mean, pieces);
    wrote = clock_mono_us() - begin;
    for (uint32_t n = 0; n < keys; n++)
        live += sizes[n];
    begin = clock_mono_us();
    for (uint32_t n = 0; n < keys; n++)
        read += read_one(e, (uint32_t)rand_below(&r, keys), pieces);
    begin = clock_mono_us() - begin;
    lmdb_reader_reset(e);
    printf("%8" PRIu32 "  %-9s %10.1f %12.1f %14.2f\n", mean, pieces ? "pieces" : "whole",
           (double)rounds * TXN_BYTES / (double)wrote, (double)read / (double)begin,
           (double)file_size(data) / (double)live);
    fflush(stdout);
    lmdb_env_close(e);
    file_remove_dir(path);
}

int main(int argc, char **argv)
{
    static const uint32_t means[] = {4 << 10, 64 << 10, 256 << 10, 1 << 20};
    const char *tmp = getenv("TMPDIR");
    char dir[FILE_PATH];

    file_path(dir, "%s", tmp != NULL ? tmp : "/tmp");
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0)
            file_path(dir, "%s", argv[i + 1]);
        else if (strcmp(argv[i], "--live") == 0)
            live_bytes = strtoull(argv[i + 1], NULL, 10) << 20;
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = strtoull(argv[i + 1], NULL, 10);
    }
    strncat(dir, "/bench-layout-XXXXXX", sizeof dir - strlen(dir) - 1);
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    memset(value, 'v', sizeof value);
    printf("%8s  %-9s %10s %12s %14s\n", "bytes", "layout", "write MB/s", "read MB/s",
           "file / live");
    for (size_t i = 0; i < sizeof means / sizeof means[0]; i++)
        for (int pieces = 0; pieces < 2; pieces++)
            measure(dir, means[i], pieces);
    rmdir(dir);
    return 0;
}
