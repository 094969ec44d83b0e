/* Requests sent on to another coordinator: to the worker of this node that owns the partition, or to
 * another node of the walk. A write goes to the next node only when the one before has said that it has
 * not done any of it; otherwise its outcome is the other's to tell, or unknown. A read goes on to the next node when its first one fails or dawdles. Runs in
 * workers and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

/* Who may coordinate, in order: this node if it is a primary, the other primaries, then (in a sloppy
 * quorum) this node as a fallback and the other fallbacks. */
static uint8_t candidates(const struct coord *c, const struct place *p, struct request *r)
{
    uint8_t count = 0;
    uint16_t self = c->view->self;

    if (p->self < p->n)
        r->member[count++] = self;
    for (uint8_t i = 0; i < p->n; i++)
        if (p->walk->member[i] != self)
            r->member[count++] = p->walk->member[i];
    if (coord_is_sloppy(p) && p->self >= p->n && self != RING_NO_OWNER && count < LIMIT_WALK)
        r->member[count++] = self;
    for (uint8_t i = p->n; coord_is_sloppy(p) && i < p->walk->count && count < LIMIT_WALK; i++)
        if (p->walk->member[i] != self)
            r->member[count++] = p->walk->member[i];
    for (uint8_t i = 0; i < count; i++)
        r->worker[i] = (uint8_t)coord_worker_at(c, r->member[i], p->partition);
    return count;
}

static bool is_here(const struct coord *c, const struct request *r, uint8_t i)
{
    return r->member[i] == c->view->self && r->worker[i] == c->worker;
}

/* Let the coordinator give up a little before this worker does, so that its answer still counts. */
static uint32_t patience_ms(const struct coord *c, uint64_t deadline_us)
{
    uint64_t left = deadline_us > c->now_us ? (deadline_us - c->now_us) / 1000 : 0;

    left -= left / 8;
    return left > 0 ? (uint32_t)left : 1;
}

static uint64_t hop_time(const struct coord *c)
{
    /* The coordinator may itself have to wait for one silent replica. */
    return c->now_us + 2000ull * c->conf.replica_ms;
}

uint64_t coord_forward_due(const struct request *r)
{
    return r->kind == REQUEST_GET_AWAY && r->u.forward.hop_us < r->deadline_us ? r->u.forward.hop_us
                                                                               : r->deadline_us;
}

static struct request *begin(struct coord *c, const struct asker *asker, const struct place *p,
                             enum request_kind kind, uint32_t timeout_ms)
{
    struct request *r = table_take(&c->table, kind);

    if (r == NULL)
        return NULL;
    r->asker = *asker;
    r->pos = p->pos;
    r->partition = p->partition;
    r->start_us = c->now_us;
    r->deadline_us = coord_deadline(c, timeout_ms);
    r->u.forward = (struct forward){.count = candidates(c, p, r), .hop_us = UINT64_MAX};
    return r;
}

/* ---- Writes. */

static void end_put(struct coord *c, struct request *r, const struct coord_reply *reply)
{
    struct asker asker = r->asker;

    if (reply->status == -ERR_UNKNOWN)
        coord_count(c, COORD_UNKNOWN, 1);
    coord_release(c, r);
    coord_answer_put(c, &asker, reply);
}

enum passed { PASSED_ON, PASSED_HERE, PASSED_NOWHERE };

/* Send a write to the first candidate from index `from` on that can be sent to; PASSED_HERE: it is this
 * worker's turn. */
static enum passed pass_put(struct coord *c, struct request *r, uint8_t from,
                            const struct msg_PUT *put)
{
    struct msg m = {.kind = MSG_PUT, .u.PUT = *put};

    m.u.PUT.request = r->id;
    m.u.PUT.epoch = c->view->epoch;
    m.u.PUT.timeout_ms = patience_ms(c, r->deadline_us);
    for (uint8_t i = from; i < r->u.forward.count; i++) {
        bool here = is_here(c, r, i);

        if (here && !r->u.forward.not_here)
            return PASSED_HERE;
        if (here || coord_send(c, r->member[i], r->worker[i], &m) != 0)
            continue;
        r->u.forward.at = i;
        coord_count(c, from == 0 ? COORD_PUT_FORWARDED : COORD_PUT_REROUTED, 1);
        table_schedule(&c->table, r, coord_forward_due(r));
        return PASSED_ON;
    }
    return PASSED_NOWHERE;
}

