/* Writes coordinated here: a new dot, the own replica, and the actions of put.h carried out. Runs in
 * workers and in the simulator. */
#include "core/coord_change.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

/* A write on its way from the message to the store. */
struct job {
    const struct asker *asker;
    const struct place *place;
    const struct msg_PUT *put;
    struct object_write write;
    uint32_t flags;   /* enum put_result_flags */
    bool duplicate;   /* of a request that was carried out before */
    struct slice old; /* the encoded object before, in the host's memory until the store */
    struct slice context;
};

static void answer(struct coord *c, const struct job *job, int status)
{
    struct coord_reply reply = {.status = status, .flags = job->flags};

    if (status == 0 && (job->put->flags & PUT_RETURN_OLD) != 0)
        reply.object = job->old;
    coord_answer_put(c, job->asker, &reply);
}

/* ---- What to write. */

static bool expiry_allowed(uint32_t flags, uint64_t now, uint64_t wanted_ms)
{
    /* A key without expiry lives for ever: nothing is later, everything is earlier. */
    if ((flags & PUT_IF_NO_TTL) != 0 && now != 0)
        return false;
    if ((flags & PUT_IF_TTL) != 0 && now == 0)
        return false;
    if ((flags & PUT_IF_LATER) != 0 && (now == 0 || (wanted_ms != 0 && wanted_ms <= now)))
        return false;
    if ((flags & PUT_IF_EARLIER) != 0 && (wanted_ms == 0 || (now != 0 && wanted_ms >= now)))
        return false;
    return true;
}

/* Fill job->write from the message and from what this vnode sees (c->mine). false: the conditions do
 * not hold, nothing is to be written. */
static bool plan(struct coord *c, struct job *job)
{
    const struct msg_PUT *put = job->put;
    struct sibling winner;
    bool existed = object_winner(&c->mine, c->wall_ms, &winner, NULL);

    job->flags = existed ? PUT_EXISTED : 0;
    job->write.expiry_ms = put->expiry;
    job->write.value = put->value;
    if (!existed && (put->op == PUT_EXPIRE || (put->flags & PUT_IF_EXISTS) != 0))
        return false;
    switch ((enum put_op)put->op) {
    case PUT_SET:
        if ((put->flags & PUT_KEEP_TTL) != 0)
            job->write.expiry_ms = existed ? winner.expiry_ms : 0;
        break;
    case PUT_DELETE:
        job->write.tombstone = true;
        break;
    case PUT_EXPIRE:
        if (!expiry_allowed(put->flags, winner.expiry_ms, put->expiry) ||
            (put->expiry == 0 && winner.expiry_ms == 0))
            return false;
        job->write.value = winner.value;
        job->write.tombstone = put->expiry != 0 && put->expiry <= c->wall_ms;
        break;
    }
    if (job->write.tombstone) {
        job->write.value = slice_of(NULL, 0);
        job->write.expiry_ms = 0;
    }
    return true;
}

/* The object as this vnode has it, into c->mine. */
static int load_own(struct coord *c, struct job *job)
{
    const struct place *p = job->place;
    int rc = c->host.load(c->host.arg, p->partition, &p->pos, job->put->key, &job->old);

    if (rc == 0)
        rc = object_open(&c->mine, job->old);
    if (rc == 0)
        return 0;
    /* A damaged object has cost the vnode its id, so that a new dot is safe: the write goes on from
     * nothing, and what the others have stays beside it. */
    if (rc == -ERR_CORRUPT)
        coord_count(c, COORD_LOCAL_CORRUPT, 1);
    else if (rc != -ERR_NOTFOUND)
        return rc;
    job->old = slice_of(NULL, 0);
    object_empty(&c->mine, job->put->key);
    return 0;
}

