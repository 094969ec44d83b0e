/* What must hold of anti-entropy, and the scenes at the end of a run that show it. */
#include "tests/sim/repair.h"

#include "base/check.h"

#include <stdlib.h>

static struct object opened;

static struct blob *kept(struct blob *b)
{
    if (b != NULL)
        b->refs++;
    return b;
}

static void let_go(struct blob **b)
{
    if (*b != NULL && --(*b)->refs == 0)
        free(*b);
    *b = NULL;
}

static bool amnesiac(const struct sim *s, unsigned node)
{
    return (s->amnesiacs >> node & 1) != 0;
}

/* Has all that is alive in an object been deleted and purged since, or does it count as that? */
bool check_buried(struct sim *s, unsigned k, const struct blob *b)
{
    struct bits seen, siblings, covered;

    oracle_seen(s, k, slice_of(b->bytes, b->len), &seen, &siblings, &covered);
    for (unsigned e = 0; e < s->key[k].event_count; e++)
        if (bits_has(&siblings, e) && !bits_has(&s->key[k].buried, e) && !oracle_stranded(s, k, e))
            return false;
    return true;
}

/* Does a node durably hold all that b has, but for what has been purged or counts as that? */
static bool holds(struct sim *s, unsigned node, unsigned k, const struct blob *b)
{
    const struct image *image = &s->node[node].disk.durable;
    const struct blob *held = image->object[k];
    const struct key *key = &s->key[k];
    struct bits seen, siblings, covered;

    if (image->damaged[k] != SOUND)
        return true;
    oracle_seen(s, k, slice_of(b->bytes, b->len), &seen, &siblings, &covered);
    if (held != NULL)
        ASSERT(object_open(&opened, slice_of(held->bytes, held->len)) == 0);
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(&siblings, e) && !bits_has(&key->buried, e) && !oracle_stranded(s, k, e) &&
            (held == NULL || !causal_covers(&opened.causal, key->event[e].dot)))
            return false;
    return true;
}

/* --- exchanges --- */

/* The peer's vnode, as it was when the peer looked at its tree: for whoever follows that was when the
 * leader began, and what the leader has forgotten since then it had. 0: the leader has given it up. */
static uint64_t vnode_of_peer(const struct run *r)
{
    const struct node *peer = &r->owner->sim->node[r->peer];

    if (r->leads)
        return peer->disk.vnode[r->partition].id;
    for (int i = 0; i < REPAIR_RUNS; i++) {
        const struct run *other = &peer->repairer->run[i];

        if (other->used && other->leads && other->peer == r->owner->node &&
            other->number == r->number)
            return other->side.vnode;
    }
    return 0;
}

static uint64_t digest_of(const struct blob *b)
{
    if (b == NULL)
        return 0;
    ASSERT(object_open(&opened, slice_of(b->bytes, b->len)) == 0);
    return object_digest(&opened);
}

void check_begin(struct run *r)
{
    struct sim *s = r->owner->sim;

    const struct disk *d = &s->node[r->owner->node].disk, *peer = &s->node[r->peer].disk;

    r->peer_vnode = vnode_of_peer(r);
    r->began_us = s->now;
    for (unsigned k = 0; k < s->keys; k++)
        r->same[k] = d->flushed[k] != NULL && peer->flushed[k] != NULL &&
                     digest_of(d->live.object[k]) == digest_of(peer->live.object[k]);
    for (unsigned k = 0; k < s->keys; k++)
        /* A damaged row may still be in the tree when the key has been written again. */
        if (s->key[k].partition == r->partition && d->live.damaged[k] == SOUND &&
            d->flushed[k] != NULL && oracle_covers(s, k, d->flushed[k], d->live.object[k]))
            r->begin[k] = kept(d->flushed[k]);
}

void check_forget(struct run *r)
{
    for (unsigned k = 0; k < SIM_KEYS; k++)
        let_go(&r->begin[k]);
}

