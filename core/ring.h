/* The ring: members, owner table, and the walk that finds a key's preference list. Pure values, no
 * pointers, so that a view can be published in shared memory and copied as it is.
 *
 * A view is versioned by (epoch, proposer): the higher epoch wins, then the higher proposer id. A
 * member's index in a view stays the same from one view to the next as long as the member is in the
 * ring; a removed member keeps its index with state MEMBER_LEFT. Source: Dynamo §4.2, §4.3, §6.2
 * (strategy 3: Q equal partitions).
 *
 * While the ring changes a view has two tables: the one in force and the next one. How far a partition
 * is on its way from one to the other is its phase: core/ring_change.h. */
#ifndef CLOCKWISE_CORE_RING_H
#define CLOCKWISE_CORE_RING_H

#include "core/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODE_ID_BYTES 16
#define RING_NO_OWNER UINT16_MAX

enum member_state {
    MEMBER_ALIVE = 0,
    MEMBER_SUSPECT = 1, /* still routed to */
    MEMBER_FAULTY = 2,  /* routed around; still an owner */
    MEMBER_LEFT = 3     /* owns nothing any more */
};

/* What is to become of a member; part of the ring document. */
enum member_going {
    MEMBER_STAYS = 0,
    MEMBER_LEAVES = 1, /* it gives away what it has, and has left when the change is complete */
    MEMBER_GONE = 2    /* replaced or removed by force: likewise, but nobody waits for it */
};

/* The phases of a partition, in their order. What they mean is said in core/ring_change.h. */
enum ring_phase {
    RING_SETTLED = 0,
    RING_MOVING = 1,
    RING_JOINT = 2,
    RING_GUARDED = 3,
    RING_FENCED = 4,
    RING_SWITCHED = 5,
    RING_CLOSED = 6
};

struct node_id {
    uint8_t b[NODE_ID_BYTES];
};

struct member {
    struct node_id id;
    char name[LIMIT_NAME];
    char zone[LIMIT_NAME];
    char address[LIMIT_ADDR]; /* numeric, as announced to clients and peers */
    uint16_t port;            /* front port */
    uint16_t worker_port;     /* worker i's client port is worker_port + i */
    uint16_t peer_port;       /* worker i's peer port is peer_port + i */
    uint16_t gossip_port;
    uint16_t workers;
    uint16_t weight;
    uint8_t state;                     /* enum member_state, as this node sees it */
    uint8_t protocol, protocol_oldest; /* what it speaks: core/protocol.h; newest 0: not known */
    uint16_t repair_port;              /* antientropyd's; 0: not announced */
    uint64_t incarnation;              /* SWIM incarnation */
    uint8_t going;                     /* enum member_going */
    uint8_t lingers; /* MEMBER_LEFT, but it is still there, to hand on what it owes to others */
    uint8_t spare[5];
};

struct ring_view {
    uint64_t epoch; /* 0: no ring has been founded yet */
    struct node_id proposer;
    uint64_t version; /* of this publication: also rises when only member states change */
    char cluster[LIMIT_NAME];
    uint8_t q_bits; /* Q = 1 << q_bits */
    uint8_t n;      /* replicas per key, cluster default */
    uint16_t member_count;
    uint16_t self; /* index of this node, or RING_NO_OWNER */
    uint16_t spare;
    struct member members[LIMIT_MEMBERS];
    uint16_t owner[LIMIT_PARTITIONS]; /* the table in force: member index, or RING_NO_OWNER */
    uint16_t next[LIMIT_PARTITIONS];  /* the table that is moved to; the same if nothing moves */
    uint8_t phase[LIMIT_PARTITIONS];  /* enum ring_phase, as far as this node knows */
};

/* The walk of one partition: distinct members clockwise from it. The first `primaries` are the
 * preference list; the rest are the fallbacks in order. Down members are in it too. */
struct ring_walk {
    uint8_t count;
    uint8_t primaries;
    uint16_t member[LIMIT_WALK];
    uint32_t
        print; /* of the set of the primaries' ids, never 0: lists with equal prints are equal */
};

