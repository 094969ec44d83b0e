/* Claim: founding tables by construction, later tables by moving little and then swapping repeats
 * away. Runs in gossipd and in the administrator's tools. */
#include "core/claim.h"

#include "base/check.h"
#include "base/err.h"
#include "base/rand.h"

#include <string.h>

enum {
    REPEAT_COST = 1000, /* one repeated member outweighs all repeated zones nearby */
    MIX_ROUNDS = 8,     /* random swaps tried per partition of a founding table */
    REPAIR_PASSES = 4,
    SHUFFLES = 64, /* rounds over partitions that move, and swaps tried for each in a round */
    SHUFFLE_TRIES = 32,
    EXTRA_PERCENT = 14, /* partitions moved beyond the least, to keep owners apart */
    ZONE_TRIES = 128    /* partitions that one with a repeated zone is tried against */
};

/* A table under construction and what its cost depends on. */
struct table {
    uint32_t q;
    uint32_t n;      /* members that should differ: v->n, or all there are */
    uint32_t zone_n; /* zones that should differ */
    uint16_t members;
    uint16_t zone[LIMIT_MEMBERS]; /* number of a member's zone */
    uint16_t *owner;
};

static bool may_own(const struct member *m)
{
    return m->state != MEMBER_LEFT && m->going == MEMBER_STAYS && m->weight > 0;
}

static bool view_usable(const struct ring_view *v)
{
    if (v->q_bits < 3 || v->q_bits > 12 || v->n < 1 || v->n > LIMIT_REPLICAS ||
        v->member_count > LIMIT_MEMBERS)
        return false;
    for (uint16_t m = 0; m < v->member_count; m++)
        if (may_own(&v->members[m]))
            return true;
    return false;
}

static uint32_t count_owning(const struct ring_view *v)
{
    uint32_t count = 0;

    for (uint16_t m = 0; m < v->member_count; m++)
        count += may_own(&v->members[m]);
    return count;
}

static void table_init(struct table *t, const struct ring_view *v, uint16_t *owner)
{
    uint32_t owning = count_owning(v), zones = 0;

    t->q = 1u << v->q_bits;
    t->n = v->n < owning ? v->n : owning;
    t->members = v->member_count;
    t->owner = owner;
    for (uint16_t m = 0; m < v->member_count; m++) {
        uint16_t same = 0;

        while (same < m && !(may_own(&v->members[same]) &&
                             strcmp(v->members[same].zone, v->members[m].zone) == 0))
            same++;
        t->zone[m] = same < m ? t->zone[same] : m;
        zones += same == m && may_own(&v->members[m]);
    }
    t->zone_n = t->n < zones ? t->n : zones;
}

/* Cost of `member` at partition p, given the partitions around it. */
static uint32_t cost_at(const struct table *t, uint32_t p, uint16_t member)
{
    uint32_t cost = 0;

    for (uint32_t d = 1; d < t->n; d++) {
        uint16_t around[2] = {t->owner[(p + d) & (t->q - 1)], t->owner[(p - d) & (t->q - 1)]};

        for (int side = 0; side < 2; side++) {
            if (around[side] == RING_NO_OWNER)
                continue;
            if (around[side] == member)
                cost += REPEAT_COST;
            if (d < t->zone_n && t->zone[around[side]] == t->zone[member])
                cost++;
        }
    }
    return cost;
}

/* Exchange two partitions if that lowers the cost (or, with `even`, does not raise it). */
static bool swap_if_better(struct table *t, uint32_t a, uint32_t b, bool even)
{
    uint16_t at_a = t->owner[a], at_b = t->owner[b];

    if (at_a == at_b)
        return false;
    uint32_t before = cost_at(t, a, at_a) + cost_at(t, b, at_b);

    t->owner[a] = at_b;
    t->owner[b] = at_a;
    uint32_t after = cost_at(t, a, at_b) + cost_at(t, b, at_a);

    if (after < before || (even && after == before))
        return true;
    t->owner[a] = at_a;
    t->owner[b] = at_b;
    return false;
}

