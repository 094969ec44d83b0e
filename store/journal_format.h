/* The journal on disk. All integers little-endian. Segments are files NNNNNNNNNNNN.wal, named by
 * their sequence number in decimal, of a fixed size, whose blocks exist before they are used.
 *
 * Segment header, at offset 0:
 *   offset size field
 *   0      8    magic "CWJRNL01"
 *   8      4    format version: 1
 *   12     4    worker that wrote it
 *   16     8    sequence number of the segment
 *   24     8    nonce: random; seeds every checksum of this segment, so that what a recycled file
 *               held before never looks valid
 *   32     8    size of the file in bytes
 *   40     8    LSN of the first record; 0 until one is written
 *   48     8    0
 *   56     8    checksum: hash64 of bytes 0..55
 *
 * Records follow from offset 64 on, each aligned to 8 bytes, without gaps:
 *   offset size field
 *   0      4    length of the record with this header, without padding
 *   4      2    partition
 *   6      1    type (enum journal_type)
 *   7      1    0
 *   8      8    LSN: 1, 2, 3, ... of this worker, without gaps over all segments
 *   16     4    unsynced: LSN minus the newest LSN that was surely on disk when this record was
 *               written (at most 2^32-1)
 *   20     4    0
 *   24     8    checksum: hash64 of bytes 32..length, seeded with hash64 of bytes 0..23 seeded with
 *               the nonce
 *   32     ...  payload:
 *               PUT          position (16), encoded object
 *               HINT_ADD     target (16), position (16), time in ms (8)
 *               HINT_REMOVE  target (16), position (16)
 *               DROP         nothing: everything before is void for this partition
 *               MARK, CLEAN  nothing
 *
 * Why `unsynced`: after a power cut, a record that cannot be read may be one of a batch that was
 * never synced, then it was never acknowledged and is cut off (a torn tail; later records of such a
 * batch may well be readable, pages reach the disk in any order). Or it was on disk and has been
 * damaged. If any later record says that the unreadable one was already synced, it is damage.
 * A MARK is written when the journal falls idle, CLEAN at an orderly end, to be that later record.
 *
 * Sectors of 512 bytes are assumed to be written wholly or not at all. */
#ifndef CLOCKWISE_STORE_JOURNAL_FORMAT_H
#define CLOCKWISE_STORE_JOURNAL_FORMAT_H

#include "base/hash.h"
#include "base/slice.h"

enum {
    JOURNAL_VERSION = 1,
    JOURNAL_HEADER = 64, /* bytes of a segment header */
    JOURNAL_RECORD = 32, /* bytes of a record header */
    JOURNAL_ALIGN = 8,
};

enum journal_type {
    JOURNAL_PUT = 1,
    JOURNAL_HINT_ADD = 2,
    JOURNAL_HINT_REMOVE = 3,
    JOURNAL_DROP = 4,
    JOURNAL_MARK = 5,
    JOURNAL_CLEAN = 6,
};

struct journal_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t worker;
    uint64_t sequence;
    uint64_t nonce;
    uint64_t size;
    uint64_t first_lsn;
    uint8_t zero[8];
    uint64_t checksum;
};

struct journal_record {
    uint32_t len;
    uint16_t partition;
    uint8_t type;
    uint8_t zero;
    uint64_t lsn;
    uint32_t unsynced;
    uint32_t zero2;
    uint64_t checksum;
};

_Static_assert(sizeof(struct journal_header) == JOURNAL_HEADER, "header layout");
_Static_assert(sizeof(struct journal_record) == JOURNAL_RECORD, "record layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the journal is written as it lies");

#define JOURNAL_MAGIC "CWJRNL01"

static inline uint64_t journal_header_checksum(const struct journal_header *h)
{
    return hash64(h, offsetof(struct journal_header, checksum));
}

/* Checksum of a record whose header and payload lie at `record`. */
static inline uint64_t journal_record_checksum(const uint8_t *record, uint32_t len, uint64_t nonce)
{
    uint64_t seed = hash64_seed(record, offsetof(struct journal_record, checksum), nonce);

    return hash64_seed(record + JOURNAL_RECORD, len - JOURNAL_RECORD, seed);
}

static inline uint64_t journal_padded(uint64_t len)
{
    return (len + JOURNAL_ALIGN - 1) & ~(uint64_t)(JOURNAL_ALIGN - 1);
}

#endif
