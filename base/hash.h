/* Hashes: XXH3 for data and checksums, CRC16 for Redis Cluster slots. Pure. */
#ifndef CLOCKWISE_BASE_HASH_H
#define CLOCKWISE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t high, low;
};

uint64_t hash64(const void *data, size_t len);
uint64_t hash64_seed(const void *data, size_t len, uint64_t seed);
struct hash128 hash128(const void *data, size_t len);

/* CRC16-CCITT (XMODEM), as the Redis Cluster specification demands for key slots. */
uint16_t hash_crc16(const void *data, size_t len);

#endif
