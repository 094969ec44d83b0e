/* The object: all siblings of one key and the causal context of everything seen. Pure.
 *
 * The encoded form is the final, stored and transmitted one. All integers little-endian; varint is
 * LEB128, unsigned, minimal length, at most 10 bytes.
 *
 *   offset  size  field
 *   0       1     format version: 1
 *   1       1     type: 1 = siblings (others will come: mergeable types, registers)
 *   2       2     flags: 0
 *   4       4     total length in bytes of the encoded object
 *   8       8     checksum: hash64 of everything from offset 16 on, seeded with bytes 0..7
 *   16      ...   varint key length, key bytes
 *           ...   varint vector_count, (u64 vnode id, varint n)*        sorted by vnode id
 *           ...   varint cloud_count,  (u64 vnode id, varint n)*        sorted by (vnode id, n)
 *           ...   varint id_count, (u64 request id, u64 vnode id, varint n, u64 time)*  sorted by
 *                 request id
 *           ...   varint sibling_count, siblings sorted by (vnode id, n), each:
 *                   u8 flags (1 = tombstone), u64 vnode id, varint n,
 *                   u64 time (hybrid logical clock: milliseconds << 16 | logical),
 *                   varint expiry (milliseconds since 1970; 0 = never),
 *                   varint value length, value bytes (length 0 for a tombstone)
 *
 * Offsets 0 to 15 will mean the same in every later format, so that damage can be told from a
 * format too new. The checksum is verified by object_open() on every read from disk, journal or
 * network. One content has exactly one encoding: equal replicas have equal bytes.
 *
 * Tombstones: a delete is a sibling with the tombstone flag. An expired sibling counts as a
 * tombstone from its expiry on. The version digest (object_digest) covers dots and context alone:
 * a dot names its content, so dropping an expired value's bytes changes no digest. */
#ifndef CLOCKWISE_CORE_OBJECT_H
#define CLOCKWISE_CORE_OBJECT_H

#include "base/buf.h"
#include "core/causal.h"

enum { SIBLING_TOMBSTONE = 1 };

struct sibling {
    struct dot dot;
    uint64_t time;      /* hybrid logical clock */
    uint64_t expiry_ms; /* 0: never */
    uint8_t flags;
    struct slice value; /* borrowed from the encoded object */
};

/* A request that was carried out. An object remembers the LIMIT_IDS newest by (time, dot); of one
 * id that two coordinators took it remembers the newest. */
struct request_id {
    uint64_t id; /* of the client's ID option, hashed with the key; never 0 */
    struct dot dot;
    uint64_t time;
};

/* A decoded view of an encoded object. Borrows from the bytes it was opened on. Large (some KiB):
 * hosts keep a few, not one per request. */
struct object {
    struct slice encoded;
    struct slice key;
    struct causal causal;
    uint32_t id_count;
    struct request_id ids[LIMIT_IDS];
    uint32_t sibling_count;
    size_t causal_at, ids_at, siblings_at; /* offsets of these parts in encoded */
};

/* Verify and decode. -ERR_CORRUPT if the checksum, any length or any bound is wrong, -ERR_VERSION
 * if the format, type or a flag is unknown (and the checksum right). The view borrows from encoded
 * and has no meaning on error. */
int object_open(struct object *o, struct slice encoded);

/* A view of "nothing is known of this key": no siblings, empty context, no bytes. Its digest is
 * 0. */
void object_empty(struct object *o, struct slice key);

/* Key of an encoded object without verifying it; -ERR_CORRUPT if even that is out of bounds. */
int object_peek_key(struct slice encoded, struct slice *key);

/* Walk siblings in dot_order(): start with *cursor = 0; returns false at the end. */
bool object_next(const struct object *o, size_t *cursor, struct sibling *out);

/* The version digest: equal for two replicas that hold the same dots and have seen the same. */
uint64_t object_digest(const struct object *o);

/* The deterministic winner of a plain GET among siblings that are neither tombstones nor expired at
 * now_ms: newest time, then highest dot. false: the key does not exist (now). live counts the
 * siblings that are neither; may be NULL. */
bool object_winner(const struct object *o, uint64_t now_ms, struct sibling *out, uint32_t *live);

