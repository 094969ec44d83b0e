/* One vnode of the engine: its folder, its environment, who it is, its buffers and its counters.
 *
 * Folders below the data directory:
 *   vnodes/<partition>/    the LMDB environment
 *   vnodes/<partition>.id  one line of text: which vnode is expected there, its worker, and how many
 *                          commits it had when this was written; so that a folder that has vanished
 *                          is noticed and not taken for a new one
 *   vnodes/<partition>.new being made
 *   vnodes/<partition>-<id>.old being removed
 *   quarantine/            folders that could not be read, kept for people to look at
 *
 * Row "vnode" of the meta database, 72 bytes, little-endian:
 *   0   4  format: 1          4   4  q_bits        8   4  partition     12  4  leaf_bits
 *   16  8  vnode id           24  8  reserved: dot numbers up to this may be in use
 *   32  8  inode of data.mdb  40  8  its birth time, ns
 *   48  8  horizon, ms        56  4  standing (core/horizon.h)          60  4  0
 *   64  8  hash64 of bytes 0..63
 *
 * A new id is taken when: the folder is made; the folder is missing though it was expected; the
 * environment cannot be read (then it goes to quarantine); data.mdb is not the file that was made
 * here (a copy that came back from a backup), or it is, but has fewer commits than it once had
 * (commits.h; a copy that was written over it); the .id file is missing or names another id; a
 * record is damaged; the journal of its worker is damaged or gone, or has no end and the power was
 * cut (boot.h). Each start of a store has dot
 * numbers of its own (starts.h); more are reserved on disk in blocks before use, and a start never goes
 * on inside a block.
 *
 * Threads: fields are the loop's, except while `busy`, when `work` belongs to the flush thread. */
#ifndef CLOCKWISE_STORE_VNODE_H
#define CLOCKWISE_STORE_VNODE_H

#include "core/horizon.h"
#include "store/commits.h"
#include "store/lmdb_env.h"
#include "store/wbuf.h"

#include <stdatomic.h>

#define VNODE_NO_WORKER UINT32_MAX   /* in an .id file: no journal has writes for it */
#define VNODE_DOT_BLOCK (1ull << 20) /* dot numbers reserved at a time */

struct vnode_meta {
    uint32_t format, q_bits, partition, leaf_bits;
    uint64_t id, reserved, inode, birth_ns;
    uint64_t horizon_ms;
    uint32_t standing, zero;
    uint64_t check;
};
_Static_assert(sizeof(struct vnode_meta) == 72, "meta layout");

/* What the flush thread is asked to do with a vnode. */
enum {
    VNODE_FLUSH = 1,      /* write the frozen buffers */
    VNODE_RESERVE = 2,    /* another block of dot numbers */
    VNODE_RENEW = 4,      /* something was forgotten: take a new id */
    VNODE_EXPIRE = 8,     /* drop values that have expired */
    VNODE_DROP = 16,      /* close and remove */
    VNODE_WIPE = 32,      /* remove all rows: what recovery flushed was dropped later */
    VNODE_MARK = 64,      /* set standing and horizon */
    VNODE_PURGE = 128,    /* remove tombstones that the horizon has passed */
    VNODE_REBUILD = 256,  /* make all leaf hashes anew */
    VNODE_REPLACE = 1024, /* its file is damaged: set it aside, go on with an empty one; alone */
    VNODE_NEW_ID = 512,   /* take a new id, though nothing is lost that others were promised */
};

#define VNODE_BAD 8 /* damaged positions noted at a time */

/* What the flush thread works on and gives back. */
struct vnode_work {
    unsigned todo;
    int err;      /* of the flush: 0 or -ERR_DISKFULL */
    bool renewed; /* the id changed */
    uint64_t now_ms;
    uint32_t vnodes; /* open in this store */
    bool hurry;      /* the buffers of the store are filling up */
    uint64_t flushed_records, flushed_bytes, dropped, corrupt;
    uint64_t next_expiry; /* earliest in the environment, 0: none */
    uint64_t next_tomb;   /* oldest tombstone in the environment, 0: none */
    uint64_t keys, tombs, file_bytes;
    uint64_t purged;
    uint64_t mark_id; /* VNODE_MARK: for the vnode with this id alone */
    uint64_t mark_horizon_ms;
    uint32_t mark_standing;
    struct position bad[VNODE_BAD]; /* damaged rows to remove */
    uint32_t bad_count;
    struct vnode_meta meta;
    uint64_t *leaves; /* 1 << meta.leaf_bits hashes as of the newest commit; owned */
};

