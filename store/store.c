/* The storage engine of one worker: what its loop calls. Reads look in the live buffer, the frozen
 * buffer, then LMDB; writes go to the journal and the live buffer; the flush thread carries frozen
 * buffers to LMDB. All state here belongs to the loop thread; a vnode is lent to the flush thread
 * while it is busy. */
#include "store/engine.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/journal_file.h"
#include "store/starts.h"
#include "store/suspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    FLUSH_AT = 60,      /* percent of the bound at which buffers are flushed */
    PRESSURE_AT = 90,   /* percent at which clients are slowed down */
    BACKLOG = 8 << 20,  /* bytes waiting for the journal at which clients are slowed down */
    OVERDRAFT = 110,    /* percent beyond which writes are refused */
    JOURNAL_SHARE = 4,  /* times the bound of the buffers: flush rather than let it grow */
    RETRY_US = 1000000, /* between tries to flush to a full disk */
    EXPIRY_LOOKS = 16,  /* vnodes looked at for expired values in one turn */
    POOL_KEEP = 64,     /* chunks kept when nothing is buffered */
};

/* Wake the loop if it asked for it. Called by both threads. */
static void wake_loop(void *arg)
{
    struct store *s = arg;
    uint64_t one = 1;

    if (!atomic_exchange(&s->armed, false))
        return;
    if (write(s->event_fd, &one, sizeof one) != sizeof one && errno != EAGAIN)
        check_panic("cannot write an event descriptor");
}

static void need_segment(void *arg)
{
    struct store *s = arg;

    flusher_need_prepare(s->flusher);
}

int engine_init(struct store *s, const struct store_conf *conf)
{
    char path[FILE_PATH];
    int err;

    s->magic = ENGINE_MAGIC;
    s->conf = *conf;
    s->event_fd = -1;
    s->partitions = 1u << conf->q_bits;
    if (snprintf(s->data_dir, sizeof s->data_dir, "%s", conf->data_dir) >= (int)sizeof s->data_dir)
        return -ERR_INVAL;
    if (conf->boot_id == NULL)
        boot_read_id(s->boot_id);
    else
        snprintf(s->boot_id, sizeof s->boot_id, "%s", conf->boot_id);
    s->vnode_conf = (struct vnode_conf){
        .data_dir = s->data_dir,
        .worker = conf->worker,
        .q_bits = conf->q_bits,
        .map_bytes = conf->map_bytes,
        .pool = &s->pool,
        .fresh_standing = STANDING_MISSING,
    };
    s->flush_conf =
        (struct flush_conf){s->data_dir, conf->worker, &s->vnode_conf, !conf->no_leaves};
    s->vnodes = calloc(s->partitions, sizeof *s->vnodes);
    if (s->vnodes == NULL || commits_open(&s->vnode_conf.commits, s->partitions) != 0)
        return -ERR_NOMEM;
    file_path(path, "%s/vnodes", s->data_dir);
    err = file_make_dir(path);
    file_path(path, "%s/journal", s->data_dir);
    if (err == 0)
        err = file_make_dir(path);
    return err == 0 ? starts_take(s->data_dir, &s->vnode_conf.start) : err;
}

void engine_fini(struct store *s)
{
    engine_reset_readers(s);
    for (uint32_t p = 0; s->vnodes != NULL && p < s->partitions; p++)
        if (s->vnodes[p] != NULL) {
            s->vnodes[p]->busy = false;
            s->vnodes[p]->listed = false;
            vnode_close(s->vnodes[p]);
        }
    free(s->vnodes);
    commits_close(s->vnode_conf.commits);
    buf_free(&s->nothing);
    wbuf_pool_trim(&s->pool, 0);
    s->magic = 0;
}

