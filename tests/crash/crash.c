/* Power cuts of the storage engine: a workload runs on a disk that takes notes; then many states that
 * a power cut could have left are made, opened and checked:
 *
 *   - every acknowledged write is there, or a newer one of the same key;
 *   - everything is readable, data and Merkle leaves agree, nothing is taken for damage;
 *   - no dot that was issued is issued again;
 *   - a vnode that lost a write of which others can have heard has a new id, and keeps it from then on;
 *   - the same after a second power cut during the recovery from the first.
 *
 * usage: crash [--states N] [--seed S] [--keep] [--planted | --planted-ids]
 *
 * Exit code 1 if any state fails. --planted acknowledges writes before they are on disk, to show that
 * the checks can fail; --planted-ids hides from the store that the power was cut, so that vnodes keep
 * their ids. The exit code is then 1 if no state fails. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "core/object.h"
#include "store/file.h"
#include "store/merkle_leaf.h"
#include "store/store.h"
#include "tests/crash/recorder.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    Q_BITS = 1,
    PARTITIONS = 1 << Q_BITS,
    KEYS = 60,
    HINTS = 20,
    STEPS = 250,
    STATES_OF_A_RUN = 250,
    EVENTS = 1 << 16,
};

enum event_kind { ISSUED, HANDED, ACKED, HINT_ISSUED, HINT_ACKED, DOT };

struct event {
    size_t moment;
    enum event_kind kind;
    uint32_t key; /* or partition of a dot */
    uint64_t version;
    uint64_t vnode;
};

static struct event events[EVENTS];
static size_t event_count, opened_at;
static uint64_t ahead_us;
static bool planted;     /* acknowledge before the disk has it: the checks must notice */
static bool planted_ids; /* say that it is the same boot: likewise */

static void note(enum event_kind kind, uint32_t key, uint64_t version, uint64_t vnode)
{
    ASSERT(event_count < EVENTS);
    events[event_count++] = (struct event){recorder_now(), kind, key, version, vnode};
}

static struct store_conf conf_for(const char *dir, const char *boot)
{
    return (struct store_conf){
        .data_dir = dir,
        .q_bits = Q_BITS,
        .boot_id = planted_ids ? "live" : boot,
        .durability = planted ? STORE_NEVER : STORE_ALWAYS,
        .write_buffer_bytes = 1 << 20,
        .map_bytes = 64 << 20,
        .segment_bytes = 64 << 10,
        .flush_age_ms = 3600000,
    };
}

static struct store *open_store(const char *dir, const char *boot)
{
    struct store_conf conf = conf_for(dir, boot);
    struct store *s;
    uint64_t id;
    int err = store_open(&s, &conf);

    if (err != 0) {
        fprintf(stderr, "store_open: %s\n", err_text(err));
        return NULL;
    }
    for (uint32_t p = 0; p < PARTITIONS; p++)
        if ((err = store_vnode_open(s, p, true, &id)) != 0) {
            fprintf(stderr, "store_vnode_open: %s\n", err_text(err));
            store_close(s);
            return NULL;
        }
    return s;
}

static void turn(struct store *s)
{
    store_turn(s, clock_mono_us() + ahead_us, 1000);
}

static void flush(struct store *s)
{
    struct store_stats stats;

    turn(s);
    ahead_us += 7200000000ull;
    do {
        turn(s);
        store_stats(s, &stats);
    } while (stats.buffer_bytes > 0 && usleep(50) == 0);
}

/* --- the workload --- */

static struct slice key_text(uint32_t n, char out[16])
{
    return slice_of(out, (size_t)snprintf(out, 16, "key%u", n));
}

static uint64_t put(struct store *s, struct rand *r, uint32_t n, uint64_t version)
{
    static uint8_t value[6000];
    static struct buf object;
    struct object empty;
    char text[16];
    struct slice key = key_text(n, text);
    struct position pos = position_of(key);
    uint32_t partition = position_partition(&pos, Q_BITS);
    uint64_t lsn;
    struct object_write w = {.time = version << 16, .sibling_limit = LIMIT_SIBLINGS};

    while (store_next_dot(s, partition, &w.dot) == -ERR_BUSY)
        turn(s);
    note(DOT, partition, w.dot.n, w.dot.vnode);
    memset(value, (int)version, sizeof value);
    memcpy(value, &version, sizeof version);
    w.value = slice_of(value,
                       rand_chance(r, 50000) ? 3000 + rand_below(r, 3000) : 8 + rand_below(r, 400));
    object_empty(&empty, key);
    buf_clear(&object);
    ASSERT(object_put(&empty, &w, &object, NULL) == 0);
    note(ISSUED, n, version, 0);
    ASSERT(store_put(s, partition, &pos, slice_of(buf_head(&object), buf_len(&object)), false,
                     &lsn) == 0);
    return lsn;
}

