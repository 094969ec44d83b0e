/* The storage engine of one worker: journal, write buffers, sorted write-back into one LMDB
 * environment per vnode. Used by workers, by tests and by bench-store.
 *
 * Threads: all functions here are called from one thread (the worker's loop) and never block for
 * longer than a page fault or a write to the page cache; a journal thread does nothing but fdatasync,
 * a flush thread nothing but write LMDB. Completion is a number: store_put() answers the journal sequence number
 * (LSN) of its record; store_durable() says up to which LSN everything is on disk; the descriptor
 * store_event_fd() becomes readable when that has moved or when a flush has finished, and
 * store_turn() must then be called.
 *
 * Files below the data directory:
 *   vnodes/<partition>/   LMDB environment: data, expiry index, Merkle leaves, hints, meta
 *   vnodes/<partition>.id which vnode is expected there (store/vnode.h)
 *   journal/<worker>/     segments NNNNNNNNNNNN.wal (store/journal_format.h), reserve.wal, boot
 *                         (store/boot.h), commits (store/commits.h)
 *   quarantine/           vnodes that could not be read (store/suspect.h: or of which we died), and
 *                         damaged segments of journals
 * docs/storage.md explains how they work together.
 *
 * A vnode exists from store_vnode_open() with create on; it keeps its id and its dot counter in its
 * environment. It is opened by the worker that the assignment names and by no other process for
 * writing. */
#ifndef CLOCKWISE_STORE_STORE_H
#define CLOCKWISE_STORE_STORE_H

#include "base/slice.h"
#include "core/causal.h"
#include "core/position.h"

struct store;

enum store_durability { STORE_ALWAYS, STORE_EVERYSEC, STORE_NEVER };

struct store_conf {
    const char *data_dir; /* must exist */
    uint32_t worker;      /* names the journal folder */
    uint8_t q_bits;       /* partitions = 1 << q_bits */
    enum store_durability durability;
    uint64_t write_buffer_bytes; /* bound of all buffers of this worker */
    uint64_t map_bytes;          /* LMDB map size of one vnode (address space, not memory) */
    uint64_t segment_bytes;      /* journal segment size, preallocated */
    uint32_t flush_age_ms;       /* a buffer older than this is flushed */
    const char *boot_id;         /* NULL: of the running kernel; something else only for tests */
    bool no_leaves;              /* keep no Merkle leaves: only to measure what they cost */
    void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total); /* recovery */
    void *progress_arg; /* progress may be NULL */
};

/* What an operator should know; a copy, filled by store_stats(). */
struct store_stats {
    uint64_t keys;       /* rows with anything alive in LMDB, all vnodes */
    uint64_t tombstones; /* and those without */
    uint64_t tombstones_purged;
    uint64_t buffer_bytes, buffer_limit;
    uint64_t journal_bytes, journal_segments, journal_syncs, journal_records;
    uint64_t flushes, flushed_records, flushed_bytes;
    uint64_t corrupt_records, quarantined_vnodes, new_vnode_ids;
    uint64_t recovered_records;
    uint64_t pressure_us; /* time spent with store_pressure() true */
    uint64_t disk_full;   /* writes refused with -ERR_DISKFULL */
    uint64_t expired_dropped;
    uint64_t journal_written_bytes; /* since the start, headers included */
    uint64_t file_bytes;            /* pages in use by all vnode files */
    uint32_t vnodes_open;
    uint32_t last_sync_us, max_sync_us;
};

/* Open the engine: replays this worker's journal first (blocks; progress is reported). -ERR_IO,
 * -ERR_DISKFULL, -ERR_NOMEM, -ERR_VERSION, -ERR_INVAL (vnodes were made for another Q); damaged
 * vnodes do not fail the open, they are quarantined and counted. On success *out is owned by the
 * caller. The process must not fork while a store is open. */
int store_open(struct store **out, const struct store_conf *conf);

/* Flush nothing, sync the journal, mark a clean shutdown, close. Blocks for a sync. */
void store_close(struct store *s);

/* Open (and with create, make) the vnode of a partition. Idempotent. Blocks for a few syncs. A vnode
 * that cannot be read goes to quarantine and an empty one with a new id takes its place.
 * -ERR_NOTFOUND without create; -ERR_INVAL (another Q), -ERR_DISKFULL, -ERR_VERSION. *vnode_id is
 * its current id. */
