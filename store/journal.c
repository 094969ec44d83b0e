/* The journal of one worker: the batch in memory, the journal thread, the list of segments. It
 * knows nothing of vnodes or LMDB. A write or sync that fails ends the process: what the kernel
 * holds after a failed sync is unknown, only reading the journal anew tells. */
#include "store/journal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/journal_file.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH_FIRST = 1 << 20,  /* bytes of a batch buffer at first */
    BATCH_LIMIT = 32 << 20, /* a batch grows no further unless one record alone is larger */
    SPARE_SEGMENTS = 2,     /* released segments kept to be recycled */
    IDLE_MARK_US = 100000,  /* quiet time after which a MARK is written */
    RETRY_US = 1000000,     /* between tries to make a segment on a full disk */
    EVERYSEC_US = 1000000,
};

/* A segment that is no longer written. */
struct retired {
    uint64_t sequence, last_lsn, bytes;
};

struct retired_list {
    struct retired *items;
    uint32_t count, capacity;
};

struct batch {
    uint8_t *data;
    size_t len, capacity;
    uint64_t last_lsn;
};

struct journal {
    struct journal_conf conf;
    char dir[FILE_PATH];
    char reserve_path[FILE_PATH];
    uint64_t reserve_bytes;
    pthread_t thread;
    _Atomic uint64_t durable;
    _Atomic uint64_t backlog;        /* bytes appended and not yet taken by the journal thread */
    _Atomic uint64_t retained_bytes; /* of the segments in `retained` */

    /* The journal thread alone. */
    uint64_t synced_lsn; /* surely on disk */
    uint64_t written_lsn;
    uint64_t last_sync_us;

    /* Everything below is guarded by the lock. */
    pthread_mutex_t lock;
    pthread_cond_t wake;  /* the journal thread waits for work or for a segment */
    struct batch active;  /* being appended to */
    struct batch writing; /* its bytes belong to the journal thread; len is 0 when it is idle */
    uint64_t next_lsn;
    size_t promised; /* bytes that journal_check() has promised to the next append */
    bool kicked, stopping;
    bool marked;                       /* the newest record is a MARK */
    struct journal_file current, next; /* next.fd < 0: not prepared */
    bool preparing;                    /* somebody makes the next segment */
    bool have_reserve, full;
    struct retired_list retained, released;
    struct journal_stats stats;
};

static int list_push(struct retired_list *list, struct retired item)
{
    if (list->count == list->capacity) {
        uint32_t wanted = list->capacity == 0 ? 16 : list->capacity * 2;
        struct retired *items = realloc(list->items, wanted * sizeof *items);

        if (items == NULL)
            return -ERR_NOMEM;
        list->items = items;
        list->capacity = wanted;
    }
    list->items[list->count++] = item;
    return 0;
}

/* Note a segment that is no longer written but still needed. With the lock held. */
static int retain(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes)
{
    int err = list_push(&j->retained, (struct retired){sequence, last_lsn, bytes});

    if (err == 0)
        atomic_fetch_add(&j->retained_bytes, bytes);
    return err;
}

static struct retired list_take(struct retired_list *list, uint32_t at)
{
    struct retired item = list->items[at];

    memmove(list->items + at, list->items + at + 1, (--list->count - at) * sizeof item);
    return item;
}

/* Bytes that the current segment still takes after all that is on its way. May be negative. */
static int64_t current_room(const struct journal *j)
{
    return (int64_t)j->current.size - (int64_t)j->current.offset - (int64_t)j->active.len -
           (int64_t)j->writing.len;
}

static int batch_room(struct batch *b, size_t need)
{
    size_t wanted = b->capacity == 0 ? BATCH_FIRST : b->capacity;
    uint8_t *data;

    if (b->len + need <= b->capacity)
        return 0;
    while (wanted < b->len + need)
        wanted *= 2;
    data = realloc(b->data, wanted);
    if (data == NULL)
        return -ERR_NOMEM;
    b->data = data;
    b->capacity = wanted;
    return 0;
}

int journal_check(struct journal *j, size_t payload, bool shrinks)
{
    size_t need = journal_padded(JOURNAL_RECORD + payload);
    int err = 0;

    pthread_mutex_lock(&j->lock);
    if (j->active.len > 0 && j->active.len + need > BATCH_LIMIT) {
        err = -ERR_BUSY;
    } else if (j->full && j->next.fd < 0 && current_room(j) < (int64_t)need) {
        int64_t reserve = j->have_reserve && shrinks ? (int64_t)j->reserve_bytes / 2 : 0;

        if (current_room(j) + reserve < (int64_t)need)
            err = -ERR_DISKFULL;
    }
    if (err == 0)
        err = batch_room(&j->active, need);
    j->promised = err == 0 ? need : 0;
    pthread_mutex_unlock(&j->lock);
    return err;
}