static struct position hint_position(uint32_t n)
{
    return (struct position){{0x80, (uint8_t)n}};
}

static void wait_for(struct store *s, uint64_t lsn)
{
    struct pollfd pf = {store_event_fd(s), POLLIN, 0};

    store_kick(s);
    while (store_durable(s) < lsn) {
        poll(&pf, 1, 100);
        turn(s);
    }
}

/* A group of writes, acknowledged together. */
static void write_group(struct store *s, struct rand *r, uint64_t *version)
{
    uint32_t keys[16], count = 1 + (uint32_t)rand_below(r, 16);
    uint64_t first = *version, lsn = 0;
    bool hint = rand_chance(r, 200000);
    uint32_t hinted = (uint32_t)rand_below(r, HINTS);

    for (uint32_t i = 0; i < count; i++) {
        keys[i] = (uint32_t)rand_below(r, KEYS);
        lsn = put(s, r, keys[i], first + i);
    }
    *version += count;
    if (hint) {
        struct position pos = hint_position(hinted);

        note(HINT_ISSUED, hinted, first, 0);
        ASSERT(store_hint_add(s, 1, (const uint8_t[16]){7}, &pos, first, &lsn) == 0);
    }
    while (!store_kick(s)) {
        usleep(50);
        turn(s);
    }
    for (uint32_t i = 0; i < count; i++)
        note(HANDED, keys[i], first + i, 0);
    wait_for(s, lsn);
    for (uint32_t i = 0; i < count; i++)
        note(ACKED, keys[i], first + i, 0);
    if (hint)
        note(HINT_ACKED, hinted, first, 0);
}

static void run_workload(const char *dir, struct rand *r)
{
    uint64_t version = 1;
    struct store *s;

    event_count = 0;
    recorder_begin(dir);
    s = open_store(dir, "live");
    ASSERT(s != NULL);
    opened_at = recorder_now();
    for (int step = 0; step < STEPS; step++) {
        write_group(s, r, &version);
        if (rand_chance(r, 40000))
            flush(s);
        else if (rand_chance(r, 40000)) /* flushes that go on during the next writes */
            ahead_us += 7200000000ull;
        if (rand_chance(r, 8000)) {
            store_close(s);
            s = open_store(dir, "live");
            ASSERT(s != NULL);
        }
    }
    flush(s);
    store_close(s);
    recorder_end();
}

/* --- checking --- */

struct bounds {
    uint64_t acked[KEYS], handed[KEYS], issued[KEYS], hint_acked[HINTS], hint_issued[HINTS];
    uint64_t dot[PARTITIONS], vnode[PARTITIONS];
};

static void bounds_at(struct bounds *b, size_t moment)
{
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < event_count && events[i].moment <= moment; i++) {
        const struct event *e = &events[i];

        switch (e->kind) {
        case ISSUED:
            b->issued[e->key] = e->version;
            break;
        case HANDED:
            b->handed[e->key] = e->version;
            break;
        case ACKED:
            b->acked[e->key] = e->version;
            break;
        case HINT_ISSUED:
            b->hint_issued[e->key] = e->version;
            break;
        case HINT_ACKED:
            b->hint_acked[e->key] = e->version;
            break;
        case DOT:
            b->dot[e->key] = e->version;
            b->vnode[e->key] = e->vnode;
            break;
        }
    }
}

/* The version of a key: 0 if it is not there; UINT64_MAX if it cannot be read. */
static uint64_t version_of(struct store *s, uint32_t n)
{
    static struct object o;
    char text[16];
    struct slice key = key_text(n, text), bytes;
    struct position pos = position_of(key);
    struct sibling sibling;
    uint64_t version;
    int err = store_get(s, position_partition(&pos, Q_BITS), &pos, key, &bytes);

    if (err == -ERR_NOTFOUND)
        return 0;
    if (err != 0 || object_open(&o, bytes) != 0 || !object_winner(&o, 0, &sibling, NULL) ||
        sibling.value.len < 8)
        return UINT64_MAX;
    memcpy(&version, sibling.value.data, 8);
    for (size_t i = 8; i < sibling.value.len; i++)
        if (sibling.value.data[i] != (uint8_t)version)
            return UINT64_MAX;
    return version;
}

