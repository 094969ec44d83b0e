/* Changing the ring: how one table of owners is replaced by the next while reads and writes go on.
 * Pure values and functions; what has to be sent, saved and shown is gossipd's business, what has to be
 * copied antientropyd's, and what it means for a request core/coord*.c's.
 *
 * A change is a ring document with two tables: `owner`, in force, and `next`. A partition has an old
 * list (the walk over `owner`) and a next list (over `next`). If both have the same primaries it is
 * SETTLED. Otherwise its *new members*, primaries of the next list alone, have to be filled, and it
 * goes through the phases
 *
 *   MOVING    reads go to the old list, writes to both; W is counted in the old list. A write that a
 *             new member does not acknowledge leaves a hint for it.
 *   JOINT     every new member has said that it is whole: it has agreed with the old primaries
 *             (WHOLE). Writes need W in the old list and W in the next one. Reads go to the old list.
 *   GUARDED   everybody is known to be at JOINT (JOINT): nobody in touch writes with W in the old list
 *             alone any more. From now on a replica does not let such a write count.
 *   FENCED    everybody is known to be at GUARDED (GUARDED): no write is on its way that was counted in
 *             the old list alone, whoever sent it. The new members agree once more with the old
 *             primaries, for the sake of writes of the time before that they have missed (SURE).
 *   SWITCHED  every new member is SURE: reads go to the next list. Writes still need W in both, for
 *             those who still read the old one.
 *   CLOSED    everybody is known to be at SWITCHED (SWITCHED): nobody in touch reads the old list any
 *             more. From now on a replica does not let such a read count.
 *
 * Each rule is followed by all who are in touch before any replica insists on it, so that a change
 * refuses nothing; it is insisted on for the sake of those who are not.
 *
 * When everybody is known to be at CLOSED (CLOSED) with every partition that moves, the change is
 * complete: the document of the following epoch, by the same proposer, has `next` in force and nothing
 * under way. It follows from the document alone, so anybody may make it and all make the same one.
 * Whoever commits a change goes up by two epochs, and to the new document at once: so no two documents
 * have one version, be it that a change is committed while others complete the one before.
 *
 * Hence a read of R replicas meets every acknowledged write of W, R + W > N, at any moment, whatever
 * the readers and writers know of the change, provided that enough replicas insist: everybody who is not
 * faulty has to be heard of, and of the old primaries (those that are GONE not counted) so few may be
 * unheard of that they alone are neither R nor W: at most the smaller of the two, less 1. A new member
 * must likewise agree with all old primaries that are not faulty, and with all but so many. A change
 * waits for the others until they come back or are removed.
 *
 * A new member that is faulty is not waited for either: it is *excused*, if the others make up for it.
 * For what the old list acknowledged lies with W of it, and W less one of those may be all that go on to
 * the next list. So where a new member is excused, every other member of the next list, new or kept, has
 * to be SURE; and those that are not are at most so many that each R still meet one that is, and that W
 * of them are (ring_change_excusable()). One that was excused comes back to a vnode that lacks what it
 * was not filled with, and is refilled like any other (core/horizon.h). Where too many are faulty the
 * change waits.
 *
 * This holds for one change after the other. A document committed while another change is under way
 * begins again with the table in force, which is complete until the very end; but two changes committed
 * on the two sides of a partition of the network leave only what a sloppy quorum promises until they
 * meet: nothing acknowledged is lost.
 *
 * Who says what is told in steps, one for each member and partition; a step only rises, and what the
 * member has announced must have been made durable first, and published to its workers. Steps belong
 * to one document (epoch, proposer) and begin at 0 with the next. */
#ifndef CLOCKWISE_CORE_RING_CHANGE_H
#define CLOCKWISE_CORE_RING_CHANGE_H

#include "core/ring.h"

enum ring_step {
    STEP_NONE = 0,
    STEP_WHOLE = 1,    /* members of the next list: filled */
    STEP_JOINT = 2,    /* writes are counted in both lists here */
    STEP_GUARDED = 3,  /* those that are not do not count here */
    STEP_SURE = 4,     /* likewise: agreed again with the old primaries since FENCED */
    STEP_SWITCHED = 5, /* reads go to the next list here */
    STEP_CLOSED = 6,   /* those that do not do not count here */
};

/* What one member has announced of the document in force. */
struct ring_progress {
    uint8_t step[LIMIT_PARTITIONS]; /* enum ring_step */
};

/* The strict quorums of the cluster. */
struct ring_quorum {
    uint8_t r, w; /* at least 1 */
};

/* So many old primaries may be unheard of: fewer than any R or W. */
unsigned ring_change_tolerance(struct ring_quorum q);
/* So many of the primaries of a next list need not be filled. */
unsigned ring_change_excusable(struct ring_quorum q, unsigned primaries);

/* ---- Phases. */

/* Set v->phase from what the members have announced: `progress` has v->member_count entries, in the
 * order of v->members, the own ones (v->self) included; NULL: nobody has said anything. The own steps
 * are a floor: what it has announced a member does not take back. Returns whether a phase is another
 * than before. O(Q * walk + moving partitions * members). */
bool ring_change_phases(struct ring_view *v, const struct ring_progress *progress,
                        struct ring_quorum quorum);

