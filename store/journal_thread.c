/* The journal thread: syncs what has been written, and goes to the next segment when one is full. A write
 * or sync that fails ends the process: what the kernel holds after a failed sync is unknown, only
 * reading the journal anew tells. */
#include "store/journal_impl.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/err.h"
#include "base/log.h"
#include "store/store.h"

#include <stdio.h>

enum {
    IDLE_MARK_US = 100000, /* quiet time after which a MARK is written */
    EVERYSEC_US = 1000000,
    REST_RECORDS = 4, /* fewer in one sync: their writers may be few, and wait for it */
    REST_MAX_US = 1000,
};

void journal_wait_us(struct journal *j, uint64_t us)
{
    uint64_t until = clock_mono_us() + us;
    struct timespec ts = {
        .tv_sec = (time_t)(until / 1000000),
        .tv_nsec = (long)(until % 1000000) * 1000,
    };

    pthread_cond_timedwait(&j->wake, &j->lock, &ts);
}

/* Sync all that has been written. The lock is held; released meanwhile. Only this thread changes which
 * segment is the current one. */
static void sync_current(struct journal *j)
{
    uint64_t begin = clock_mono_us(), upto = j->written_lsn, took;
    int err, fd = j->current.fd;

    pthread_mutex_unlock(&j->lock);
    err = file_sync(fd);
    if (err != 0)
        check_panic("journal sync failed: %s", err_text(err));
    j->last_sync_us = clock_mono_us();
    took = j->last_sync_us - begin;
    j->rest_us = took < REST_MAX_US ? took : REST_MAX_US;
    pthread_mutex_lock(&j->lock);
    if (upto - j->synced_lsn < REST_RECORDS)
        j->rest_us = 0;
    j->synced_lsn = upto;
    j->stats.syncs++;
    j->stats.last_sync_us = (uint32_t)took;
    if (took > j->stats.max_sync_us)
        j->stats.max_sync_us = (uint32_t)took;
}

/* A segment for records of up to `need` bytes when none is prepared: made here and now, or from the
 * reserve, or waited for. The lock is held; released while files are touched. */
static bool find_segment(struct journal *j, uint64_t need)
{
    uint64_t sequence = j->sequence + 1;
    uint64_t size = j->conf.segment_bytes < JOURNAL_HASTY ? j->conf.segment_bytes : JOURNAL_HASTY;
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
    if (err == 0) {
        j->next = made;
        j->sequence = sequence;
        j->next.reserve = use_reserve;
    }
    return err == 0;
}

/* Go on in the next segment, with everything in the old one on disk. The lock is held; released while
 * files are touched. False if the journal is to end instead. */
static bool switch_segment(struct journal *j)
{
    uint64_t need = journal_first_record(j);
    struct journal_file old;

    if (j->conf.durability != STORE_NEVER && j->current.fd >= 0)
        sync_current(j);
    while (j->next.fd < 0 || j->next.size < need + JOURNAL_HEADER) {
        if (j->preparing) {
            journal_wait_us(j, JOURNAL_RETRY_US);
            continue;
        }
        if (j->next.fd >= 0) { /* too small for one very large record: step over it */
            if (journal_retain(j, j->next.sequence, 0, j->next.size) != 0)
                check_panic("no memory for the list of journal segments");
            journal_file_close(&j->next);
        }
        if (find_segment(j, need))
            break;
        if (j->stopping)
            return false;
        journal_wait_us(j, JOURNAL_RETRY_US);
    }
    old = j->current;
    if (old.fd >= 0 && journal_retain(j, old.sequence, old.last_lsn, old.size) != 0)
        check_panic("no memory for the list of journal segments");
    j->current = j->next;
    j->next.fd = -1;
    pthread_mutex_unlock(&j->lock);
    journal_file_close(&old);
    j->conf.need_prepare(j->conf.arg);
    pthread_mutex_lock(&j->lock);
    return true;
}

/* When the journal falls idle, a record that says that all before it is on disk. It is not worth a
 * segment of its own. */
static void mark(struct journal *j)
{
    j->marked = true;
    if (journal_room(j) < JOURNAL_RECORD ||
        journal_batch_room(j, JOURNAL_RECORD + j->promised) != 0)
        return;
    journal_append_locked(j, JOURNAL_MARK, 0, NULL, 0);
    journal_write_batch(j);
}

static bool sync_is_due(const struct journal *j)
{
    if (j->synced_lsn >= j->written_lsn || j->conf.durability == STORE_NEVER)
        return false;
    return j->conf.durability == STORE_ALWAYS || j->stopping ||
           clock_mono_us() - j->last_sync_us >= EVERYSEC_US;
}

/* Wait until there is a segment to go to, a sync due, or the end. The lock is held. */
static void wait_for_work(struct journal *j)
{
    while (!j->stuck && !j->stopping && !sync_is_due(j)) {
        uint64_t since_us = clock_mono_us() - j->last_sync_us;

        j->idle = j->conf.durability == STORE_ALWAYS ||
                  (j->conf.durability == STORE_EVERYSEC && j->synced_lsn >= j->written_lsn);
        if (j->conf.durability == STORE_EVERYSEC && j->synced_lsn < j->written_lsn) {
            journal_wait_us(j, since_us < EVERYSEC_US ? EVERYSEC_US - since_us : 1);
        } else if (j->conf.durability == STORE_ALWAYS && !j->marked) {
            journal_wait_us(j, IDLE_MARK_US);
            if (!j->stuck && !j->stopping && !sync_is_due(j) && j->batch.len == 0)
                mark(j);
        } else {
            pthread_cond_wait(&j->wake, &j->lock);
        }
        j->idle = false;
    }
}

/* Let records gather: a sync costs as much CPU for one as for a hundred. The lock is held. */
static void rest(struct journal *j)
{
    while (j->rest_us != 0 && atomic_load_explicit(&j->sparing, memory_order_relaxed) &&
           !j->stuck && !j->stopping) {
        uint64_t since_us = clock_mono_us() - j->last_sync_us;

        if (since_us >= j->rest_us)
            break;
        journal_wait_us(j, j->rest_us - since_us);
    }
}

void *journal_main(void *arg)
{
    struct journal *j = arg;
    bool go_on = true, sparing = false;

    pthread_setname_np(pthread_self(), "journal");
    cpu_prompt(true);
    pthread_mutex_lock(&j->lock);
    while (go_on) {
        bool unstuck = false;

        wait_for_work(j);
        if (atomic_load_explicit(&j->sparing, memory_order_relaxed) != sparing) {
            sparing = !sparing;
            cpu_prompt(!sparing);
        }
        rest(j);
        if (j->stopping)
            go_on = false;
        while ((j->stuck || !go_on) && !journal_write_batch(j)) {
            if (!switch_segment(j))
                goto out;
            unstuck = true;
        }
        if (sync_is_due(j))
            sync_current(j);
        if (journal_advance(j) || unstuck) {
            pthread_mutex_unlock(&j->lock);
            j->conf.progress(j->conf.arg);
            pthread_mutex_lock(&j->lock);
        }
    }
out:
    pthread_mutex_unlock(&j->lock);
    return NULL;
}