/* Apply the write to c->mine: the result goes to scratch_a, the writer's context to c->reply. */
static int apply(struct coord *c, struct job *job)
{
    const struct place *p = job->place;
    const struct object *old = &c->mine;

    if (COORD_BUG(DELETE_FORGETS) && job->write.tombstone) {
        object_empty(&c->theirs, job->put->key);
        old = &c->theirs;
    }
    for (int tries = 0;; tries++) {
        int rc = c->host.next_dot(c->host.arg, p->partition, &job->write.dot);

        if (rc != 0)
            return rc;
        buf_clear(c->scratch_a);
        rc = object_put(old, &job->write, c->scratch_a, &c->reply);
        if (rc == 1) /* the dot under which it was carried out, not a new one */
            ASSERT(object_carried_out(old, job->write.request_id, &job->write.dot));
        if (rc != -ERR_STALE || tries == 1)
            return rc;
        /* The object knows dots that this vnode does not remember to have issued. It may have issued
         * the highest of them again just now, so it is shown one that it cannot have. */
        struct dot seen = {job->write.dot.vnode, UINT64_MAX - 1};

        coord_count(c, COORD_NEW_VNODE_ID, 1);
        c->host.witness_dot(c->host.arg, p->partition, seen);
    }
}

/* From the message to the encoded object. 0, 1 (nothing to do, already answered) or an error. */
static int make(struct coord *c, struct job *job)
{
    const struct msg_PUT *put = job->put;
    int rc = load_own(c, job);

    if (rc != 0)
        return rc;
    if (put->op > PUT_EXPIRE)
        return -ERR_INVAL;
    job->write.seen = NULL;
    if ((put->flags & PUT_HAS_CONTEXT) != 0) {
        rc = causal_from_text(&c->seen, put->key, put->context);
        if (rc != 0)
            return rc;
        job->write.seen = &c->seen;
    }
    if (!plan(c, job)) {
        answer(c, job, 0);
        return 1;
    }
    job->write.time = hlc_now(&c->hlc, c->wall_ms);
    job->write.request_id = COORD_BUG(RETRY_TWICE) ? 0 : put->request_id;
    job->write.sibling_limit = c->conf.sibling_limit;
    rc = apply(c, job);
    if (rc < 0)
        return rc;
    job->flags |= PUT_APPLIED;
    job->duplicate = rc == 1;
    if ((put->flags & PUT_WANT_CONTEXT) == 0)
        return 0;
    const struct causal *context = &c->reply;

    if (COORD_BUG(JOINED_CONTEXT)) {
        ASSERT(object_open(&c->theirs, slice_of(buf_head(c->scratch_a), buf_len(c->scratch_a))) ==
               0);
        context = &c->theirs.causal;
    }
    rc = causal_to_text(context, put->key, c->text, sizeof c->text);
    if (rc < 0)
        return rc;
    job->context = slice_of(c->text, (size_t)rc);
    return 0;
}

/* Siblings pile up unseen unless somebody says so before the cap is reached. */
static void count_siblings(struct coord *c, const struct job *job)
{
    uint32_t half = c->conf.sibling_limit / 2;

    /* A write adds one at most, so that most writes need not be looked into. */
    if (job->write.seen == NULL || c->mine.sibling_count < half)
        return;
    ASSERT(object_open(&c->theirs, slice_of(buf_head(c->scratch_a), buf_len(c->scratch_a))) == 0);
    if (c->theirs.sibling_count > half)
        coord_count(c, COORD_SIBLINGS_NEAR, 1);
}

/* Is it the request that is wrong, so that no other coordinator would do better? */
static bool is_clients_fault(struct coord *c, int rc)
{
    if (rc == -ERR_BADCTX)
        coord_count(c, COORD_BADCTX, 1);
    else if (rc == -ERR_SIBLINGS)
        coord_count(c, COORD_SIBLINGS_OVER, 1);
    return rc == -ERR_BADCTX || rc == -ERR_SIBLINGS || rc == -ERR_LIMIT || rc == -ERR_INVAL;
}

/* ---- Into the store, and out to the others. */

/* Queue the answer of a write that is complete with the own copy. */
static void finish_alone(struct coord *c, const struct job *job, struct ack *ack)
{
    ack->kind = ACK_WRITE;
    ack->asker = *job->asker;
    ack->deadline_us = coord_deadline(c, 0);
    if (COORD_BUG(ACK_BEFORE_DURABLE))
        ack->lsn = 0;
    ack_push(c, ack);
}