static uint64_t hint_times[HINTS];

static void see_hint(void *arg, const struct position *pos, uint64_t time_ms)
{
    (void)arg;
    if (pos->b[1] < HINTS)
        hint_times[pos->b[1]] = time_ms;
}

static bool check_contents(struct store *s, const struct bounds *b)
{
    struct position cursor = {{0}};
    bool good = true;

    for (uint32_t n = 0; n < KEYS; n++) {
        uint64_t version = version_of(s, n);

        if (version < b->acked[n] || version > b->issued[n]) {
            fprintf(stderr,
                    "  key %u: version %" PRIu64 ", acknowledged %" PRIu64 ", issued %" PRIu64 "\n",
                    n, version, b->acked[n], b->issued[n]);
            good = false;
        }
    }
    memset(hint_times, 0, sizeof hint_times);
    while (store_hint_scan(s, 1, (const uint8_t[16]){7}, &cursor, 5, see_hint, NULL) == 0)
        continue;
    for (uint32_t n = 0; n < HINTS; n++)
        if (hint_times[n] < b->hint_acked[n] || hint_times[n] > b->hint_issued[n]) {
            fprintf(stderr, "  hint %u: %" PRIu64 "\n", n, hint_times[n]);
            good = false;
        }
    return good;
}

struct sums {
    uint64_t leaves[1 << 12];
    uint32_t bits;
    bool good;
};

static void add_leaf(void *arg, const struct position *pos, struct slice bytes)
{
    static struct object o;
    struct sums *sums = arg;

    sums->good &= object_open(&o, bytes) == 0;
    sums->leaves[merkle_leaf_index(pos, Q_BITS, sums->bits)] +=
        merkle_leaf_mix(pos, object_digest(&o));
}

static bool check_leaves(struct store *s)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        static struct sums sums;
        struct position cursor = {{0}};
        const uint64_t *leaves;
        uint64_t generation;

        memset(&sums, 0, sizeof sums);
        sums.good = true;
        if (store_merkle(s, p, &leaves, &sums.bits, &generation) != 0)
            return false;
        while (store_scan(s, p, &cursor, 20, add_leaf, &sums) == 0)
            continue;
        if (!sums.good || memcmp(leaves, sums.leaves, sizeof *leaves << sums.bits) != 0) {
            fprintf(stderr, "  vnode %u: leaves do not agree with data\n", p);
            return false;
        }
    }
    return true;
}

static bool check_dots(struct store *s, const struct bounds *b)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        struct dot dot;

        while (store_next_dot(s, p, &dot) == -ERR_BUSY)
            turn(s);
        if (b->vnode[p] == dot.vnode && dot.n <= b->dot[p]) {
            fprintf(stderr, "  vnode %u: dot %" PRIu64 " again\n", p, dot.n);
            return false;
        }
    }
    return true;
}

/* A vnode that kept its id may have lost nothing that it had handed to the kernel: others may know it. */
static bool check_ids(struct store *s, const struct bounds *b)
{
    struct store_stats stats;
    bool good = true;

    store_stats(s, &stats);
    if (stats.corrupt_records + stats.quarantined_vnodes != 0 ||
        (stats.new_vnode_ids != 0 && stats.new_vnode_ids < PARTITIONS)) {
        fprintf(stderr, "  new ids %" PRIu64 ", damaged %" PRIu64 ", quarantined %" PRIu64 "\n",
                stats.new_vnode_ids, stats.corrupt_records, stats.quarantined_vnodes);
        good = false;
    }
    for (uint32_t n = 0; n < KEYS; n++) {
        char text[16];
        struct position pos = position_of(key_text(n, text));
        uint32_t p = position_partition(&pos, Q_BITS);

        if (b->vnode[p] == store_vnode_id(s, p) && version_of(s, n) < b->handed[n]) {
            fprintf(stderr, "  vnode %u: forgot key %u and kept its id\n", p, n);
            good = false;
        }
    }
    return good;
}

static uint64_t states_renewed;

