/* Walking over the good records of a journal. Used by journal_read.c alone; blocks. */
#ifndef CLOCKWISE_STORE_JOURNAL_WALK_H
#define CLOCKWISE_STORE_JOURNAL_WALK_H

#include "store/journal_read.h"

/* Walks all good records from some place on, over all segments. Holds one segment in memory: `data`
 * is all zeros from `used` on, and mostly never touched there. */
struct journal_walker {
    const char *dir;
    struct journal_segment *segments;
    uint32_t count, index; /* index: the segment in memory */
    uint32_t worker;
    uint8_t *data;
    size_t capacity, size; /* size 0: segment not loaded or without a usable header */
    size_t used;           /* nothing but zeros from here on */
    size_t offset;         /* where the next record is looked for */
    size_t found;          /* where the newest record was found */
    uint64_t nonce;
    uint64_t above; /* only records with a larger LSN are of interest */
    bool loaded;
    uint64_t first_lsn;    /* what the header of the segment in memory says, 0: no record */
    uint64_t newest_first; /* the last of them that was not 0 */
};

/* The next good record, skipping what is not one. 1, 0 at the end, or an error. A segment that the disk does
 * not give is marked as damaged. */
int journal_walk(struct journal_walker *w, struct journal_record *out);

/* Is it the header of a segment, of whichever? */
bool journal_good_header(const uint8_t *data, size_t len);

bool journal_all_zero(const uint8_t *data, size_t len);

#endif
