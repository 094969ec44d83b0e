/* Strings in the format of Redis's DUMP: a type byte, the string as in an RDB file (plain, as a small
 * integer, or compressed with LZF), two bytes of version and a CRC-64. Source: redis.io, RDB file format
 * as the community documents it; checksum: CRC-64/Jones, reflected, initial value 0. Used by workers;
 * pure. */
#ifndef CLOCKWISE_WORKERS_RDB_STRING_H
#define CLOCKWISE_WORKERS_RDB_STRING_H

#include "base/buf.h"

/* The version that is written, which every Redis since 5.0 reads, and the newest that is read. */
#define RDB_VERSION        9
#define RDB_VERSION_NEWEST 12

/* Append the payload of a string. -ERR_NOMEM, -ERR_LIMIT. */
int rdb_string_write(struct buf *out, struct slice value);

/* Is the version known and the checksum right? */
bool rdb_string_intact(struct slice payload);

/* Append the string of an intact payload. -ERR_FORMAT: it is malformed; -ERR_VERSION: it is of another
 * type; -ERR_LIMIT: longer than a value may be; -ERR_NOMEM. */
int rdb_string_read(struct slice payload, struct buf *out);

/* CRC-64/Jones of bytes. */
uint64_t rdb_crc64(struct slice bytes);

#endif