/* Earliest expiry among siblings that have one and are no tombstones yet, or 0. */
uint64_t object_next_expiry(const struct object *o);

/* One write at a vnode. */
struct object_write {
    struct dot dot;            /* fresh, from the vnode that coordinates */
    const struct causal *seen; /* the writer's context; NULL: all that is in old (plain SET) */
    uint64_t time;             /* hybrid logical clock; raised above what the writer has seen */
    uint64_t expiry_ms;        /* 0: never */
    uint64_t request_id;       /* 0: none */
    bool tombstone;
    struct slice value;     /* empty for a tombstone; may not lie in the buffer written to */
    uint32_t sibling_limit; /* LIMIT_SIBLINGS */
};

/* Upper bound of the bytes that object_put() appends. It reserves so many, so a buffer with a limit
 * needs room for the bound. */
size_t object_put_bound(const struct object *old, const struct object_write *w);

/* Apply a write to `old` (the coordinator's own object, perhaps empty): siblings covered by w->seen
 * go, the new one comes, the context joins old's, seen, and every dot of the coordinator up to the
 * new one (it knows them all: dots must be applied in the order in which they were issued).
 * Appends the encoded result to out, and puts into reply (if not NULL) the context for the writer:
 * what it had seen plus the new dot and nothing else that is alive. The reply is kept small by
 * folding its single dots: where old knows all dots of a vnode up to k, those below that are not
 * alive in old are superseded by something that is, so the writer may be told that it has seen
 * them. Beyond a handful of single dots the oldest are left out: the new write supersedes them
 * everywhere.
 *
 *   0                written
 *   1                request_id is remembered by old: nothing is written, out gets old as it is,
 *                    reply covers seen plus the remembered dot
 *   -ERR_SIBLINGS    it would leave more than sibling_limit siblings while covering none of them
 *   -ERR_BADCTX      seen claims a dot of the coordinator that it has not issued yet
 *   -ERR_STALE       old covers the new dot already: this vnode has forgotten what it has issued
 *                    and must take a new id
 *   -ERR_LIMIT       the result would pass LIMIT_OBJECT or out's limit, the value LIMIT_VALUE, or
 *                    the vector its bound; a writer's context may not fill the vector beyond
 *                    LIMIT_VECTOR - LIMIT_WALK, so that replicas can always merge
 *   -ERR_NOMEM
 *
 * Nothing is appended on error, and reply then has no meaning. reply may not be w->seen. */
int object_put(const struct object *old, const struct object_write *asked, struct buf *out,
               struct causal *reply);

/* The dot of a request that o remembers to have been carried out; false: it does not. */
bool object_carried_out(const struct object *o, uint64_t request_id, struct dot *dot);

/* Merge two replicas' objects of one key: a sibling stays if both have it, or if the other's
 * context does not cover its dot. Appends the encoded result. Siblings that carry the same
 * remembered request id collapse into the newest by (time, dot); that the older one has been
 * superseded does not supersede the newer. If the two hold different contents for one dot, a
 * tombstone (an expired value that one side has dropped) wins.
 *
 * Commutative and idempotent always; associative, to the byte, as long as no bound is reached.
 * At the bounds a pair of replicas still agrees, but the order may show:
 *   - more than LIMIT_SIBLINGS_MERGED siblings: the newest by (time, dot) stay, the others count as
 *     superseded;
 *   - more than LIMIT_CLOUD single dots: see causal_join(); a superseded sibling may show again;
 *   - more than LIMIT_IDS request ids: the newest stay; a duplicate write whose id was forgotten
 *     before the two met stays a sibling.
 * -ERR_INVAL if the keys differ, -ERR_LIMIT (LIMIT_OBJECT, LIMIT_VECTOR, out's limit), -ERR_NOMEM;
 * nothing is appended on error. */
int object_merge(const struct object *a, const struct object *b, struct buf *out);

/* Re-encode with the values of siblings that expired at or before now_ms turned into tombstones.
 * Returns 1 and appends if anything changed, 0 if not, or -ERR_LIMIT or -ERR_NOMEM. The digest
 * stays the same. */
int object_drop_expired(const struct object *o, uint64_t now_ms, struct buf *out);

#endif
