/* One vnode: opening, creating, recognising, removing. Runs in the loop thread at open and in the
 * flush thread for removal; it never writes objects. */
#include "store/vnode_file.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/file.h"
#include "store/merkle_leaf.h"
#include "store/starts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FORMAT = 1 };

static const struct slice meta_key = {(const uint8_t *)"vnode", 5};

static uint64_t meta_check(const struct vnode_meta *meta)
{
    return hash64(meta, offsetof(struct vnode_meta, check));
}

int vnode_put_meta(struct vnode *v, struct vnode_meta *meta)
{
    meta->check = meta_check(meta);
    return lmdb_write_put(v->env, LMDB_META, meta_key, slice_of(meta, sizeof *meta));
}

static int load_meta(struct vnode *v, const struct vnode_conf *conf)
{
    struct vnode_meta *meta = &v->work.meta;
    struct slice row;
    int err = lmdb_reader_get(v->env, LMDB_META, meta_key, &row);

    if (err != 0)
        return err == -ERR_NOTFOUND ? -ERR_CORRUPT : err;
    if (row.len != sizeof *meta)
        return -ERR_CORRUPT;
    memcpy(meta, row.data, sizeof *meta);
    lmdb_reader_reset(v->env);
    if (meta->check != meta_check(meta) || meta->partition != v->partition || meta->id == 0 ||
        meta->leaf_bits < MERKLE_LEAF_BITS_MIN || meta->leaf_bits > MERKLE_LEAF_BITS_MAX ||
        meta->standing > STANDING_AWAY)
        return meta->check == meta_check(meta) && meta->format != FORMAT ? -ERR_VERSION
                                                                         : -ERR_CORRUPT;
    if (meta->format != FORMAT)
        return -ERR_VERSION;
    return meta->q_bits == conf->q_bits ? 0 : -ERR_INVAL;
}

/* Load the leaf hashes. A row that fails its check is reported by -ERR_CORRUPT: the caller rebuilds
 * them. */
static int load_leaves(struct vnode *v)
{
    uint32_t count = 1u << v->work.meta.leaf_bits;
    struct slice key = {0}, row;
    int err;

    v->work.leaves = calloc(count, sizeof *v->work.leaves);
    v->leaves = calloc(count, sizeof *v->leaves);
    if (v->work.leaves == NULL || v->leaves == NULL)
        return -ERR_NOMEM;
    for (err = lmdb_reader_seek(v->env, LMDB_LEAVES, key, &key, &row); err == 0;
         err = lmdb_reader_step(v->env, LMDB_LEAVES, &key, &row)) {
        uint32_t index;
        uint64_t pair[2];

        if (key.len != 4 || row.len != sizeof pair)
            return -ERR_CORRUPT;
        index = (uint32_t)key.data[0] << 24 | (uint32_t)key.data[1] << 16 |
                (uint32_t)key.data[2] << 8 | key.data[3];
        memcpy(pair, row.data, sizeof pair);
        if (index >= count || pair[1] != merkle_leaf_check(index, pair[0]))
            return -ERR_CORRUPT;
        v->work.leaves[index] = pair[0];
    }
    if (err != -ERR_NOTFOUND)
        return err;
    memcpy(v->leaves, v->work.leaves, count * sizeof *v->leaves);
    v->leaf_bits = v->work.meta.leaf_bits;
    v->generation = 1;
    for (uint32_t i = 0; i < count; i++)
        v->root += v->leaves[i];
    return 0;
}

/* The time that an index begins with, 0 if it is empty. */
static uint64_t first_time(struct vnode *v, enum lmdb_db db)
{
    struct slice key, row;
    uint64_t ms = 0;

    if (lmdb_reader_seek(v->env, db, (struct slice){0}, &key, &row) == 0 && key.len >= 8)
        for (int i = 0; i < 8; i++)
            ms = ms << 8 | key.data[i];
    return ms;
}

static void load_numbers(struct vnode *v)
{
    v->next_expiry = first_time(v, LMDB_EXPIRY);
    v->next_tomb = first_time(v, LMDB_TOMBS);
    v->tombs = lmdb_reader_count(v->env, LMDB_TOMBS);
    v->keys = lmdb_reader_count(v->env, LMDB_DATA) - v->tombs;
    lmdb_reader_reset(v->env);
    v->work.next_tomb = v->next_tomb;
    v->work.tombs = v->tombs;
    v->file_bytes = lmdb_env_bytes(v->env);
    v->work.next_expiry = v->next_expiry;
    v->work.keys = v->keys;
    v->work.file_bytes = v->file_bytes;
}

/* Write the meta row in a transaction of its own. */
static int commit_meta(struct vnode *v)
{
    int err = lmdb_write_begin(v->env);

    if (err != 0)
        return err;
    err = vnode_put_meta(v, &v->work.meta);
    if (err != 0) {
        lmdb_write_abort(v->env);
        return err;
    }
    return lmdb_write_commit(v->env);
}

