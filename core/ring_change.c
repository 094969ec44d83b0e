/* Changing the ring: phases, steps, completion, and what moves. Pure; see ring_change.h. Plans are in
 * ring_plan.c. */
#include "core/ring_change.h"

#include "base/check.h"
#include "core/planted.h"

#include <string.h>

static uint32_t partitions(const struct ring_view *v)
{
    return 1u << v->q_bits;
}

/* ---- What is known of others. */

/* Is the member one that the change waits for? Those that have left and those that never come back
 * are not; nor is one that cannot be reached, unless it is asked for its copy. */
static bool is_heeded(const struct member *m)
{
    return m->state != MEMBER_LEFT && m->going != MEMBER_GONE;
}

static uint8_t step_of(const struct ring_progress *progress, uint16_t member, uint32_t partition)
{
    return progress == NULL ? STEP_NONE : progress[member].step[partition];
}

unsigned ring_change_tolerance(struct ring_quorum q)
{
    unsigned least = q.r < q.w ? q.r : q.w;

    return least > 0 ? least - 1 : 0;
}

unsigned ring_change_excusable(struct ring_quorum q, unsigned primaries)
{
    unsigned spare = primaries > q.w ? primaries - q.w : 0, tolerance = ring_change_tolerance(q);

    return spare < tolerance ? spare : tolerance;
}

/* Have all the new members of a partition come so far, or are those that have not excused? */
static bool new_members_at(const struct ring_view *v, const struct ring_walk *old,
                           const struct ring_walk *next, const struct ring_progress *progress,
                           uint32_t partition, uint8_t step, struct ring_quorum quorum)
{
    unsigned excused = 0, missing = 0;
    bool behind = false;

    for (uint8_t i = 0; i < next->primaries; i++) {
        uint16_t m = next->member[i];
        bool is_new = ring_walk_primary(old, m) < 0;

        if (step_of(progress, m, partition) >= step)
            continue;
        if (v->members[m].state == MEMBER_FAULTY) {
            missing++;
            excused += is_new;
        } else if (is_new) {
            return false;
        } else {
            behind |= step >= STEP_SURE;
        }
    }
    if (excused == 0 || COORD_BUG(EXCUSED_COUNTS))
        return true;
    return (!behind || COORD_BUG(KEPT_NOT_SURE)) &&
           (missing <= ring_change_excusable(quorum, next->primaries) ||
            COORD_BUG(EXCUSED_TOO_MANY));
}

/* Has everybody come so far whose reads and writes may be under way, and enough of the old primaries
 * to fence off those of the others? */
static bool all_at(const struct ring_view *v, const struct ring_walk *old,
                   const struct ring_progress *progress, uint32_t partition, uint8_t step,
                   struct ring_quorum quorum)
{
    unsigned unheard = 0;

    for (uint16_t m = 0; m < v->member_count; m++)
        if (is_heeded(&v->members[m]) && v->members[m].state != MEMBER_FAULTY &&
            step_of(progress, m, partition) < step)
            return false;
    for (uint8_t i = 0; i < old->primaries; i++)
        unheard += is_heeded(&v->members[old->member[i]]) &&
                   step_of(progress, old->member[i], partition) < step;
    return unheard <= ring_change_tolerance(quorum);
}

/* ---- Phases. */

static bool same_primaries(const struct ring_walk *a, const struct ring_walk *b)
{
    for (uint8_t i = 0; i < a->primaries; i++)
        if (ring_walk_primary(b, a->member[i]) < 0)
            return false;
    return a->primaries == b->primaries;
}

/* What a member has announced it does not take back. */
static uint8_t least_phase(uint8_t own)
{
    static const uint8_t phase[] = {
        [STEP_NONE] = RING_MOVING,     [STEP_WHOLE] = RING_MOVING, [STEP_JOINT] = RING_JOINT,
        [STEP_GUARDED] = RING_GUARDED, [STEP_SURE] = RING_GUARDED, [STEP_SWITCHED] = RING_SWITCHED,
        [STEP_CLOSED] = RING_CLOSED,
    };

    return phase[own];
}

/* How far what others say lets the partition go. */
static uint8_t heard_phase(const struct ring_view *v, const struct ring_walk *old,
                           const struct ring_walk *next, const struct ring_progress *progress,
                           uint32_t p, struct ring_quorum quorum)
{
    if (!new_members_at(v, old, next, progress, p, STEP_WHOLE, quorum) &&
        !COORD_BUG(SWITCH_BEFORE_WHOLE))
        return RING_MOVING;
    if (!all_at(v, old, progress, p, STEP_JOINT, quorum) && !COORD_BUG(JOINT_SKIPPED))
        return RING_JOINT;
    if (!all_at(v, old, progress, p, STEP_GUARDED, quorum) && !COORD_BUG(JOINT_SKIPPED) &&
        !COORD_BUG(GUARD_SKIPPED))
        return RING_GUARDED;
    if (!new_members_at(v, old, next, progress, p, STEP_SURE, quorum) &&
        !COORD_BUG(SWITCH_BEFORE_WHOLE) && !COORD_BUG(SURE_SKIPPED))
        return RING_FENCED;
    if (!all_at(v, old, progress, p, STEP_SWITCHED, quorum))
        return RING_SWITCHED;
    return RING_CLOSED;
}

