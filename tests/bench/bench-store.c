/* The storage engine without network against plain LMDB with a commit per 64 writes, in one run. `usage`
 * below says what is measured. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rand.h"
#include "core/object.h"
#include "store/file.h"
#include "store/lmdb_env.h"
#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 64, KEY = 16, WRITERS_MAX = 4096, HIST_SUB = 32, HIST = 64 * HIST_SUB };

struct options {
    char dir[512];
    uint64_t keys;
    uint32_t value, seconds, writers, buffer_mib, q_bits;
    int durability;
    bool zipf, no_leaves, no_plain, json;
};

static struct options opt = {
    .keys = 1000000,
    .value = 100,
    .seconds = 10,
    .writers = 64,
    .buffer_mib = 256,
    .q_bits = 7,
};

/* --- latencies: 32 steps to each power of two --- */

struct histogram {
    uint64_t counts[HIST], total, max;
};

static void note(struct histogram *h, uint64_t ns)
{
    unsigned top = ns < HIST_SUB ? 0 : 63 - (unsigned)__builtin_clzll(ns) - 4;
    uint64_t at = top == 0 ? ns : (uint64_t)top * HIST_SUB / 2 + (ns >> top);

    h->counts[at < HIST ? at : HIST - 1]++;
    h->total++;
    if (ns > h->max)
        h->max = ns;
}

static double quantile_us(const struct histogram *h, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)h->total), seen = 0;

    for (uint64_t at = 0; at < HIST; at++) {
        seen += h->counts[at];
        if (seen > wanted) {
            uint64_t top = at < HIST_SUB ? 0 : at / (HIST_SUB / 2) - 1;
            uint64_t ns = top == 0 ? at : (at - top * HIST_SUB / 2) << top;

            return (double)ns / 1000.0;
        }
    }
    return (double)h->max / 1000.0;
}

/* --- results --- */

static void row(const char *name, double rate, const struct histogram *h)
{
    static bool headed;

    if (opt.json) {
        printf("{\"phase\":\"%s\",\"per_second\":%.0f", name, rate);
        if (h != NULL)
            printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
                   quantile_us(h, 0.5), quantile_us(h, 0.99), quantile_us(h, 0.999),
                   (double)h->max / 1000);
        printf("}\n");
        fflush(stdout);
        return;
    }
    if (!headed)
        printf("%-28s %12s %10s %10s %10s %10s\n", "phase", "per second", "p50 us", "p99 us",
               "p99.9 us", "max us");
    headed = true;
    printf("%-28s %12.0f", name, rate);
    if (h != NULL)
        printf(" %10.1f %10.1f %10.1f %10.1f", quantile_us(h, 0.5), quantile_us(h, 0.99),
               quantile_us(h, 0.999), (double)h->max / 1000);
    printf("\n");
    fflush(stdout);
}

static void fact(const char *name, double value, const char *unit)
{
    if (opt.json)
        printf("{\"fact\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", name, value, unit);
    else
        printf("  %-40s %14.2f %s\n", name, value, unit);
    fflush(stdout);
}

/* --- keys and objects --- */

struct source {
    struct rand rand;
    double zipf_sum; /* of the skewed distribution's weights */
    uint64_t version;
    struct buf buf;
    struct object empty;
    uint8_t *value;
};

static void source_init(struct source *s)
{
    memset(s, 0, sizeof *s);
    rand_seed(&s->rand, 42);
    s->value = malloc(opt.value + 1);
    ASSERT(s->value != NULL);
    memset(s->value, 'v', opt.value);
}

/* Zipf with exponent about 1 by inverting the integral of 1/x; hashed so that the popular keys are
 * spread over the vnodes. */
static uint64_t next_key(struct source *s)
{
    if (!opt.zipf)
        return rand_below(&s->rand, opt.keys);
    double u = (double)(rand_next(&s->rand) >> 11) / 9007199254740992.0;
    uint64_t rank = (uint64_t)(exp(u * log((double)opt.keys + 1)) - 1);

    return hash64(&rank, sizeof rank) % opt.keys;
}

static struct slice key_of(uint64_t n, char out[KEY + 1])
{
    snprintf(out, KEY + 1, "key:%012" PRIu64, n);
    return slice_of(out, KEY);
}

