/* Recovery: replaying journals into vnodes. Runs in the worker before its threads exist, or in one
 * process alone before any worker runs (store_recover_all). Blocks. */
#include "store/engine.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/journal_file.h"
#include "store/suspect.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FULL_AT = 75 /* percent of the buffer bound at which a vnode is flushed */ };

static int work_once(struct store *s, struct vnode *v, unsigned todo)
{
    v->work.todo = todo;
    v->work.err = 0;
    v->work.renewed = false;
    v->work.now_ms = clock_wall_ms();
    v->work.vnodes = s->open_count;
    v->work.hurry = true; /* nobody is served until this is done */
    v->work.flushed_records = v->work.flushed_bytes = v->work.dropped = v->work.corrupt = 0;
    v->work.purged = 0;
    v->busy = true;
    flush_work(v, &s->flush_conf);
    engine_collect(s, v);
    return v->work.err;
}

/* Do some work on a vnode here and now. A damaged one is replaced. */
static int work_now(struct store *s, struct vnode *v, unsigned todo)
{
    int err = work_once(s, v, todo);

    if (err != -ERR_CORRUPT)
        return err;
    v->want = 0;
    err = work_once(s, v, VNODE_REPLACE);
    return err == 0 && todo & VNODE_FLUSH ? work_once(s, v, VNODE_FLUSH) : err;
}

static int flush_oldest(struct store *s)
{
    struct vnode *v = s->oldest;

    engine_freeze(s, v);
    v->recovered = true;
    return work_now(s, v, VNODE_FLUSH);
}

static int apply_to_vnode(struct store *s, struct vnode *v, const struct journal_record *record,
                          struct slice payload)
{
    struct position pos;
    uint64_t time_ms = 0;
    int err;

    switch (record->type) {
    case JOURNAL_PUT:
        if (payload.len < sizeof pos)
            return -ERR_CORRUPT;
        memcpy(pos.b, payload.data, sizeof pos.b);
        err = engine_buffer_object(s, v, &pos,
                                   slice_of(payload.data + sizeof pos, payload.len - sizeof pos));
        break;
    case JOURNAL_HINT_ADD:
    case JOURNAL_HINT_REMOVE:
        if (payload.len < 32 + (record->type == JOURNAL_HINT_ADD ? 8u : 0u))
            return -ERR_CORRUPT;
        memcpy(pos.b, payload.data + 16, sizeof pos.b);
        if (record->type == JOURNAL_HINT_ADD)
            memcpy(&time_ms, payload.data + 32, 8);
        err =
            engine_buffer_hint(s, v, payload.data, &pos, time_ms, record->type == JOURNAL_HINT_ADD);
        break;
    default: /* DROP. All that was written since is in the journal, too, and comes again. */
        engine_drop_live(s, v);
        return v->recovered ? work_now(s, v, VNODE_WIPE) : 0;
    }
    if (err == 0)
        engine_note_write(s, v, record->lsn);
    return err;
}

static int apply(void *arg, const struct journal_record *record, struct slice payload)
{
    struct store *s = arg;
    int err;

    if (record->type == JOURNAL_MARK || record->type == JOURNAL_CLEAN)
        return 0;
    if (record->partition >= s->partitions)
        return -ERR_INVAL;
    if (s->vnodes[record->partition] == NULL) {
        if (!vnode_exists(s->data_dir, record->partition))
            return 0; /* given away since */
        err = engine_open_vnode(s, record->partition, false);
        if (err == -ERR_NOTFOUND)
            return 0;
        if (err !=
            0) { /* others could be served, but what the journal has for this one would be lost */
            log_error("vnode %u cannot be opened, and the journal has writes for it: %s",
                      record->partition, err_text(err));
            return err;
        }
    }
    err = apply_to_vnode(s, s->vnodes[record->partition], record, payload);
    if (s->vnodes[record->partition] != NULL)
        s->vnodes[record->partition]->replayed = s->vnodes[record->partition]->listed;
    s->stats.recovered_records++;
    while (err == 0 && s->oldest != NULL && s->flushing_count == 0 &&
           s->pool.used > s->conf.write_buffer_bytes / 100 * FULL_AT)
        err = flush_oldest(s);
    /* On a full disk the rest stays in memory: it was there before the restart, too. */
    return err == -ERR_DISKFULL ? 0 : err;
}

