/* HMAC-SHA-256 and SHA-256. Includes OpenSSL, as only ipc/tls.c does besides. */
#include "base/mac.h"

#include "base/check.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void mac_compute(struct slice key, struct slice data, uint8_t out[MAC_BYTES])
{
    static const uint8_t none[1];
    unsigned len = MAC_BYTES;
    const void *k = key.len > 0 ? key.data : none;

    if (HMAC(EVP_sha256(), k, (int)key.len, data.data, data.len, out, &len) == NULL)
        check_panic("HMAC-SHA-256 failed");
    ASSERT(len == MAC_BYTES);
}

void mac_sha256(struct slice data, uint8_t out[MAC_BYTES])
{
    unsigned len = MAC_BYTES;

    if (EVP_Digest(data.data, data.len, out, &len, EVP_sha256(), NULL) != 1)
        check_panic("SHA-256 failed");
    ASSERT(len == MAC_BYTES);
}

bool mac_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}