static struct slice make_object(struct source *s, struct slice key, struct dot dot)
{
    struct object_write w = {
        .dot = dot,
        .time = ++s->version << 16,
        .value = slice_of(s->value, opt.value),
        .sibling_limit = LIMIT_SIBLINGS,
    };

    memcpy(s->value, &s->version, opt.value < 8 ? opt.value : 8);
    object_empty(&s->empty, key);
    buf_clear(&s->buf);
    ASSERT(object_put(&s->empty, &w, &s->buf, NULL) == 0);
    return slice_of(buf_head(&s->buf), buf_len(&s->buf));
}

/* --- what the device does --- */

static double sync_p50_us;

static void bench_sync(void)
{
    static uint8_t block[1 << 16];
    static struct histogram h;
    char path[FILE_PATH];
    int fd;
    uint64_t begin = clock_mono_us(), n = 0;

    file_path(path, "%s/sync.tmp", opt.dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0);
    for (uint64_t at = 0; at < 16 << 20; at += sizeof block)
        ASSERT(file_write_at(fd, block, sizeof block, at) == 0);
    ASSERT(fsync(fd) == 0);
    while (clock_mono_us() - begin < 1000000) {
        uint64_t t;

        ASSERT(file_write_at(fd, block, 12 << 10, n % 1000 * (12 << 10)) == 0);
        t = clock_mono_us();
        ASSERT(file_sync(fd) == 0);
        note(&h, (clock_mono_us() - t) * 1000);
        n++;
    }
    close(fd);
    unlink(path);
    sync_p50_us = quantile_us(&h, 0.5);
    row("fdatasync of 12 KiB", (double)n, &h);
}

/* --- plain LMDB --- */

static double plain_writes, plain_reads;

static void plain_put(struct lmdb_env *e, struct source *s, uint64_t n)
{
    char text[KEY + 1];
    struct slice key = key_of(n, text);
    struct position pos = position_of(key);
    struct slice object = make_object(s, key, (struct dot){1, s->version + 1});

    ASSERT(lmdb_write_put(e, LMDB_DATA, slice_of(pos.b, sizeof pos.b), object) == 0);
}

static void plain_fill(struct lmdb_env *e, struct source *s)
{
    for (uint64_t n = 0; n < opt.keys; n++) {
        if (n % 100000 == 0)
            ASSERT(lmdb_write_begin(e) == 0);
        plain_put(e, s, n);
        if (n % 100000 == 99999 || n == opt.keys - 1)
            ASSERT(lmdb_write_commit(e) == 0);
    }
}

static double plain_read_rate(struct lmdb_env *e, struct source *s, struct histogram *h)
{
    uint64_t begin = clock_mono_us(), now = begin, n = 0;

    while (now - begin < opt.seconds * 500000ull) {
        uint64_t t = clock_mono_us();

        for (int i = 0; i < BATCH; i++) {
            char text[KEY + 1];
            struct position pos = position_of(key_of(next_key(s), text));
            struct slice value;

            ASSERT(lmdb_reader_get(e, LMDB_DATA, slice_of(pos.b, sizeof pos.b), &value) == 0);
            s->version += value.data[value.len - 1];
        }
        lmdb_reader_reset(e);
        now = clock_mono_us();
        n += BATCH;
        note(h, (now - t) * 1000 / BATCH);
    }
    return (double)n * 1e6 / (double)(now - begin);
}

static void bench_plain(void)
{
    static struct histogram writes, reads;
    struct lmdb_env *e;
    struct source s;
    char path[FILE_PATH];
    uint64_t begin, now, n = 0;

    source_init(&s);
    file_path(path, "%s/plain", opt.dir);
    ASSERT(file_make_dir(path) == 0);
    ASSERT(lmdb_env_open(&e, path, 64ull << 30, true) == 0);
    plain_fill(e, &s);
    begin = now = clock_mono_us();
    while (now - begin < opt.seconds * 500000ull) {
        uint64_t t = now;

        ASSERT(lmdb_write_begin(e) == 0);
        for (int i = 0; i < BATCH; i++)
            plain_put(e, &s, next_key(&s));
        ASSERT(lmdb_write_commit(e) == 0);
        now = clock_mono_us();
        n += BATCH;
        note(&writes, (now - t) * 1000);
    }
    plain_writes = (double)n * 1e6 / (double)(now - begin);
    row("plain LMDB, commit per 64", plain_writes, &writes);
    plain_reads = plain_read_rate(e, &s, &reads);
    row("plain LMDB, read", plain_reads, &reads);
    lmdb_env_close(e);
    file_remove_dir(path);
    free(s.value);
    buf_free(&s.buf);
}