static void report(void *arg, uint64_t done, uint64_t total)
{
    struct store *s = arg;

    if (s->conf.progress != NULL)
        s->conf.progress(s->conf.progress_arg, "replaying journal", done, total);
}

/* Records of this worker are lost and nobody knows whose they were: every vnode that it had takes a new
 * id. `later`: on a full disk it may do so when there is room; it is read until then, and gives no dots. */
static int renew_vnodes_of(struct store *s, uint32_t worker, unsigned how, bool later)
{
    int err = 0;

    for (uint32_t p = 0; p < s->partitions && err == 0; p++) {
        uint32_t had = UINT32_MAX;

        if (s->vnodes[p] == NULL) {
            if (vnode_peek_worker(s->data_dir, p, &had) != 0 || had != worker)
                continue;
            err = engine_open_vnode(s, p, false);
            if (err != 0)
                break;
        }
        err = work_now(s, s->vnodes[p], how);
        if (err == -ERR_DISKFULL && later) {
            s->vnodes[p]->renewing = s->unrenewed = true;
            err = 0;
        }
    }
    return err;
}

static bool had_vnodes(const struct store *s, uint32_t worker)
{
    for (uint32_t p = 0; p < s->partitions; p++) {
        uint32_t had;

        if (vnode_peek_worker(s->data_dir, p, &had) == 0 && had == worker)
            return true;
    }
    return false;
}

/* Say in the .id files that no journal belongs to these vnodes any more. */
static int disown_vnodes_of(struct store *s, uint32_t worker)
{
    int err = 0;

    for (uint32_t p = 0; p < s->partitions && err == 0; p++) {
        uint32_t had;

        if (vnode_peek_worker(s->data_dir, p, &had) != 0 || had != worker)
            continue;
        if (s->vnodes[p] == NULL)
            err = engine_open_vnode(s, p, false);
        if (err == 0)
            err = vnode_write_id(s->data_dir, s->vnodes[p], VNODE_NO_WORKER);
    }
    return err;
}

static int move_to_quarantine(struct store *s, uint32_t worker, const char *path, uint64_t sequence)
{
    char dir[FILE_PATH], to[FILE_PATH];
    int err;

    file_path(dir, "%s/quarantine", s->data_dir);
    err = file_make_dir(dir);
    if (err != 0)
        return err;
    file_path(to, "%s/journal-%" PRIu32 "-%012" PRIu64 "-%" PRIu64, dir, worker, sequence,
              clock_wall_us());
    if (rename(path, to) != 0)
        return err_from_errno(errno);
    log_error("journal of worker %" PRIu32 ": damaged segment moved to %s", worker, to);
    return file_sync_dir(dir);
}

/* What is damaged costs its vnodes their ids once, not at every start: all that could be read is written
 * back, and a journal begins anew. Not on a full disk: then all stays as it is. */
static int end_damaged_journal(struct store *s, const char *dir, uint32_t worker,
                               struct journal_replay *r)
{
    int err = 0;

    while (err == 0 && s->oldest != NULL)
        err = flush_oldest(s);
    if (err == 0) /* before segments go */
        err = commits_save(s->vnode_conf.commits, dir, r->next_lsn - 1);
    for (uint32_t i = 0; err == 0 && i < r->segment_count; i++) {
        char path[FILE_PATH];

        journal_file_path(path, dir, r->segments[i].sequence);
        if (r->segments[i].damaged)
            err = move_to_quarantine(s, worker, path, r->segments[i].sequence);
        else if (unlink(path) != 0)
            err = err_from_errno(errno);
    }
    if (err == 0)
        err = file_sync_dir(dir);
    if (err == 0)
        r->segment_count = 0;
    return err == -ERR_DISKFULL ? 0 : err;
}

