/* This worker as a replica: objects merged into its vnodes, on behalf of other coordinators and of
 * its own reads, and its vnodes read for others. Runs in workers and in the simulator. */
#include "core/coord_change.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

/* Show the vnode every dot that others have seen: among them may be dots of its own that it does not
 * remember, and then it needs a new id before it writes again. */
static void witness(struct coord *c, uint32_t partition, const struct causal *seen)
{
    int changed = 0;

    if (COORD_BUG(NO_WITNESS))
        return;
    for (uint32_t i = 0; i < seen->vector_count; i++)
        changed |= c->host.witness_dot(c->host.arg, partition, seen->vector[i]);
    for (uint32_t i = 0; i < seen->cloud_count; i++)
        changed |= c->host.witness_dot(c->host.arg, partition, seen->cloud[i]);
    if (changed > 0)
        coord_count(c, COORD_NEW_VNODE_ID, 1);
}

/* Follow the clocks of others, so that what is written here next is not older than what is seen. */
static void observe(struct coord *c, const struct object *o)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(o, &cursor, &s);)
        hlc_observe(&c->hlc, s.time, c->wall_ms);
}

enum standing coord_standing(const struct coord *c, uint32_t partition, uint64_t *horizon_ms)
{
    enum standing standing = STANDING_WHOLE;

    *horizon_ms = 0;
    if (c->host.standing != NULL)
        standing = (enum standing)c->host.standing(c->host.arg, partition, horizon_ms);
    if (standing != STANDING_WHOLE)
        *horizon_ms = 0;
    if (standing == STANDING_AWAY && COORD_BUG(AWAY_SERVES))
        return STANDING_WHOLE;
    if (standing == STANDING_MISSING && COORD_BUG(NOTHING_COUNTS))
        return STANDING_WHOLE;
    return standing;
}

/* Take what is dead out of c->theirs, given what the own vnode holds (c->mine). */
static int bury(struct coord *c, uint32_t partition, struct merged *out)
{
    uint64_t horizon_ms;
    int rc;

    coord_standing(c, partition, &horizon_ms);
    buf_clear(c->scratch_b);
    rc = horizon_bury(&c->mine, &c->theirs, horizon_ms, c->scratch_b);
    if (rc <= 0)
        return rc;
    coord_count(c, COORD_BURIED, 1);
    out->dead = rc == 2;
    if (rc == 1)
        rc = object_open(&c->theirs, slice_of(buf_head(c->scratch_b), buf_len(c->scratch_b)));
    return rc == 2 ? 0 : rc;
}

/* c->theirs merged with `own`, which c->mine shows: the result is one of the two or in scratch_a. */
static int merge_objects(struct coord *c, struct slice own, struct merged *out)
{
    int rc;

    if (slice_equal(own, c->theirs.encoded)) {
        out->object = own;
        return 0;
    }
    if (COORD_BUG(MERGE_FORGETS_VECTOR)) {
        struct sibling s;

        causal_clear(&c->mine.causal);
        for (size_t cursor = 0; object_next(&c->mine, &cursor, &s);)
            causal_see(&c->mine.causal, s.dot);
    }
    buf_clear(c->scratch_a);
    rc = object_merge(&c->mine, &c->theirs, c->scratch_a);
    if (rc != 0)
        return rc;
    out->object = slice_of(buf_head(c->scratch_a), buf_len(c->scratch_a));
    out->news = !slice_equal(own, out->object);
    return 0;
}

/* c->theirs merged with what the own vnode holds. */
static int merge_with_vnode(struct coord *c, uint32_t partition, const struct position *pos,
                            bool repair, struct merged *out)
{
    struct slice own;
    int rc = c->host.load(c->host.arg, partition, pos, c->theirs.key, &own), buried;

    if (rc == 0)
        rc = object_open(&c->mine, own);
    if (rc == -ERR_CORRUPT)
        coord_count(c, COORD_LOCAL_CORRUPT, 1);
    if (rc != 0)
        object_empty(&c->mine, c->theirs.key);
    if (repair && (rc == 0 || rc == -ERR_NOTFOUND)) {
        buried = bury(c, partition, out);
        if (buried != 0 || out->dead)
            return buried;
    }
    if (rc == 0 && !COORD_BUG(MERGE_OVERWRITES))
        return merge_objects(c, own, out);
    out->object = c->theirs.encoded;
    out->news = true;
    return rc == -ERR_NOTFOUND || rc == -ERR_CORRUPT ? 0 : rc;
}

