/* The journal of one worker: append, group commit, segments. The bytes are in journal_format.h.
 *
 * Three threads: the loop appends to a batch in memory and hands it to the kernel once a turn, with one
 * write into blocks that exist already; the journal thread (made here) syncs, and goes to the next
 * segment when one is full; any other thread may call journal_prepare(), which makes the next segment
 * and recycles old ones and blocks.
 *
 * What the kernel has survives the death of this process, though not a power cut. So whatever tells
 * others of a record must wait until it has been handed over: see journal_kick(). */
#ifndef CLOCKWISE_STORE_JOURNAL_H
#define CLOCKWISE_STORE_JOURNAL_H

#include "base/slice.h"
#include "store/journal_format.h"

struct journal;

struct journal_conf {
    const char *dir; /* journal/<worker>, exists */
    uint32_t worker;
    uint64_t segment_bytes;
    int durability;                  /* enum store_durability */
    uint64_t next_lsn;               /* first LSN to use */
    uint64_t next_sequence;          /* first segment number to use */
    void (*progress)(void *arg);     /* called by the journal thread when durable has moved,
                                      * or the batch no longer waits for a segment */
    void (*need_prepare)(void *arg); /* called by any thread when journal_prepare() has work */
    void *arg;
};

struct journal_stats {
    uint64_t bytes, segments, syncs, records, written_bytes;
    uint32_t last_sync_us, max_sync_us;
    bool full; /* no segment could be made */
};

/* Make the first segment and the thread. */
int journal_open(struct journal **out, const struct journal_conf *conf);

/* Write CLEAN (if the end is a clean one) after everything appended, sync, end the thread, free. The files
 * stay, but for the prepared one. */
void journal_close(struct journal *j, bool clean);

/* A segment from an earlier run (path is made from the sequence): released like the others when
 * nothing up to last_lsn is needed. */
int journal_adopt(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes);

/* May a record with so many payload bytes be appended now? 0, -ERR_BUSY (the batch in memory is
 * full), -ERR_DISKFULL (`shrinks` may use the reserve segment, and alone once that is being written), -ERR_NOMEM. After 0 the next append
 * of at most that size by the same thread cannot fail. */
int journal_check(struct journal *j, size_t payload, bool shrinks);

/* Append a record of up to three parts; returns its LSN. journal_check() must have said yes. */
uint64_t journal_append(struct journal *j, enum journal_type type, uint32_t partition,
                        struct slice a, struct slice b, struct slice c);

/* Bytes that wait for the next segment. journal_check() refuses from 32 MiB on. */
uint64_t journal_backlog(const struct journal *j);

/* Hand everything appended to the kernel, and wake the journal thread to sync it. True if the kernel
 * has it all; false while the rest waits for the next segment: progress is called when it has been
 * written, and others must not be told of it before. Ends the process if the write fails. */
bool journal_kick(struct journal *j);

/* Sync less often while `sparing`, and not at once: after a sync that many records waited for, rest as long as it took
 * (at most 1 ms). For when the CPU is short. Off at first. */
void journal_set_sparing(struct journal *j, bool sparing);

/* Everything up to this LSN is on disk (always) or handed to the kernel (everysec, never; then
 * journal_kick() itself may move it, without a call of progress). */
uint64_t journal_durable(const struct journal *j);

/* The LSN that the next record will get. */
uint64_t journal_next_lsn(const struct journal *j);

/* Nothing with an LSN below `needed` is needed any more: whole segments below it become free, to be
 * recycled or removed by journal_prepare(). */
void journal_release(struct journal *j, uint64_t needed);

/* Bytes in segments that are still needed, besides the one being written. */
uint64_t journal_retained(const struct journal *j);

/* Make the next segment and the reserve, recycle or remove released ones. Blocks. Returns
 * -ERR_DISKFULL when there was no room; call again later. */
int journal_prepare(struct journal *j);

void journal_stats(const struct journal *j, struct journal_stats *out);

#endif