/* Start the threads on what has been recovered. */
static int start_threads(struct store *s, const struct journal_replay *r)
{
    struct flusher_conf flusher = {s->flush_conf, s->journal_dir, wake_loop, s};
    struct journal_conf journal = {
        .dir = s->journal_dir,
        .worker = s->conf.worker,
        .segment_bytes = s->conf.segment_bytes,
        .durability = (int)s->conf.durability,
        .next_lsn = r->next_lsn,
        .next_sequence = r->next_sequence,
        .progress = wake_loop,
        .need_prepare = need_segment,
        .arg = s,
    };
    int err = flusher_open(&s->flusher, &flusher);

    if (err != 0)
        return err;
    err = journal_open(&s->journal, &journal);
    for (uint32_t i = 0; err == 0 && i < r->segment_count; i++) {
        const struct journal_segment *segment = &r->segments[i];
        char path[FILE_PATH];

        if (segment->unused) {
            journal_file_path(path, s->journal_dir, segment->sequence);
            unlink(path);
        } else {
            err = journal_adopt(s->journal, segment->sequence, segment->last_lsn, segment->bytes);
        }
    }
    if (err != 0)
        return err;
    flusher_set_journal(s->flusher, s->journal);
    flusher_need_prepare(s->flusher);
    return 0;
}

static void stop_threads(struct store *s)
{
    struct vnode *v;

    if (s->flusher != NULL)
        flusher_stop(s->flusher);
    if (s->journal != NULL) {
        uint64_t durable = journal_durable(s->journal);

        journal_close(s->journal);
        if (commits_save(s->vnode_conf.commits, s->journal_dir, durable) != 0)
            log_warn("cannot write %s/commits", s->journal_dir);
    }
    while (s->flusher != NULL && (v = flusher_take_any(s->flusher)) != NULL) {
        v->busy = false;
        if (v->work.todo & VNODE_DROP) {
            vnode_remove_files(v, s->data_dir);
            vnode_close(v);
        }
    }
    if (s->flusher != NULL)
        flusher_free(s->flusher);
    s->flusher = NULL;
    s->journal = NULL;
}

static void destroy(struct store *s)
{
    stop_threads(s);
    engine_fini(s);
    if (s->event_fd >= 0)
        close(s->event_fd);
    free(s);
}

int store_open(struct store **out, const struct store_conf *conf)
{
    struct store *s = calloc(1, sizeof *s);
    struct journal_replay replay = {0};
    int err;

    ASSERT(conf->q_bits <= 14 && conf->segment_bytes >= 64u << 10);
    if (s == NULL)
        return -ERR_NOMEM;
    err = engine_init(s, conf);
    if (err == 0) {
        file_path(s->journal_dir, "%s/journal/%u", s->data_dir, conf->worker);
        err = file_make_dir(s->journal_dir);
    }
    if (err == 0) {
        s->now_us = clock_mono_us();
        s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        err = s->event_fd < 0 ? err_from_errno(errno) : 0;
    }
    if (err == 0)
        err = commits_load(s->vnode_conf.commits, s->journal_dir, &s->least_lsn);
    if (err == 0)
        err = suspect_take(s->journal_dir, s->data_dir, &s->stats.quarantined_vnodes);
    if (err == 0)
        err = recover_journal(s, s->journal_dir, conf->worker, &replay);
    if (err == 0)
        err = boot_note(s->journal_dir, s->boot_id);
    if (err == 0)
        err = start_threads(s, &replay);
    journal_replay_free(&replay);
    if (err != 0) {
        destroy(s);
        return err;
    }
    atomic_store(&s->armed, true);
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    CHECK_MAGIC(s, ENGINE_MAGIC);
    destroy(s);
}

/* --- vnodes --- */