static int open_theirs(struct coord *c, const struct slice *expected, struct slice incoming,
                       struct merged *out)
{
    int rc = object_open(&c->theirs, incoming);

    *out = (struct merged){.object = slice_of(NULL, 0), .lsn = c->last_lsn};
    if (rc != 0) {
        coord_count(c, COORD_PEER_CORRUPT, 1);
        return rc;
    }
    out->digest = object_digest(&c->theirs);
    return expected == NULL || slice_equal(*expected, c->theirs.key) ? 0 : -ERR_INVAL;
}

/* Was what came (c->theirs) older than any hint may be? */
static bool is_late(const struct coord *c)
{
    bool tombstone;

    return c->host.late != NULL && c->conf.late_after_ms != 0 &&
           horizon_time(&c->theirs, c->wall_ms, &tombstone) + c->conf.late_after_ms <= c->wall_ms;
}

int coord_merge_in(struct coord *c, uint32_t partition, const struct position *pos,
                   const struct slice *expected, struct slice incoming, bool repair,
                   struct merged *out)
{
    int rc = open_theirs(c, expected, incoming, out);

    if (rc != 0)
        return rc;
    witness(c, partition, &c->theirs.causal);
    observe(c, &c->theirs);
    rc = merge_with_vnode(c, partition, pos, repair, out);
    if (rc != 0 || !out->news)
        return rc;
    rc = c->host.store(c->host.arg, partition, pos, out->object, false, &out->lsn);
    if (rc != 0)
        return rc;
    c->last_lsn = out->lsn;
    if (is_late(c))
        c->host.late(c->host.arg, partition);
    return 0;
}

int coord_merge_with(struct coord *c, struct slice own, const struct slice *expected,
                     struct slice incoming, struct merged *out)
{
    int rc = open_theirs(c, expected, incoming, out);

    if (rc == 0)
        rc = object_open(&c->mine, own);
    return rc == 0 ? merge_objects(c, own, out) : rc;
}

/* ---- MERGE */

static void answer_merge(struct coord *c, const struct asker *asker, int status)
{
    if (asker->id != 0)
        coord_send(c, asker->member, asker->worker,
                   &(struct msg){.kind = MSG_MERGED,
                                 .u.MERGED = {.request = asker->id, .status = (uint32_t)-status}});
}

static int keep_hint(struct coord *c, uint32_t partition, const struct position *pos,
                     struct slice target)
{
    struct node_id id;
    uint64_t lsn;
    int rc;

    if (target.len != NODE_ID_BYTES)
        return target.len == 0 ? 0 : -ERR_FORMAT;
    if (COORD_BUG(FALLBACK_HINT_FORGOTTEN))
        return 0;
    memcpy(id.b, target.data, NODE_ID_BYTES);
    rc = c->host.hint_add(c->host.arg, partition, &id, pos, &lsn);
    if (rc == 0 && lsn > c->last_lsn)
        c->last_lsn = lsn;
    coord_count(c, rc == 0 ? COORD_HINT : COORD_HINT_FAILED, 1);
    /* Hints are capped, writes are not: the copy counts, and its way home is anti-entropy's. */
    return rc == -ERR_LIMIT ? 0 : rc;
}