int recover_journal(struct store *s, const char *dir, uint32_t worker, struct journal_replay *r)
{
    /* With always, a power cut takes only what nobody was told to be durable. */
    unsigned how = s->conf.durability == STORE_ALWAYS ? VNODE_NEW_ID : VNODE_RENEW;
    uint64_t begin = clock_mono_us();
    int err;

    r->each = apply;
    r->progress = report;
    r->arg = s;
    r->worker = worker;
    err = journal_replay(dir, r);
    if (err == 0 && r->records == 0 && r->next_lsn <= s->least_lsn)
        r->next_lsn = s->least_lsn + 1; /* all segments with records were given up */
    if (err == 0 && r->next_lsn <= s->least_lsn) {
        log_error("journal of worker %u: records %" PRIu64 " to %" PRIu64 " are missing", worker,
                  r->next_lsn, s->least_lsn);
        r->damaged++;
    }
    if (err == 0 && r->damaged > 0) {
        s->stats.corrupt_records += r->damaged;
        err = renew_vnodes_of(s, worker, VNODE_RENEW, false);
        if (err == 0)
            err = end_damaged_journal(s, dir, worker, r);
    } else if (err == 0 && r->segment_count == 0 && had_vnodes(s, worker)) {
        log_error("the journal of worker %u is gone", worker);
        err = renew_vnodes_of(s, worker, VNODE_RENEW, false);
    } else if (err == 0 && !r->clean && !boot_is_same(dir, s->boot_id)) {
        log_notice(
            "journal of worker %u: the power was cut, and its newest records may be lost: its "
            "vnodes take new ids",
            worker);
        err = renew_vnodes_of(s, worker, how, true);
    }
    if (err == 0 && r->records > 0)
        log_info("journal of worker %u: %" PRIu64 " records replayed in %" PRIu64 " ms", worker,
                 r->records, (clock_mono_us() - begin) / 1000);
    return err;
}

/* Replay one worker's journal, flush everything, remove the journal. */
static int recover_and_remove(struct store *s, const char *name, uint64_t *records)
{
    struct journal_replay r = {0};
    uint32_t worker = (uint32_t)strtoul(name, NULL, 10);
    char dir[FILE_PATH];
    int err;

    file_path(dir, "%s/journal/%s", s->data_dir, name);
    err = commits_load(s->vnode_conf.commits, dir, &s->least_lsn);
    if (err == 0)
        err = suspect_take(dir, s->data_dir, &s->stats.quarantined_vnodes);
    if (err == 0)
        err = recover_journal(s, dir, worker, &r);
    journal_replay_free(&r);
    if (err == 0 && s->unrenewed)
        err = -ERR_DISKFULL;
    while (err == 0 && s->oldest != NULL)
        err = flush_oldest(s);
    *records += r.records;
    if (err == 0)
        err = disown_vnodes_of(s, worker);
    return err == 0 ? file_remove_dir(dir) : err;
}

int store_recover_all(const struct store_conf *conf, uint64_t *records)
{
    struct store *s = calloc(1, sizeof *s);
    struct dirent *entry;
    char path[FILE_PATH];
    DIR *dir = NULL;
    int err;

    *records = 0;
    if (s == NULL)
        return -ERR_NOMEM;
    err = engine_init(s, conf);
    s->vnode_conf.worker = VNODE_NO_WORKER;
    if (err == 0) {
        file_path(path, "%s/journal", s->data_dir);
        dir = opendir(path);
        if (dir == NULL)
            err = err_from_errno(errno);
    }
    while (err == 0 && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
            err = recover_and_remove(s, entry->d_name, records);
    if (dir != NULL)
        closedir(dir);
    engine_fini(s);
    free(s);
    return err;
}
