/* Write-back as the loop sees it: which vnodes have live writes, when their buffers are frozen and lent to
 * the flush thread, what comes back, and how full the buffers may be. Runs in the loop thread, and where a
 * worker recovers. */
#include "store/engine.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FLUSH_AT = 60, /* percent of the bound at which buffers are flushed */
    HURRY_AT =
        80, /* percent at which a flush is to be done in few transactions, and competes for the CPU, */
    LEAVE_AT = 70,      /* ... and at which it leaves that to others again */
    BACKLOG = 8 << 20,  /* bytes waiting for the journal at which clients are slowed down */
    JOURNAL_SHARE = 4,  /* times the bound of the buffers: flush rather than let it grow */
    RETRY_US = 1000000, /* between tries to flush to a full disk */
    EXPIRY_LOOKS = 16,  /* vnodes looked at for expired values in one turn */
    POOL_KEEP = 64,     /* chunks kept when nothing is buffered */
};

/* --- live writes --- */

static void unlist(struct store *s, struct vnode *v)
{
    if (!v->listed)
        return;
    *(v->older != NULL ? &v->older->newer : &s->oldest) = v->newer;
    *(v->newer != NULL ? &v->newer->older : &s->newest) = v->older;
    v->older = v->newer = NULL;
    v->listed = false;
    v->live_lsn = 0;
}

void engine_note_write(struct store *s, struct vnode *v, uint64_t lsn)
{
    v->writes++;
    v->last_write_ms = s->now_ms;
    if (v->listed)
        return;
    v->listed = true;
    v->live_lsn = lsn;
    v->live_since_us = s->now_us;
    v->older = s->newest;
    v->newer = NULL;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = v;
    s->newest = v;
}

void engine_drop_live(struct store *s, struct vnode *v)
{
    unlist(s, v);
    wbuf_clear(&v->live);
    wbuf_clear(&v->hints_live);
}

/* --- lending --- */

bool engine_flush_is_stuck(const struct store *s)
{
    for (uint32_t i = 0; i < s->flushing_count; i++)
        if (s->flushing[i]->retry_us != 0)
            return true;
    return false;
}

static void forget_flushing(struct store *s, struct vnode *v)
{
    for (uint32_t i = 0; i < s->flushing_count; i++)
        if (s->flushing[i] == v) {
            s->flushing[i] = s->flushing[--s->flushing_count];
            s->flushing_bytes -= v->frozen.bytes + v->hints_frozen.bytes;
            v->frozen_lsn = 0;
            return;
        }
}

void engine_submit(struct store *s, struct vnode *v, unsigned todo)
{
    v->want |= todo;
    if (v->busy || s->flusher == NULL)
        return;
    v->work.todo = v->want;
    v->want = 0;
    if (v->work.todo & VNODE_REPLACE) { /* most else has become void with the file */
        v->want = v->work.todo & VNODE_FLUSH;
        v->work.todo = VNODE_REPLACE;
        v->bad_count = 0;
    }
    v->work.now_ms = s->now_ms;
    v->work.vnodes = s->open_count;
    v->work.hurry = s->pool.used > s->conf.write_buffer_bytes / 100 * HURRY_AT;
    v->work.renewed = false;
    v->work.err = 0;
    v->work.flushed_records = v->work.flushed_bytes = v->work.dropped = v->work.corrupt = 0;
    v->work.purged = 0;
    v->work.mark_id = v->mark_id;
    v->work.mark_horizon_ms = v->mark_horizon_ms;
    v->work.mark_standing = v->mark_standing;
    if (v->work.todo & VNODE_RENEW) {
        memcpy(v->work.bad, v->bad, sizeof v->bad);
        v->work.bad_count = v->bad_count;
        v->bad_count = 0;
    }
    if (v->reading) { /* not in the list of readers: it was not busy */
        lmdb_reader_reset(v->env);
        v->reading = false;
    }
    v->busy = true;
    flusher_submit(s->flusher, v);
}

/* --- flushing --- */