/* Raise the own steps as far as v->phase allows; `copied` has what antientropyd says of each partition
 * (STEP_NONE, STEP_WHOLE or STEP_SURE; NULL: nothing). Returns whether any step rose: then save, publish
 * the view to the workers, and tell everybody, in this order. */
bool ring_change_announce(const struct ring_view *v, const uint8_t *copied,
                          struct ring_progress *own);

/* Take over what is heard of a member: steps rise to those in `heard` (1 << q_bits entries, those out of
 * range are ignored). Returns whether anything is new. */
bool ring_change_hear(struct ring_progress *p, const uint8_t *heard, uint8_t q_bits);

/* Is there a change under way, be it only that a member which owns nothing is going? O(Q). */
bool ring_change_is_open(const struct ring_view *v);

/* Is everybody known to be at CLOSED with all that moves? Then ring_change_complete() may be taken. */
bool ring_change_is_complete(const struct ring_view *v, const struct ring_progress *progress,
                             struct ring_quorum quorum);

/* The document after the change: epoch + 1, the same proposer, next in force. Members that are going
 * have left. `version` and `self` stay. */
void ring_change_complete(const struct ring_view *v, struct ring_view *out);

/* The new members that are faulty and have not come as far as the phase of the partition asks for, into
 * out (LIMIT_REPLICAS); returns their number. The partition goes on without them, or, *waits, does not:
 * they are too many, or the others are not ready. old, next: its lists. */
unsigned ring_change_excused(const struct ring_view *v, const struct ring_walk *old,
                             const struct ring_walk *next, const struct ring_progress *progress,
                             uint32_t partition, struct ring_quorum quorum, uint16_t *out,
                             bool *waits);

/* ---- What moves. */

/* Members of a partition's next list that are not in its old one (who are to be filled), and the other
 * way round (who have it to give). v->n primaries are looked at. Both have room for LIMIT_REPLICAS. */
unsigned ring_change_new_members(const struct ring_view *v, uint32_t partition, uint16_t *out);
unsigned ring_change_old_members(const struct ring_view *v, uint32_t partition, uint16_t *out);

struct ring_moves {
    uint32_t moving;                /* partitions whose lists differ */
    uint32_t before[LIMIT_MEMBERS]; /* partitions owned in the table in force */
    uint32_t after[LIMIT_MEMBERS];  /* and in the next one */
    uint32_t gains[LIMIT_MEMBERS];  /* replicas of partitions that a member has to be filled with */
    uint32_t losses[LIMIT_MEMBERS]; /* and that it will be rid of */
    uint32_t
        replicas[LIMIT_MEMBERS]; /* partitions that it is a primary of, in the table in force */
};
void ring_change_moves(const struct ring_view *v, struct ring_moves *out);

/* The proof of a plan: every preference list of the next table. */
struct ring_proof {
    uint32_t members, zones;     /* that own anything in the next table */
    uint32_t want, want_zones;   /* distinct members and zones that each list can have */
    uint32_t least, least_zones; /* and that the worst of them has */
    uint32_t short_lists;        /* partitions with fewer distinct members than want */
    uint32_t short_zones;        /* partitions with fewer distinct zones than want_zones */
    bool fewer_than_n;           /* want is less than v->n: there are not enough members */
    bool fewer_than_before;      /* and less than it is in the table in force */
};
/* true: every list is as good as the members allow, and no list becomes shorter. */
bool ring_change_check(const struct ring_view *v, struct ring_proof *out);

/* ---- Plans. */

enum ring_change_kind {
    RING_JOIN = 1,
    RING_LEAVE,
    RING_REPLACE, /* `with` takes over what `node` has; node is GONE */
    RING_REMOVE,  /* by force: node is GONE */
    RING_WEIGHT
};

struct ring_change {
    uint8_t kind;    /* enum ring_change_kind */
    uint16_t weight; /* RING_WEIGHT; RING_JOIN and RING_REPLACE: 0 for what the member announces */
    struct node_id node; /* whom it is about */
    struct node_id with; /* RING_REPLACE */
};

/* The document that follows from `now` and a list of changes, taken in their order: epoch + 2, proposed
 * by `proposer`, phases as they are before anybody has said anything. `known` are the members that
 * gossip knows, from which those that join are taken. The table in force stays; a change under way is
 * superseded: its table is where the plan starts from, so that what has been moved stays moved as far as
 * the plan allows. Returns
 *   -ERR_INVAL     a kind or weight that does not exist; a second change to what is gone already
 *   -ERR_NOTFOUND  a member to be changed is not in the ring, one that joins is not known; *at says which
 *   -ERR_EXISTS    one that joins is in the ring
 *   -ERR_DENIED    one that joins has left the ring under this id: it needs a new one
 *   -ERR_LIMIT     LIMIT_MEMBERS
 *   -ERR_UNAVAILABLE  nobody would be left to own anything, or there is no ring yet
 * and, in *at, the index of the change at fault. out must not be `now`. O(Q * members * n). */
int ring_change_plan(const struct ring_view *now, const struct ring_change *list, uint32_t count,
                     const struct member *known, uint32_t known_count,
                     const struct node_id *proposer, struct ring_view *out, uint32_t *at);

#endif