void claim_judge(const struct ring_view *v, const uint16_t *owner, struct claim_quality *out)
{
    uint16_t copy[LIMIT_PARTITIONS];
    struct table t;

    memset(out, 0, sizeof *out);
    if (!view_usable(v))
        return;
    table_init(&t, v, copy);
    for (uint32_t p = 0; p < t.q; p++)
        copy[p] = owner[p] < v->member_count ? owner[p] : RING_NO_OWNER;
    for (uint32_t p = 0; p < t.q; p++) {
        uint32_t cost = copy[p] == RING_NO_OWNER ? 0 : cost_at(&t, p, copy[p]);

        out->repeats += cost / REPEAT_COST;
        out->zone_repeats += cost % REPEAT_COST;
        out->moved += owner[p] != v->owner[p];
    }
    out->repeats /= 2; /* each pair was met from both ends */
    out->zone_repeats /= 2;
}

/* Share out q partitions by weight, nobody above `cap`: shares[m] in units of 2^-20 partitions.
 * Members above the cap get the cap; the others share what is left, until nobody is above it. */
static void compute_shares(const struct ring_view *v, uint32_t q, uint32_t cap, uint64_t *shares)
{
    bool capped[LIMIT_MEMBERS] = {false};
    uint64_t left = q, weight = 0;
    bool again = true;

    for (uint16_t m = 0; m < v->member_count; m++)
        weight += may_own(&v->members[m]) ? v->members[m].weight : 0;
    while (again) {
        uint64_t round_left = left, round_weight = weight;

        again = false;
        for (uint16_t m = 0; m < v->member_count; m++) {
            shares[m] = capped[m] ? (uint64_t)cap << 20 : 0;
            if (capped[m] || !may_own(&v->members[m]))
                continue;
            shares[m] = (round_left << 20) * v->members[m].weight / round_weight;
            if (shares[m] > (uint64_t)cap << 20) {
                shares[m] = (uint64_t)cap << 20;
                capped[m] = again = true;
                left -= cap;
                weight -= v->members[m].weight;
            }
        }
        again = again && weight > 0;
    }
}

/* The most that anybody may own. */
static uint32_t cap_of(const struct ring_view *v)
{
    uint32_t q = 1u << v->q_bits, owning = count_owning(v);
    uint32_t n = v->n < owning ? v->n : owning;

    return q / n * owning >= q ? q / n : (q + owning - 1) / owning;
}

/* Is it m rather than `best` that gets one of the partitions left over by rounding down? */
static bool rounds_up_before(const uint64_t *shares, const uint32_t *has, uint16_t m, uint16_t best)
{
    bool keeps_m = has[m] > shares[m] >> 20, keeps_best = has[best] > shares[best] >> 20;

    if (keeps_m != keeps_best)
        return keeps_m;
    return (shares[m] & 0xfffff) > (shares[best] & 0xfffff);
}

int claim_targets(const struct ring_view *v, uint32_t *target)
{
    uint64_t shares[LIMIT_MEMBERS];
    uint32_t has[LIMIT_MEMBERS] = {0};
    bool rounded[LIMIT_MEMBERS] = {false};

    if (!view_usable(v))
        return -ERR_INVAL;
    uint32_t q = 1u << v->q_bits, cap = cap_of(v);
    uint32_t left = q;

    compute_shares(v, q, cap, shares);
    for (uint32_t p = 0; p < q; p++)
        if (v->owner[p] < v->member_count)
            has[v->owner[p]]++;
    memset(target, 0, LIMIT_MEMBERS * sizeof target[0]);
    for (uint16_t m = 0; m < v->member_count; m++)
        left -= target[m] = (uint32_t)(shares[m] >> 20);
    while (left > 0) {
        uint16_t best = RING_NO_OWNER;

        for (uint16_t m = 0; m < v->member_count; m++)
            if (may_own(&v->members[m]) && !rounded[m] && target[m] < cap &&
                (best == RING_NO_OWNER || rounds_up_before(shares, has, m, best)))
                best = m;
        ASSERT(best != RING_NO_OWNER);
        rounded[best] = true;
        target[best]++;
        left--;
    }
    return 0;
}