/* Take a new id in memory; the caller commits it. What is left of the old vnode may be believed no
 * further than this. */
static void take_new_id(struct vnode_meta *meta, enum standing standing)
{
    meta->id = rand_id();
    meta->reserved = 0;
    meta->horizon_ms = 0;
    if (meta->standing < (uint32_t)standing)
        meta->standing = standing;
}

/* Make the folder under another name, fill it, and rename it into place. */
static int create_folder(struct vnode *v, const struct vnode_conf *conf, enum standing standing)
{
    char fresh[FILE_PATH], final[FILE_PATH], parent[FILE_PATH];
    struct vnode_meta *meta = &v->work.meta;
    int err;

    vnode_folder(final, conf->data_dir, v->partition);
    file_path(fresh, "%s.new", final);
    file_path(parent, "%s/vnodes", conf->data_dir);
    err = file_remove_dir(fresh);
    if (err == 0)
        err = file_make_dir(fresh);
    if (err == 0)
        err = lmdb_env_open(&v->env, fresh, conf->map_bytes, true);
    if (err != 0)
        return err;
    *meta = (struct vnode_meta){
        .format = FORMAT,
        .q_bits = conf->q_bits,
        .partition = v->partition,
        .leaf_bits = MERKLE_LEAF_BITS_MIN,
    };
    take_new_id(meta, standing);
    err = lmdb_env_identity(v->env, &meta->inode, &meta->birth_ns);
    if (err == 0)
        err = commit_meta(v);
    if (err == 0)
        err = file_sync_dir(fresh);
    if (err == 0 && rename(fresh, final) != 0)
        err = err_from_errno(errno);
    return err == 0 ? file_sync_dir(parent) : err;
}

static int quarantine(struct vnode *v, const struct vnode_conf *conf)
{
    lmdb_env_close(v->env);
    v->env = NULL;
    return vnode_set_aside(conf->data_dir, v->partition);
}

int vnode_replace(struct vnode *v, const struct vnode_conf *conf)
{
    struct vnode_work *w = &v->work;
    uint64_t *leaves = calloc(1u << MERKLE_LEAF_BITS_MIN, sizeof *leaves);
    int err;

    if (leaves == NULL)
        return -ERR_NOMEM;
    lmdb_env_close(v->env);
    v->env = NULL;
    err = atomic_load(&v->unlinked) ? -ERR_NOTFOUND : vnode_set_aside(conf->data_dir, v->partition);
    if (err == 0)
        err = create_folder(v, conf, STANDING_MISSING);
    if (err == 0)
        err = vnode_write_id(conf->data_dir, v, conf->worker);
    if (err != 0) {
        free(leaves);
        lmdb_env_close(v->env);
        v->env = NULL;
        return err == -ERR_NOTFOUND ? 0 : err; /* given away meanwhile: it is closed next */
    }
    free(w->leaves);
    w->leaves = leaves;
    w->keys = w->tombs = w->next_expiry = w->next_tomb = 0;
    w->file_bytes = lmdb_env_bytes(v->env);
    w->bad_count = 0;
    w->renewed = true;
    return 0;
}

/* Open what is there; with a bad environment or none, make a new one. */
static int open_or_create(struct vnode *v, const struct vnode_conf *conf, bool create,
                          bool expected, struct vnode_opened *found)
{
    char path[FILE_PATH];
    int err;

    vnode_folder(path, conf->data_dir, v->partition);
    if (file_exists(path)) {
        err = lmdb_env_open(&v->env, path, conf->map_bytes, false);
        if (err == 0)
            err = load_meta(v, conf);
        else if (err == -ERR_VERSION || err == -ERR_NOTFOUND)
            err = -ERR_CORRUPT; /* LMDB's own version field, or files missing from the folder */
        if (err != -ERR_CORRUPT)
            return err;
        err = quarantine(v, conf);
        if (err != 0)
            return err;
        found->quarantined = true;
    } else if (expected) {
        log_error("vnode %" PRIu32 " is missing: its folder is gone", v->partition);
        found->lost = true;
    } else if (!create) {
        return -ERR_NOTFOUND;
    }
    found->created = true;
    return create_folder(v, conf,
                         found->lost || found->quarantined ? STANDING_MISSING
                                                           : (enum standing)conf->fresh_standing);
}

/* Is what was opened what this node last had? Otherwise it takes a new id. */
static int recognise(struct vnode *v, const struct vnode_conf *conf,
                     const struct vnode_expected *expected, struct vnode_opened *found)
{
    struct vnode_meta *meta = &v->work.meta;
    const char *what = NULL;
    uint64_t inode, birth_ns, commits = lmdb_env_commits(v->env);
    int err = lmdb_env_identity(v->env, &inode, &birth_ns);

    if (err != 0)
        return err;
    if (expected->id != meta->id)
        what = "other id expected";
    else if (inode != meta->inode || birth_ns != meta->birth_ns)
        what = "its file is a copy";
    else if (commits < expected->commits ||
             commits < commits_least(conf->commits, v->partition, meta->id))
        what = "its file is older than it was";
    if (what == NULL)
        return 0;
    log_error("vnode %" PRIu32 " is not the one that was last open here (%s): it takes a new id",
              v->partition, what);
    meta->inode = inode;
    meta->birth_ns = birth_ns;
    take_new_id(meta, STANDING_AWAY); /* it may be as old as one likes */
    found->renewed = true;
    return 0;
}