void check_agreed(struct run *r)
{
    struct sim *s = r->owner->sim;

    /* What the peer has forgotten meanwhile it had; and a surplus vnode may go at any time. */
    if (!repair_is_primary(s, r->peer, r->partition) ||
        r->peer_vnode != s->node[r->peer].disk.vnode[r->partition].id)
        return;
    for (unsigned k = 0; k < s->keys; k++)
        if (r->begin[k] != NULL && !holds(s, r->peer, k, r->begin[k]))
            sim_fail(s, "%s: node %u agrees with node %u, which does not have what it has",
                     s->key[k].name, r->owner->node, r->peer);
}

/* An object has come that brought nothing new. Both ends look at a difference a second time, in the buffers of
 * the workers: if they had the same there when the exchange began, one of them must have written the key
 * since then. (Where a tree has nothing at all, everything is sent without a look.) */
static void check_in_vain(struct sim *s, unsigned node, const struct run *run, unsigned k)
{
    if (s->calm && run->same[k] && s->node[node].disk.stored_us[k] < run->began_us &&
        s->node[run->peer].disk.stored_us[k] < run->began_us)
        sim_fail(s, "%s: anti-entropy brings node %u from node %u what it has had for long",
                 s->key[k].name, node, run->peer);
}

void check_merged(struct sim *s, unsigned node, const struct run *run, struct slice objects,
                  struct slice took)
{
    size_t at = 0;

    for (size_t i = 0; i < took.len; i++) {
        uint32_t len;
        unsigned k = 0;

        memcpy(&len, objects.data + at + 4, sizeof len);
        struct blob *b = malloc(sizeof *b + len);

        ASSERT(b != NULL);
        b->len = len;
        memcpy(b->bytes, objects.data + at, len);
        at += len;
        ASSERT(object_open(&opened, slice_of(b->bytes, len)) == 0);
        while (!slice_equal(opened.key, s->key[k].slice))
            k++;
        if (took.data[i] <= REPAIR_TOOK_SAME &&
            s->node[node].disk.vnode[s->key[k].partition].id != 0 && !holds(s, node, k, b))
            sim_fail(s, "%s: node %u says that it has what anti-entropy brought, and has not",
                     s->key[k].name, node);
        free(b);
        if (took.data[i] == REPAIR_TOOK_SAME && run != NULL)
            check_in_vain(s, node, run, k);
    }
}

/* --- what goes for good --- */

/* What was carried out twice is one write: the execution that was dropped in favour of the other is buried
 * with it, as far as the purged object has seen it, and all that it superseded. */
static void add_twins(struct sim *s, unsigned k, const struct blob *b, struct bits *seen)
{
    const struct key *key = &s->key[k];
    struct bits before;

    ASSERT(object_open(&opened, slice_of(b->bytes, b->len)) == 0);
    do {
        before = *seen;
        for (unsigned e = 0; e < key->event_count; e++)
            for (unsigned twin = 0; twin < key->event_count && bits_has(seen, e); twin++)
                if (key->event[twin].write == key->event[e].write &&
                    causal_covers(&opened.causal, key->event[twin].dot)) {
                    bits_add(seen, twin);
                    bits_join(seen, &key->event[twin].past);
                }
    } while (memcmp(&before, seen, sizeof before) != 0);
}

void check_purge(struct sim *s, unsigned node, unsigned k)
{
    const struct blob *b = s->node[node].disk.live.object[k];
    const struct ring_walk *walk = &s->node[node].index.walk[s->key[k].partition];
    struct bits seen, siblings, covered;

    for (unsigned i = 0; i < s->key[k].n; i++)
        if (!amnesiac(s, walk->member[i]) && !holds(s, walk->member[i], k, b))
            sim_fail(s, "%s: node %u purges a delete that node %u does not know", s->key[k].name,
                     node, walk->member[i]);
    oracle_seen(s, k, slice_of(b->bytes, b->len), &seen, &siblings, &covered);
    add_twins(s, k, b, &seen);
    bits_join(&s->key[k].buried, &seen);
    sim_trace(s, "purge", node, k, 0);
}

void check_drop(struct sim *s, unsigned node, unsigned k)
{
    const struct blob *b = s->node[node].disk.live.object[k];

    if (b != NULL && !check_buried(s, k, b))
        sim_fail(s, "%s: node %u drops as dead what nobody has deleted", s->key[k].name, node);
}

