/* Dots, causal contexts and their algebra. Pure; no function allocates.
 *
 * A dot (vnode id, n) names one write for ever. A causal context says which dots have been seen: a
 * version vector (for each vnode id every n up to a number) plus a small cloud of single dots above
 * the vector. The cloud exists because the context answered to a PUT must cover what the writer had
 * seen plus its new dot and nothing else; a bare vector entry for the new dot would also cover
 * siblings of the same vnode that the writer never saw, and silently kill them at another replica.
 * (Preguiça et al., "Dotted Version Vectors"; Almeida et al., "Scalable and Accurate Causality
 * Tracking for Eventually Consistent Stores", 2014: n counts per vnode, not per key.)
 *
 * Invariants (causal_valid): vector sorted by vnode id, no zero ids or counters, no duplicates;
 * cloud sorted by (vnode id, n), no dot that the vector covers, no duplicates. */
#ifndef CLOCKWISE_CORE_CAUSAL_H
#define CLOCKWISE_CORE_CAUSAL_H

#include "base/slice.h"
#include "core/limits.h"

struct dot {
    uint64_t vnode; /* vnode id, never 0 */
    uint64_t n;     /* 1, 2, ... from the vnode's durable counter, shared by all its keys */
};

struct causal {
    uint32_t vector_count;
    uint32_t cloud_count;
    struct dot vector[LIMIT_VECTOR]; /* {id, n}: every dot of that vnode up to n has been seen */
    struct dot cloud[LIMIT_CLOUD];
};

static inline bool dot_equal(struct dot a, struct dot b)
{
    return a.vnode == b.vnode && a.n == b.n;
}

/* Order by (n, vnode): -1, 0 or 1. */
int dot_compare(struct dot a, struct dot b);

void causal_clear(struct causal *c);
bool causal_is_empty(const struct causal *c);
bool causal_valid(const struct causal *c);

/* Has this dot been seen? */
bool causal_covers(const struct causal *c, struct dot d);

/* Does a cover all that b covers? */
bool causal_includes(const struct causal *a, const struct causal *b);
bool causal_equal(const struct causal *a, const struct causal *b);

/* Note one dot. It goes to the cloud unless covered; nothing is assumed about the dots before it.
 * -ERR_LIMIT if the cloud is full (c unchanged). */
int causal_add_dot(struct causal *c, struct dot d);

/* Say that every dot of vnode up to n has been seen (used by the vnode itself, which knows). Drops
 * cloud dots that this covers. -ERR_LIMIT if the vector is full (c unchanged). */
int causal_raise(struct causal *c, uint64_t vnode, uint64_t n);

/* a becomes the union of a and b. A union whose cloud would pass LIMIT_CLOUD forgets the cloud dots
 * with the highest n first: forgetting can make a false sibling, never lose a write. Returns the
 * number of dots forgotten, or -ERR_LIMIT if the vector would overflow (a unchanged). */
int causal_join(struct causal *a, const struct causal *b);

/* Text of a context for clients: base64url (RFC 4648 §5, no padding) of
 *   u8 format (1), 4 bytes: low 32 bits of hash64 of the key, varint vector_count,
 *   vector (u64 id little-endian, varint n)*, varint cloud_count, cloud likewise,
 *   4 bytes: low 32 bits of hash64 over everything before.
 * The key's hash makes a context of another key detectable. Writes at most out_size bytes and no
 * final 0; returns the length, or -ERR_LIMIT. out_size LIMIT_CONTEXT_TEXT always suffices. */
int causal_to_text(const struct causal *c, struct slice key, char *out, size_t out_size);

/* The reverse. -ERR_BADCTX for anything that causal_to_text() for this key did not make: truncated,
 * flipped, of another key, unsorted, counters of 0 or 2^64-1. An empty text is the empty context. */
int causal_from_text(struct causal *c, struct slice key, struct slice text);

#endif