/* --- the engine --- */

struct flight {
    uint64_t lsn, begin_us;
};

/* Writers in flight, oldest first: a closed loop of opt.writers. */
struct load {
    struct store *store;
    struct source source;
    struct flight ring[WRITERS_MAX];
    uint32_t head, count;
    uint64_t written, acked;
    struct histogram acks;
};

static void turn(struct store *s)
{
    store_turn(s, clock_mono_us(), clock_wall_ms());
}

/* One more write; false if the engine asks to wait. */
static bool load_put(struct load *l, uint64_t n)
{
    char text[KEY + 1];
    struct slice key = key_of(n, text);
    struct position pos = position_of(key);
    uint32_t partition = position_partition(&pos, opt.q_bits);
    struct flight *flight = &l->ring[(l->head + l->count) % WRITERS_MAX];
    struct dot dot;
    int err;

    if (store_pressure(l->store) || store_next_dot(l->store, partition, &dot) != 0)
        return false;
    flight->begin_us = clock_mono_us();
    err = store_put(l->store, partition, &pos, make_object(&l->source, key, dot), false,
                    &flight->lsn);
    if (err == -ERR_BUSY)
        return false;
    if (err != 0)
        check_panic("store_put: %s", err_text(err));
    l->count++;
    l->written++;
    return true;
}

static void load_collect(struct load *l)
{
    uint64_t durable = store_durable(l->store), now = clock_mono_us();

    while (l->count > 0 && l->ring[l->head].lsn <= durable) {
        note(&l->acks, (now - l->ring[l->head].begin_us) * 1000);
        l->head = (l->head + 1) % WRITERS_MAX;
        l->count--;
        l->acked++;
    }
}

/* Wait until something is acknowledged, or at most ms. What store_kick() has made durable by itself is
 * not announced. */
static void load_wait(struct load *l, int ms)
{
    struct pollfd pf = {store_event_fd(l->store), POLLIN, 0};
    uint32_t before = l->count;

    load_collect(l);
    poll(&pf, 1, l->count < before ? 0 : ms);
    turn(l->store);
    load_collect(l);
}

static void load_drain(struct load *l)
{
    store_kick(l->store);
    while (l->count > 0)
        load_wait(l, 100);
}

static struct store_conf engine_conf(void)
{
    return (struct store_conf){
        .data_dir = opt.dir,
        .q_bits = (uint8_t)opt.q_bits,
        .durability = (enum store_durability)opt.durability,
        .write_buffer_bytes = (uint64_t)opt.buffer_mib << 20,
        .map_bytes = 16ull << 30,
        .segment_bytes = 64 << 20,
        .flush_age_ms = 10000,
        .no_leaves = opt.no_leaves,
    };
}

static struct store *engine_open(void)
{
    struct store_conf conf = engine_conf();
    struct store *s;
    uint64_t id;

    ASSERT(store_open(&s, &conf) == 0);
    for (uint32_t p = 0; p < 1u << opt.q_bits; p++)
        ASSERT(store_vnode_open(s, p, true, &id) == 0);
    return s;
}

static void bench_fill(struct load *l)
{
    uint64_t begin = clock_mono_us();

    memset(&l->acks, 0, sizeof l->acks);
    for (uint64_t n = 0; n < opt.keys;) {
        while (l->count < opt.writers && n < opt.keys && load_put(l, n))
            n++;
        store_kick(l->store);
        load_wait(l, 100);
    }
    load_drain(l);
    row("engine, fill", (double)opt.keys * 1e6 / (double)(clock_mono_us() - begin), &l->acks);
}

static double bench_overwrite(struct load *l, uint64_t *slowest_second)
{
    uint64_t begin = clock_mono_us(), now = begin, second = begin, at_second = l->acked;
    uint64_t first = l->acked;

    *slowest_second = UINT64_MAX;
    memset(&l->acks, 0, sizeof l->acks);
    while (now - begin < opt.seconds * 1000000ull) {
        while (l->count < opt.writers && load_put(l, next_key(&l->source)))
            continue;
        store_kick(l->store);
        load_wait(l, 100);
        now = clock_mono_us();
        if (now - second >= 1000000) {
            if (l->acked - at_second < *slowest_second)
                *slowest_second = l->acked - at_second;
            at_second = l->acked;
            second = now;
        }
    }
    load_drain(l);
    return (double)(l->acked - first) * 1e6 / (double)(clock_mono_us() - begin);
}