struct vnode {
    uint32_t partition;
    uint8_t q_bits;
    struct lmdb_env *env;

    struct wbuf live, frozen;             /* objects */
    struct wbuf hints_live, hints_frozen; /* hints: data is target (16), time (8), add (1) */
    uint64_t live_lsn, frozen_lsn;        /* oldest journal record they stand for; 0: none */
    uint64_t live_since_us;               /* when the first live write came */
    uint64_t frozen_since_us;             /* and the first frozen one; 0: none */
    uint64_t writes;                      /* in this run, buffered ones included */
    uint64_t last_write_ms;               /* wall time of the newest; at first, of the opening */
    struct vnode *older, *newer;          /* list of vnodes with live writes, by live_lsn */
    bool listed;

    uint64_t id, next_n, reserved; /* next_n: the next dot number to give */

    unsigned want; /* asked for while busy */
    bool busy;
    _Atomic bool unlinked; /* dropped: its names belong to another vnode now */
    bool replayed;         /* its buffers hold what was written in an earlier run */
    bool recovered;        /* recovery has flushed something into it */
    bool ruined;           /* its file is damaged and must not be read until it is replaced */
    bool renewing;         /* asked for a new id that is not there yet */
    uint64_t retry_us;     /* after a full disk: not before this */
    struct vnode_work work;
    struct vnode *queue_next;

    struct position bad[VNODE_BAD]; /* found damaged, to be given to work */
    uint32_t bad_count;

    uint64_t *leaves; /* published copy */
    uint32_t leaf_bits;
    uint64_t generation;
    uint64_t root; /* sum of leaves */
    uint64_t keys, tombs, file_bytes, next_expiry, next_tomb;
    uint64_t late_ms; /* wall time when something last came late; at first, of the opening */
    bool purge;       /* the horizon has been confirmed since */
    uint64_t horizon_ms;
    uint32_t standing;                 /* enum standing */
    uint64_t mark_id, mark_horizon_ms; /* asked for by VNODE_MARK */
    uint32_t mark_standing;
    bool reading; /* a snapshot is held; while busy, it is in the store's list of readers */
    struct vnode *reading_next;
};

struct vnode_conf {
    const char *data_dir;
    uint32_t worker;
    uint8_t q_bits;
    uint64_t map_bytes;
    uint64_t start;          /* of this run, from starts_take() */
    uint32_t fresh_standing; /* enum standing of vnodes made where nothing was before */
    struct wbuf_pool *pool;
    struct commits *commits;
};

struct vnode_opened {
    bool created, lost, quarantined, renewed; /* what was found */
};

/* Open, or with create on make, the vnode of a partition. -ERR_NOTFOUND (it never existed),
 * -ERR_INVAL (it was made for another Q), -ERR_VERSION, -ERR_DISKFULL, -ERR_NOMEM, -ERR_IO. Blocks
 * for a few syncs. */
int vnode_open(struct vnode **out, const struct vnode_conf *conf, uint32_t partition, bool create,
               struct vnode_opened *found);

/* Close the environment, give buffers back, free. */
void vnode_close(struct vnode *v);

/* Which worker last had the vnode, from its .id file. -ERR_NOTFOUND. */
int vnode_peek_worker(const char *data_dir, uint32_t partition, uint32_t *worker);

/* Does the partition have a vnode here, as far as files say? */
bool vnode_exists(const char *data_dir, uint32_t partition);

/* Remove the name of the vnode at once, so that a new one can be made; its files go to a folder
 * that vnode_remove_files() removes later. */
int vnode_unlink(struct vnode *v, const char *data_dir);
void vnode_remove_files(struct vnode *v, const char *data_dir);

/* Remove the files of vnodes that had been unlinked when a process was killed. */
void vnode_sweep(const char *data_dir);

/* Set the damaged folder aside in quarantine and make an empty vnode with a new id in its place, in
 * v->work. Nobody else may use v->env. -ERR_DISKFULL (try again), -ERR_IO, -ERR_NOMEM. Blocks. */
int vnode_replace(struct vnode *v, const struct vnode_conf *conf);

/* Move a vnode's folder to quarantine; the vnode is then missing. It must not be open. */
int vnode_set_aside(const char *data_dir, uint32_t partition);

/* Seal and write the meta row inside the present write transaction. */
int vnode_put_meta(struct vnode *v, struct vnode_meta *meta);

/* Write the .id file for the present v->work.meta. Called after the commit that changed the id. */
int vnode_write_id(const char *data_dir, const struct vnode *v, uint32_t worker);

#endif