/* With the lock held. */
static uint64_t append_locked(struct journal *j, enum journal_type type, uint32_t partition,
                              const struct slice *parts, int count)
{
    uint8_t *at = j->active.data + j->active.len;
    size_t len = JOURNAL_RECORD, padded;
    struct journal_record header = {
        .partition = (uint16_t)partition,
        .type = (uint8_t)type,
        .lsn = j->next_lsn,
    };

    for (int i = 0; i < count; i++) {
        ASSERT(j->active.len + len + parts[i].len <= j->active.capacity);
        if (parts[i].len > 0)
            memcpy(at + len, parts[i].data, parts[i].len);
        len += parts[i].len;
    }
    header.len = (uint32_t)len;
    memcpy(at, &header, sizeof header);
    padded = journal_padded(len);
    ASSERT(j->active.len + padded <= j->active.capacity);
    memset(at + len, 0, padded - len);
    j->active.len += padded;
    j->active.last_lsn = j->next_lsn;
    atomic_store_explicit(&j->backlog, j->active.len, memory_order_relaxed);
    j->marked = type == JOURNAL_MARK;
    return j->next_lsn++;
}

uint64_t journal_append(struct journal *j, enum journal_type type, uint32_t partition,
                        struct slice a, struct slice b, struct slice c)
{
    struct slice parts[3] = {a, b, c};
    uint64_t lsn;

    ASSERT(partition <= UINT16_MAX);
    pthread_mutex_lock(&j->lock);
    lsn = append_locked(j, type, partition, parts, 3);
    j->promised = 0;
    pthread_mutex_unlock(&j->lock);
    return lsn;
}

uint64_t journal_backlog(const struct journal *j)
{
    return atomic_load_explicit(&j->backlog, memory_order_relaxed);
}

void journal_kick(struct journal *j)
{
    bool wake = false;

    pthread_mutex_lock(&j->lock);
    if (j->active.len > 0 && !j->kicked) {
        j->kicked = true;
        wake = true;
    }
    pthread_mutex_unlock(&j->lock);
    if (wake)
        pthread_cond_signal(&j->wake);
}

uint64_t journal_durable(const struct journal *j)
{
    return atomic_load_explicit(&j->durable, memory_order_acquire);
}

uint64_t journal_next_lsn(const struct journal *j)
{
    struct journal *mutable = (struct journal *)(uintptr_t)j;
    uint64_t lsn;

    pthread_mutex_lock(&mutable->lock);
    lsn = j->next_lsn;
    pthread_mutex_unlock(&mutable->lock);
    return lsn;
}

/* Wait for the condition until at most `us` from now. The lock is held. */
static void wait_us(struct journal *j, uint64_t us)
{
    uint64_t until = clock_mono_us() + us;
    struct timespec ts = {
        .tv_sec = (time_t)(until / 1000000),
        .tv_nsec = (long)(until % 1000000) * 1000,
    };

    pthread_cond_timedwait(&j->wake, &j->lock, &ts);
}

static void sync_current(struct journal *j, uint64_t upto)
{
    uint64_t begin = clock_mono_us(), took;
    int err = file_sync(j->current.fd);

    if (err != 0)
        check_panic("journal sync failed: %s", err_text(err));
    j->last_sync_us = clock_mono_us();
    took = j->last_sync_us - begin;
    j->synced_lsn = upto;
    pthread_mutex_lock(&j->lock);
    j->stats.syncs++;
    j->stats.last_sync_us = (uint32_t)took;
    if (took > j->stats.max_sync_us)
        j->stats.max_sync_us = (uint32_t)took;
    pthread_mutex_unlock(&j->lock);
}

/* A segment for records of up to `need` bytes when none is prepared: made here and now, or from the
 * reserve, or waited for. The lock is held; released while files are touched. */