static void read_one(struct load *l)
{
    char text[KEY + 1];
    struct slice key = key_of(next_key(&l->source), text), object;
    struct position pos = position_of(key);
    int err = store_get(l->store, position_partition(&pos, opt.q_bits), &pos, key, &object);

    if (err != 0)
        check_panic("store_get: %s", err_text(err));
    l->source.version += object.data[object.len - 1];
}

/* Reads in turns of 64; while_writing: the rest of the turn is a closed loop of writers. */
static double bench_read(struct load *l, bool while_writing, struct histogram *h)
{
    uint64_t begin = clock_mono_us(), now = begin, n = 0;

    memset(h, 0, sizeof *h);
    while (now - begin < opt.seconds * 500000ull) {
        uint64_t t = clock_mono_us();

        for (int i = 0; i < BATCH; i++)
            read_one(l);
        note(h, (clock_mono_us() - t) * 1000 / BATCH);
        n += BATCH;
        while (while_writing && l->count < opt.writers && load_put(l, next_key(&l->source)))
            continue;
        store_kick(l->store);
        if (while_writing || n % (BATCH * 64) == 0) {
            turn(l->store);
            load_collect(l);
        }
        now = clock_mono_us();
    }
    load_drain(l);
    return (double)n * 1e6 / (double)(now - begin);
}

/* A value of /proc/self/status in MiB. */
static double memory_mib(const char *field)
{
    char text[4096];
    size_t got = 0;
    const char *at;

    if (file_load("/proc/self/status", text, sizeof text - 1, &got) != 0)
        return 0;
    text[got] = 0;
    at = strstr(text, field);
    return at == NULL ? 0 : strtod(at + strlen(field), NULL) / 1024;
}

/* Bytes that this process has handed to the system. (write_bytes counts whole large folios.) */
static double bytes_written(void)
{
    char text[1024];
    size_t got = 0;
    const char *at;

    if (file_load("/proc/self/io", text, sizeof text - 1, &got) != 0)
        return 0;
    text[got] = 0;
    at = strstr(text, "wchar: ");
    return at == NULL ? 0 : strtod(at + 7, NULL);
}

/* Seconds of CPU that the thread of this name has used. */
static double thread_cpu_s(const char *name)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    double seconds = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[FILE_PATH], text[1024], *at;
        unsigned long user, system;
        size_t got = 0;

        file_path(path, "/proc/self/task/%s/stat", entry->d_name);
        if (entry->d_name[0] == '.' || file_load(path, text, sizeof text - 1, &got) != 0)
            continue;
        text[got] = 0;
        at = strchr(text, '(');
        if (at == NULL || strncmp(at + 1, name, strlen(name)) != 0 || at[1 + strlen(name)] != ')')
            continue;
        at += strlen(name) + 2;
        if (sscanf(at, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
            seconds += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    if (dir != NULL)
        closedir(dir);
    return seconds;
}

/* Bytes that the files of a folder and its folders occupy. */
static double disk_bytes(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    double sum = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[FILE_PATH];
        struct stat st;

        if (entry->d_name[0] == '.')
            continue;
        file_path(inner, "%s/%s", path, entry->d_name);
        if (stat(inner, &st) == 0)
            sum += S_ISDIR(st.st_mode) ? disk_bytes(inner) : (double)st.st_blocks * 512;
    }
    if (dir != NULL)
        closedir(dir);
    return sum;
}

static void wait_for_flush(struct store *s)
{
    struct store_stats stats;
    uint64_t begin = clock_mono_us();

    do {
        usleep(20000);
        turn(s);
        store_stats(s, &stats);
    } while (stats.buffer_bytes > 0 && clock_mono_us() - begin < 60000000);
}

static double cpu_us(const struct timeval *from, const struct timeval *to)
{
    return (double)(to->tv_sec - from->tv_sec) * 1e6 + (double)(to->tv_usec - from->tv_usec);
}

