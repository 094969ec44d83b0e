/* One LMDB environment. The only file that includes lmdb.h. Runs in the worker's loop thread
 * (reading) and flush thread (writing); it starts no thread and takes no lock of its own. */
#include "store/lmdb_env.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "store/lmdb_file.h"
#include "store/suspect.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    MAGIC = 0x4c454e56,
    MAX_READERS = 126,
    ROOM_BYTES = 64 << 10, /* a disk without this much is full */
};

/* A transaction and its cursors, opened when first needed. */
struct side {
    MDB_txn *txn;
    MDB_cursor *cursors[LMDB_DBS];
    bool live[LMDB_DBS]; /* the cursor belongs to the present snapshot */
};

struct lmdb_env {
    uint32_t magic;
    MDB_env *env;
    MDB_dbi dbi[LMDB_DBS];
    struct side reader, writer;
    bool reading; /* the reader holds a snapshot */
    uint32_t partition;
};

static const char *const db_names[LMDB_DBS] = {"data",   "expiry", "tombs",
                                               "leaves", "hints",  "meta"};

static int err_from_lmdb(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ERR_NOTFOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return -ERR_DISKFULL; /* said once, by whoever tries again */
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_BAD_TXN:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_BAD_VALSIZE:
    case MDB_BAD_DBI:
        return -ERR_CORRUPT;
    case MDB_PANIC: /* writing a meta page has failed: the file is sound as it was before */
        return -ERR_IO;
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return -ERR_VERSION;
    case EFBIG: /* a page number that nobody has given */
    case EINVAL:
        return -ERR_CORRUPT;
    default:
        log_error("LMDB: %s (%d)", mdb_strerror(rc), rc);
        return rc > 0 ? err_from_errno(rc) : -ERR_IO;
    }
}

static MDB_val val_of(struct slice s)
{
    return (MDB_val){s.len, (void *)(uintptr_t)s.data};
}

static struct slice slice_of_val(const MDB_val *v)
{
    return slice_of(v->mv_data, v->mv_size);
}

/* The folder of an environment is named by its partition, with ".new" behind it while it is made. */
static uint32_t partition_of(const char *path)
{
    const char *name = strrchr(path, '/');

    return name == NULL ? SUSPECT_NONE : (uint32_t)strtoul(name + 1, NULL, 10);
}

/* LMDB holds what it reads for impossible. */
static void on_assert(MDB_env *env, const char *what)
{
    suspect_note((uint32_t)(uintptr_t)mdb_env_get_userctx(env));
    check_panic("LMDB: %s", what);
}

/* LMDB answers EIO to a write that the disk took only the beginning of. Nothing of the transaction
 * counts then, as with any other error; what is to be told apart is a full disk from a broken one:
 * would the file find room to grow? */
static int commit_txn(MDB_env *env, MDB_txn *txn)
{
    int fd, rc = mdb_txn_commit(txn);
    struct stat st;

    if (rc == EIO && mdb_env_get_fd(env, &fd) == 0 && fstat(fd, &st) == 0 &&
        fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, ROOM_BYTES) != 0 &&
        (errno == ENOSPC || errno == EDQUOT))
        return ENOSPC;
    return rc;
}

static int open_databases(struct lmdb_env *e, bool create)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(e->env, NULL, create ? 0 : MDB_RDONLY, &txn);

    if (rc != 0)
        return rc;
    for (int i = 0; i < LMDB_DBS && rc == 0; i++)
        rc = mdb_dbi_open(txn, db_names[i], create ? MDB_CREATE : 0, &e->dbi[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
    }
    return commit_txn(e->env, txn);
}

static int open_env(struct lmdb_env **out, const char *path, uint64_t map_bytes, bool create,
                    unsigned flags)
{
    struct lmdb_env *e = calloc(1, sizeof *e);
    int rc, err, dead;

    if (e == NULL)
        return -ERR_NOMEM;
    e->magic = MAGIC;
    e->partition = partition_of(path);
    err = lmdb_file_check(path);
    if (err != 0) {
        log_warn("cannot open %s: %s", path, err_text(err));
        free(e);
        return err;
    }
    uint32_t before = suspect_working(e->partition);
    rc = mdb_env_create(&e->env);
    if (rc == 0)
        rc = mdb_env_set_assert(e->env, on_assert);
    if (rc == 0)
        rc = mdb_env_set_userctx(e->env, (void *)(uintptr_t)e->partition);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(e->env, LMDB_DBS);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(e->env, MAX_READERS);
    if (rc == 0)
        rc = mdb_env_set_mapsize(e->env, map_bytes);
    if (rc == 0)
        rc = mdb_env_open(e->env, path, MDB_NOTLS | MDB_NORDAHEAD | flags, 0600);
    if (rc == 0) {
        mdb_reader_check(e->env, &dead);
        rc = open_databases(e, create);
    }
    suspect_working(before);
    suspect_reading(e->partition);
    if (rc != 0) {
        err = rc == EINVAL || rc == EFBIG ? -ERR_IO : err_from_lmdb(rc);
        log_warn("cannot open %s: %s", path, mdb_strerror(rc));
        lmdb_env_close(e);
        return err;
    }
    *out = e;
    return 0;
}