/* Members in the order in which the construction lays them out: zones with the most partitions first,
 * in a zone members with the most first. */
static void layout_order(const struct table *t, const uint32_t *target, bool by_zone,
                         uint16_t *order)
{
    uint32_t zone_total[LIMIT_MEMBERS] = {0};

    for (uint16_t m = 0; m < t->members; m++)
        zone_total[t->zone[m]] += target[m];
    for (uint16_t m = 0; m < t->members; m++) {
        uint16_t at = m;

        for (; at > 0; at--) {
            uint16_t before = order[at - 1];
            uint32_t zone_m = by_zone ? zone_total[t->zone[m]] : 0;
            uint32_t zone_b = by_zone ? zone_total[t->zone[before]] : 0;

            if (zone_m < zone_b)
                break;
            if (zone_m == zone_b && by_zone && t->zone[m] != t->zone[before]) {
                if (t->zone[m] > t->zone[before])
                    break;
            } else if (zone_m == zone_b && target[m] <= target[before]) {
                break;
            }
            order[at] = before;
        }
        order[at] = m;
    }
}

/* Cut the ring into `blocks` blocks of n partitions or one row more, and deal the members' partitions
 * out one row after the other: the k-th goes to block k mod blocks. A member owns at most `blocks`
 * of them, so it never meets a block twice, and from one block to the next it stays in its row or is one
 * row behind after having skipped a block: its partitions are n apart. Only a member with exactly
 * `blocks` that starts in the middle of a row comes too close to itself; sorted by count, such members
 * start rows. */
static void deal(struct table *t, const uint32_t *target, const uint16_t *order, uint32_t blocks)
{
    uint32_t start[LIMIT_PARTITIONS];
    uint32_t next = 0, k = 0;

    for (uint32_t b = 0; b < blocks; b++) {
        start[b] = next;
        next += (t->q - b + blocks - 1) / blocks;
    }
    for (uint16_t i = 0; i < t->members; i++)
        for (uint32_t c = 0; c < target[order[i]]; c++, k++)
            t->owner[start[k % blocks] + k / blocks] = order[i];
    ASSERT(k == t->q && next == t->q);
}

/* One member after the other, round and round: the table with the fewest repeats where there must be
 * some, all of them at the wrap-around. */
static void deal_in_turn(struct table *t, uint32_t *target)
{
    for (uint32_t p = 0, m = t->members - 1; p < t->q; p++) {
        do
            m = (m + 1) % t->members;
        while (target[m] == 0);
        t->owner[p] = (uint16_t)m;
    }
}

static uint32_t count_repeats(const struct table *t)
{
    uint32_t repeats = 0;

    for (uint32_t p = 0; p < t->q; p++)
        repeats += cost_at(t, p, t->owner[p]) / REPEAT_COST;
    return repeats / 2;
}

/* The construction knows nothing of point 5: it gives a member the same neighbours over and over.
 * Swaps that cost nothing mix the ring. */
static void mix(struct table *t)
{
    struct rand r;

    rand_seed(&r, t->q);
    for (uint32_t i = 0; i < t->q * MIX_ROUNDS; i++) {
        uint32_t a = (uint32_t)rand_below(&r, t->q), b = (uint32_t)rand_below(&r, t->q);

        swap_if_better(t, a, b, true);
    }
}

/* Partitions in an order that jumps around the ring, so that what moves is spread over it. */
static uint32_t scattered(uint32_t i, uint32_t q)
{
    return (i * 0x9e3779b1u) &
           (q - 1); /* an odd factor permutes the numbers modulo a power of two */
}

/* Swap away what costs at least `worth`: each such partition is tried against up to `tries` others
 * and exchanged with the first that makes things better. */