int engine_open_vnode(struct store *s, uint32_t partition, bool create)
{
    struct vnode_opened found;
    struct vnode *v;
    int err = vnode_open(&v, &s->vnode_conf, partition, create, &found);

    if (err != 0)
        return err;
    s->stats.quarantined_vnodes += found.quarantined;
    s->stats.new_vnode_ids += found.lost || found.quarantined || found.renewed;
    s->vnodes[partition] = v;
    s->open_count++;
    return 0;
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

int store_vnode_open(struct store *s, uint32_t partition, bool create, uint64_t *vnode_id)
{
    CHECK_MAGIC(s, ENGINE_MAGIC);
    if (partition >= s->partitions)
        return -ERR_INVAL;
    bool opened = s->vnodes[partition] == NULL;

    if (opened) {
        int err = engine_open_vnode(s, partition, create);

        if (err != 0)
            return err;
    }
    if (s->vnodes[partition]->want != 0)
        engine_submit(s, s->vnodes[partition], 0);
    if (opened && s->away && s->vnodes[partition]->standing == STANDING_WHOLE)
        store_set_standing(s, partition, s->vnodes[partition]->id, STANDING_AWAY);
    *vnode_id = s->vnodes[partition]->id;
    return 0;
}

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

int store_vnode_drop(struct store *s, uint32_t partition)
{
    struct vnode *v = engine_vnode(s, partition);
    struct slice none = {0};
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    err = journal_check(s->journal, 0, true);
    if (err == 0)
        err = vnode_unlink(v, s->data_dir);
    if (err != 0)
        return err;
    journal_append(s->journal, JOURNAL_DROP, partition, none, none, none);
    engine_reset_readers(s);
    engine_drop_live(s, v);
    s->vnodes[partition] = NULL;
    s->open_count--;
    v->want = 0;
    engine_submit(s, v, VNODE_DROP);
    return 0;
}

uint64_t store_vnode_id(const struct store *s, uint32_t partition)
{
    const struct vnode *v = engine_vnode(s, partition);

    return v == NULL ? 0 : v->id;
}

int store_next_dot(struct store *s, uint32_t partition, struct dot *out)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL)
        return -ERR_NOTFOUND;
    if (v->renewing) {
        if (!v->busy &&
            s->now_us >= v->retry_us) /* what was asked for came to nothing, on a full disk say */
            engine_submit(s, v, v->ruined ? VNODE_REPLACE : VNODE_RENEW);
        return -ERR_BUSY;
    }
    if (v->reserved - (v->next_n - 1) < VNODE_DOT_BLOCK / 2 && !v->busy)
        engine_submit(s, v, VNODE_RESERVE);
    if (v->next_n > v->reserved)
        return -ERR_BUSY;
    *out = (struct dot){v->id, v->next_n++};
    return 0;
}

int store_witness_dot(struct store *s, uint32_t partition, struct dot seen)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL || v->renewing || seen.vnode != v->id || seen.n < v->next_n)
        return 0;
    log_error("vnode %u: a peer knows a dot that was never issued here: restored from an old copy?",
              partition);
    v->renewing = true;
    engine_submit(s, v, VNODE_RENEW);
    return 1;
}

int engine_read_failed(struct store *s, struct vnode *v, int err)
{
    if (err == -ERR_VERSION || err == -ERR_INVAL)
        err = -ERR_CORRUPT; /* LMDB met what it never wrote */
    if (err != -ERR_CORRUPT || v->ruined)
        return err;
    log_error("vnode %u: its file is damaged", v->partition);
    s->stats.corrupt_records++;
    v->ruined = v->renewing = true;
    engine_submit(s, v, VNODE_REPLACE);
    return err;
}

void engine_damaged(struct store *s, struct vnode *v, const struct position *pos)
{
    s->stats.corrupt_records++;
    for (uint32_t i = 0; i < v->bad_count; i++)
        if (position_compare(&v->bad[i], pos) == 0)
            return;
    if (v->bad_count == VNODE_BAD)
        return;
    log_error("vnode %u: a record failed its checksum", v->partition);
    v->bad[v->bad_count++] = *pos;
    v->renewing = true;
    engine_submit(s, v, VNODE_RENEW);
}

/* --- reading --- */