int lmdb_env_open(struct lmdb_env **out, const char *path, uint64_t map_bytes, bool create)
{
    return open_env(out, path, map_bytes, create, 0);
}

int lmdb_env_open_reader(struct lmdb_env **out, const char *path, uint64_t map_bytes)
{
    return open_env(out, path, map_bytes, false, MDB_RDONLY);
}

uint64_t lmdb_env_commits(struct lmdb_env *e)
{
    MDB_envinfo info;

    return mdb_env_info(e->env, &info) == 0 ? info.me_last_txnid : 0;
}

static void side_close_cursors(struct side *side)
{
    for (int i = 0; i < LMDB_DBS; i++) {
        if (side->cursors[i] != NULL)
            mdb_cursor_close(side->cursors[i]);
        side->cursors[i] = NULL;
        side->live[i] = false;
    }
}

void lmdb_env_close(struct lmdb_env *e)
{
    if (e == NULL)
        return;
    CHECK_MAGIC(e, MAGIC);
    ASSERT(e->writer.txn == NULL);
    side_close_cursors(&e->reader);
    if (e->reader.txn != NULL)
        mdb_txn_abort(e->reader.txn);
    if (e->env != NULL)
        mdb_env_close(e->env);
    e->magic = 0;
    free(e);
}

int lmdb_env_identity(const struct lmdb_env *e, uint64_t *inode, uint64_t *birth_ns)
{
    mdb_filehandle_t fd;
    struct statx sx;

    if (mdb_env_get_fd(e->env, &fd) != 0 ||
        statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &sx) != 0)
        return -ERR_IO;
    *inode = sx.stx_ino;
    *birth_ns = 0;
    if (sx.stx_mask & STATX_BTIME)
        *birth_ns = (uint64_t)sx.stx_btime.tv_sec * 1000000000u + sx.stx_btime.tv_nsec;
    return 0;
}

uint64_t lmdb_env_bytes(struct lmdb_env *e)
{
    MDB_envinfo info;
    MDB_stat stat_;

    if (mdb_env_info(e->env, &info) != 0 || mdb_env_stat(e->env, &stat_) != 0)
        return 0;
    return (uint64_t)(info.me_last_pgno + 1) * stat_.ms_psize;
}

void lmdb_env_check_readers(struct lmdb_env *e)
{
    int dead = 0;

    mdb_reader_check(e->env, &dead);
    if (dead > 0)
        log_notice("freed %d reader slots of dead processes", dead);
}

/* The reader's transaction, renewed if it was reset. */
static int reader_begin(struct lmdb_env *e)
{
    int rc;

    CHECK_MAGIC(e, MAGIC);
    suspect_reading(e->partition);
    if (e->reading)
        return 0;
    rc = e->reader.txn == NULL ? mdb_txn_begin(e->env, NULL, MDB_RDONLY, &e->reader.txn)
                               : mdb_txn_renew(e->reader.txn);
    if (rc != 0)
        return err_from_lmdb(rc);
    e->reading = true;
    return 0;
}

bool lmdb_reader_reset(struct lmdb_env *e)
{
    if (!e->reading)
        return false;
    mdb_txn_reset(e->reader.txn);
    memset(e->reader.live, 0, sizeof e->reader.live);
    e->reading = false;
    return true;
}

static int side_cursor(struct lmdb_env *e, struct side *side, enum lmdb_db db, MDB_cursor **out)
{
    int rc = 0;

    if (side->cursors[db] == NULL)
        rc = mdb_cursor_open(side->txn, e->dbi[db], &side->cursors[db]);
    else if (!side->live[db])
        rc = mdb_cursor_renew(side->txn, side->cursors[db]);
    if (rc != 0)
        return err_from_lmdb(rc);
    side->live[db] = true;
    *out = side->cursors[db];
    return 0;
}

static int side_fetch(struct lmdb_env *e, struct side *side, enum lmdb_db db, MDB_cursor_op op,
                      struct slice from, struct slice *key, struct slice *value)
{
    MDB_val k = val_of(from), v;
    MDB_cursor *cursor = NULL;
    int rc = side_cursor(e, side, db, &cursor);

    if (rc != 0)
        return rc;
    if (op == MDB_SET_RANGE && from.len == 0)
        op = MDB_FIRST;
    rc = mdb_cursor_get(cursor, &k, &v, op);
    if (rc != 0)
        return err_from_lmdb(rc);
    if (key != NULL)
        *key = slice_of_val(&k);
    *value = slice_of_val(&v);
    return 0;
}

