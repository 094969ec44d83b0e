/* Reads coordinated here: the own replica, and the actions of get.h carried out. What other replicas
 * hold is merged into the own vnode as it comes, which repairs it and spares a place to keep it.
 * Runs in workers and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

static void answer(struct coord *c, const struct asker *asker, int status, struct slice object)
{
    coord_answer_get(c, asker, &(struct coord_reply){.status = status, .object = object});
}

static void start(struct coord *c, struct request *r, const struct get_setup *setup,
                  const struct place *p, int local)
{
    uint64_t digest = 0;
    bool durable = c->last_lsn <= c->durable, readable = local == 0 || local == -ERR_NOTFOUND;

    if (local == 0)
        digest = object_digest(&c->mine);
    r->pos = p->pos;
    r->partition = p->partition;
    r->epoch = c->view->epoch;
    r->start_us = c->now_us;
    r->deadline_us = setup->deadline_us;
    get_init(&r->u.get, setup, readable, digest, durable);
    /* What the own replica holds may be on its way to the disk: with blocking repair a read must not
     * show what a crash could take back. */
    if (setup->blocking && readable && !durable && !acks_full(&c->acks)) {
        struct ack ack = {.kind = ACK_REQUEST, .request = r->id, .lsn = c->last_lsn};

        ack.context = ack.old = hold_nothing();
        r->local_lsn = ack.lsn;
        ack_push(c, &ack);
    }
    coord_get_event(c, r, (struct get_event){.kind = GET_ON_START});
}

/* What the own replica has to say: -ERR_NOTWHOLE if that is no answer. */
static int load_own(struct coord *c, const struct place *place, struct slice key,
                    struct slice *object)
{
    uint64_t horizon_ms;
    enum standing standing = coord_standing(c, place->partition, &horizon_ms);
    int rc = -ERR_NOTWHOLE;

    if (standing != STANDING_AWAY)
        rc = c->host.load(c->host.arg, place->partition, &place->pos, key, object);
    if (rc == -ERR_NOTFOUND && standing == STANDING_MISSING && place->self < place->n)
        rc = -ERR_NOTWHOLE;
    coord_count(c, COORD_NOTWHOLE, rc == -ERR_NOTWHOLE);
    return rc;
}

int coord_get_here(struct coord *c, const struct asker *asker, const struct place *place,
                   const struct msg_GET *get, uint64_t deadline_us)
{
    struct get_setup setup = {.primaries = place->n,
                              .r = coord_wanted(get->r, place->rule->r, place->n),
                              .pr = coord_wanted(get->pr, place->rule->pr, place->n),
                              .sloppy = coord_is_sloppy(place),
                              .blocking = place->rule->blocking_repair,
                              .replica_us = 1000ull * c->conf.replica_ms,
                              .again_us = AGAIN_US,
                              .patience_us = 1000ull * c->conf.patience_ms,
                              .linger_us = coord_linger(c),
                              .deadline_us = deadline_us};
    struct slice object = slice_of(NULL, 0);
    struct request *r;
    bool primary = place->self < place->n;
    int rc = load_own(c, place, get->key, &object);

    if (rc == 0 || rc == -ERR_NOTFOUND) {
        if (setup.r <= 1 && setup.pr <= primary && (primary || setup.sloppy) &&
            (!setup.blocking || c->last_lsn <= c->durable)) {
            coord_count(c, COORD_GET, 1);
            answer(c, asker, 0, rc == 0 ? object : slice_of(NULL, 0));
            return 0;
        }
    }
    if (COORD_BUG(FIRST_ANSWER_WINS) && rc == 0) {
        answer(c, asker, 0, object);
        return 0;
    }
    if (rc == 0)
        rc = object_open(&c->mine, object);
    if (rc != 0 && rc != -ERR_NOTFOUND && place->n == 1) {
        /* Nobody else could know. */
        answer(c, asker, rc, slice_of(NULL, 0));
        return 0;
    }
    if (c->table.first_free == COORD_NOWHERE || hold_blocks(get->key.len) > c->holds.free)
        return -ERR_BUSY;
    coord_count(c, COORD_GET, 1);
    if (rc == -ERR_CORRUPT)
        coord_count(c, COORD_LOCAL_CORRUPT, 1);
    if (!primary)
        coord_count(c, COORD_FALLBACK_COORDINATOR, 1);
    r = table_take(&c->table, REQUEST_GET);
    r->asker = *asker;
    r->key = hold_keep(&c->holds, get->key);
    setup.r = setup.r > 0 ? setup.r : 1;
    setup.count = coord_targets(c, place, r, &setup.self);
    setup.suspects = coord_suspects(c, r, setup.count);
    setup.hedge_us = 1000ull * c->conf.hedge_min_ms;
    if (c->latency.p99_us > setup.hedge_us)
        setup.hedge_us = c->latency.p99_us;
    start(c, r, &setup, place, rc);
    return 0;
}