static void replicate(struct coord *c, const struct job *job, struct request *r, struct ack *ack)
{
    const struct place *p = job->place;
    const struct msg_PUT *put = job->put;
    uint8_t w = coord_wanted(put->w, p->rule->w, p->n),
            dw = coord_wanted(put->dw, p->rule->dw, p->n);
    struct put_setup setup = {.w = w > dw ? w : dw,
                              .pw = coord_wanted(put->pw, p->rule->pw, p->n),
                              .sloppy = coord_is_sloppy(p),
                              .replica_us = 1000ull * c->conf.replica_ms,
                              .again_us = AGAIN_US,
                              .patience_us = 1000ull * c->conf.patience_ms,
                              .linger_us = coord_linger(c),
                              .deadline_us = coord_deadline(c, put->timeout_ms)};

    setup.w = setup.w > 0 ? setup.w : 1;
    coord_put_targets(c, p, put, r, &setup);
    setup.suspects = coord_suspects(c, r, setup.count);
    r->asker = *job->asker;
    r->dot = job->write.dot;
    r->pos = p->pos;
    r->partition = p->partition;
    r->epoch = c->view->epoch;
    r->flags = job->flags;
    r->start_us = c->now_us;
    r->deadline_us = setup.deadline_us;
    r->key = hold_keep(&c->holds, put->key);
    r->context = ack->context;
    r->old = ack->old;
    ack->context = ack->old = hold_nothing();
    if (setup.self >= setup.primaries)
        coord_count(c, COORD_FALLBACK_COORDINATOR, 1);
    put_init(&r->u.put, &setup);
    c->object_of = ack->request = r->id;
    c->object_loaded = false;
    c->object = slice_of(buf_head(c->scratch_a), buf_len(c->scratch_a));
    coord_put_event(c, r, (struct put_event){.kind = PUT_ON_START});
    c->object_of = 0;
    /* A fallback's own copy counts only together with its hint. */
    ack->kind = ACK_REQUEST;
    ack->lsn = c->last_lsn;
    ack_push(c, ack);
}

/* Does the write need anybody but this worker, or a deadline of its own? */
static bool is_alone(const struct job *job)
{
    const struct place *p = job->place;

    return p->n == 1 && p->self == 0 && p->other == NULL && job->put->w <= 1 && job->put->pw <= 1 &&
           job->put->dw <= 1 && job->put->timeout_ms == 0;
}

/* Is there room for everything that this write will need until it is answered? */
static bool has_room(const struct coord *c, const struct job *job, bool alone)
{
    uint32_t blocks = hold_blocks(job->context.len);

    if ((job->put->flags & PUT_RETURN_OLD) != 0)
        blocks += hold_blocks(job->old.len);
    if (!alone)
        blocks += hold_blocks(job->put->key.len);
    return blocks <= c->holds.free;
}

int coord_put_here(struct coord *c, const struct asker *asker, const struct place *place,
                   const struct msg_PUT *put)
{
    struct job job = {.asker = asker, .place = place, .put = put};
    bool alone = is_alone(&job);
    struct request *r = NULL;
    struct ack ack = {.context = hold_nothing(), .old = hold_nothing()};
    uint64_t horizon_ms;
    int rc;

    if (acks_full(&c->acks) || (!alone && c->table.first_free == COORD_NOWHERE))
        return -ERR_BUSY;
    if (coord_standing(c, place->partition, &horizon_ms) == STANDING_AWAY) {
        coord_count(c, COORD_NOTWHOLE, 1);
        return -ERR_NOTWHOLE;
    }
    rc = make(c, &job);
    if (rc == 0 && !has_room(c, &job, alone))
        rc = hold_blocks(job.old.len) > c->holds.count / 2 ? -ERR_LIMIT : -ERR_BUSY;
    if (rc == -ERR_BUSY)
        return rc;
    if (rc == 1)
        return 0;
    if (rc == 0) {
        /* The store takes the old object out of the host's hands. */
        ack.context = hold_keep(&c->holds, job.context);
        if ((put->flags & PUT_RETURN_OLD) != 0)
            ack.old = hold_keep(&c->holds, job.old);
        rc = c->host.store(c->host.arg, place->partition, &place->pos,
                           slice_of(buf_head(c->scratch_a), buf_len(c->scratch_a)),
                           job.write.tombstone, &ack.lsn);
    }
    if (rc != 0) {
        hold_drop(&c->holds, &ack.context);
        hold_drop(&c->holds, &ack.old);
        if (!is_clients_fault(c, rc))
            return rc;
        job.flags = 0;
        answer(c, &job, rc);
        return 0;
    }
    coord_count(c, COORD_PUT, 1);
    count_siblings(c, &job);
    if (job.duplicate)
        coord_count(c, COORD_DUPLICATE, 1);
    c->last_lsn = ack.lsn;
    ack.flags = job.flags;
    if (alone) {
        finish_alone(c, &job, &ack);
        return 0;
    }
    r = table_take(&c->table, REQUEST_PUT);
    replicate(c, &job, r, &ack);
    return 0;
}

