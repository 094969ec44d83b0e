/* Segment files of the journal: making, recycling, naming. All functions block. Used by the journal
 * thread and by whoever prepares segments; keeps no state. */
#ifndef CLOCKWISE_STORE_JOURNAL_FILE_H
#define CLOCKWISE_STORE_JOURNAL_FILE_H

#include "store/journal_format.h"

struct journal_file {
    int fd; /* -1: none */
    uint64_t sequence;
    uint64_t nonce;
    uint64_t size;     /* bytes of the file */
    uint64_t offset;   /* where the next record goes */
    uint64_t last_lsn; /* newest record in it, 0: none */
    bool reserve;      /* it was kept for deletes on a full disk */
};

void journal_file_path(char *out, const char *dir, uint64_t sequence);

/* Make a segment of `size` bytes: blocks allocated and written with zeros, header and name durable.
 * `paced` spreads the writing out, so that syncs of other files are not held up.
 * -ERR_DISKFULL, -ERR_IO; then nothing is left behind. */
int journal_file_create(struct journal_file *out, const char *dir, uint32_t worker,
                        uint64_t sequence, uint64_t size, bool paced);

/* Make the segment from an old file of the same size whose records nobody needs. */
int journal_file_recycle(struct journal_file *out, const char *dir, uint32_t worker,
                         const char *old_path, uint64_t sequence, uint64_t size);

/* Note in the header the LSN of the first record, which is about to be written. Not synced here. */
int journal_file_stamp(const struct journal_file *s, uint32_t worker, uint64_t first_lsn);

/* Make a file of `size` bytes that journal_file_recycle() can use when the disk is full. */
int journal_file_reserve(const char *dir, const char *path, uint64_t size);

void journal_file_close(struct journal_file *s);

#endif