static uint8_t phase_of(const struct ring_view *v, const struct ring_walk *old,
                        const struct ring_walk *next, const struct ring_progress *progress,
                        uint32_t p, struct ring_quorum quorum)
{
    uint8_t own = v->self == RING_NO_OWNER ? STEP_NONE : step_of(progress, v->self, p);

    if (same_primaries(old, next))
        return RING_SETTLED;
    uint8_t phase = heard_phase(v, old, next, progress, p, quorum);

    return phase > least_phase(own) ? phase : least_phase(own);
}

bool ring_change_phases(struct ring_view *v, const struct ring_progress *progress,
                        struct ring_quorum quorum)
{
    struct ring_walker now, then;
    struct ring_walk old, next;
    bool changed = false;

    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&then, v, v->next);
    for (uint32_t p = 0; p < partitions(v); p++) {
        ring_walker_walk(&now, p, v->n, &old);
        ring_walker_walk(&then, p, v->n, &next);

        uint8_t phase = phase_of(v, &old, &next, progress, p, quorum);

        changed |= phase != v->phase[p];
        v->phase[p] = phase;
    }
    return changed;
}

unsigned ring_change_excused(const struct ring_view *v, const struct ring_walk *old,
                             const struct ring_walk *next, const struct ring_progress *progress,
                             uint32_t partition, struct ring_quorum quorum, uint16_t *out,
                             bool *waits)
{
    uint8_t step = v->phase[partition] >= RING_FENCED ? STEP_SURE : STEP_WHOLE;
    unsigned count = 0;

    for (uint8_t i = 0; i < next->primaries; i++)
        if (ring_walk_primary(old, next->member[i]) < 0 &&
            v->members[next->member[i]].state == MEMBER_FAULTY &&
            step_of(progress, next->member[i], partition) < step)
            out[count++] = next->member[i];
    *waits = count > 0 && v->phase[partition] <= RING_FENCED &&
             !new_members_at(v, old, next, progress, partition, step, quorum);
    return count;
}

static uint8_t step_for(const struct ring_view *v, uint32_t p, uint8_t copied)
{
    switch ((enum ring_phase)v->phase[p]) {
    case RING_SETTLED:
        return STEP_NONE;
    case RING_MOVING:
        return copied >= STEP_WHOLE ? STEP_WHOLE : STEP_NONE;
    case RING_JOINT:
        return STEP_JOINT;
    case RING_GUARDED:
        return STEP_GUARDED;
    case RING_FENCED:
        return copied >= STEP_SURE ? STEP_SURE : STEP_GUARDED;
    case RING_SWITCHED:
        return STEP_SWITCHED;
    case RING_CLOSED:
        return STEP_CLOSED;
    }
    return STEP_NONE;
}

bool ring_change_announce(const struct ring_view *v, const uint8_t *copied,
                          struct ring_progress *own)
{
    bool rose = false;

    for (uint32_t p = 0; p < partitions(v); p++) {
        uint8_t step = step_for(v, p, copied == NULL ? STEP_NONE : copied[p]);

        if (step <= own->step[p])
            continue;
        own->step[p] = step;
        rose = true;
    }
    return rose;
}

bool ring_change_hear(struct ring_progress *p, const uint8_t *heard, uint8_t q_bits)
{
    bool news = false;

    for (uint32_t i = 0; i < (1u << q_bits); i++) {
        if (heard[i] <= p->step[i] || heard[i] > STEP_CLOSED)
            continue;
        p->step[i] = heard[i];
        news = true;
    }
    return news;
}

bool ring_change_is_complete(const struct ring_view *v, const struct ring_progress *progress,
                             struct ring_quorum quorum)
{
    struct ring_walker now;
    struct ring_walk old;

    if (!ring_change_is_open(v))
        return false;
    ring_walker_init(&now, v, v->owner);
    for (uint32_t p = 0; p < partitions(v); p++) {
        if (v->phase[p] == RING_SETTLED)
            continue;
        if (v->phase[p] != RING_CLOSED)
            return false;
        ring_walker_walk(&now, p, v->n, &old);
        if (!all_at(v, &old, progress, p, STEP_CLOSED, quorum))
            return false;
    }
    return true;
}

bool ring_change_is_open(const struct ring_view *v)
{
    for (uint16_t m = 0; m < v->member_count; m++)
        if (v->members[m].going != MEMBER_STAYS && v->members[m].state != MEMBER_LEFT)
            return true;
    return ring_is_changing(v);
}