/* A snapshot may be held as long as nobody writes: it is the newest, and keeps no page from being
 * used again. While the flush thread has the vnode, it is let go of at each turn. */
void engine_note_reader(struct store *s, struct vnode *v)
{
    if (v->reading)
        return;
    v->reading = true;
    if (v->busy) {
        v->reading_next = s->readers;
        s->readers = v;
    }
}

void engine_reset_readers(struct store *s)
{
    while (s->readers != NULL) {
        struct vnode *v = s->readers;

        s->readers = v->reading_next;
        v->reading = false;
        if (v->env != NULL)
            lmdb_reader_reset(v->env);
    }
}

int store_get(struct store *s, uint32_t partition, const struct position *pos, struct slice key,
              struct slice *out)
{
    struct vnode *v = engine_vnode(s, partition);
    const struct wbuf_entry *e;
    struct slice bucket;
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    e = wbuf_find(&v->live, pos, key);
    if (e == NULL)
        e = wbuf_find(&v->frozen, pos, key);
    if (e != NULL) {
        *out = slice_of(e->data, e->len);
        return bucket_is_void(*out, slice_of(e->data + e->key_at, e->key_len)) ? -ERR_NOTFOUND : 0;
    }
    if (v->ruined)
        return -ERR_CORRUPT;
    engine_note_reader(s, v);
    err = lmdb_reader_get(v->env, LMDB_DATA, slice_of(pos->b, sizeof pos->b), &bucket);
    if (err != 0)
        return engine_read_failed(s, v, err);
    err = bucket_find(bucket, key, &s->reader);
    if (err == -ERR_CORRUPT)
        engine_damaged(s, v, pos);
    if (err == 0)
        *out = s->reader.object.encoded;
    return err;
}

/* --- writing --- */

int engine_buffer_object(struct store *s, struct vnode *v, const struct position *pos,
                         struct slice object)
{
    struct slice key;
    int err = object_peek_key(object, &key);

    (void)s;
    if (err != 0)
        return err;
    return wbuf_put(&v->live, pos, object, (uint32_t)(key.data - object.data), (uint32_t)key.len);
}