int lmdb_reader_get(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice *value)
{
    MDB_val k = val_of(key), v;
    int err = reader_begin(e);

    if (err != 0)
        return err;
    err = err_from_lmdb(mdb_get(e->reader.txn, e->dbi[db], &k, &v));
    if (err == 0)
        *value = slice_of_val(&v);
    return err;
}

int lmdb_reader_seek(struct lmdb_env *e, enum lmdb_db db, struct slice from, struct slice *key,
                     struct slice *value)
{
    int err = reader_begin(e);

    return err != 0 ? err : side_fetch(e, &e->reader, db, MDB_SET_RANGE, from, key, value);
}

int lmdb_reader_step(struct lmdb_env *e, enum lmdb_db db, struct slice *key, struct slice *value)
{
    ASSERT(e->reading);
    suspect_reading(e->partition);
    return side_fetch(e, &e->reader, db, MDB_NEXT, (struct slice){0}, key, value);
}

uint64_t lmdb_reader_count(struct lmdb_env *e, enum lmdb_db db)
{
    MDB_stat stat_;

    if (reader_begin(e) != 0 || mdb_stat(e->reader.txn, e->dbi[db], &stat_) != 0)
        return 0;
    return stat_.ms_entries;
}

int lmdb_write_begin(struct lmdb_env *e)
{
    CHECK_MAGIC(e, MAGIC);
    ASSERT(e->writer.txn == NULL);
    return err_from_lmdb(mdb_txn_begin(e->env, NULL, 0, &e->writer.txn));
}

int lmdb_write_get(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice *value)
{
    ASSERT(e->writer.txn != NULL);
    return side_fetch(e, &e->writer, db, MDB_SET, key, NULL, value);
}

int lmdb_write_seek(struct lmdb_env *e, enum lmdb_db db, struct slice from, struct slice *key,
                    struct slice *value)
{
    ASSERT(e->writer.txn != NULL);
    return side_fetch(e, &e->writer, db, MDB_SET_RANGE, from, key, value);
}

int lmdb_write_step(struct lmdb_env *e, enum lmdb_db db, struct slice *key, struct slice *value)
{
    ASSERT(e->writer.txn != NULL);
    return side_fetch(e, &e->writer, db, MDB_NEXT, (struct slice){0}, key, value);
}

int lmdb_write_reserve(struct lmdb_env *e, enum lmdb_db db, struct slice key, size_t len,
                       uint8_t **room)
{
    MDB_val k = val_of(key), v = {len, NULL};
    MDB_cursor *cursor = NULL;
    int err;

    ASSERT(e->writer.txn != NULL);
    err = side_cursor(e, &e->writer, db, &cursor);
    if (err == 0)
        err = err_from_lmdb(mdb_cursor_put(cursor, &k, &v, MDB_RESERVE));
    if (err == 0)
        *room = v.mv_data;
    return err;
}

int lmdb_write_put(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice value)
{
    uint8_t *room;
    int err = lmdb_write_reserve(e, db, key, value.len, &room);

    if (err == 0 && value.len > 0)
        memcpy(room, value.data, value.len);
    return err;
}

int lmdb_write_del(struct lmdb_env *e, enum lmdb_db db, struct slice key)
{
    MDB_val k = val_of(key);

    ASSERT(e->writer.txn != NULL);
    return err_from_lmdb(mdb_del(e->writer.txn, e->dbi[db], &k, NULL));
}

uint64_t lmdb_write_count(struct lmdb_env *e, enum lmdb_db db)
{
    MDB_stat stat_;

    ASSERT(e->writer.txn != NULL);
    return mdb_stat(e->writer.txn, e->dbi[db], &stat_) == 0 ? stat_.ms_entries : 0;
}

int lmdb_write_clear(struct lmdb_env *e, enum lmdb_db db)
{
    ASSERT(e->writer.txn != NULL);
    return err_from_lmdb(mdb_drop(e->writer.txn, e->dbi[db], 0));
}

int lmdb_write_commit_early(struct lmdb_env *e)
{
    int err, rc = mdb_env_set_flags(e->env, MDB_NOMETASYNC, 1);

    ASSERT(rc == 0);
    err = lmdb_write_commit(e);
    rc = mdb_env_set_flags(e->env, MDB_NOMETASYNC, 0);
    ASSERT(rc == 0);
    return err;
}

int lmdb_write_sync(struct lmdb_env *e)
{
    return err_from_lmdb(mdb_env_sync(e->env, 1));
}

int lmdb_write_commit(struct lmdb_env *e)
{
    MDB_txn *txn = e->writer.txn;

    ASSERT(txn != NULL);
    side_close_cursors(&e->writer);
    e->writer.txn = NULL;
    return err_from_lmdb(commit_txn(e->env, txn));
}

void lmdb_write_abort(struct lmdb_env *e)
{
    ASSERT(e->writer.txn != NULL);
    side_close_cursors(&e->writer);
    mdb_txn_abort(e->writer.txn);
    e->writer.txn = NULL;
}
