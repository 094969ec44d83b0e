/* Segment files of the journal: making, recycling, naming. All functions block. Used by the journal
 * thread and by whoever prepares segments; keeps no state. */
#ifndef CLOCKWISE_STORE_SEGMENT_H
#define CLOCKWISE_STORE_SEGMENT_H

#include "store/journal_format.h"

struct segment {
    int fd; /* -1: none */
    uint64_t sequence;
    uint64_t nonce;
    uint64_t size;     /* bytes of the file */
    uint64_t offset;   /* where the next record goes */
    uint64_t last_lsn; /* newest record in it, 0: none */
};

void segment_path(char *out, const char *dir, uint64_t sequence);

/* Make a segment of `size` bytes: blocks allocated and written with zeros, header and name durable.
 * -ERR_DISKFULL, -ERR_IO; then nothing is left behind. */
int segment_create(struct segment *out, const char *dir, uint32_t worker, uint64_t sequence,
                   uint64_t size);

/* Make the segment from an old file of the same size whose records nobody needs. */
int segment_recycle(struct segment *out, const char *dir, uint32_t worker, const char *old_path,
                    uint64_t sequence, uint64_t size);

/* Note in the header the LSN of the first record, which is about to be written. Not synced here. */
int segment_stamp(const struct segment *s, uint32_t worker, uint64_t first_lsn);

/* Make a file of `size` bytes that segment_recycle() can use when the disk is full. */
int segment_reserve(const char *dir, const char *path, uint64_t size);

void segment_close(struct segment *s);

#endif