static void bench_recovery(struct load *l)
{
    struct store_stats stats;
    struct rusage before, after;
    uint64_t begin, done = 0;

    while (done < opt.keys / 2) { /* some records that only the journal holds */
        while (l->count < opt.writers && load_put(l, next_key(&l->source)))
            done++;
        store_kick(l->store);
        load_wait(l, 100);
    }
    load_drain(l);
    store_close(l->store);
    begin = clock_mono_us();
    getrusage(RUSAGE_THREAD, &before);
    struct store_conf conf = engine_conf();
    ASSERT(store_open(&l->store, &conf) == 0);
    begin = clock_mono_us() - begin;
    getrusage(RUSAGE_THREAD, &after);
    store_stats(l->store, &stats);
    row("engine, recovery (records)", (double)stats.recovered_records * 1e6 / (double)begin, NULL);
    fact("records replayed", (double)stats.recovered_records, "");
    fact("time of recovery", (double)begin / 1e6, "s");
    fact("CPU of recovery per record, in user space",
         cpu_us(&before.ru_utime, &after.ru_utime) / (double)(stats.recovered_records + 1), "us");
    fact("CPU of recovery per record, in the kernel",
         cpu_us(&before.ru_stime, &after.ru_stime) / (double)(stats.recovered_records + 1), "us");
}

static void report(struct load *l, double rate, double written)
{
    struct store_stats stats;

    store_stats(l->store, &stats);
    if (plain_writes > 0)
        fact("overwrite, times plain LMDB", rate / plain_writes, "x");
    fact("p99.9 of ack, times p50 of fdatasync", quantile_us(&l->acks, 0.999) / sync_p50_us, "x");
    fact("bytes written per byte put", written / ((double)l->acked * (KEY + opt.value)), "x");
    fact("memory beyond page cache", memory_mib("RssAnon:"), "MiB");
    fact("bound of the write buffers", opt.buffer_mib, "MiB");
    fact("time under pressure", (double)stats.pressure_us / 1e6, "s");
    fact("records flushed", (double)stats.flushed_records, "");
    fact("flushes", (double)stats.flushes, "");
    if (stats.flushed_records > 0)
        fact("CPU of the flush thread per record",
             thread_cpu_s("flush") * 1e6 / (double)stats.flushed_records, "us");
    fact("CPU of the journal thread per record",
         thread_cpu_s("journal") * 1e6 / (double)(stats.journal_records + 1), "us");
    fact("longest journal sync", stats.max_sync_us, "us");
}

/* Once everything is flushed. */
static void report_files(struct source *s)
{
    char path[FILE_PATH], text[KEY + 1];
    double bytes, keys = (double)opt.keys;
    struct slice key = key_of(0, text);
    size_t object = make_object(s, key, (struct dot){UINT64_MAX, 1000000}).len;

    file_path(path, "%s/vnodes", opt.dir);
    bytes = disk_bytes(path);
    fact("vnode files, times key and value bytes", bytes / (keys * (KEY + opt.value)), "x");
    fact("vnode files, times stored bytes",
         bytes / (keys * (double)(object + sizeof(struct position))), "x");
}

static void bench_engine(void)
{
    static struct load l;
    static struct histogram reads;
    uint64_t slowest;
    double rate, rest, written, p99;

    source_init(&l.source);
    l.store = engine_open();
    bench_fill(&l);
    written = bytes_written();
    l.acked = 0;
    rate = bench_overwrite(&l, &slowest);
    row("engine, overwrite", rate, &l.acks);
    fact("slowest second of overwriting", (double)slowest, "/s");
    report(&l, rate, bytes_written() - written);
    wait_for_flush(l.store);
    report_files(&l.source);
    rest = bench_read(&l, false, &reads);
    row("engine, read at rest", rest, &reads);
    p99 = quantile_us(&reads, 0.99);
    if (plain_reads > 0)
        fact("read, times plain LMDB", rest / plain_reads, "x");
    row("engine, mixed: reads", bench_read(&l, true, &reads), &reads);
    fact("p99 of read while writing, times at rest", quantile_us(&reads, 0.99) / p99, "x");
    bench_recovery(&l);
    store_close(l.store);
    free(l.source.value);
    buf_free(&l.source.buf);
}

/* --- options --- */