/* ---- Actions. */

static struct slice key_of(struct coord *c, const struct request *r)
{
    buf_clear(c->scratch_b);
    return hold_bytes(&c->holds, &r->key, c->scratch_b);
}

static int ask(struct coord *c, struct request *r, const struct get_action *a)
{
    uint16_t member = r->member[a->target];
    struct msg m = {.kind = MSG_READ,
                    .u.READ = {.request = r->id,
                               .epoch = r->epoch,
                               .flags = a->full ? 0 : READ_DIGEST,
                               .list = r->list}};
    uint64_t since = c->now_us - r->start_us;

    if (!c->host.reachable(c->host.arg, member, r->worker[a->target]))
        return -ERR_UNAVAILABLE;
    if (a->hedge)
        coord_count(c, COORD_HEDGE, 1);
    if (a->target >= r->u.get.setup.primaries)
        coord_count(c, COORD_FALLBACK_READ, 1);
    if (r->u.get.state[a->target] == GET_TARGET_FETCHING)
        coord_count(c, COORD_MISMATCH, 1);
    m.u.READ.key = key_of(c, r);
    r->sent_us[a->target] = since < UINT32_MAX ? (uint32_t)since : UINT32_MAX;
    return c->host.send(c->host.arg, member, r->worker[a->target], &m);
}

/* Have the merged object at hand: as it was just merged, or from the own vnode. */
static int have_whole(struct coord *c, struct request *r)
{
    int rc;

    if (c->object_of == r->id)
        return 0;
    if (r->old.len > 0) {
        /* Good until the next use of scratch_b: not kept at hand. */
        buf_clear(c->scratch_b);
        c->object = hold_bytes(&c->holds, &r->old, c->scratch_b);
        return c->object.len > 0 ? 0 : -ERR_NOMEM;
    }
    rc = c->host.load(c->host.arg, r->partition, &r->pos, key_of(c, r), &c->object);
    if (rc == -ERR_NOTFOUND || rc == -ERR_CORRUPT) {
        /* Damaged, and nobody else had anything: that is nothing, as far as R replicas know. */
        c->object = slice_of(NULL, 0);
        rc = 0;
    }
    if (rc != 0)
        return rc;
    c->object_of = r->id;
    return 0;
}

static int repair(struct coord *c, struct request *r, const struct get_action *a)
{
    struct msg m = {.kind = MSG_MERGE,
                    .u.MERGE = {.request = a->full ? r->id : 0,
                                .epoch = c->view->epoch,
                                .flags = MERGE_REPAIR}};
    int rc = have_whole(c, r);

    if (rc != 0)
        return rc;
    if (c->object.len == 0)
        return -ERR_NOTFOUND;
    coord_count(c, COORD_READ_REPAIR, 1);
    m.u.MERGE.object = c->object;
    return coord_send(c, r->member[a->target], r->worker[a->target], &m);
}

static void tell(struct coord *c, struct request *r, const struct get_action *a)
{
    struct coord_reply reply = {.need = a->need, .got = a->got};

    if (a->ok) {
        reply.status = have_whole(c, r);
        if (reply.status == 0)
            reply.object = c->object;
    } else {
        reply.status = -ERR_NOQUORUM;
        coord_count(c, COORD_NOQUORUM, 1);
        if (c->now_us >= r->deadline_us)
            coord_count(c, COORD_TIMEOUT, 1);
    }
    coord_answer_get(c, &r->asker, &reply);
}