static void repair(struct table *t, uint32_t worth, uint32_t tries)
{
    bool any = true;

    for (int pass = 0; pass < REPAIR_PASSES && any; pass++) {
        any = false;
        for (uint32_t p = 0; p < t->q; p++)
            for (uint32_t i = 1; i <= tries && cost_at(t, p, t->owner[p]) >= worth; i++)
                any |= swap_if_better(t, p, (p + scattered(i, t->q)) & (t->q - 1), false);
    }
}

static void found(const struct ring_view *v, uint32_t *target, struct table *t)
{
    uint16_t order[LIMIT_MEMBERS];
    uint32_t blocks = t->q / t->n, owning = count_owning(v);

    if (blocks * owning < t->q) {
        deal_in_turn(t, target);
        return;
    }
    layout_order(t, target, true, order);
    deal(t, target, order, blocks);
    if (count_repeats(t) > 0) {
        layout_order(t, target, false, order);
        deal(t, target, order, blocks);
    }
    mix(t);
    repair(t, 1, ZONE_TRIES);
}

/* Who gets how much: `target` sums up to all partitions; where rounding leaves a choice, a member may
 * end with any number from low to high. */
struct quota {
    uint32_t target[LIMIT_MEMBERS], low[LIMIT_MEMBERS], high[LIMIT_MEMBERS];
    uint32_t has[LIMIT_MEMBERS];
};

static int make_quota(const struct ring_view *v, struct quota *q)
{
    uint64_t shares[LIMIT_MEMBERS];
    int rc = claim_targets(v, q->target);

    if (rc != 0)
        return rc;
    memset(q->has, 0, sizeof q->has);
    compute_shares(v, 1u << v->q_bits, cap_of(v), shares);
    for (uint16_t m = 0; m < v->member_count; m++) {
        q->low[m] = (uint32_t)(shares[m] >> 20);
        q->high[m] = (uint32_t)((shares[m] + 0xfffff) >> 20);
        if (q->high[m] > cap_of(v))
            q->high[m] = cap_of(v);
        if (q->low[m] > q->target[m])
            q->low[m] = q->target[m];
    }
    return 0;
}

/* Somebody who can do with one partition less than his target, or RING_NO_OWNER. */
static uint16_t who_can_spare(const struct table *t, const struct quota *q)
{
    for (uint16_t m = 0; m < t->members; m++)
        if (q->has[m] < q->target[m] && q->target[m] > q->low[m])
            return m;
    return RING_NO_OWNER;
}

/* Give partition p to the member below its target that costs least there, if that is at most
 * `bound`; among equals to the one that lacks most. With `bend`, also to one that rounding has left out,
 * in place of one whom it has favoured. */
static bool give(struct table *t, uint32_t p, struct quota *q, uint32_t bound, bool bend)
{
    uint16_t best = RING_NO_OWNER, spare = bend ? who_can_spare(t, q) : RING_NO_OWNER;
    uint32_t best_cost = bound, best_lacks = 0;

    for (uint16_t m = 0; m < t->members; m++) {
        uint32_t most = spare == RING_NO_OWNER ? q->target[m] : q->high[m];

        if (q->has[m] >= most && q->has[m] >= q->target[m])
            continue;
        uint32_t cost = cost_at(t, p, m);
        uint32_t lacks = q->target[m] > q->has[m] ? q->target[m] - q->has[m] : 0;

        if (cost < best_cost ||
            (cost == best_cost && (best == RING_NO_OWNER || lacks > best_lacks))) {
            best = m;
            best_cost = cost;
            best_lacks = lacks;
        }
    }
    if (best == RING_NO_OWNER)
        return false;
    if (q->has[best] >= q->target[best]) {
        q->target[spare]--;
        q->target[best]++;
    }
    t->owner[p] = best;
    q->has[best]++;
    return true;
}

