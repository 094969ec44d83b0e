/* How far the files of a worker had come. For each vnode id, a number of commits (lmdb_env_commits()) that
 * its file had reached for certain: a file that says less is an older copy of itself that was written over
 * it, which inode and birth time do not tell. And an LSN that the journal had reached: one that ends before
 * has lost its newest segments.
 *
 * The numbers are in memory, and on disk before a journal segment is given up: so a file that is not older
 * than they say misses nothing that the journal does not bring back. From any thread.
 *
 * DATA_DIR/journal/<worker>/commits, little-endian:
 *   0   8  magic "CWCOMM01"       8   8  number of entries       16  8  LSN
 *   24  24 for each vnode: partition (8), vnode id (8), commits (8)
 *   ... 8  hash64 of all bytes before */
#ifndef CLOCKWISE_STORE_COMMITS_H
#define CLOCKWISE_STORE_COMMITS_H

#include <stdbool.h>
#include <stdint.h>

struct commits;

/* -ERR_NOMEM. */
int commits_open(struct commits **out, uint32_t partitions);
void commits_close(struct commits *c);

/* Add what the file in this journal folder says; *lsn: what it says of the journal. One that is missing
 * says nothing; neither does a damaged one, which is reported in the log. Blocks. -ERR_IO, -ERR_NOMEM. */
int commits_load(struct commits *c, const char *journal_dir, uint64_t *lsn);

/* The vnode with this id has made so many commits, which are durable. */
void commits_note(struct commits *c, uint32_t partition, uint64_t id, uint64_t commits);

/* How many commits the vnode with this id had made at least; 0 if nothing is known of it. */
uint64_t commits_least(struct commits *c, uint32_t partition, uint64_t id);

/* Write the file if it does not say all that is known, and that the journal is durable up to this LSN.
 * Blocks for syncs. From one thread at a time. -ERR_DISKFULL, -ERR_IO, -ERR_NOMEM: then the next call
 * tries again. */
int commits_save(struct commits *c, const char *journal_dir, uint64_t lsn);

#endif