void check_surplus(struct sim *s, unsigned node, unsigned partition)
{
    const struct ring_walk *walk = &s->node[node].index.walk[partition];

    for (unsigned k = 0; k < s->keys; k++) {
        const struct blob *b = s->node[node].disk.live.given[k];

        if (s->key[k].partition != partition || b == NULL)
            continue;
        for (unsigned i = 0; i < s->key[k].n; i++)
            if (!amnesiac(s, walk->member[i]) && !holds(s, walk->member[i], k, b))
                sim_fail(s, "%s: node %u drops its surplus vnode, and node %u lacks what it has",
                         s->key[k].name, node, walk->member[i]);
    }
}

/* --- after healing --- */

static const char *difference(struct sim *s)
{
    static char text[128];

    for (unsigned k = 0; k < s->keys; k++) {
        const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];
        unsigned n = s->key[k].n > walk->primaries ? s->key[k].n : walk->primaries;
        uint64_t first = 0;

        for (unsigned i = 0; i < n; i++) {
            const struct image *image = &s->node[walk->member[i]].disk.durable;
            uint64_t digest = 0;

            if (image->object[k] != NULL && image->damaged[k] == SOUND) {
                ASSERT(object_open(&opened,
                                   slice_of(image->object[k]->bytes, image->object[k]->len)) == 0);
                digest = object_digest(&opened);
            }
            if (i == 0)
                first = digest;
            if (digest == first)
                continue;
            snprintf(text, sizeof text, "%s differs between nodes %u and %u", s->key[k].name,
                     walk->member[0], walk->member[i]);
            return text;
        }
    }
    return NULL;
}

/* Tombstones and surplus vnodes that are still there; replicas that are not whole. */
static const char *leftover(struct sim *s)
{
    static char text[128];

    for (unsigned n = 0; n < s->nodes; n++) {
        const struct disk *d = &s->node[n].disk;

        if ((s->removed >> n & 1) != 0)
            continue;

        for (unsigned p = 0; p < 1u << s->q_bits; p++) {
            bool primary = repair_is_primary(s, n, p);

            if (d->vnode[p].id != 0 && !primary) {
                snprintf(text, sizeof text, "node %u keeps a surplus vnode of partition %u", n, p);
                return text;
            }
            if (primary && d->vnode[p].standing != STANDING_WHOLE) {
                snprintf(text, sizeof text, "node %u is not whole in partition %u", n, p);
                return text;
            }
        }
        for (unsigned k = 0; k < s->keys; k++) {
            bool tombstone;

            if (d->live.object[k] == NULL)
                continue;
            ASSERT(object_open(&opened,
                               slice_of(d->live.object[k]->bytes, d->live.object[k]->len)) == 0);
            horizon_time(&opened, node_wall_ms(s, n), &tombstone);
            if (tombstone) {
                snprintf(text, sizeof text, "node %u keeps a tombstone of %s", n, s->key[k].name);
                return text;
            }
        }
    }
    return NULL;
}

static void wait_until_none(struct sim *s, const char *(*what)(struct sim *), uint64_t limit_us)
{
    uint64_t end = s->now + limit_us;

    while (what(s) != NULL && s->now < end)
        sim_run_until(s, s->now + MS(100));
    if (what(s) != NULL)
        sim_fail(s, "%s, %llu ms after all was well again", what(s),
                 (unsigned long long)limit_us / 1000);
}

void check_repaired_by_itself(struct sim *s)
{
    uint64_t cycle = s->repair_interval_us + SEC(1), moved;

    if (!s->repair)
        return;
    wait_until_none(s, difference, 2 * cycle + SEC(4));
    wait_until_none(s, leftover, 2 * cycle + 1000 * 3 * s->hint_age_ms + s->surplus_us + SEC(8));
    wait_until_none(s, difference, cycle);
    moved = s->moved;
    sim_run_until(s, s->now + 2 * cycle);
    if (s->moved != moved)
        sim_fail(s, "%llu objects are moved although all replicas are equal",
                 (unsigned long long)(s->moved - moved));
}

