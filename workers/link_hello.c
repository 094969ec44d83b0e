/* The handshake of a peer link. The caller says HELLO with a nonce; the called answers with HELLO, a
 * nonce of its own and a proof; the caller says HELLO again with its proof; then messages follow. A
 * proof is an HMAC under the cluster secret over the prover's role, both nonces and all that its
 * HELLO claims, so that it serves for this connection, this direction and these two alone. Without a
 * secret (loopback only) the proofs are empty. Runs in a worker. */
#include "base/err.h"
#include "base/mac.h"
#include "base/varint.h"
#include "workers/link_impl.h"

#include <string.h>

static void make_proof(const struct link_set *s, const struct msg_HELLO *h, enum link_role role,
                       const uint8_t *caller_nonce, const uint8_t *called_nonce,
                       uint8_t out[MAC_BYTES])
{
    uint8_t text[2 * LINK_NONCE + NODE_ID_BYTES + 1 + 4 + 4 + 8 + 4 + LIMIT_NAME];
    uint8_t *p = text;

    *p++ = (uint8_t)role;
    memcpy(p, caller_nonce, LINK_NONCE);
    p += LINK_NONCE;
    memcpy(p, called_nonce, LINK_NONCE);
    p += LINK_NONCE;
    memcpy(p, h->node.data, NODE_ID_BYTES);
    p += NODE_ID_BYTES;
    p = store_le32(p, h->protocol);
    p = store_le32(p, h->worker);
    p = store_le64(p, h->incarnation);
    p = store_le32(p, h->to_worker);
    memcpy(p, h->cluster.data, h->cluster.len); /* shorter than LIMIT_NAME: checked */
    p += h->cluster.len;
    mac_compute(slice_str(s->conf.secret), slice_of(text, (size_t)(p - text)), out);
}

int link_hello_append(const struct link_set *s, struct buf *out, enum link_role role,
                      const uint8_t *caller_nonce, const uint8_t *called_nonce, uint32_t to_worker,
                      bool with_proof)
{
    uint8_t proof[MAC_BYTES];
    const uint8_t *own = role == LINK_CALLER ? caller_nonce : called_nonce;
    struct msg m = {.kind = MSG_HELLO,
                    .u.HELLO = {.protocol = protocol_pack(s->conf.protocol),
                                .cluster = slice_str(s->conf.cluster),
                                .node = slice_of(s->conf.self.b, NODE_ID_BYTES),
                                .worker = s->conf.worker,
                                .incarnation = s->conf.incarnation,
                                .to_worker = to_worker,
                                .nonce = slice_of(own, LINK_NONCE)}};

    if (with_proof && s->conf.secret[0] != 0) {
        make_proof(s, &m.u.HELLO, role, caller_nonce, called_nonce, proof);
        m.u.HELLO.proof = slice_of(proof, sizeof proof);
    }
    return frame_append_msg(out, &m);
}

int link_hello_check(const struct link_set *s, const struct msg_HELLO *h)
{
    if (h->node.len != NODE_ID_BYTES || h->nonce.len != LINK_NONCE ||
        h->cluster.len >= LIMIT_NAME || h->worker >= LIMIT_WORKERS)
        return -ERR_FORMAT;
    if (protocol_common(s->conf.protocol, protocol_unpack(h->protocol)) == 0)
        return -ERR_VERSION;
    if (!slice_equal(h->cluster, slice_str(s->conf.cluster)))
        return -ERR_DENIED;
    return 0;
}

int link_hello_verify(const struct link_set *s, const struct msg_HELLO *h, enum link_role role,
                      const uint8_t *caller_nonce, const uint8_t *called_nonce)
{
    uint8_t proof[MAC_BYTES];

    if (s->conf.secret[0] == 0)
        return 0;
    if (h->proof.len != MAC_BYTES)
        return -ERR_DENIED;
    make_proof(s, h, role, caller_nonce, called_nonce, proof);
    return mac_equal(proof, h->proof.data, MAC_BYTES) ? 0 : -ERR_DENIED;
}
