/* One LMDB environment: the only file that knows lmdb.h is lmdb_env.c. Default sync mode, no
 * WRITEMAP, no DUPSORT, a map size set once, readers not bound to threads.
 *
 * Databases of an environment (keys are compared as bytes):
 *   data     position (16)                       -> encoded objects, back to back (store/bucket.h)
 *   expiry   milliseconds (8, big-end), position -> nothing
 *   tombs    as expiry, of rows in which nothing is alive: their time (core/horizon.h)
 *   leaves   leaf number (4, big-end)            -> leaf hash (8), check (8)
 *   hints    target (16), position (16)          -> time (8)
 *   meta     name                                -> see store/vnode.h
 *
 * One thread writes (flush thread) and one reads (loop thread) at any time; each may do so without
 * the other's knowledge. Slices that reading returns point into the map: until lmdb_reader_reset()
 * for the reader, until the next write for the writer. Errors: -ERR_NOTFOUND, -ERR_DISKFULL (also
 * a full map), -ERR_CORRUPT, -ERR_NOMEM, -ERR_IO. */
#ifndef CLOCKWISE_STORE_LMDB_ENV_H
#define CLOCKWISE_STORE_LMDB_ENV_H

#include "base/slice.h"

enum lmdb_db { LMDB_DATA, LMDB_EXPIRY, LMDB_TOMBS, LMDB_LEAVES, LMDB_HINTS, LMDB_META, LMDB_DBS };

struct lmdb_env;

/* Open the environment in an existing folder; with create on, make its databases. Checks that the
 * file is as long as its newest snapshot says. Frees reader slots of dead processes. */
int lmdb_env_open(struct lmdb_env **out, const char *path, uint64_t map_bytes, bool create);
/* For a process that only reads what another one writes; the lmdb_write_ functions must not be
 * called. */
int lmdb_env_open_reader(struct lmdb_env **out, const char *path, uint64_t map_bytes);
void lmdb_env_close(struct lmdb_env *e);

/* A number that rises with every commit, of whatever process. Cheap: no snapshot is taken. */
uint64_t lmdb_env_commits(struct lmdb_env *e);

/* Which file this is: inode and birth time in nanoseconds. They change when it is copied. */
int lmdb_env_identity(const struct lmdb_env *e, uint64_t *inode, uint64_t *birth_ns);

/* Bytes of the data file in use, rows in `data` as of the newest snapshot. */
uint64_t lmdb_env_bytes(struct lmdb_env *e);
/* Free reader slots that dead processes left. */
void lmdb_env_check_readers(struct lmdb_env *e);

/* Reading, loop thread. The first call after a reset takes the newest snapshot. */
int lmdb_reader_get(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice *value);
/* The first row with a key >= `from`; *key and *value are then its own. */
int lmdb_reader_seek(struct lmdb_env *e, enum lmdb_db db, struct slice from, struct slice *key,
                     struct slice *value);
/* The row after the one that seek or step found. */
int lmdb_reader_step(struct lmdb_env *e, enum lmdb_db db, struct slice *key, struct slice *value);
uint64_t lmdb_reader_count(struct lmdb_env *e, enum lmdb_db db);
/* Let go of the snapshot. Must happen at least once per turn of the loop. True if there was one. */
bool lmdb_reader_reset(struct lmdb_env *e);

/* Writing. A transaction is begun, filled, and committed (blocks for syncs) or aborted. After an
 * error from commit other than -ERR_DISKFULL the environment must not be used again. */
int lmdb_write_begin(struct lmdb_env *e);
int lmdb_write_get(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice *value);
/* First row with a key >= from, as seen inside the transaction; step as for the reader. */
int lmdb_write_seek(struct lmdb_env *e, enum lmdb_db db, struct slice from, struct slice *key,
                    struct slice *value);
int lmdb_write_step(struct lmdb_env *e, enum lmdb_db db, struct slice *key, struct slice *value);
int lmdb_write_put(struct lmdb_env *e, enum lmdb_db db, struct slice key, struct slice value);
/* As put, and leaves the bytes to the caller, who must fill *room before the next call. */
int lmdb_write_reserve(struct lmdb_env *e, enum lmdb_db db, struct slice key, size_t len,
                       uint8_t **room);
int lmdb_write_del(struct lmdb_env *e, enum lmdb_db db, struct slice key);
uint64_t lmdb_write_count(struct lmdb_env *e, enum lmdb_db db);
/* Remove all rows of a database. */
int lmdb_write_clear(struct lmdb_env *e, enum lmdb_db db);
int lmdb_write_commit(struct lmdb_env *e);
/* With one sync instead of two: a power cut may take this commit back, whole, until the next one of either
 * kind or lmdb_write_sync(). For all but the last of a row of commits. */
int lmdb_write_commit_early(struct lmdb_env *e);
int lmdb_write_sync(struct lmdb_env *e);
void lmdb_write_abort(struct lmdb_env *e);

#endif
