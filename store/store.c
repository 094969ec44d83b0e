/* The storage engine of one worker: opening and closing, vnodes and who they are, dots, numbers. Reading
 * and writing are in records.c, write-back in writeback.c, walks in scan.c. All state here belongs to the
 * loop thread; a vnode is lent to the flush thread while it is busy. */
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
    if (err == 0)
        vnode_sweep(s->data_dir);
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

        journal_close(s->journal, !s->unrenewed);
        if (commits_save(s->vnode_conf.commits, s->journal_dir, durable) != 0)
            log_warn("cannot write %s/commits", s->journal_dir);
    }
    while (s->flusher != NULL && (v = flusher_take_any(s->flusher)) != NULL) {
        v->busy = false;
        if ((v->work.todo | v->want) & VNODE_DROP) {
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
    if (err == 0 && !s->unrenewed) {
        err = boot_note(s->journal_dir, s->boot_id);
        if (err == -ERR_DISKFULL)
            err = 0; /* an unclean end of this run will cost ids that it need not */
    }
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
            engine_submit(s, v,
                          v->ruined                ? VNODE_REPLACE
                          : v->want & VNODE_NEW_ID ? 0
                                                   : VNODE_RENEW);
        return v->retry_us != 0 ? -ERR_DISKFULL : -ERR_BUSY;
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

uint64_t store_durable(const struct store *s)
{
    return journal_durable(s->journal);
}

int store_event_fd(const struct store *s)
{
    return s->event_fd;
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