/* The walks of all partitions, computed once per view. `walk` is the list that reads go to: of the
 * table in force, or, from RING_SWITCHED on, of the next one. `other` is the list of the other table
 * while the partition moves, else empty (count 0). */
struct ring_index {
    uint32_t partitions;
    struct ring_walk walk[LIMIT_PARTITIONS];
    struct ring_walk other[LIMIT_PARTITIONS];
};

/* Are the numbers within bounds and the tables consistent with the members and the phases? Call on
 * every view that comes from outside. */
bool ring_view_valid(const struct ring_view *v);

/* <0, 0, >0 by (epoch, proposer). */
int ring_compare(const struct ring_view *a, const struct ring_view *b);

/* One table of a view, made ready for walking: who owns anything in it, and in how many zones. */
struct ring_walker {
    const struct ring_view *view;
    const uint16_t *owner;
    uint16_t owners, zones;
    uint16_t zone[LIMIT_MEMBERS]; /* members of a zone have the same number */
};

/* Both arguments are borrowed for the life of the walker. `owner` is v->owner or v->next, or any other
 * table whose entries are members of v or RING_NO_OWNER. O(Q + members * zones). */
void ring_walker_init(struct ring_walker *w, const struct ring_view *v, const uint16_t *owner);

/* The walk for one partition with n replicas wanted: the owners met clockwise, distinct members;
 * primaries take distinct zones while there are zones not yet taken (members skipped for their zone
 * come first among the fallbacks), n capped by the number of owning members. O(Q) at worst; where
 * there are enough zones and members, about LIMIT_WALK steps. */
void ring_walker_walk(const struct ring_walker *w, uint32_t partition, unsigned n,
                      struct ring_walk *out);

/* Both at once, for a single walk in the table in force. */
void ring_walk_partition(const struct ring_view *v, uint32_t partition, unsigned n,
                         struct ring_walk *out);

/* All walks. O(Q * walk length) amortised. */
void ring_index_build(const struct ring_view *v, unsigned n, struct ring_index *out);

/* Index of a member among the primaries of a walk, or -1. */
int ring_walk_primary(const struct ring_walk *walk, uint16_t member);

/* Is a member a primary of the partition, in either table? Such a member keeps a vnode of it; anybody
 * else's is surplus. */
static inline bool ring_keeps(const struct ring_index *index, uint32_t partition, uint16_t member)
{
    return ring_walk_primary(&index->walk[partition], member) >= 0 ||
           (index->other[partition].count > 0 &&
            ring_walk_primary(&index->other[partition], member) >= 0);
}

/* Does the view have a change under way? O(Q). */
bool ring_is_changing(const struct ring_view *v);

/* The worker of a node with `workers` workers that owns its vnode of a partition. The same function
 * on every node, so that anyone can address the owning worker: multiplication by 2^32/phi spreads
 * every arithmetic progression of partitions evenly. */
static inline uint16_t ring_worker_of(uint32_t partition, uint16_t workers)
{
    return (uint16_t)(((uint64_t)(uint32_t)(partition * 2654435769u) * workers) >> 32);
}

/* Index of the member with this id, or RING_NO_OWNER. */
uint16_t ring_find(const struct ring_view *v, const struct node_id *id);

/* Count the partitions that each member owns. counts has LIMIT_MEMBERS entries. */
void ring_count_owned(const struct ring_view *v, uint32_t *counts);

static inline bool node_id_equal(const struct node_id *a, const struct node_id *b)
{
    return __builtin_memcmp(a->b, b->b, NODE_ID_BYTES) == 0;
}

static inline bool node_id_is_zero(const struct node_id *a)
{
    static const struct node_id zero;
    return node_id_equal(a, &zero);
}

/* 32 hex digits and a final 0. */
void node_id_format(const struct node_id *id, char out[2 * NODE_ID_BYTES + 1]);
/* -ERR_INVAL if text is not 32 hex digits. */
int node_id_parse(struct node_id *id, const char *text);

#endif
