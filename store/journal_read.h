/* Reading a journal back: which records are there, where a torn tail is cut, what is damaged. Runs
 * at the start of a worker and in tools; blocks. */
#ifndef CLOCKWISE_STORE_JOURNAL_READ_H
#define CLOCKWISE_STORE_JOURNAL_READ_H

#include "store/journal_format.h"

struct journal_segment {
    uint64_t sequence, last_lsn, bytes;
    uint64_t end;        /* one past its last good record; 0: it has none */
    uint64_t made_bytes; /* what its header says of its size */
    bool unused;         /* nothing was ever written to it */
    bool damaged;        /* records that were in it cannot be read */
};

struct journal_replay {
    /* Given by the caller. A segment of another worker counts as damage. `each` gets every good record in order of LSN; an error from it ends the
     * replay. progress may be NULL. */
    int (*each)(void *arg, const struct journal_record *record, struct slice payload);
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *arg;
    uint32_t worker;

    /* Found. */
    uint64_t records;
    uint64_t next_lsn;                /* after the newest good record; 1 for an empty journal */
    uint64_t next_sequence;           /* free segment number */
    uint64_t damaged;                 /* places where durable records cannot be read */
    bool clean;                       /* it was closed in an orderly way, or there is none */
    uint64_t torn;                    /* records of an unfinished batch that were cut off */
    struct journal_segment *segments; /* owned; oldest first */
    uint32_t segment_count;
};

/* Replay the journal in `dir` (missing: an empty one). A torn tail is cut on disk before this
 * returns, and what was replayed is durable. 0, -ERR_NOMEM, -ERR_IO, -ERR_VERSION, or what `each` returned. */
int journal_replay(const char *dir, struct journal_replay *r);
void journal_replay_free(struct journal_replay *r);

#endif
