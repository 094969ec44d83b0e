/* Claim: which member owns which partition. Pure and deterministic: every node that is given the same
 * view computes the same table, so founding a cluster needs no vote on the table itself.
 *
 * What a table should be, in this order (Dynamo §6.2, strategy 3):
 *   1. each member's number of partitions is within one of its share by weight. A share is capped at
 *      Q / n, because a member that owns more cannot keep its partitions n apart;
 *   2. owners of any n consecutive partitions, the wrap-around included, are distinct members;
 *   3. and in distinct zones, as far as there are zones;
 *   4. little moves from the old table to the new one;
 *   5. a member's neighbours are many different members, so that the load of a dead one and the
 *      rebuilding of a lost one are spread.
 * Where 2 is impossible (as many members as replicas, and Q no multiple of n: 3 members, n = 3, Q =
 * 128) the founding table has as few repeats as there can be; the walk of the ring skips them. */
#ifndef CLOCKWISE_CORE_CLAIM_H
#define CLOCKWISE_CORE_CLAIM_H

#include "core/ring.h"

/* The table of a new ring: fills v->owner from v->members (in the order given; those that
 * have left, are going, or have weight 0 get nothing), v->q_bits and v->n. -ERR_INVAL if these are out of bounds or
 * nobody may own anything; v is then unchanged. */
int claim_found(struct ring_view *v);

/* The table that should follow v->owner now that v->members is as it is: members may have been
 * added, have left or changed weight. Partitions without a valid owner are given away first, then
 * members above their share give to those below. At most 1.15 times as many partitions move as must:
 * where owners cannot be kept n apart with that, some repeats stay, which the walk of the ring skips. `owner` receives 1 << v->q_bits entries. Errors as
 * above. O(Q * members * n). */
int claim_plan(const struct ring_view *v, uint16_t *owner);

/* What is to be said of a table for v's members. */
struct claim_quality {
    uint32_t repeats;      /* pairs of partitions less than n apart with one owner */
    uint32_t zone_repeats; /* the same for zones, less than min(n, zones) apart */
    uint32_t moved;        /* partitions whose owner is not the one in v->owner */
};
void claim_judge(const struct ring_view *v, const uint16_t *owner, struct claim_quality *out);

/* How many partitions each member should own: `target` has LIMIT_MEMBERS entries that sum up to
 * 1 << v->q_bits. Where rounding leaves a choice, members keep what they have. Errors as above. */
int claim_targets(const struct ring_view *v, uint32_t *target);

#endif
