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
 * Invariants (causal_valid): vector sorted by vnode id, no zero ids, counters between 1 and
 * 2^64 - 2, no duplicates; cloud sorted by (vnode id, n), no dot that the vector covers, no
 * duplicates. A cloud dot right above its vector entry stays where it is.
 *
 * struct causal is some KiB, of which a handful of entries is in use: copy it with causal_copy(),
 * never by assignment, and start with causal_clear(), which writes the counters alone.
 *
 * A context also says up to which time it has seen, so that a write with it can be stamped later than
 * all that it supersedes, where that is not at hand: of a request that was carried out twice the newer
 * execution counts (object_merge()), which must not be one that the other has superseded. */
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
    uint64_t
        time; /* no write that it covers was stamped later; 0: not known. No part of the binary form */
    struct dot vector[LIMIT_VECTOR]; /* {id, n}: every dot of that vnode up to n has been seen */
    struct dot cloud[LIMIT_CLOUD];
};

static inline bool dot_equal(struct dot a, struct dot b)
{
    return a.vnode == b.vnode && a.n == b.n;
}

/* Order by (n, vnode): -1, 0 or 1. */
int dot_compare(struct dot a, struct dot b);

/* Order by (vnode, n), the order of encoded lists: -1, 0 or 1. */
int dot_order(struct dot a, struct dot b);

/* Does it name a write: a vnode id, and a counter that can have been issued? */
static inline bool dot_valid(struct dot d)
{
    return d.vnode != 0 && d.n != 0 && d.n != UINT64_MAX;
}

void causal_clear(struct causal *c);
void causal_copy(struct causal *to, const struct causal *from);
bool causal_is_empty(const struct causal *c);
bool causal_valid(const struct causal *c);

/* Has this dot been seen? */
bool causal_covers(const struct causal *c, struct dot d);

/* Up to which n has every dot of the vnode been seen (0: none)? Its cloud dots do not count. */
uint64_t causal_seen_up_to(const struct causal *c, uint64_t vnode);

/* The highest n of the vnode that the context speaks of, 0 if none: what a vnode compares with its
 * own counter to find out that it has forgotten something. */
uint64_t causal_highest(const struct causal *c, uint64_t vnode);

/* Does a cover all that b covers? */
bool causal_includes(const struct causal *a, const struct causal *b);
/* Do both cover the same dots (whatever their times)? */
bool causal_equal(const struct causal *a, const struct causal *b);

/* Note one dot. It goes to the cloud unless covered; nothing is assumed about the dots before it.
 * -ERR_LIMIT if the cloud is full (c unchanged). */
int causal_add_dot(struct causal *c, struct dot d);

/* Note one dot whatever it takes: a full cloud forgets another, chosen as in causal_join(). */
void causal_see(struct causal *c, struct dot d);

/* Forget single dots, chosen as in causal_join() but never `but`, until at most `keep` (not 0) are
 * left. */
void causal_shed(struct causal *c, uint32_t keep, struct dot but);

/* For a context that may say "everything of the vnode up to `up_to`": raise the vector just as far
 * as takes in the cloud dots that lie within, and no further. Does nothing if there are none. */
void causal_fold(struct causal *c, uint64_t vnode, uint64_t up_to);

/* Say that every dot of vnode up to n has been seen (used by the vnode itself, which knows). Drops
 * cloud dots that this covers. -ERR_LIMIT if the vector is full (c unchanged). */
int causal_raise(struct causal *c, uint64_t vnode, uint64_t n);

/* a becomes the union of a and b. A union whose cloud would pass LIMIT_CLOUD forgets dots: the
 * lowest n of the vnode with the most single dots first, since the oldest dots have had the most
 * time to reach the replicas that supersede them. Forgetting can make a false sibling, never lose
 * a write. Returns the number of dots forgotten, or -ERR_LIMIT if the vector would overflow (a
 * unchanged). As long as nothing is forgotten, joins in any order give the same bytes. */
int causal_join(struct causal *a, const struct causal *b);

/* Text of a context for clients: base64url (RFC 4648 §5, no padding) of
 *   u8 format (2), 4 bytes: low 32 bits of hash64 of the key, u64 time little-endian,
 *   varint vector_count, vector (u64 id little-endian, varint n)*, varint cloud_count, cloud likewise,
 *   4 bytes: low 32 bits of hash64 over everything before.
 * The key's hash makes a context of another key detectable. Writes at most out_size bytes and no
 * final 0; returns the length, or -ERR_LIMIT. out_size LIMIT_CONTEXT_TEXT always suffices. */
int causal_to_text(const struct causal *c, struct slice key, char *out, size_t out_size);

/* The reverse. -ERR_BADCTX for anything that causal_to_text() for this key did not make: truncated,
 * flipped, of another key, unsorted, counters of 0 or 2^64-1; c is then empty. An empty text is the
 * empty context. The sums guard against accidents, not against malice: a client that computes them
 * may claim to have seen what it likes, as it may delete what it likes. */
int causal_from_text(struct causal *c, struct slice key, struct slice text);

/* The binary form shared by texts and objects: varint vector_count, (u64 vnode id, varint n)*,
 * varint cloud_count, likewise. */
#define CAUSAL_ENTRY_MAX (8 + 10) /* bytes of one entry */
#define CAUSAL_BYTES_MAX (4 + CAUSAL_ENTRY_MAX * (LIMIT_VECTOR + LIMIT_CLOUD)) /* of a context */

/* Upper bound of the bytes that causal_encode() writes. */
static inline size_t causal_bound(const struct causal *c)
{
    return 4 + CAUSAL_ENTRY_MAX * ((size_t)c->vector_count + c->cloud_count);
}

/* Write c at p, where causal_bound(c) bytes are free; returns one past the last byte written. */
uint8_t *causal_encode(const struct causal *c, uint8_t *p);

/* Read a context from [p, end), its time as not known; returns one past it, or NULL (c then has no
 * meaning) unless it is valid and encoded minimally. */
const uint8_t *causal_decode(struct causal *c, const uint8_t *p, const uint8_t *end);

#endif