static bool find_segment(struct journal *j, uint64_t need)
{
    uint64_t sequence = j->current.sequence + 1, size = j->conf.segment_bytes;
    struct journal_file made = {.fd = -1};
    bool use_reserve = j->have_reserve && need + JOURNAL_HEADER <= j->reserve_bytes;
    int err;

    if (size < need + JOURNAL_HEADER)
        size = need + JOURNAL_HEADER;
    j->preparing = true;
    pthread_mutex_unlock(&j->lock);
    err = journal_file_create(&made, j->dir, j->conf.worker, sequence, size, false);
    if (err == -ERR_DISKFULL && use_reserve) {
        err = journal_file_recycle(&made, j->dir, j->conf.worker, j->reserve_path, sequence,
                                   j->reserve_bytes);
        if (err == 0)
            log_warn("disk full: journal goes on in its reserve");
    } else {
        use_reserve = false;
    }
    if (err != 0 && err != -ERR_DISKFULL)
        check_panic("cannot make a journal segment: %s", err_text(err));
    pthread_mutex_lock(&j->lock);
    j->preparing = false;
    if (err != 0 || use_reserve)
        j->full = true;
    if (use_reserve)
        j->have_reserve = false;
    if (err == 0)
        j->next = made;
    return err == 0;
}

/* Go on in the next segment. The lock is not held. False if the journal is to end instead. */
static bool switch_segment(struct journal *j, uint64_t need)
{
    struct journal_file old;

    if (j->conf.durability != STORE_NEVER && j->current.fd >= 0)
        sync_current(j, j->written_lsn);
    pthread_mutex_lock(&j->lock);
    while (j->next.fd < 0 || j->next.size < need + JOURNAL_HEADER) {
        if (j->preparing) {
            wait_us(j, RETRY_US);
            continue;
        }
        if (j->next.fd >= 0) { /* too small for one very large record: step over it */
            if (retain(j, j->next.sequence, 0, j->next.size) != 0)
                check_panic("no memory for the list of journal segments");
            journal_file_close(&j->next);
            j->current.sequence++;
        }
        if (find_segment(j, need))
            break;
        if (j->stopping) {
            pthread_mutex_unlock(&j->lock);
            return false;
        }
        wait_us(j, RETRY_US);
    }
    old = j->current;
    if (old.fd >= 0 && retain(j, old.sequence, old.last_lsn, old.size) != 0)
        check_panic("no memory for the list of journal segments");
    j->current = j->next;
    j->next.fd = -1;
    pthread_mutex_unlock(&j->lock);
    journal_file_close(&old);
    j->conf.need_prepare(j->conf.arg);
    return true;
}

/* Complete the header of the record at `at`; returns its padded length. */
static size_t seal_record(const struct journal *j, uint8_t *at)
{
    struct journal_record header;
    uint64_t unsynced;

    memcpy(&header, at, sizeof header);
    unsynced = header.lsn - j->synced_lsn;
    header.unsynced = unsynced > UINT32_MAX ? UINT32_MAX : (uint32_t)unsynced;
    memcpy(at, &header, sizeof header);
    header.checksum = journal_record_checksum(at, header.len, j->current.nonce);
    memcpy(at, &header, sizeof header);
    return journal_padded(header.len);
}

static uint64_t record_lsn(const uint8_t *at)
{
    struct journal_record header;

    memcpy(&header, at, sizeof header);
    return header.lsn;
}

static size_t record_padded(const uint8_t *at)
{
    struct journal_record header;

    memcpy(&header, at, sizeof header);
    return journal_padded(header.len);
}

/* Write the batch, in as few calls as segments allow. False if the journal is to end instead. */
static bool write_batch(struct journal *j)
{
    size_t done = 0, len = j->writing.len;

    while (done < len) {
        size_t run = 0;
        uint64_t last = 0;
        int err;

        if (record_padded(j->writing.data + done) > j->current.size - j->current.offset &&
            !switch_segment(j, record_padded(j->writing.data + done)))
            return false;
        while (done + run < len) {
            uint8_t *at = j->writing.data + done + run;

            if (run + record_padded(at) > j->current.size - j->current.offset)
                break;
            last = record_lsn(at);
            run += seal_record(j, at);
        }
        err = 0;
        if (j->current.offset == JOURNAL_HEADER)
            err = journal_file_stamp(&j->current, j->conf.worker, j->written_lsn + 1);
        if (err == 0)
            err = file_write_at(j->current.fd, j->writing.data + done, run, j->current.offset);
        if (err != 0)
            check_panic("journal write failed: %s", err_text(err));
        pthread_mutex_lock(&j->lock);
        j->current.offset += run;
        j->current.last_lsn = last;
        j->writing.len -= run; /* so that current_room() counts it once */
        j->stats.records += last - j->written_lsn;
        j->stats.written_bytes += run;
        pthread_mutex_unlock(&j->lock);
        j->written_lsn = last;
        done += run;
    }
    return true;
}