/* --- scenes --- */

static void wait_for_checks(struct sim *s)
{
    while (s->checks_waiting > 0)
        sim_run_until(s, s->now + MS(5));
}

/* A read by one replica as soon as it has links to the others, and before anti-entropy is there. */
static struct request *read_before_repair(struct sim *s, unsigned k, unsigned node)
{
    struct request *r;

    s->repair_paused = true;
    sim_run_until(s, s->now + MS(500));
    r = client_check_one(s, k, node, 1);
    wait_for_checks(s);
    s->repair_paused = false;
    return r;
}

/* Does the reply show all that the replica that was not touched has? */
static void expect_all(struct sim *s, const struct request *r, unsigned k, unsigned node,
                       const char *who)
{
    struct blob *b = s->node[node].disk.live.object[k];
    struct blob *reply = r->reply_object;

    if (r->status != 0 || b == NULL)
        return;
    if (!oracle_covers(s, k, b, reply != NULL && reply->len > 0 ? reply : NULL))
        sim_fail(s, "%s: %s answers a read without what others have", s->key[k].name, who);
}

void check_wiped(struct sim *s)
{
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];
    struct request *r;

    if (!s->repair || s->key[k].n < 2)
        return;
    s->amnesiacs |= 1u << walk->member[1];
    s->calm = false;
    client_check_write(s, k, walk->member[0], false);
    wait_for_checks(s);
    sim_run_until(s, s->now + SEC(2));
    node_crash(s, walk->member[1]);
    disk_wipe(s, walk->member[1]);
    sim_run_until(s, s->now + SEC(1));
    node_start(s, walk->member[1]);
    r = read_before_repair(s, k, walk->member[1]);
    expect_all(s, r, k, walk->member[0], "a node that has lost its disk");
    sim_run_until(s, s->now + 2 * s->repair_interval_us + SEC(4));
    if (difference(s) != NULL)
        sim_fail(s, "%s after a lost disk", difference(s));
}

static void cut_off(struct sim *s, unsigned node, bool off)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        if (n == node)
            continue;
        s->net.blocked[n][node] = s->net.blocked[node][n] = off;
        if (off) {
            net_suspect(s, n, node);
            net_suspect(s, node, n);
        } else {
            s->net.unblocked_at[n][node] = s->net.unblocked_at[node][n] = s->now;
        }
    }
}

/* A delete that only a replica knows which was cut off for longer than hints are kept: it comes late to the
 * others, one after the other. */
void check_late(struct sim *s)
{
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    unsigned node = s->node[s->reference].index.walk[s->key[k].partition].member[2];

    if (!s->repair || s->key[k].n < 3)
        return;
    s->calm = false;
    cut_off(s, node, true);
    sim_run_until(s, s->now + SEC(2));
    client_check_write(s, k, node, true);
    wait_for_checks(s);
    sim_run_until(s, s->now + 2200 * s->hint_age_ms + s->repair_interval_us + SEC(1));
    cut_off(s, node, false);
    sim_run_until(s, s->now + 2 * s->repair_interval_us + SEC(5));
    if (difference(s) != NULL)
        sim_fail(s, "%s after a late delete", difference(s));
}

void check_away(struct sim *s)
{
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];
    struct request *r;

    if (!s->repair || s->key[k].n < 3 || s->key[k].strict)
        return;
    s->calm = false;
    node_crash(s, walk->member[1]);
    sim_run_until(s, s->now + SEC(2));
    client_check_write(s, k, walk->member[0], sim_percent(s, 50));
    wait_for_checks(s);
    sim_run_until(s, s->now + 2500 * s->hint_age_ms + s->repair_interval_us + SEC(2));
    node_start(s, walk->member[1]);
    r = read_before_repair(s, k, walk->member[1]);
    expect_all(s, r, k, walk->member[0], "a node that was away for long");
    sim_run_until(s, s->now + 2 * s->repair_interval_us + SEC(4));
    if (difference(s) != NULL)
        sim_fail(s, "%s after a long absence", difference(s));
}