int engine_buffer_hint(struct store *s, struct vnode *v, const uint8_t target[16],
                       const struct position *pos, uint64_t time_ms, bool add)
{
    uint8_t data[25];

    (void)s;
    memcpy(data, target, 16);
    memcpy(data + 16, &time_ms, 8);
    data[24] = add;
    return wbuf_put(&v->hints_live, pos, slice_of(data, sizeof data), 0, 16);
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

/* Are there buffers that cannot be flushed because the disk is full? */
static bool flush_is_stuck(const struct store *s)
{
    for (uint32_t i = 0; i < s->flushing_count; i++)
        if (s->flushing[i]->retry_us != 0)
            return true;
    return false;
}

/* May a write of so many bytes be taken? On a full disk, the last of the room is for deletes. */
static int admit(struct store *s, size_t bytes, bool shrinks)
{
    uint64_t percent = s->conf.write_buffer_bytes / 100;
    int err = 0;

    if (s->pool.used + bytes > percent * PRESSURE_AT && s->pool.used > 0) {
        bool stuck = flush_is_stuck(s);

        if ((stuck && !shrinks) || s->pool.used + bytes > percent * OVERDRAFT)
            err = stuck ? -ERR_DISKFULL : -ERR_BUSY;
    }
    if (err == 0)
        err = journal_check(s->journal, bytes, shrinks);
    if (err == -ERR_DISKFULL)
        s->stats.disk_full++;
    return err;
}

int store_put(struct store *s, uint32_t partition, const struct position *pos, struct slice object,
              bool shrinks, uint64_t *lsn)
{
    struct vnode *v = engine_vnode(s, partition);
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    err = admit(s, object.len + sizeof *pos, shrinks);
    if (err == 0)
        err = engine_buffer_object(s, v, pos, object);
    if (err != 0)
        return err;
    *lsn = journal_append(s->journal, JOURNAL_PUT, partition, slice_of(pos->b, sizeof pos->b),
                          object, (struct slice){0});
    engine_note_write(s, v, *lsn);
    return 0;
}

static int put_hint(struct store *s, uint32_t partition, const uint8_t target[16],
                    const struct position *pos, uint64_t time_ms, bool add, uint64_t *lsn)
{
    struct vnode *v = engine_vnode(s, partition);
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    err = admit(s, 40, !add);
    if (err == 0)
        err = engine_buffer_hint(s, v, target, pos, time_ms, add);
    if (err != 0)
        return err;
    *lsn = journal_append(s->journal, add ? JOURNAL_HINT_ADD : JOURNAL_HINT_REMOVE, partition,
                          slice_of(target, 16), slice_of(pos->b, sizeof pos->b),
                          add ? slice_of(&time_ms, sizeof time_ms) : (struct slice){0});
    engine_note_write(s, v, *lsn);
    return 0;
}

int store_hint_add(struct store *s, uint32_t partition, const uint8_t target[16],
                   const struct position *pos, uint64_t time_ms, uint64_t *lsn)
{
    return put_hint(s, partition, target, pos, time_ms, true, lsn);
}

int store_hint_remove(struct store *s, uint32_t partition, const uint8_t target[16],
                      const struct position *pos)
{
    uint64_t lsn;

    return put_hint(s, partition, target, pos, 0, false, &lsn);
}

uint64_t store_durable(const struct store *s)
{
    return journal_durable(s->journal);
}

int store_event_fd(const struct store *s)
{
    return s->event_fd;
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
        v->want |= w->todo & (VNODE_FLUSH | VNODE_REBUILD | VNODE_REPLACE);
        v->retry_us = s->now_us + RETRY_US;
    } else if (w->todo & VNODE_FLUSH) {
        forget_flushing(s, v);
        wbuf_clear(&v->frozen);
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

bool store_kick(struct store *s)
{
    bool all;

    engine_reset_readers(s);
    all = journal_kick(s->journal);
    start_flushes(s);
    return all;
}

bool store_pressure(const struct store *s)
{
    if (journal_backlog(s->journal) > BACKLOG)
        return true;
    return s->pool.used > s->conf.write_buffer_bytes / 100 * PRESSURE_AT && !flush_is_stuck(s);
}

/* --- numbers --- */

void store_stats(const struct store *s, struct store_stats *out)
{
    struct journal_stats j;

    journal_stats(s->journal, &j);
    *out = s->stats;
    out->buffer_bytes = s->pool.used;
    out->buffer_limit = s->conf.write_buffer_bytes;
    out->journal_bytes = j.bytes;
    out->journal_segments = j.segments;
    out->journal_syncs = j.syncs;
    out->journal_records = j.records;
    out->journal_written_bytes = j.written_bytes;
    out->last_sync_us = j.last_sync_us;
    out->max_sync_us = j.max_sync_us;
    out->vnodes_open = s->open_count;
    for (uint32_t p = 0; p < s->partitions; p++)
        if (s->vnodes[p] != NULL) {
            out->keys += s->vnodes[p]->keys;
            out->tombstones += s->vnodes[p]->tombs;
            out->file_bytes += s->vnodes[p]->file_bytes;
        }
}

uint64_t store_vnode_keys(const struct store *s, uint32_t partition)
{
    const struct vnode *v = engine_vnode(s, partition);

    return v == NULL ? 0 : v->keys;
}

int store_merkle(const struct store *s, uint32_t partition, const uint64_t **leaves,
                 uint32_t *leaf_bits, uint64_t *generation)
{
    const struct vnode *v = engine_vnode(s, partition);

    if (v == NULL)
        return -ERR_NOTFOUND;
    *leaves = v->leaves;
    *leaf_bits = v->leaf_bits;
    *generation = v->generation;
    return 0;
}