/* ---- Actions. */

/* Have the request's object at hand: what the own vnode holds now, which may be more than what was
 * written then. */
static int have_object(struct coord *c, struct request *r)
{
    struct slice key;
    int rc;

    if (c->object_of == r->id)
        return 0;
    buf_clear(c->scratch_b);
    key = hold_bytes(&c->holds, &r->key, c->scratch_b);
    rc = c->host.load(c->host.arg, r->partition, &r->pos, key, &c->object);
    if (rc == 0)
        rc = object_open(&c->mine, c->object);
    /* A record that was damaged meanwhile may be there again, by way of others, without the write. */
    if (rc == 0 && !causal_covers(&c->mine.causal, r->dot))
        rc = -ERR_CORRUPT;
    if (rc != 0)
        return rc;
    c->object_of = r->id;
    c->object_loaded = true;
    return 0;
}

static int send_object(struct coord *c, struct request *r, const struct put_action *a)
{
    struct msg m = {
        .kind = MSG_MERGE,
        .u.MERGE = {.request = r->id, .epoch = r->epoch, .list = r->list, .also = r->also}};

    if (!c->host.reachable(c->host.arg, r->member[a->target], r->worker[a->target]))
        return -ERR_UNAVAILABLE;
    if (have_object(c, r) != 0)
        return -ERR_CORRUPT;
    m.u.MERGE.object = c->object;
    if (a->primary != PUT_NOBODY) {
        m.u.MERGE.hint = slice_of(c->view->members[r->member[a->primary]].id.b, NODE_ID_BYTES);
        coord_count(c, COORD_FALLBACK_WRITE, 1);
    }
    return c->host.send(c->host.arg, r->member[a->target], r->worker[a->target], &m);
}

static void keep_hint(struct coord *c, struct request *r, uint8_t primary)
{
    uint64_t lsn;
    int rc = c->host.hint_add(c->host.arg, r->partition, &c->view->members[r->member[primary]].id,
                              &r->pos, &lsn);

    if (rc == 0 && lsn > c->last_lsn)
        c->last_lsn = lsn;
    coord_count(c, rc == 0 ? COORD_HINT : COORD_HINT_FAILED, 1);
    if (c->object_loaded)
        c->object_of = 0;
}

static void tell(struct coord *c, struct request *r, const struct put_action *a)
{
    struct coord_reply reply = {
        .status = a->ok ? 0 : -ERR_NOQUORUM, .need = a->need, .got = a->got, .flags = r->flags};

    if (!a->ok) {
        coord_count(c, COORD_NOQUORUM, 1);
        if (c->now_us >= r->deadline_us)
            coord_count(c, COORD_TIMEOUT, 1);
    }
    coord_answer_held(c, &r->asker, &reply, &r->context, &r->old);
}

void coord_put_event(struct coord *c, struct request *r, struct put_event event)
{
    /* A send that fails is an event too; each target can fail once. */
    struct put_event queue[1 + LIMIT_WALK] = {event};
    struct put_actions actions;

    for (uint32_t at = 0, end = 1; at < end; at++) {
        put_step(&r->u.put, queue[at], c->now_us, &actions);
        for (uint32_t i = 0; i < actions.count; i++) {
            const struct put_action *a = &actions.list[i];

            switch ((enum put_action_kind)a->kind) {
            case PUT_DO_SEND:
                if (send_object(c, r, a) != 0) {
                    ASSERT(end <= LIMIT_WALK);
                    queue[end++] = (struct put_event){.kind = PUT_ON_FAIL, .target = a->target};
                }
                break;
            case PUT_DO_HINT:
                keep_hint(c, r, a->primary);
                break;
            case PUT_DO_BLAME:
                coord_blame(c, r, a->target);
                break;
            case PUT_DO_REPLY:
                tell(c, r, a);
                break;
            case PUT_DO_CLOSE:
                coord_release(c, r);
                return;
            }
        }
    }
    uint64_t due = put_due(&r->u.put);

    table_schedule(&c->table, r, due > c->now_us ? due : c->now_us + 1);
}