/* Wait until there is a batch to write, a sync due, or the end. The lock is held. */
static void wait_for_work(struct journal *j)
{
    while (!j->kicked && !j->stopping) {
        bool dirty = j->synced_lsn < j->written_lsn;

        if (j->conf.durability == STORE_EVERYSEC && dirty) {
            uint64_t due = j->last_sync_us + EVERYSEC_US, now = clock_mono_us();

            if (now >= due)
                return;
            wait_us(j, due - now);
        } else if (j->conf.durability == STORE_ALWAYS && !j->marked && j->active.len == 0 &&
                   j->written_lsn > 0) {
            wait_us(j, IDLE_MARK_US);
            if (!j->kicked && !j->stopping && j->active.len == 0 &&
                batch_room(&j->active, JOURNAL_RECORD) == 0) {
                append_locked(j, JOURNAL_MARK, 0, NULL, 0);
                return;
            }
        } else {
            pthread_cond_wait(&j->wake, &j->lock);
        }
    }
}

/* Take what has been appended. The lock is held. The other buffer must hold what journal_check()
 * has promised meanwhile; without memory for that, the batch stays where it is for a while. */
static void take_batch(struct journal *j)
{
    struct batch swap;

    while (batch_room(&j->writing, j->promised) != 0)
        wait_us(j, RETRY_US / 100);
    swap = j->active;
    j->active = j->writing;
    j->writing = swap;
    j->kicked = false;
    atomic_store_explicit(&j->backlog, 0, memory_order_relaxed);
}