static const char usage[] =
    "usage: bench-store [OPTION]...\n"
    "  --dir DIR            where to put the files, which are removed at the end ($TMPDIR or "
    "/tmp)\n"
    "  --keys N             (1000000)\n"
    "  --value BYTES        of each value, from 8 on (100)\n"
    "  --seconds S          of overwriting; reading takes half of it (10)\n"
    "  --writers N          in flight at a time, up to 4096 (64)\n"
    "  --zipf               a few keys are popular; otherwise uniform\n"
    "  --buffer MIB         bound of the write buffers (256)\n"
    "  --q BITS             1 << BITS vnodes, up to 12 (7)\n"
    "  --durability WHEN    always, everysec or never (always)\n"
    "  --no-leaves          keep no Merkle leaves, to see what they cost\n"
    "  --no-plain           leave plain LMDB out\n"
    "  --json               one JSON object a line instead of a table\n"
    "Phases: fdatasync alone; plain LMDB with a commit per 64 writes, and reading from it; the "
    "engine:\n"
    "fill, overwrite, read at rest, mixed (64 reads and the writers in turns; its row is the "
    "reads), recovery.\n"
    "A write's latency is from store_put() to the moment when store_durable() covers it; a read's "
    "is the\n"
    "mean of 64. Bytes written are those handed to the kernel, journal and LMDB.\n";

static bool number_option(const char *name, const char *value)
{
    static const struct {
        const char *name;
        uint32_t *out;
    } numbers[] = {
        {"--value", &opt.value},       {"--seconds", &opt.seconds}, {"--writers", &opt.writers},
        {"--buffer", &opt.buffer_mib}, {"--q", &opt.q_bits},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].out = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    return false;
}

static bool flag_option(const char *name)
{
    static const struct {
        const char *name;
        bool *out;
    } flags[] = {
        {"--zipf", &opt.zipf},
        {"--no-leaves", &opt.no_leaves},
        {"--no-plain", &opt.no_plain},
        {"--json", &opt.json},
    };

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(name, flags[i].name) == 0)
            return *flags[i].out = true;
    return false;
}

static const char *const durabilities[] = {"always", "everysec", "never"};

/* enum store_durability, or -1. */
static int durability_of(const char *name)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(name, durabilities[i]) == 0)
            return i;
    return -1;
}

static void say_options(void)
{
    const char *keys = opt.zipf ? "zipf" : "uniform", *when = durabilities[opt.durability];

    if (opt.json)
        printf("{\"keys\":%" PRIu64 ",\"choice\":\"%s\",\"value_bytes\":%u,\"seconds\":%u,"
               "\"writers\":%u,\"buffer_mib\":%u,\"vnodes\":%u,\"durability\":\"%s\","
               "\"leaves\":%s}\n",
               opt.keys, keys, opt.value, opt.seconds, opt.writers, opt.buffer_mib,
               1u << opt.q_bits, when, opt.no_leaves ? "false" : "true");
    else
        printf("%" PRIu64
               " keys, %s, values of %u bytes, %u writers, buffers of %u MiB, %u vnodes, %s\n",
               opt.keys, keys, opt.value, opt.writers, opt.buffer_mib, 1u << opt.q_bits, when);
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (flag_option(argv[i]))
            continue;
        if (i + 1 == argc)
            return false;
        i++;
        if (strcmp(argv[i - 1], "--dir") == 0)
            snprintf(opt.dir, sizeof opt.dir, "%s", value);
        else if (strcmp(argv[i - 1], "--keys") == 0)
            opt.keys = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--durability") == 0)
            opt.durability = durability_of(value);
        else if (!number_option(argv[i - 1], value))
            return false;
    }
    return opt.durability >= 0 && opt.keys > 0 && opt.value >= 8 && opt.writers > 0 &&
           opt.writers <= WRITERS_MAX && opt.q_bits <= 12 && opt.seconds > 0;
}

static void remove_tree(const char *path)
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
            remove_tree(inner);
        else
            unlink(inner);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(path);
}

int main(int argc, char **argv)
{
    const char *base = getenv("TMPDIR");

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (!parse(argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    log_setup("bench-store", LOG_WARN);
    if (opt.dir[0] == 0)
        snprintf(opt.dir, sizeof opt.dir, "%s", base != NULL ? base : "/tmp");
    strncat(opt.dir, "/bench-store-XXXXXX", sizeof opt.dir - strlen(opt.dir) - 1);
    if (mkdtemp(opt.dir) == NULL) {
        perror(opt.dir);
        return 1;
    }
    say_options();
    bench_sync();
    if (!opt.no_plain)
        bench_plain();
    bench_engine();
    remove_tree(opt.dir);
    return 0;
}
