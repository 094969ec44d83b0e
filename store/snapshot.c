/* A worker's vnode as another process reads it. See snapshot.h. Runs in antientropyd; writes nothing
 * but LMDB's table of readers. */
#include "store/snapshot.h"

#include "base/clock.h"
#include "base/err.h"
#include "core/horizon.h"
#include "store/bucket.h"
#include "store/file.h"
#include "store/merkle_leaf.h"
#include "store/vnode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct snapshot {
    struct lmdb_env *env;
    char path[FILE_PATH];
    uint32_t partition;
    uint8_t q_bits;
    uint64_t inode;
    uint64_t *leaves;
    unsigned leaf_bits;
    uint64_t commits; /* when the leaves were read */
    struct position bad;
    struct bucket_reader row; /* scratch */
};

static const struct slice meta_key = {(const uint8_t *)"vnode", 5};

static int load_meta(struct snapshot *s, struct vnode_meta *meta)
{
    struct slice row;
    int err = lmdb_reader_get(s->env, LMDB_META, meta_key, &row);

    if (err != 0)
        return err == -ERR_NOTFOUND ? -ERR_CORRUPT : err;
    if (row.len != sizeof *meta)
        return -ERR_CORRUPT;
    memcpy(meta, row.data, sizeof *meta);
    if (meta->leaf_bits < MERKLE_LEAF_BITS_MIN || meta->leaf_bits > MERKLE_LEAF_BITS_MAX ||
        meta->partition != s->partition)
        return -ERR_CORRUPT;
    return meta->q_bits == s->q_bits ? 0 : -ERR_INVAL;
}

int snapshot_open(struct snapshot **out, const char *data_dir, uint32_t partition, uint8_t q_bits,
                  uint64_t map_bytes)
{
    struct snapshot *s = calloc(1, sizeof *s);
    struct vnode_meta meta;
    uint64_t birth;
    int err;

    if (s == NULL)
        return -ERR_NOMEM;
    s->partition = partition;
    s->q_bits = q_bits;
    file_path(s->path, "%s/vnodes/%" PRIu32, data_dir, partition);
    err = file_exists(s->path) ? lmdb_env_open_reader(&s->env, s->path, map_bytes) : -ERR_NOTFOUND;
    if (err == 0)
        err = lmdb_env_identity(s->env, &s->inode, &birth);
    if (err == 0) {
        err = load_meta(s, &meta);
        lmdb_reader_reset(s->env);
    }
    if (err != 0) {
        snapshot_close(s);
        return err;
    }
    *out = s;
    return 0;
}

void snapshot_close(struct snapshot *s)
{
    if (s == NULL)
        return;
    lmdb_env_close(s->env);
    free(s->leaves);
    free(s);
}

bool snapshot_is_current(const struct snapshot *s)
{
    char path[FILE_PATH + 16];
    struct stat st;

    snprintf(path, sizeof path, "%s/data.mdb", s->path);
    return stat(path, &st) == 0 && st.st_ino == s->inode;
}

const struct position *snapshot_bad(const struct snapshot *s)
{
    return &s->bad;
}

/* ---- leaves ---- */

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int take_leaf(struct snapshot *s, struct slice key, struct slice row)
{
    uint64_t pair[2];

    if (key.len != 4 || row.len != sizeof pair)
        return -ERR_CORRUPT;
    memcpy(pair, row.data, sizeof pair);
    uint32_t index = load_be32(key.data);
    if (index >> s->leaf_bits != 0 || pair[1] != merkle_leaf_check(index, pair[0])) {
        s->bad = merkle_leaf_start(s->partition, s->q_bits, index & ((1u << s->leaf_bits) - 1),
                                   s->leaf_bits);
        return -ERR_CORRUPT;
    }
    s->leaves[index] = pair[0];
    return 0;
}