void engine_freeze(struct store *s, struct vnode *v)
{
    struct wbuf empty = v->frozen, empty_hints = v->hints_frozen;

    ASSERT(!v->busy && v->frozen.count == 0 && v->hints_frozen.count == 0 &&
           s->flushing_count < ENGINE_FLUSHING);
    v->frozen = v->live;
    v->hints_frozen = v->hints_live;
    v->live = empty;
    v->hints_live = empty_hints;
    v->frozen_lsn = v->live_lsn;
    v->frozen_since_us = v->live_since_us;
    v->retry_us = 0;
    unlist(s, v);
    s->flushing[s->flushing_count++] = v;
    s->flushing_bytes += v->frozen.bytes + v->hints_frozen.bytes;
}

static void publish_leaves(struct vnode *v)
{
    size_t bytes = sizeof *v->leaves << v->work.meta.leaf_bits;

    if (v->work.meta.leaf_bits != v->leaf_bits) {
        uint64_t *leaves = malloc(bytes);

        if (leaves == NULL)
            return; /* the old ones stay published; the next flush tries again */
        free(v->leaves);
        v->leaves = leaves;
        v->leaf_bits = v->work.meta.leaf_bits;
    }
    memcpy(v->leaves, v->work.leaves, bytes);
    v->root = 0;
    for (uint32_t i = 0; i < 1u << v->leaf_bits; i++)
        v->root += v->leaves[i];
    v->generation++;
}

void engine_collect(struct store *s, struct vnode *v)
{
    struct vnode_work *w = &v->work;

    v->busy = false;
    if (w->err == -ERR_CORRUPT) {
        v->want |= (w->todo & VNODE_FLUSH) | VNODE_REPLACE;
        v->ruined = v->renewing = true;
        s->stats.corrupt_records++;
        return;
    }
    if (w->err != 0) {
        if (v->retry_us == 0)
            log_warn("vnode %" PRIu32 ": not written back: the disk is full, or its file has "
                     "reached storage.map_size; tried again every second",
                     v->partition);
        v->want |= w->todo & (VNODE_FLUSH | VNODE_REBUILD | VNODE_REPLACE | VNODE_NEW_ID);
        v->retry_us = s->now_us + RETRY_US;
    } else if (w->todo & VNODE_FLUSH) {
        forget_flushing(s, v);
        wbuf_clear(&v->frozen);
        v->replayed = false; /* it was all in the first buffer to be written back */
        wbuf_clear(&v->hints_frozen);
        v->frozen_since_us = 0;
        v->retry_us = 0;
        s->stats.flushes++;
    }
    s->stats.flushed_records += w->flushed_records;
    s->stats.flushed_bytes += w->flushed_bytes;
    s->stats.corrupt_records += w->corrupt;
    s->stats.expired_dropped += w->dropped;
    if (w->todo & VNODE_REPLACE && w->err == 0) {
        v->ruined = false;
        s->stats.quarantined_vnodes++;
    }
    if (w->renewed) {
        v->id = w->meta.id;
        v->next_n = 1;
        v->renewing = v->bad_count > 0;
        s->stats.new_vnode_ids++;
    }
    v->reserved = w->meta.reserved;
    v->keys = w->keys;
    v->tombs = w->tombs;
    v->file_bytes = w->file_bytes;
    v->next_expiry = w->next_expiry;
    v->next_tomb = w->next_tomb;
    v->standing = w->meta.standing;
    v->horizon_ms = w->meta.horizon_ms;
    s->stats.tombstones_purged += w->purged;
    if (w->todo &
        (VNODE_FLUSH | VNODE_RENEW | VNODE_REPLACE | VNODE_EXPIRE | VNODE_PURGE | VNODE_WIPE))
        publish_leaves(v);
}

/* Release the journal up to the oldest record that only a buffer holds. */
static void release_journal(struct store *s)
{
    uint64_t needed = journal_durable(s->journal) + 1;

    if (s->oldest != NULL && s->oldest->live_lsn < needed)
        needed = s->oldest->live_lsn;
    for (uint32_t i = 0; i < s->flushing_count; i++)
        if (s->flushing[i]->frozen_lsn < needed)
            needed = s->flushing[i]->frozen_lsn;
    journal_release(s->journal, needed);
}

