/* The journal of one worker: the batch in memory and what the loop does with it. It knows nothing of
 * vnodes or LMDB. */
#include "store/journal_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "store/store.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH_FIRST = 1 << 20,  /* bytes of the batch buffer at first */
    BATCH_LIMIT = 32 << 20, /* a batch grows no further unless one record alone is larger */
};

int64_t journal_room(const struct journal *j)
{
    return (int64_t)j->current.size - (int64_t)j->current.offset - (int64_t)j->batch.len;
}

int journal_batch_room(struct journal *j, size_t need)
{
    struct batch *b = &j->batch;
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
    if (j->batch.len > 0 && j->batch.len + need > BATCH_LIMIT) {
        err = -ERR_BUSY;
    } else if (j->full && j->next.fd < 0) {
        int64_t room = journal_room(j);

        if (shrinks && j->have_reserve)
            room += (int64_t)j->reserve_bytes / 2;
        if (room < (int64_t)need || (j->current.reserve && !shrinks))
            err = -ERR_DISKFULL;
    }
    if (err == 0)
        err = journal_batch_room(j, need);
    j->promised = err == 0 ? need : 0;
    pthread_mutex_unlock(&j->lock);
    return err;
}

uint64_t journal_append_locked(struct journal *j, enum journal_type type, uint32_t partition,
                               const struct slice *parts, int count)
{
    uint8_t *at = j->batch.data + j->batch.len;
    size_t len = JOURNAL_RECORD, padded;
    struct journal_record header = {
        .partition = (uint16_t)partition,
        .type = (uint8_t)type,
        .lsn = j->next_lsn,
    };

    for (int i = 0; i < count; i++) {
        ASSERT(j->batch.len + len + parts[i].len <= j->batch.capacity);
        if (parts[i].len > 0)
            memcpy(at + len, parts[i].data, parts[i].len);
        len += parts[i].len;
    }
    header.len = (uint32_t)len;
    memcpy(at, &header, sizeof header);
    padded = journal_padded(len);
    ASSERT(j->batch.len + padded <= j->batch.capacity);
    memset(at + len, 0, padded - len);
    j->batch.len += padded;
    atomic_store_explicit(&j->backlog, j->batch.len, memory_order_relaxed);
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
    lsn = journal_append_locked(j, type, partition, parts, 3);
    j->promised = 0;
    pthread_mutex_unlock(&j->lock);
    return lsn;
}

uint64_t journal_backlog(const struct journal *j)
{
    return atomic_load_explicit(&j->backlog, memory_order_relaxed);
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

size_t journal_first_record(const struct journal *j)
{
    struct journal_record header;

    ASSERT(j->batch.len >= sizeof header);
    memcpy(&header, j->batch.data, sizeof header);
    return journal_padded(header.len);
}

/* Seal the records of the batch that the current segment takes; how many bytes they are. */
static size_t seal_run(const struct journal *j, uint64_t *last_lsn)
{
    size_t run = 0, room = j->current.fd < 0 ? 0 : j->current.size - j->current.offset;
    struct journal_record header;

    while (run < j->batch.len) {
        memcpy(&header, j->batch.data + run, sizeof header);
        if (run + journal_padded(header.len) > room)
            break;
        run += seal_record(j, j->batch.data + run);
        *last_lsn = header.lsn;
    }
    return run;
}

bool journal_write_batch(struct journal *j)
{
    struct batch *b = &j->batch;
    uint64_t last_lsn = 0;
    size_t run = seal_run(j, &last_lsn);
    int err = 0;

    if (run > 0 && j->current.offset == JOURNAL_HEADER)
        err = journal_file_stamp(&j->current, j->conf.worker, j->written_lsn + 1);
    if (run > 0 && err == 0)
        err = file_write_at(j->current.fd, b->data, run, j->current.offset);
    if (err != 0)
        check_panic("journal write failed: %s", err_text(err));
    if (run > 0) {
        j->current.offset += run;
        j->current.last_lsn = last_lsn;
        j->stats.records += last_lsn - j->written_lsn;
        j->stats.written_bytes += run;
        j->written_lsn = last_lsn;
        b->len -= run;
        memmove(b->data, b->data + run, b->len);
        atomic_store_explicit(&j->backlog, b->len, memory_order_relaxed);
    }
    j->stuck = b->len > 0;
    return !j->stuck;
}

bool journal_advance(struct journal *j)
{
    uint64_t upto = j->conf.durability == STORE_ALWAYS ? j->synced_lsn : j->written_lsn;

    if (upto <= atomic_load_explicit(&j->durable, memory_order_relaxed))
        return false;
    atomic_store_explicit(&j->durable, upto, memory_order_seq_cst);
    return true;
}

bool journal_kick(struct journal *j)
{
    bool all, wake = false;

    pthread_mutex_lock(&j->lock);
    all = j->batch.len == 0;
    if (!all && !j->stuck) {
        all = journal_write_batch(j);
        journal_advance(j);
        wake = j->idle || j->stuck;
        j->idle = false;
    }
    pthread_mutex_unlock(&j->lock);
    if (wake)
        pthread_cond_signal(&j->wake);
    return all;
}

void journal_set_sparing(struct journal *j, bool sparing)
{
    atomic_store_explicit(&j->sparing, sparing, memory_order_relaxed);
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
    uint64_t size = conf->segment_bytes < JOURNAL_FIRST ? conf->segment_bytes : JOURNAL_FIRST;
    int err =
        journal_file_create(&j->current, j->dir, conf->worker, conf->next_sequence, size, false);

    j->sequence = err == 0 ? conf->next_sequence : conf->next_sequence - 1;
    if (err != -ERR_DISKFULL)
        return err;
    log_error("disk full: writes are refused until there is room");
    j->full = true;
    j->current = (struct journal_file){.fd = -1};
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
    err = journal_batch_room(j, JOURNAL_RECORD);
    if (err == 0)
        err = first_segment(j);
    if (err == 0 && pthread_create(&j->thread, NULL, journal_main, j) != 0) {
        journal_file_close(&j->current);
        err = -ERR_NOMEM;
    }
    if (err != 0) {
        free(j->batch.data);
        free(j);
        return err;
    }
    *out = j;
    return 0;
}

/* The segment with the CLEAN record is to be the last one. */
static void drop_next(struct journal *j)
{
    char path[FILE_PATH];

    if (j->next.fd < 0)
        return;
    journal_file_path(path, j->dir, j->next.sequence);
    journal_file_close(&j->next);
    unlink(path);
    file_sync_dir(j->dir);
}

void journal_close(struct journal *j, bool clean)
{
    pthread_mutex_lock(&j->lock);
    if (clean && journal_batch_room(j, JOURNAL_RECORD + j->promised) == 0)
        journal_append_locked(j, JOURNAL_CLEAN, 0, NULL, 0);
    j->stopping = true;
    pthread_mutex_unlock(&j->lock);
    pthread_cond_signal(&j->wake);
    pthread_join(j->thread, NULL);
    journal_file_close(&j->current);
    drop_next(j);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->wake);
    free(j->batch.data);
    free(j->retained.items);
    free(j->released.items);
    free(j);
}