static void move_surplus(struct table *t, struct quota *q)
{
    static const struct {
        uint32_t bound;
        bool bend;
    } rounds[] = {
        {0, false}, {REPEAT_COST - 1, false}, {REPEAT_COST - 1, true}, {UINT32_MAX, false}};

    for (size_t round = 0; round < sizeof rounds / sizeof rounds[0]; round++) {
        for (uint32_t i = 0; i < t->q; i++) {
            uint32_t p = scattered(i, t->q);
            uint16_t from = t->owner[p];

            if (from != RING_NO_OWNER && q->has[from] <= q->target[from])
                continue;
            t->owner[p] = RING_NO_OWNER;
            if (give(t, p, q, rounds[round].bound, rounds[round].bend)) {
                if (from != RING_NO_OWNER)
                    q->has[from]--;
            } else {
                t->owner[p] = from;
            }
        }
    }
}

/* Swap repeats away among partitions that move in any case: with whatever makes things better, and, as
 * that alone gets stuck, with whatever does not make them worse. */
static void repair_moved(struct table *t, const uint16_t *before)
{
    uint16_t moved[LIMIT_PARTITIONS];
    uint32_t count = 0;
    struct rand r;

    for (uint32_t p = 0; p < t->q; p++)
        if (t->owner[p] != before[p])
            moved[count++] = (uint16_t)p;
    rand_seed(&r, count);
    for (uint32_t pass = 0, left = 1; pass < SHUFFLES && left > 0; pass++) {
        left = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t p = moved[i];

            if (cost_at(t, p, t->owner[p]) < REPEAT_COST)
                continue;
            left++;
            for (uint32_t k = 0; k < SHUFFLE_TRIES; k++) {
                swap_if_better(t, p, moved[rand_below(&r, count)], true);
                swap_if_better(t, moved[rand_below(&r, count)], moved[rand_below(&r, count)], true);
            }
        }
    }
}

static uint32_t count_moved(const struct table *t, const uint16_t *before)
{
    uint32_t moved = 0;

    for (uint32_t p = 0; p < t->q; p++)
        moved += t->owner[p] != before[p];
    return moved;
}

/* Swap repeats away also where that moves more, as long as it is not much more. What is left of them the
 * walk of the ring skips; the next change gets at it. */
static void repair_within(struct table *t, const uint16_t *before)
{
    uint32_t moved = count_moved(t, before), most = moved + moved * EXTRA_PERCENT / 100;

    for (uint32_t p = 0; p < t->q && moved < most; p++) {
        for (uint32_t i = 1; i < t->q && cost_at(t, p, t->owner[p]) >= REPEAT_COST; i++) {
            uint32_t other = (p + scattered(i, t->q)) & (t->q - 1);
            uint32_t had = (t->owner[p] != before[p]) + (t->owner[other] != before[other]);

            if (moved + 2 - had <= most && swap_if_better(t, p, other, false))
                moved += (t->owner[p] != before[p]) + (t->owner[other] != before[other]) - had;
        }
    }
}

int claim_plan(const struct ring_view *v, uint16_t *owner)
{
    struct quota q;
    struct table t;
    bool fresh = true;
    int rc = make_quota(v, &q);

    if (rc != 0)
        return rc;
    table_init(&t, v, owner);
    for (uint32_t p = 0; p < t.q; p++) {
        uint16_t m = v->owner[p];
        bool valid = m < v->member_count && may_own(&v->members[m]);

        owner[p] = valid ? m : RING_NO_OWNER;
        if (valid) {
            q.has[m]++;
            fresh = false;
        }
    }
    if (fresh) {
        found(v, q.target, &t);
        return 0;
    }
    move_surplus(&t, &q);
    /* With no more members than replicas each list has all of them, whatever the table. */
    if (count_owning(v) <= v->n)
        return 0;
    repair_moved(&t, v->owner);
    repair_within(&t, v->owner);
    return 0;
}

int claim_found(struct ring_view *v)
{
    uint16_t owner[LIMIT_PARTITIONS];

    if (!view_usable(v))
        return -ERR_INVAL;
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        v->owner[p] = RING_NO_OWNER;
    int rc = claim_plan(v, owner);

    ASSERT(rc == 0);
    memcpy(v->owner, owner, (sizeof owner[0]) << v->q_bits);
    return 0;
}