int coord_forward_put(struct coord *c, const struct asker *asker, const struct place *place,
                      const struct msg_PUT *put, int failed)
{
    struct request *r = begin(c, asker, place, REQUEST_PUT_AWAY, put->timeout_ms);

    if (r == NULL)
        return -ERR_BUSY;
    r->u.forward.not_here = failed != 0;
    switch (pass_put(c, r, 0, put)) {
    case PASSED_HERE:
        coord_release(c, r);
        return coord_put_here(c, asker, place, put);
    case PASSED_ON:
        /* It is kept in case it is refused, unless that would leave others without room. */
        r->u.forward.again = coord_kept_blocks(put) <= c->holds.free / 2;
        if (r->u.forward.again)
            coord_keep_put(c, r, &r->u.forward.kept, put);
        if (COORD_BUG(FORWARD_RESENT))
            end_put(c, r, &(struct coord_reply){.flags = PUT_APPLIED});
        return 0;
    case PASSED_NOWHERE:
        break;
    }
    /* Nobody could be sent to: nothing has happened, and nothing will. */
    if (failed != 0) {
        end_put(c, r, &(struct coord_reply){.status = failed});
        return 0;
    }
    coord_count(c, COORD_NOQUORUM, 1);
    end_put(c, r,
            &(struct coord_reply){.status = -ERR_NOQUORUM,
                                  .need = coord_wanted(put->w, place->rule->w, place->n)});
    return 0;
}

/* Does this answer say that the coordinator can not take the write, and has not done any of it? (One that
 * is busy has let it wait for nearly all the time that there is.) */
static bool is_refused(uint32_t status)
{
    return status == ERR_NOTWHOLE || status == ERR_STALE || status == ERR_UNAVAILABLE ||
           status == ERR_DISKFULL || status == ERR_CORRUPT || status == ERR_IO;
}

/* A write that was refused goes to the next candidate; if there is none, the refusal is its answer. */
static void put_again(struct coord *c, struct request *r, int status)
{
    struct asker asker = r->asker;
    struct place place;
    struct msg_PUT put;

    while (r->u.forward.again && c->now_us < r->deadline_us &&
           coord_kept_put(c, r, &r->u.forward.kept, &put)) {
        enum passed passed = pass_put(c, r, r->u.forward.at + 1, &put);

        if (passed == PASSED_ON)
            return;
        if (passed == PASSED_NOWHERE)
            break;
        put.timeout_ms = patience_ms(c, r->deadline_us);
        status = coord_place(c, put.key, &place) && place.mine
                     ? coord_put_here(c, &asker, &place, &put)
                     : -ERR_STALE;
        if (status == 0) {
            coord_release(c, r);
            return;
        }
        r->u.forward.not_here = true;
    }
    end_put(c, r, &(struct coord_reply){.status = status});
}

/* ---- Reads. */

static void end_get(struct coord *c, struct request *r, const struct coord_reply *reply)
{
    struct asker asker = r->asker;

    coord_release(c, r);
    coord_answer_get(c, &asker, reply);
}

static void get_message(struct coord *c, const struct request *r, struct msg_GET *out)
{
    buf_clear(c->scratch_b);
    *out = (struct msg_GET){.request = r->id,
                            .epoch = c->view->epoch,
                            .key = hold_bytes(&c->holds, &r->key, c->scratch_b),
                            .flags = r->u.forward.flags,
                            .r = r->u.forward.r,
                            .pr = r->u.forward.pr,
                            .timeout_ms = patience_ms(c, r->deadline_us)};
}

/* Coordinate here after all. The request's slot is free again when this is called for. */
static void get_at_home(struct coord *c, struct request *r, const struct msg_GET *get)
{
    struct asker asker = r->asker;
    uint64_t deadline_us = r->deadline_us;
    struct place place;

    /* get->key may lie in what the request holds, whose blocks nobody takes before it is copied:
     * they are given back after the read has begun. */
    struct hold key = r->key;

    r->key = hold_nothing();
    coord_release(c, r);
    if (!coord_place(c, get->key, &place) || !place.mine ||
        coord_get_here(c, &asker, &place, get, deadline_us) != 0)
        coord_answer_get(c, &asker, &(struct coord_reply){.status = -ERR_BUSY});
    hold_drop(&c->holds, &key);
}