void coord_get_event(struct coord *c, struct request *r, struct get_event event)
{
    /* A send that fails is an event too; each target can fail once when asked, once when its object
     * is fetched or it is repaired. */
    struct get_event queue[1 + 2 * LIMIT_WALK] = {event};
    struct get_actions actions;

    for (uint32_t at = 0, end = 1; at < end; at++) {
        get_step(&r->u.get, queue[at], c->now_us, &actions);
        for (uint32_t i = 0; i < actions.count; i++) {
            const struct get_action *a = &actions.list[i];
            int rc = 0;

            switch ((enum get_action_kind)a->kind) {
            case GET_DO_ASK:
                rc = ask(c, r, a);
                break;
            case GET_DO_REPAIR:
                rc = repair(c, r, a);
                break;
            case GET_DO_BLAME:
                coord_blame(c, r, a->target);
                break;
            case GET_DO_REPLY:
                tell(c, r, a);
                break;
            case GET_DO_CLOSE:
                coord_release(c, r);
                return;
            }
            if (rc != 0) {
                ASSERT(end <= 2 * LIMIT_WALK);
                queue[end++] = (struct get_event){.kind = GET_ON_FAIL, .target = a->target};
            }
        }
    }
    uint64_t due = get_due(&r->u.get);

    table_schedule(&c->table, r, due > c->now_us ? due : c->now_us + 1);
}

/* ---- Objects of other replicas. */

/* The own replica cannot take in what was found (the disk may be full): the request keeps it. */
static int keep_whole(struct coord *c, struct request *r, struct slice whole)
{
    hold_drop(&c->holds, &r->old);
    if (whole.len == 0 || hold_blocks(whole.len) > c->holds.free)
        return -ERR_LIMIT;
    r->old = hold_keep(&c->holds, whole);
    return 0;
}

/* The own replica takes nothing in before anti-entropy has gone over it. */
static int take_aside(struct coord *c, struct request *r, struct slice key, struct slice object,
                      struct merged *out)
{
    int rc = object_open(&c->theirs, object);

    *out = (struct merged){.object = object, .news = true, .lsn = c->last_lsn};
    if (rc != 0 || !slice_equal(c->theirs.key, key))
        return rc != 0 ? rc : -ERR_INVAL;
    out->digest = object_digest(&c->theirs);
    return keep_whole(c, r, object);
}

/* Merge an object into all that has been found so far. */
static int take_in(struct coord *c, struct request *r, struct slice object, struct merged *out)
{
    struct slice key, whole;
    uint64_t horizon_ms;
    int rc;

    buf_clear(c->scratch_b);
    /* Room for both at once: the second must not move the first. */
    if (buf_reserve(c->scratch_b, r->key.len + r->old.len + 1) == NULL)
        return -ERR_NOMEM;
    key = hold_bytes(&c->holds, &r->key, c->scratch_b);
    if (r->old.len > 0) {
        whole = hold_bytes(&c->holds, &r->old, c->scratch_b);
        rc = coord_merge_with(c, whole, &key, object, out);
        return rc == 0 && out->news ? keep_whole(c, r, out->object) : rc;
    }
    if (coord_standing(c, r->partition, &horizon_ms) == STANDING_AWAY)
        return take_aside(c, r, key, object, out);
    rc = coord_merge_in(c, r->partition, &r->pos, &key, object, true, out);
    return rc == 0 || out->object.len == 0 ? rc : keep_whole(c, r, out->object);
}

void coord_get_object(struct coord *c, struct request *r, uint8_t target, struct slice object)
{
    struct get_event event = {.kind = GET_ON_OBJECT, .target = target};
    struct merged merged;

    if (!get_expects(&r->u.get, target))
        return;
    if (take_in(c, r, object, &merged) != 0) {
        event.kind = GET_ON_FAIL;
        coord_get_event(c, r, event);
        return;
    }
    event.digest = merged.digest;
    if (merged.object.len == 0) {
        event.whole = 0; /* what came is dead, and nothing else is known */
    } else if (slice_equal(merged.object, c->theirs.encoded)) {
        event.whole = object_digest(&c->theirs);
    } else {
        ASSERT(object_open(&c->mine, merged.object) == 0);
        event.whole = object_digest(&c->mine);
    }
    if (r->old.len == 0) {
        c->object = merged.object;
        c->object_of = r->id;
    }
    coord_count(c, COORD_LOCAL_REPAIR, merged.news && r->old.len == 0);
    struct ack ack = {.kind = ACK_REQUEST, .request = r->id, .lsn = merged.lsn};
    bool wait = r->u.get.setup.blocking && r->old.len == 0;

    ack.context = ack.old = hold_nothing();
    r->local_lsn = merged.lsn;
    coord_get_event(c, r, event);
    if (wait && table_find(&c->table, ack.request) != NULL && !acks_full(&c->acks))
        ack_push(c, &ack);
}