void ring_change_complete(const struct ring_view *v, struct ring_view *out)
{
    *out = *v;
    out->epoch = v->epoch + 1;
    memcpy(out->owner, v->next, sizeof out->owner);
    if (COORD_BUG(COMPLETION_DIFFERS) && (v->self & 1) != 0)
        out->owner[0] = out->next[0] = v->owner[0];
    memset(out->phase, RING_SETTLED, sizeof out->phase);
    for (uint16_t m = 0; m < out->member_count; m++) {
        if (out->members[m].going == MEMBER_STAYS)
            continue;
        out->members[m].state = MEMBER_LEFT;
        out->members[m].going = MEMBER_STAYS;
    }
}

/* ---- What moves. */

/* Primaries of `of` that are not primaries of `but`. */
static unsigned difference(const struct ring_walk *of, const struct ring_walk *but, uint16_t *out)
{
    unsigned count = 0;

    for (uint8_t i = 0; i < of->primaries; i++)
        if (ring_walk_primary(but, of->member[i]) < 0)
            out[count++] = of->member[i];
    return count;
}

unsigned ring_change_new_members(const struct ring_view *v, uint32_t partition, uint16_t *out)
{
    struct ring_walker w;
    struct ring_walk old, next;

    ring_walker_init(&w, v, v->owner);
    ring_walker_walk(&w, partition, v->n, &old);
    ring_walker_init(&w, v, v->next);
    ring_walker_walk(&w, partition, v->n, &next);
    return difference(&next, &old, out);
}

unsigned ring_change_old_members(const struct ring_view *v, uint32_t partition, uint16_t *out)
{
    struct ring_walker w;
    struct ring_walk old, next;

    ring_walker_init(&w, v, v->owner);
    ring_walker_walk(&w, partition, v->n, &old);
    ring_walker_init(&w, v, v->next);
    ring_walker_walk(&w, partition, v->n, &next);
    return difference(&old, &next, out);
}

void ring_change_moves(const struct ring_view *v, struct ring_moves *out)
{
    struct ring_walker now, then;
    struct ring_walk old, next;
    uint16_t list[LIMIT_REPLICAS];

    memset(out, 0, sizeof *out);
    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&then, v, v->next);
    for (uint32_t p = 0; p < partitions(v); p++) {
        if (v->owner[p] != RING_NO_OWNER)
            out->before[v->owner[p]]++;
        if (v->next[p] != RING_NO_OWNER)
            out->after[v->next[p]]++;
        ring_walker_walk(&now, p, v->n, &old);
        ring_walker_walk(&then, p, v->n, &next);
        for (uint8_t i = 0; i < old.primaries; i++)
            out->replicas[old.member[i]]++;
        unsigned gained = difference(&next, &old, list);

        for (unsigned i = 0; i < gained; i++)
            out->gains[list[i]]++;
        unsigned lost = difference(&old, &next, list);

        for (unsigned i = 0; i < lost; i++)
            out->losses[list[i]]++;
        out->moving += gained + lost > 0;
    }
}

/* ---- Proof. */

static uint32_t distinct_zones(const struct ring_walker *w, const struct ring_walk *walk)
{
    uint32_t count = 0;

    for (uint8_t i = 0; i < walk->primaries; i++) {
        uint8_t k = 0;

        while (w->zone[walk->member[k]] != w->zone[walk->member[i]])
            k++;
        count += k == i;
    }
    return count;
}

static uint32_t distinct_members(const struct ring_walk *walk)
{
    uint32_t count = 0;

    for (uint8_t i = 0; i < walk->primaries; i++)
        count += ring_walk_primary(walk, walk->member[i]) == i;
    return count;
}

bool ring_change_check(const struct ring_view *v, struct ring_proof *out)
{
    struct ring_walker now, then;
    struct ring_walk walk;

    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&then, v, v->next);
    *out = (struct ring_proof){.members = then.owners, .zones = then.zones};
    out->want = out->least = v->n < then.owners ? v->n : then.owners;
    out->want_zones = out->least_zones = out->want < then.zones ? out->want : then.zones;
    for (uint32_t p = 0; p < partitions(v); p++) {
        ring_walker_walk(&then, p, v->n, &walk);

        uint32_t members = distinct_members(&walk), zones = distinct_zones(&then, &walk);

        out->least = members < out->least ? members : out->least;
        out->least_zones = zones < out->least_zones ? zones : out->least_zones;
        out->short_lists += members < out->want;
        out->short_zones += zones < out->want_zones;
    }
    out->fewer_than_n = out->want < v->n;
    out->fewer_than_before = out->want < (v->n < now.owners ? v->n : now.owners);
    return out->short_lists == 0 && out->short_zones == 0 && !out->fewer_than_before;
}