/* Is the vnode that holds back the journal most to be flushed now? */
static bool flush_is_due(const struct store *s)
{
    uint64_t live = s->pool.used - s->flushing_bytes;

    return live > s->conf.write_buffer_bytes / 100 * FLUSH_AT ||
           s->now_us - s->oldest->live_since_us >= (uint64_t)s->conf.flush_age_ms * 1000 ||
           journal_retained(s->journal) > s->conf.write_buffer_bytes * JOURNAL_SHARE;
}

static void start_flushes(struct store *s)
{
    for (uint32_t i = 0; i < s->flushing_count; i++) {
        struct vnode *v = s->flushing[i];

        if (!v->busy && v->want & VNODE_FLUSH && s->now_us >= v->retry_us)
            engine_submit(s, v, 0);
    }
    while (s->oldest != NULL && s->flushing_count < ENGINE_FLUSHING && !s->oldest->busy &&
           s->oldest->frozen_lsn == 0 && flush_is_due(s)) {
        struct vnode *v = s->oldest;

        engine_freeze(s, v);
        engine_submit(s, v, VNODE_FLUSH);
    }
}

void store_flush(struct store *s, uint32_t partition)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL || !v->listed || v->busy || v->frozen_lsn != 0 ||
        s->flushing_count == ENGINE_FLUSHING)
        return;
    engine_freeze(s, v);
    engine_submit(s, v, VNODE_FLUSH);
}

static void look_for_expired(struct store *s)
{
    for (int i = 0; i < EXPIRY_LOOKS; i++) {
        struct vnode *v = s->vnodes[s->expiry_at];

        s->expiry_at = (s->expiry_at + 1) & (s->partitions - 1);
        if (v == NULL || v->ruined)
            continue;
        if (!v->busy && v->next_expiry != 0 && v->next_expiry <= s->now_ms)
            engine_submit(s, v, VNODE_EXPIRE);
        if (!v->busy && v->purge && v->standing == STANDING_WHOLE && v->next_tomb != 0 &&
            v->next_tomb <= v->horizon_ms)
            engine_submit(s, v, VNODE_PURGE);
    }
}

static void drain_event(struct store *s)
{
    uint64_t count;
    ssize_t ignored = read(s->event_fd, &count, sizeof count);

    (void)ignored;
}

void store_turn(struct store *s, uint64_t now_mono_us, uint64_t now_ms)
{
    bool any = false;
    struct vnode *v;

    CHECK_MAGIC(s, ENGINE_MAGIC);
    if (s->pressed && now_mono_us > s->now_us)
        s->stats.pressure_us += now_mono_us - s->now_us;
    s->now_us = now_mono_us;
    s->now_ms = now_ms;
    engine_reset_readers(s);
    if (!atomic_exchange(&s->armed, true))
        drain_event(s);
    while ((v = flusher_take(s->flusher)) != NULL) {
        any = true;
        if (v->work.todo & VNODE_DROP) {
            v->busy = false;
            forget_flushing(s, v);
            vnode_close(v);
            continue;
        }
        engine_collect(s, v);
        if (v->want != 0 && (v->work.err == 0 || v->work.err == -ERR_CORRUPT))
            engine_submit(s, v, 0);
    }
    if (any)
        release_journal(s);
    start_flushes(s);
    look_for_expired(s);
    if (s->pool.used == 0)
        wbuf_pool_trim(&s->pool, POOL_KEEP);
    s->pressed = store_pressure(s);
}

/* How much of the CPU the flush thread is to have. */
static void drive_flusher(struct store *s)
{
    uint64_t percent = s->conf.write_buffer_bytes / 100;

    if (s->pool.used > percent * HURRY_AT)
        s->filling = true;
    else if (s->pool.used < percent * LEAVE_AT)
        s->filling = false;
    flusher_hurry(s->flusher, s->filling || s->sparing);
}

bool store_kick(struct store *s)
{
    bool all;

    engine_reset_readers(s);
    all = journal_kick(s->journal);
    start_flushes(s);
    drive_flusher(s);
    return all;
}

void store_set_sparing(struct store *s, bool sparing)
{
    s->sparing = sparing;
    journal_set_sparing(s->journal, sparing);
}

bool store_pressure(const struct store *s)
{
    if (journal_backlog(s->journal) > BACKLOG)
        return true;
    return s->pool.used > s->conf.write_buffer_bytes / 100 * ENGINE_PRESSURE_AT &&
           !engine_flush_is_stuck(s);
}