static int read_leaves(struct snapshot *s)
{
    struct slice key = {0}, row;
    struct vnode_meta meta;
    int err = load_meta(s, &meta);

    if (err != 0)
        return err;
    if (s->leaves == NULL || meta.leaf_bits != s->leaf_bits) {
        free(s->leaves);
        s->leaves = malloc(sizeof *s->leaves << meta.leaf_bits);
        if (s->leaves == NULL)
            return -ERR_NOMEM;
        s->leaf_bits = meta.leaf_bits;
    }
    memset(s->leaves, 0, sizeof *s->leaves << s->leaf_bits);
    for (err = lmdb_reader_seek(s->env, LMDB_LEAVES, key, &key, &row); err == 0;
         err = lmdb_reader_step(s->env, LMDB_LEAVES, &key, &row)) {
        err = take_leaf(s, key, row);
        if (err != 0)
            return err;
    }
    return err == -ERR_NOTFOUND ? 0 : err;
}

int snapshot_leaves(struct snapshot *s, const uint64_t **leaves, unsigned *leaf_bits)
{
    uint64_t commits = lmdb_env_commits(s->env);

    if (s->leaves == NULL || commits == 0 || commits != s->commits) {
        int err = read_leaves(s);

        lmdb_reader_reset(s->env);
        if (err != 0) {
            s->commits = 0;
            return err;
        }
        s->commits = commits;
    }
    *leaves = s->leaves;
    *leaf_bits = s->leaf_bits;
    return 0;
}

/* ---- rows ---- */

/* What a row is worth; its objects are appended to `objects` unless that is NULL. -ERR_CORRUPT. */
static int weigh(struct snapshot *s, const struct position *pos, struct slice bucket,
                 uint64_t now_ms, struct exchange_entry *e, struct buf *objects)
{
    size_t at = 0;
    bool dead = true;
    int rc;

    *e = (struct exchange_entry){.pos = *pos};
    while ((rc = bucket_next(bucket, &at, &s->row)) == 1) {
        uint64_t digest = object_digest(&s->row.object);
        bool tombstone;
        uint64_t time_ms = horizon_time(&s->row.object, now_ms, &tombstone);

        e->digest += digest;
        e->sum += merkle_leaf_mix(pos, digest);
        if (time_ms > e->time_ms)
            e->time_ms = time_ms;
        dead = dead && tombstone;
        if (objects != NULL &&
            buf_append(objects, s->row.object.encoded.data, s->row.object.encoded.len) != 0)
            return -ERR_NOMEM;
    }
    e->flags = dead ? ENTRY_TOMBSTONE : 0;
    if (rc < 0)
        s->bad = *pos;
    return rc == -ERR_VERSION ? -ERR_CORRUPT : rc;
}

/* The row at or after a position, or the one behind the last: 1 and its place, 0 beyond `last`. */
static int next_row(struct snapshot *s, const struct position *from, bool first,
                    const struct position *last, struct position *pos, struct slice *bucket)
{
    struct slice key;
    int err =
        first ? lmdb_reader_seek(s->env, LMDB_DATA, slice_of(from->b, sizeof from->b), &key, bucket)
              : lmdb_reader_step(s->env, LMDB_DATA, &key, bucket);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    if (key.len != POSITION_BYTES)
        return -ERR_CORRUPT;
    memcpy(pos->b, key.data, POSITION_BYTES);
    return position_compare(pos, last) <= 0;
}

int snapshot_rows(struct snapshot *s, const struct position *first, const struct position *last,
                  uint32_t max, uint64_t now_ms, struct exchange_entry *out)
{
    struct position pos;
    struct slice bucket;
    uint32_t count = 0;
    int rc = 0;

    while (count < max && (rc = next_row(s, first, count == 0, last, &pos, &bucket)) == 1) {
        rc = weigh(s, &pos, bucket, now_ms, &out[count], NULL);
        if (rc < 0)
            break;
        count++;
    }
    lmdb_reader_reset(s->env);
    return rc < 0 ? rc : (int)count;
}

