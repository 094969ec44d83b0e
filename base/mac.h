/* Keyed message authentication for what nodes say to each other: HMAC-SHA-256 (RFC 2104, FIPS
 * 180-4), by OpenSSL; and the plain hash, for passwords of clients. */
#ifndef CLOCKWISE_BASE_MAC_H
#define CLOCKWISE_BASE_MAC_H

#include "base/slice.h"

#define MAC_BYTES 32

/* The code of data under key. An empty key is allowed: the result then detects accidents only. */
void mac_compute(struct slice key, struct slice data, uint8_t out[MAC_BYTES]);

/* SHA-256 of data. */
void mac_sha256(struct slice data, uint8_t out[MAC_BYTES]);

/* Compare without telling by the time taken where the difference is. */
bool mac_equal(const uint8_t *a, const uint8_t *b, size_t len);

#endif