static bool check_state(const char *dir, const char *boot, size_t moment)
{
    static struct bounds b;
    struct store_stats stats;
    uint64_t id[PARTITIONS];
    struct store *s = open_store(dir, boot);
    bool good;

    if (s == NULL)
        return false;
    bounds_at(&b, moment);
    store_stats(s, &stats);
    states_renewed += stats.new_vnode_ids > 0;
    good = moment < opened_at || check_ids(s, &b);
    good &= check_contents(s, &b);
    flush(s);
    good &= check_contents(s, &b) && check_leaves(s) && check_dots(s, &b);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        id[p] = store_vnode_id(s, p);
    store_close(s);
    s = open_store(dir, "after"); /* after an orderly end: nothing is lost */
    if (s == NULL)
        return false;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        good &= store_vnode_id(s, p) == id[p];
    store_close(s);
    return good;
}

/* --- states --- */

static uint64_t failures;
static bool keep;

static void fail(const char *dir, uint64_t seed, size_t moment, const char *what)
{
    failures++;
    fprintf(stderr, "FAILED %s: --seed %" PRIu64 " moment %zu%s%s\n", what, seed, moment,
            keep ? ", kept in " : "", keep ? dir : "");
}

/* A moment with an event near it is more interesting than one among writes of zeros. */
static size_t choose_moment(size_t total, struct rand *r)
{
    size_t near = (size_t)rand_below(r, total + 1);

    if (rand_chance(r, 500000)) {
        size_t moment = events[rand_below(r, event_count)].moment + rand_below(r, 12);

        near = moment < total ? moment : total;
    }
    return near;
}

/* Some states of one workload; how many were made. */
static uint64_t run(const char *base, uint64_t seed, uint64_t states)
{
    char live[FILE_PATH], made[FILE_PATH], again[FILE_PATH];
    struct rand r;
    uint64_t done = 0;

    rand_seed(&r, seed);
    file_path(live, "%s/live", base);
    file_path(made, "%s/made", base);
    file_path(again, "%s/again", base);
    ASSERT(file_make_dir(live) == 0);
    run_workload(live, &r);
    recorder_remove(live);
    size_t total = recorder_now();
    while (done < states) {
        size_t moment = choose_moment(total, &r);

        recorder_make(made, moment, &r);
        if (!check_state(made, "cut", moment))
            fail(made, seed, moment, "a power cut");
        done++;
        if (failures > 0 && keep)
            break;
        recorder_remove(made);
    }
    /* Second cuts replace the notes, so they come last, each on a fresh first cut. */
    size_t moment = choose_moment(total, &r);
    recorder_make(made, moment, &r);
    recorder_begin(made);
    size_t begin = recorder_now();
    bool good = check_state(made, "cut", moment);
    recorder_end();
    total = recorder_now();
    for (int i = 0; i < 25 && good && done < states + 25; i++, done++) {
        recorder_make(again, begin + (size_t)rand_below(&r, total - begin + 1), &r);
        if (!check_state(again, "again", moment))
            fail(again, seed, moment, "a power cut while recovering from one");
        recorder_remove(again);
    }
    if (!keep || failures == 0)
        recorder_remove(made);
    return done;
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    uint64_t states = 2000, seed = 1, done = 0, begin = clock_mono_us();
    char base[FILE_PATH];

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--keep") == 0) {
            keep = true;
        } else if (strcmp(argv[i], "--planted") == 0) {
            planted = true;
        } else if (strcmp(argv[i], "--planted-ids") == 0) {
            planted_ids = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--states") == 0) {
            states = strtoull(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[++i], NULL, 10);
        } else {
            fprintf(stderr,
                    "usage: crash [--states N] [--seed S] [--keep] [--planted | --planted-ids]\n");
            return 2;
        }
    }
    log_setup("crash", keep ? LOG_INFO : (enum log_level)(LOG_ERROR - 1));
    /* Syncs are simulated, so memory is as good a place as a disk. */
    if (tmp == NULL)
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    file_path(base, "%s/crash-XXXXXX", tmp);
    if (mkdtemp(base) == NULL) {
        perror(base);
        return 1;
    }
    for (; done < states && failures < 10; seed++)
        done += run(base, seed, states - done < STATES_OF_A_RUN ? states - done : STATES_OF_A_RUN);
    if (!keep || failures == 0)
        recorder_remove(base);
    printf("%" PRIu64 " crash states, %" PRIu64 " failed, new vnode ids in %" PRIu64 ", %.1f s\n",
           done, failures, states_renewed, (double)(clock_mono_us() - begin) / 1e6);
    return planted || planted_ids ? failures == 0 : failures > 0;
}