/* Merge and queue the answer for when it is durable. */
static int merge(struct coord *c, const struct asker *asker, const struct msg_MERGE *m)
{
    struct place place;
    struct slice key;
    struct merged merged;
    uint64_t horizon_ms;
    int rc = object_peek_key(m->object, &key);

    if (rc != 0)
        return rc;
    if (!coord_place(c, key, &place))
        return -ERR_UNAVAILABLE;
    if (!place.mine) {
        coord_count(c, COORD_WRONG_WORKER, 1);
        return -ERR_STALE;
    }
    /* What cannot be answered is not stored either: the coordinator will try again or elsewhere. */
    if (acks_full(&c->acks))
        return -ERR_BUSY;
    if (m->hint.len == 0 && coord_is_outsider(c, &place, m->epoch))
        return -ERR_STALE;
    if (coord_standing(c, place.partition, &horizon_ms) == STANDING_AWAY)
        return -ERR_NOTWHOLE;
    rc = coord_merge_in(c, place.partition, &place.pos, NULL, m->object,
                        (m->flags & (MERGE_REPAIR | MERGE_HANDOFF)) != 0, &merged);
    if (rc == 0)
        rc = keep_hint(c, place.partition, &place.pos, m->hint);
    if (rc != 0)
        return rc;
    coord_count(c, COORD_MERGE, 1);
    coord_count(c, COORD_MERGE_NEWS, merged.news);
    if (asker->id == 0)
        return 0;
    rc = coord_fence_write(c, &place, m->epoch, m->list, m->also);
    if (rc != 0)
        return rc;
    /* An object that was there already may still be on its way to the disk. */
    struct ack ack = {.kind = ACK_MERGE, .asker = *asker, .lsn = c->last_lsn};

    ack.context = ack.old = hold_nothing();
    if (COORD_BUG(MERGED_BEFORE_DURABLE)) {
        answer_merge(c, asker, 0);
        return 0;
    }
    ack_push(c, &ack);
    return 0;
}

void coord_serve_merge(struct coord *c, const struct asker *asker, const struct msg_MERGE *m)
{
    int rc;

    if (m->epoch != 0 && c->view != NULL && m->epoch != c->view->epoch)
        coord_count(c, COORD_STALE_EPOCH, 1);
    rc = merge(c, asker, m);
    if (rc != 0)
        answer_merge(c, asker, rc);
}

/* ---- READ */

static int read_own(struct coord *c, const struct msg_READ *m, struct msg_READ_DONE *out)
{
    struct place place;
    struct slice object;
    enum standing standing;
    uint64_t horizon_ms;
    int rc;

    if (!coord_place(c, m->key, &place))
        return -ERR_UNAVAILABLE;
    if (!place.mine) {
        coord_count(c, COORD_WRONG_WORKER, 1);
        return -ERR_STALE;
    }
    rc = coord_fence_read(c, &place, m->epoch, m->list);
    if (rc != 0)
        return rc;
    standing = coord_standing(c, place.partition, &horizon_ms);
    if (standing == STANDING_AWAY)
        return -ERR_NOTWHOLE;
    rc = c->host.load(c->host.arg, place.partition, &place.pos, m->key, &object);
    if (rc == -ERR_NOTFOUND && coord_is_outsider(c, &place, m->epoch))
        return -ERR_STALE;
    if (rc == -ERR_NOTFOUND)
        return standing == STANDING_MISSING && place.self < place.n ? -ERR_NOTWHOLE : 0;
    if (rc == 0)
        rc = object_open(&c->mine, object);
    if (rc == -ERR_CORRUPT)
        coord_count(c, COORD_LOCAL_CORRUPT, 1);
    if (rc != 0)
        return rc;
    out->digest = object_digest(&c->mine);
    if ((m->flags & READ_DIGEST) == 0)
        out->object = object;
    return 0;
}

void coord_serve_read(struct coord *c, const struct asker *asker, const struct msg_READ *m)
{
    struct msg answer = {.kind = MSG_READ_DONE, .u.READ_DONE = {.request = m->request}};
    int rc;

    if (m->epoch != 0 && c->view != NULL && m->epoch != c->view->epoch)
        coord_count(c, COORD_STALE_EPOCH, 1);
    rc = read_own(c, m, &answer.u.READ_DONE);
    answer.u.READ_DONE.status = (uint32_t)-rc;
    coord_count(c, COORD_READ, 1);
    coord_send(c, asker->member, asker->worker, &answer);
}