/* Send a read to the first candidate from index `from` on that can be sent to. If there is none, it
 * goes on waiting for those who have it, or has failed if `waiting` is false: nobody has. */
static void send_get(struct coord *c, struct request *r, uint8_t from, bool waiting)
{
    struct msg m = {.kind = MSG_GET};

    get_message(c, r, &m.u.GET);
    for (uint8_t i = from; i < r->u.forward.count; i++) {
        if (is_here(c, r, i)) {
            get_at_home(c, r, &m.u.GET);
            return;
        }
        if (coord_send(c, r->member[i], r->worker[i], &m) != 0)
            continue;
        r->u.forward.at = i;
        r->u.forward.hop_us = hop_time(c);
        coord_count(c, from == 0 ? COORD_GET_FORWARDED : COORD_GET_REROUTED, 1);
        table_schedule(&c->table, r, coord_forward_due(r));
        return;
    }
    if (waiting) {
        r->u.forward.hop_us = UINT64_MAX;
        table_schedule(&c->table, r, coord_forward_due(r));
        return;
    }
    coord_count(c, COORD_NOQUORUM, 1);
    end_get(c, r, &(struct coord_reply){.status = -ERR_NOQUORUM, .need = r->u.forward.need});
}

int coord_forward_get(struct coord *c, const struct asker *asker, const struct place *place,
                      const struct msg_GET *get)
{
    struct request *r;

    if (hold_blocks(get->key.len) > c->holds.free)
        return -ERR_BUSY;
    r = begin(c, asker, place, REQUEST_GET_AWAY, get->timeout_ms);
    if (r == NULL)
        return -ERR_BUSY;
    r->key = hold_keep(&c->holds, get->key);
    r->u.forward.need = coord_wanted(get->r, place->rule->r, place->n);
    r->u.forward.r = get->r;
    r->u.forward.pr = get->pr;
    r->u.forward.flags = get->flags;
    send_get(c, r, 0, false);
    return 0;
}

/* ---- Outcomes. */

void coord_forward_done(struct coord *c, struct request *r, const struct msg *m)
{
    if (m->kind == MSG_PUT_DONE) {
        const struct msg_PUT_DONE *done = &m->u.PUT_DONE;

        if (is_refused(done->status) && !COORD_BUG(REFUSAL_IS_FINAL)) {
            put_again(c, r, -(int)done->status);
            return;
        }
        end_put(c, r,
                &(struct coord_reply){.status = -(int)done->status,
                                      .need = done->need,
                                      .got = done->got,
                                      .flags = done->flags,
                                      .context = done->context,
                                      .object = done->old});
        return;
    }
    const struct msg_GET_DONE *done = &m->u.GET_DONE;
    bool refused = done->status == ERR_BUSY || done->status == ERR_STALE ||
                   done->status == ERR_UNAVAILABLE || done->status == ERR_NOTWHOLE;

    if (refused && r->u.forward.at + 1 < r->u.forward.count) {
        send_get(c, r, r->u.forward.at + 1, false);
        return;
    }
    end_get(c, r,
            &(struct coord_reply){.status = -(int)done->status,
                                  .need = done->need,
                                  .got = done->got,
                                  .object = done->object});
}

void coord_forward_lost(struct coord *c, struct request *r, bool timeout)
{
    bool over = c->now_us >= r->deadline_us;

    if (timeout && over)
        coord_count(c, COORD_TIMEOUT, 1);
    if (r->kind == REQUEST_PUT_AWAY) {
        if (COORD_BUG(FORWARD_LOST_IS_OK))
            end_put(c, r, &(struct coord_reply){.flags = PUT_APPLIED});
        else if (COORD_BUG(LOST_IS_RESENT))
            put_again(c, r, -ERR_UNKNOWN);
        else
            end_put(c, r, &(struct coord_reply){.status = -ERR_UNKNOWN});
        return;
    }
    if (over) {
        end_get(c, r, &(struct coord_reply){.status = -ERR_TIMEOUT});
        return;
    }
    if (timeout && r->u.forward.at + 1 == r->u.forward.count) {
        send_get(c, r, r->u.forward.count, true);
        return;
    }
    /* After the last one the first is asked again: links come back, and the time limit ends it. */
    send_get(c, r, (uint8_t)((r->u.forward.at + 1) % r->u.forward.count), timeout);
}