int store_vnode_open(struct store *s, uint32_t partition, bool create, uint64_t *vnode_id);

/* Unlink a vnode that has been given away. Its buffered writes are dropped. */
int store_vnode_drop(struct store *s, uint32_t partition);

/* Current id of an open vnode, 0 if it is not open. It changes when the vnode finds that it has
 * forgotten something (a record fails its checksum, say). */
uint64_t store_vnode_id(const struct store *s, uint32_t partition);

/* A fresh dot of the vnode. Never issued before, after any crash: numbers are reserved durably in
 * blocks ahead of use. -ERR_BUSY while a new block is being made durable (try after store_turn).
 * -ERR_DISKFULL: it needs a new id, for which there is no room now. */
int store_next_dot(struct store *s, uint32_t partition, struct dot *out);

/* A peer showed a dot that carries this vnode's id. If it was never issued here, the vnode has been
 * restored from an old copy: it takes a new id. Returns 1 if the id changed, else 0. */
int store_witness_dot(struct store *s, uint32_t partition, struct dot seen);

/* The stored object of a key (encoded, see core/object.h). *out stays valid until the next call on
 * this store. -ERR_NOTFOUND; -ERR_CORRUPT if the record failed its checksum (the vnode has then
 * reported itself and is taking a new id: until store_next_dot() stops saying -ERR_BUSY). The
 * record is removed, so that a later get says -ERR_NOTFOUND. The record's key is compared in full. */
int store_get(struct store *s, uint32_t partition, const struct position *pos, struct slice key,
              struct slice *out);

/* Like store_get() by position alone, for those who walk positions. Should two keys share one, it
 * is the object of one of them. */
int store_get_at(struct store *s, uint32_t partition, const struct position *pos,
                 struct slice *out);

/* Replace the stored object of a key. `object` is encoded and carries the key; the bytes are copied.
 * It is visible to store_get() at once and durable when store_durable() >= *lsn. `object` must not
 * be what store_get() returned. -ERR_BUSY (the buffers are full beyond their bound: slow down
 * clients, try after store_turn()), -ERR_DISKFULL, -ERR_NOMEM, -ERR_NOTFOUND (not open); then nothing
 * was changed. `shrinks` marks deletes, which may use the reserve kept for them when the disk is
 * full. */
int store_put(struct store *s, uint32_t partition, const struct position *pos, struct slice object,
              bool shrinks, uint64_t *lsn);

/* Everything with an LSN up to the result is durable as the configuration understands it: always,
 * synced; everysec and never, written: then store_kick() moves it, and the descriptor says nothing of
 * that. To be woken for what comes later, read it after store_turn(), not before. */
uint64_t store_durable(const struct store *s);

/* Becomes readable when store_turn() has something to do. Owned by the store. */
int store_event_fd(const struct store *s);

/* Collect what the threads have finished, start what is due. Call when the descriptor is readable
 * and at least every 100 ms. now_ms is wall time, for expiry. */
void store_turn(struct store *s, uint64_t now_mono_us, uint64_t now_ms);

/* Hand everything written in this turn of the loop to the kernel, so that it survives this process, and
 * have it synced. Call once per turn, before anybody else can hear of those writes. False if something
 * is still in memory only, for want of a journal segment: then nobody may be told of it yet; the
 * descriptor becomes readable when it is worth asking again. Blocks for a write to the page cache. */
bool store_kick(struct store *s);

/* The CPU is short: let the journal sync less often (see journal_set_sparing()). Does not block. */
void store_set_sparing(struct store *s, bool sparing);

/* True while buffers are so full that clients must be slowed down. Not while they cannot be flushed to
 * a full disk: then reads and deletes go on, and writes are refused. */
bool store_pressure(const struct store *s);

void store_stats(const struct store *s, struct store_stats *out);

/* Number of keys with live records in one vnode (approximate while writes are buffered). */
uint64_t store_vnode_keys(const struct store *s, uint32_t partition);

/* Walk the keys of one vnode in position order, buffers included: from *cursor (all zero: the
 * start) up to `max` objects are passed to `each` (encoded; valid during the call); *cursor is then
 * the position to go on from. Returns 1 at the end of the vnode, else 0, or an error. A damaged row
 * is reported like in store_get() and left out. `each` must not call the store. */
int store_scan(struct store *s, uint32_t partition, struct position *cursor, uint32_t max,
               void (*each)(void *arg, const struct position *pos, struct slice object), void *arg);

