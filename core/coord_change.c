/* Requests while the ring changes (core/ring_change.h): whom a write goes to and where it is counted, and
 * which answers of a replica may be counted by a coordinator that knows less than it does. Runs in
 * workers and in the simulator. */
#include "core/coord_change.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

#include <string.h>

/* ---- Whom a write goes to. */

static uint8_t find(const struct request *r, uint8_t count, uint16_t member)
{
    return coord_target_of(r, count, member);
}

/* How many of a list are primaries for this key. */
static uint8_t primaries_of(const struct place *p, const struct ring_walk *walk)
{
    return p->rule->n < walk->count ? p->rule->n : walk->count;
}

/* The members of the list that the partition moves to or from follow those of the one in force. */
static uint8_t add_other(const struct place *p, struct request *r, uint8_t count, uint32_t *bits)
{
    uint8_t n = primaries_of(p, p->other);

    *bits = 0;
    for (uint8_t i = 0; i < n; i++) {
        uint8_t at = find(r, count, p->other->member[i]);

        if (at == count)
            r->member[count++] = p->other->member[i];
        *bits |= 1u << at;
    }
    return count;
}

void coord_put_targets(struct coord *c, const struct place *p, const struct msg_PUT *put,
                       struct request *r, struct put_setup *setup)
{
    uint8_t count = p->n;

    memcpy(r->member, p->walk->member, count * sizeof r->member[0]);
    r->list = coord_is_sloppy(p) ? 0 : p->walk->print;
    r->also = 0;
    if (p->other != NULL && !COORD_BUG(NEW_MEMBER_NOT_WRITTEN)) {
        uint32_t bits;

        setup->counted = (1u << p->n) - 1;
        count = add_other(p, r, count, &bits);
        if (p->phase != RING_MOVING) {
            uint8_t n = primaries_of(p, p->other);
            uint8_t w = coord_wanted(put->w, p->rule->w, n);
            uint8_t dw = coord_wanted(put->dw, p->rule->dw, n);

            setup->also = bits;
            setup->also_w = w > dw ? w : dw;
            setup->also_w = setup->also_w > 0 ? setup->also_w : 1;
            setup->also_pw = coord_wanted(put->pw, p->rule->pw, n);
            r->also = r->list != 0 ? p->other->print : 0;
        }
    }
    setup->primaries = count;
    for (uint8_t i = p->n; i < p->walk->count && count < LIMIT_WALK - 1; i++)
        if (find(r, count, p->walk->member[i]) == count)
            r->member[count++] = p->walk->member[i];
    setup->self = find(r, count, c->view->self);
    if (setup->self == count)
        r->member[count++] = c->view->self;
    setup->count = count;
    for (uint8_t i = 0; i < count; i++)
        r->worker[i] = (uint8_t)coord_worker_at(c, r->member[i], p->partition);
}

/* ---- What a replica lets count. */

static bool knows_more(const struct coord *c, uint64_t epoch)
{
    return epoch > c->view->epoch;
}

int coord_fence_write(struct coord *c, const struct place *p, uint64_t epoch, uint32_t list,
                      uint32_t also)
{
    bool ok = list == p->walk->print || also == p->walk->print;

    if (list == 0 || knows_more(c, epoch) || COORD_BUG(NO_FENCE))
        return 0;
    if (p->other != NULL && p->phase >= RING_GUARDED)
        ok = ok && (list == p->other->print || also == p->other->print);
    if (ok)
        return 0;
    coord_count(c, COORD_FENCED, 1);
    return -ERR_STALE;
}

int coord_fence_read(struct coord *c, const struct place *p, uint64_t epoch, uint32_t list)
{
    bool ok = list == p->walk->print;

    if (list == 0 || knows_more(c, epoch) || COORD_BUG(NO_FENCE))
        return 0;
    /* Whoever reads the next list already may know more of the change than this node does; whoever still
     * reads the old one may, until nobody in touch does. */
    if (p->other != NULL && p->phase < RING_CLOSED)
        ok = ok || list == p->other->print;
    if (ok)
        return 0;
    coord_count(c, COORD_FENCED, 1);
    return -ERR_STALE;
}

bool coord_is_outsider(const struct coord *c, const struct place *p, uint64_t epoch)
{
    return epoch != 0 && epoch < c->view->epoch &&
           !ring_keeps(c->index, p->partition, c->view->self);
}
