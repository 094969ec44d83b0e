/* Inside of struct journal, shared by journal.c (the loop's side), journal_thread.c (the journal thread)
 * and journal_segments.c (whoever makes and removes segments) alone. */
#ifndef CLOCKWISE_STORE_JOURNAL_IMPL_H
#define CLOCKWISE_STORE_JOURNAL_IMPL_H

#include "store/file.h"
#include "store/journal.h"
#include "store/journal_file.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    JOURNAL_RETRY_US = 1000000, /* between tries to make a segment on a full disk */
    /* Bytes of segments that somebody waits for: */
    JOURNAL_FIRST = 16 << 20, /* the first of a run, to last until the next has been prepared; */
    JOURNAL_HASTY = 4 << 20,  /* one made because none was prepared */
};

/* A segment that is no longer written. */
struct retired {
    uint64_t sequence, last_lsn, bytes;
};

struct retired_list {
    struct retired *items;
    uint32_t count, capacity;
};

/* Records that the kernel does not have yet. */
struct batch {
    uint8_t *data;
    size_t len, capacity;
};

struct journal {
    struct journal_conf conf;
    char dir[FILE_PATH];
    char reserve_path[FILE_PATH];
    uint64_t reserve_bytes;
    pthread_t thread;
    _Atomic uint64_t durable;
    _Atomic uint64_t backlog;        /* bytes of the batch */
    _Atomic uint64_t retained_bytes; /* of the segments in `retained` */

    uint64_t last_sync_us; /* the journal thread alone */
    uint64_t rest_us;      /* likewise: before the next sync, if sparing */
    _Atomic bool sparing;

    /* Everything below is guarded by the lock. Records are written with the lock held, so that they
     * reach the file in order; syncs, and making files, are done without it. */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the journal thread waits for work or for a segment */
    struct batch batch;
    uint64_t next_lsn;
    uint64_t written_lsn; /* the kernel has it: it survives this process */
    uint64_t synced_lsn;  /* surely on disk */
    size_t promised;      /* bytes that journal_check() has promised to the next append */
    bool idle;            /* the journal thread waits to be told that something has been written */
    bool stuck;           /* the batch needs the next segment, which the journal thread goes to */
    bool stopping;
    bool marked;                       /* the newest record is a MARK */
    struct journal_file current, next; /* next.fd < 0: not prepared */
    uint64_t sequence;                 /* of the newest segment made */
    bool preparing;                    /* somebody makes the next segment */
    bool have_reserve, full;
    struct retired_list retained, released;
    struct journal_stats stats;
};

/* journal.c. All with the lock held. */

/* Make room for so many more bytes in the batch. -ERR_NOMEM. */
int journal_batch_room(struct journal *j, size_t need);
/* Append to the batch, which has room. */
uint64_t journal_append_locked(struct journal *j, enum journal_type type, uint32_t partition,
                               const struct slice *parts, int count);
/* Write as much of the batch as the current segment takes, in one call. True if that is all of it. */
bool journal_write_batch(struct journal *j);
/* Move the durable LSN on as the configuration understands it. True if it has moved. */
bool journal_advance(struct journal *j);
/* Bytes that the first record of the batch takes in a segment. */
size_t journal_first_record(const struct journal *j);
/* Bytes that the current segment takes beyond the batch. May be negative. */
int64_t journal_room(const struct journal *j);

/* journal_segments.c. With the lock held. */

/* Note a segment that is no longer written but still needed. */
int journal_retain(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes);

/* journal_thread.c. */
void *journal_main(void *journal);
/* Wait on `wake` for at most so long. With the lock held. */
void journal_wait_us(struct journal *j, uint64_t us);

#endif