/* ---- What anti-entropy needs. See core/horizon.h. */

struct store_vnode_state {
    uint64_t id;
    uint64_t horizon_ms;     /* 0 unless whole */
    uint64_t generation;     /* changes with every write, buffers included, and with every start */
    uint64_t dirty_since_ms; /* wall time of the oldest write that is not in the tree; 0: none;
                                REPAIR_DIRTY_REPLAYED */
    uint64_t last_write_ms;  /* wall time */
    uint64_t late_ms;        /* wall time: something last came late; at least that of the opening */
    uint64_t root;           /* sum of the leaves */
    uint64_t keys, tombstones;              /* in the tree */
    uint64_t buffered_keys, buffered_bytes; /* and what is not in it yet, hints included */
    uint8_t standing;                       /* enum standing */
};
/* -ERR_NOTFOUND if the vnode is not open. */
int store_vnode_state(const struct store *s, uint32_t partition, struct store_vnode_state *out);

/* Standing and horizon alone; a vnode that is not open has nothing. */
uint8_t store_standing(const struct store *s, uint32_t partition, uint64_t *horizon_ms);

/* Which start of an engine in the data directory is this? 1 is the first ever. */
uint64_t store_start(const struct store *s);

/* From now on vnodes that are made where nothing was before are whole: the ring is being founded, so
 * there is nothing that they could lack. Otherwise they are STANDING_MISSING. */
void store_set_founding(struct store *s, bool founding);

/* This node has been out of touch for too long: vnodes that are opened from now on and were whole are
 * STANDING_AWAY. */
void store_set_away(struct store *s);

/* Set the standing, or raise the horizon, of the vnode with this id. More belief holds when it is
 * durable, soon (should the vnode take a new id before, it does not); less holds at once. -ERR_NOTFOUND; -ERR_STALE: it has another id. */
int store_set_standing(struct store *s, uint32_t partition, uint64_t id, uint8_t standing);
/* Likewise -ERR_STALE if something has come late since late_ms was told: until the next time nothing is
 * purged then. */
int store_set_horizon(struct store *s, uint32_t partition, uint64_t id, uint64_t horizon_ms,
                      uint64_t late_ms);
/* What was just stored came late (core/horizon.h). */
void store_note_late(struct store *s, uint32_t partition);

/* Write the buffers of a vnode back without waiting for their age, if that can be begun now. */
void store_flush(struct store *s, uint32_t partition);

/* Remove the row of a key for good. As store_put(). */
int store_remove(struct store *s, uint32_t partition, const struct position *pos, struct slice key,
                 uint64_t *lsn);

/* Somebody who has read the files says that the row at this position is damaged; `leaf`: that rows are
 * missing or too many in its leaf. The vnode takes a new id if that is so. */
int store_verify(struct store *s, uint32_t partition, const struct position *pos, bool leaf);

/* Hints: durable notes "the object at this position is owed to that node". A hint is a row in the
 * vnode's environment (target, position); the object is the vnode's own. Journalled like a put. */
int store_hint_add(struct store *s, uint32_t partition, const uint8_t target[16],
                   const struct position *pos, uint64_t time_ms, uint64_t *lsn);
int store_hint_remove(struct store *s, uint32_t partition, const uint8_t target[16],
                      const struct position *pos);
/* Is there this hint, and since when? -ERR_NOTFOUND, or an error. */
int store_hint_get(struct store *s, uint32_t partition, const uint8_t target[16],
                   const struct position *pos, uint64_t *time_ms);
/* Walk the hints of one vnode for one target like store_scan(). */
int store_hint_scan(struct store *s, uint32_t partition, const uint8_t target[16],
                    struct position *cursor, uint32_t max,
                    void (*each)(void *arg, const struct position *pos, uint64_t time_ms),
                    void *arg);

/* Merkle leaves of one vnode as of its newest flush: leaf i covers the positions whose top
 * `leaf_bits` bits below the partition bits are i. *leaves points to 1 << leaf_bits numbers, valid
 * until the next store_turn(). *generation changes whenever they do. */
int store_merkle(const struct store *s, uint32_t partition, const uint64_t **leaves,
                 uint32_t *leaf_bits, uint64_t *generation);

/* Replay the journals of every worker into the vnodes, flush, delete them: for a start with another
 * number of workers. Opens nothing for longer than the call. */
int store_recover_all(const struct store_conf *conf, uint64_t *records);

#endif