static void *journal_main(void *arg)
{
    struct journal *j = arg;
    bool go_on = true;

    pthread_setname_np(pthread_self(), "journal");
    pthread_mutex_lock(&j->lock);
    while (go_on) {
        wait_for_work(j);
        if (j->stopping && j->active.len == 0)
            go_on = false;
        take_batch(j);
        pthread_mutex_unlock(&j->lock);

        if (j->writing.len > 0 && !write_batch(j))
            return NULL;
        if (j->conf.durability == STORE_ALWAYS || (!go_on && j->conf.durability != STORE_NEVER) ||
            (j->conf.durability == STORE_EVERYSEC &&
             clock_mono_us() - j->last_sync_us >= EVERYSEC_US))
            if (j->synced_lsn < j->written_lsn)
                sync_current(j, j->written_lsn);
        if (j->written_lsn > atomic_load_explicit(&j->durable, memory_order_relaxed)) {
            atomic_store_explicit(&j->durable, j->written_lsn, memory_order_seq_cst);
            j->conf.progress(j->conf.arg);
        }
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* Remove what is too much to keep for recycling, oldest first and each durably: a missing segment
 * between older and newer ones would be taken for damage. */
static void remove_released(struct journal *j)
{
    char path[FILE_PATH];

    pthread_mutex_lock(&j->lock);
    while (j->released.count > 0 && (j->released.count > SPARE_SEGMENTS || j->full ||
                                     j->released.items[0].bytes != j->conf.segment_bytes)) {
        struct retired old = list_take(&j->released, 0);

        pthread_mutex_unlock(&j->lock);
        journal_file_path(path, j->dir, old.sequence);
        unlink(path);
        file_sync_dir(j->dir);
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
}

int journal_prepare(struct journal *j)
{
    struct journal_file made = {.fd = -1};
    struct retired old = {0};
    bool recycle = false, reserve, next;
    uint64_t sequence;
    char path[FILE_PATH];
    int err = 0;

    pthread_mutex_lock(&j->lock);
    next = j->next.fd < 0 && !j->preparing;
    reserve = !j->have_reserve;
    sequence = j->current.sequence + 1;
    if (next)
        j->preparing = true;
    if (next && j->released.count > 0 && j->released.items[0].bytes == j->conf.segment_bytes) {
        old = list_take(&j->released, 0);
        recycle = true;
    }
    pthread_mutex_unlock(&j->lock);

    if (recycle) {
        journal_file_path(path, j->dir, old.sequence);
        err = journal_file_recycle(&made, j->dir, j->conf.worker, path, sequence,
                                   j->conf.segment_bytes);
    } else if (next) {
        err = journal_file_create(&made, j->dir, j->conf.worker, sequence, j->conf.segment_bytes,
                                  true);
    }
    if (err != 0 && err != -ERR_DISKFULL)
        check_panic("cannot make a journal segment: %s", err_text(err));
    pthread_mutex_lock(&j->lock);
    if (next) {
        j->preparing = false;
        if (err == 0) {
            if (j->full)
                log_notice("there is room again: journal goes on");
            j->next = made;
            j->full = false;
        } else {
            if (!j->full)
                log_error("disk full: writes are refused until there is room");
            j->full = true;
        }
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    remove_released(j);
    if (reserve && err == 0) {
        err = journal_file_reserve(j->dir, j->reserve_path, j->reserve_bytes);
        pthread_mutex_lock(&j->lock);
        j->have_reserve = err == 0;
        pthread_mutex_unlock(&j->lock);
    }
    return err;
}

void journal_release(struct journal *j, uint64_t needed)
{
    bool any = false;

    pthread_mutex_lock(&j->lock);
    while (j->retained.count > 0 && j->retained.items[0].last_lsn < needed) {
        if (list_push(&j->released, j->retained.items[0]) != 0)
            break;
        atomic_fetch_sub(&j->retained_bytes, j->retained.items[0].bytes);
        list_take(&j->retained, 0);
        any = true;
    }
    pthread_mutex_unlock(&j->lock);
    if (any)
        j->conf.need_prepare(j->conf.arg);
}

int journal_adopt(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes)
{
    int err;

    pthread_mutex_lock(&j->lock);
    err = retain(j, sequence, last_lsn, bytes);
    pthread_mutex_unlock(&j->lock);
    return err;
}

uint64_t journal_retained(const struct journal *j)
{
    return atomic_load_explicit(&j->retained_bytes, memory_order_relaxed);
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
    struct journal *mutable = (struct journal *)(uintptr_t)j;

    pthread_mutex_lock(&mutable->lock);
    *out = j->stats;
    out->full = j->full;
    out->segments = j->retained.count + 1;
    out->bytes = j->current.offset + journal_retained(j);
    pthread_mutex_unlock(&mutable->lock);
}

/* The first segment to write to: a new one, or on a full disk none for now. */
static int first_segment(struct journal *j)
{
    const struct journal_conf *conf = &j->conf;
    int err = journal_file_create(&j->current, j->dir, conf->worker, conf->next_sequence,
                                  conf->segment_bytes, false);

    if (err != -ERR_DISKFULL)
        return err;
    log_error("disk full: writes are refused until there is room");
    j->full = true;
    j->current = (struct journal_file){.fd = -1, .sequence = conf->next_sequence - 1};
    return 0;
}

static uint64_t reserve_size(uint64_t segment_bytes)
{
    uint64_t size = segment_bytes / 4;

    return size < (64u << 10) ? 64u << 10 : size > (8u << 20) ? 8u << 20 : size;
}

int journal_open(struct journal **out, const struct journal_conf *conf)
{
    struct journal *j = calloc(1, sizeof *j);
    pthread_condattr_t attr;
    int err;

    if (j == NULL)
        return -ERR_NOMEM;
    j->conf = *conf;
    file_path(j->dir, "%s", conf->dir);
    file_path(j->reserve_path, "%s/reserve.wal", conf->dir);
    j->reserve_bytes = reserve_size(conf->segment_bytes);
    j->next_lsn = conf->next_lsn;
    j->written_lsn = j->synced_lsn = conf->next_lsn - 1;
    atomic_store(&j->durable, j->written_lsn);
    j->next.fd = -1;
    j->have_reserve = file_size(j->reserve_path) == j->reserve_bytes;
    j->marked = true; /* nothing to mark yet */
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attr);
    pthread_condattr_destroy(&attr);
    err = batch_room(&j->active, 1);
    if (err == 0)
        err = batch_room(&j->writing, 1);
    if (err == 0)
        err = first_segment(j);
    if (err == 0 && pthread_create(&j->thread, NULL, journal_main, j) != 0) {
        journal_file_close(&j->current);
        err = -ERR_NOMEM;
    }
    if (err != 0) {
        free(j->active.data);
        free(j->writing.data);
        free(j);
        return err;
    }
    *out = j;
    return 0;
}

void journal_close(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    if (batch_room(&j->active, JOURNAL_RECORD) == 0)
        append_locked(j, JOURNAL_CLEAN, 0, NULL, 0);
    j->stopping = true;
    pthread_mutex_unlock(&j->lock);
    pthread_cond_signal(&j->wake);
    pthread_join(j->thread, NULL);
    journal_file_close(&j->current);
    journal_file_close(&j->next);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->wake);
    free(j->active.data);
    free(j->writing.data);
    free(j->retained.items);
    free(j->released.items);
    free(j);
}