/* The position after this one; the last of all stays. */
static void step_position(struct position *pos)
{
    for (int i = POSITION_BYTES - 1; i >= 0; i--)
        if (++pos->b[i] != 0)
            return;
    memset(pos->b, 0xff, sizeof pos->b);
}

int snapshot_objects(struct snapshot *s, struct position *cursor, const struct position *last,
                     uint32_t max_bytes, struct buf *out)
{
    struct position pos = *cursor;
    struct exchange_entry e;
    struct slice bucket;
    bool first = true;
    int rc = 1;

    while (buf_len(out) < max_bytes &&
           (rc = next_row(s, cursor, first, last, &pos, &bucket)) == 1) {
        first = false;
        rc = weigh(s, &pos, bucket, 0, &e, out);
        if (rc < 0)
            break;
        rc = 1;
    }
    lmdb_reader_reset(s->env);
    if (rc < 0)
        return rc;
    if (rc == 1) {
        *cursor = pos;
        step_position(cursor);
    }
    return rc == 0;
}

/* ---- verification ---- */

static int sum_leaf(struct snapshot *s, uint32_t index, uint64_t *sum, uint64_t *rows,
                    uint64_t *bytes, struct position *bad)
{
    struct position from = merkle_leaf_start(s->partition, s->q_bits, index, s->leaf_bits), last,
                    pos;
    struct exchange_entry e;
    struct slice bucket;
    bool first = true;
    int rc;

    if (index + 1 < 1u << s->leaf_bits) {
        last = merkle_leaf_start(s->partition, s->q_bits, index + 1, s->leaf_bits);
        for (int i = POSITION_BYTES - 1; i >= 0 && last.b[i]-- == 0; i--)
            ;
    } else {
        memset(last.b, 0xff, sizeof last.b);
    }
    while ((rc = next_row(s, &from, first, &last, &pos, &bucket)) == 1) {
        first = false;
        if (weigh(s, &pos, bucket, 0, &e, NULL) != 0) {
            *bad = pos;
            return SNAPSHOT_BAD_ROW;
        }
        *sum += e.sum;
        ++*rows;
        *bytes += bucket.len;
    }
    *bad = from;
    return rc;
}

static int verify(struct snapshot *s, uint32_t index, uint64_t *rows, uint64_t *bytes,
                  struct position *bad)
{
    uint64_t sum = 0, pair[2] = {0, 0};
    struct vnode_meta meta;
    struct slice row;
    uint8_t key[4] = {(uint8_t)(index >> 24), (uint8_t)(index >> 16), (uint8_t)(index >> 8),
                      (uint8_t)index};
    int rc = load_meta(s, &meta);

    if (rc != 0)
        return rc;
    if (meta.leaf_bits != s->leaf_bits)
        s->commits = 0; /* what was read of the leaves before is of another shape */
    if (index >> meta.leaf_bits != 0)
        return SNAPSHOT_END;
    unsigned leaf_bits = s->leaf_bits;

    s->leaf_bits = meta.leaf_bits;
    rc = sum_leaf(s, index, &sum, rows, bytes, bad);
    s->leaf_bits = leaf_bits;
    if (rc != 0)
        return rc;
    rc = lmdb_reader_get(s->env, LMDB_LEAVES, slice_of(key, sizeof key), &row);
    if (rc == 0 && row.len == sizeof pair)
        memcpy(pair, row.data, sizeof pair);
    else if (rc != -ERR_NOTFOUND)
        return rc == 0 ? SNAPSHOT_BAD_LEAF : rc;
    if (rc == 0 && pair[1] != merkle_leaf_check(index, pair[0]))
        return SNAPSHOT_BAD_LEAF;
    return pair[0] == sum ? SNAPSHOT_SOUND : SNAPSHOT_BAD_LEAF;
}

int snapshot_verify(struct snapshot *s, uint32_t index, uint64_t *rows, uint64_t *bytes,
                    struct position *bad)
{
    *rows = *bytes = 0;
    int rc = verify(s, index, rows, bytes, bad);

    lmdb_reader_reset(s->env);
    return rc;
}