/* Where the dots of this run begin. Numbers from start * STARTS_DOTS on belong to this start, unless a
 * run before it gave so many that it had to reserve beyond its own share. A new id has to be
 * committed in any case. */
static int open_dots(struct vnode *v, const struct vnode_conf *conf, bool renewed)
{
    struct vnode_meta *meta = &v->work.meta;
    uint64_t first = conf->start * STARTS_DOTS;
    uint64_t before = meta->reserved;
    int err;

    if (before < first && !renewed) {
        v->next_n = first;
        meta->reserved = first + STARTS_DOTS - 1;
        return 0;
    }
    v->next_n = before < first ? first : before + 1;
    meta->reserved = v->next_n + VNODE_DOT_BLOCK - 1;
    err = commit_meta(v);
    if (err == -ERR_DISKFULL)
        meta->reserved = v->next_n - 1;
    return err;
}

static int open_steps(struct vnode *v, const struct vnode_conf *conf, bool create,
                      struct vnode_opened *found)
{
    struct vnode_expected expected = {0};
    int err = vnode_load_id(conf->data_dir, v->partition, &expected);

    if (err != 0 && err != -ERR_NOTFOUND && err != -ERR_CORRUPT) {
        log_error("vnode %" PRIu32 ": its .id file cannot be read: %s", v->partition,
                  err_text(err));
        return err;
    }
    err = open_or_create(v, conf, create, err != -ERR_NOTFOUND, found);
    if (err == 0 && !found->created)
        err = recognise(v, conf, &expected, found);
    if (err != 0)
        return err;
    err = load_leaves(v);
    if (err == -ERR_CORRUPT) {
        log_error("vnode %" PRIu32 " has damaged leaf hashes: it takes a new id", v->partition);
        take_new_id(&v->work.meta, STANDING_MISSING);
        found->renewed = true;
        v->want |= VNODE_RENEW | VNODE_REBUILD;
        v->leaf_bits = v->work.meta.leaf_bits;
        err = 0;
    }
    if (err != 0)
        return err;
    lmdb_reader_reset(v->env);
    err = open_dots(v, conf, found->renewed);
    bool as_expected = v->work.meta.id == expected.id && expected.worker == conf->worker;
    if (err == -ERR_DISKFULL && as_expected)
        err = 0; /* it can be read; the first dot will ask for a block again */
    if (err == 0 && !as_expected)
        err = vnode_write_id(conf->data_dir, v, conf->worker);
    if (err == 0)
        commits_note(conf->commits, v->partition, v->work.meta.id, lmdb_env_commits(v->env));
    return err;
}

int vnode_open(struct vnode **out, const struct vnode_conf *conf, uint32_t partition, bool create,
               struct vnode_opened *found)
{
    struct vnode *v = calloc(1, sizeof *v);
    int err;

    if (v == NULL)
        return -ERR_NOMEM;
    memset(found, 0, sizeof *found);
    v->partition = partition;
    v->q_bits = conf->q_bits;
    wbuf_init(&v->live, conf->pool);
    wbuf_init(&v->frozen, conf->pool);
    wbuf_init(&v->hints_live, conf->pool);
    wbuf_init(&v->hints_frozen, conf->pool);
    err = open_steps(v, conf, create, found);
    if (err == -ERR_CORRUPT && !found->created) { /* it looked good at first */
        free(v->work.leaves);
        free(v->leaves);
        v->work.leaves = v->leaves = NULL;
        v->want = 0;
        err = quarantine(v, conf);
        if (err == 0)
            err = open_steps(v, conf, create, found);
        found->quarantined = true;
        found->renewed = found->lost = false;
    }
    if (err != 0) {
        vnode_close(v);
        return err;
    }
    v->id = v->work.meta.id;
    v->reserved = v->work.meta.reserved;
    v->standing = v->work.meta.standing;
    v->horizon_ms = v->work.meta.horizon_ms;
    v->last_write_ms = v->late_ms = clock_wall_ms();
    load_numbers(v);
    *out = v;
    return 0;
}

void vnode_close(struct vnode *v)
{
    ASSERT(!v->busy && !v->listed);
    lmdb_env_close(v->env);
    wbuf_clear(&v->live);
    wbuf_clear(&v->frozen);
    wbuf_clear(&v->hints_live);
    wbuf_clear(&v->hints_frozen);
    free(v->work.leaves);
    free(v->leaves);
    free(v);
}
