/* What waits for the disk, in the order of the journal. Journal numbers only rise, so the queue is a
 * ring that is filled at one end and answered at the other. Runs in workers and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"

void ack_push(struct coord *c, struct ack *ack)
{
    struct acks *a = &c->acks;

    ASSERT(!acks_full(a));
    if (a->tail != a->head && a->ring[(a->tail - 1) & a->mask].lsn > ack->lsn)
        ack->lsn = a->ring[(a->tail - 1) & a->mask].lsn;
    a->ring[a->tail++ & a->mask] = *ack;
    if (ack->lsn <= c->durable)
        ack_run(c);
}

static void serve(struct coord *c, struct ack *ack)
{
    struct request *r;

    c->object_of = 0;
    switch ((enum ack_kind)ack->kind) {
    case ACK_DONE:
        break;
    case ACK_WRITE: {
        struct coord_reply reply = {.need = 1, .got = 1, .flags = ack->flags};

        coord_answer_held(c, &ack->asker, &reply, &ack->context, &ack->old);
        break;
    }
    case ACK_REQUEST:
        r = table_find(&c->table, ack->request);
        if (r == NULL)
            break;
        if (r->kind == REQUEST_PUT)
            coord_put_event(c, r, (struct put_event){.kind = PUT_ON_DURABLE});
        else if (r->kind == REQUEST_GET && r->local_lsn <= c->durable)
            coord_get_event(c, r, (struct get_event){.kind = GET_ON_DURABLE});
        break;
    case ACK_MERGE:
        coord_send(c, ack->asker.member, ack->asker.worker,
                   &(struct msg){.kind = MSG_MERGED, .u.MERGED = {.request = ack->asker.id}});
        break;
    }
}

void ack_run(struct coord *c)
{
    struct acks *a = &c->acks;

    while (a->head != a->tail && a->ring[a->head & a->mask].lsn <= c->durable) {
        /* A copy: serving may queue another one in its place. */
        struct ack ack = a->ring[a->head & a->mask];

        if (a->timed == a->head)
            a->timed++;
        a->head++;
        serve(c, &ack);
    }
}

uint64_t ack_expire(struct coord *c)
{
    struct acks *a = &c->acks;

    for (; a->timed != a->tail; a->timed++) {
        struct ack *ack = &a->ring[a->timed & a->mask];

        if (ack->kind != ACK_WRITE)
            continue;
        if (ack->deadline_us > c->now_us)
            return ack->deadline_us;
        struct coord_reply reply = {.status = -ERR_NOQUORUM, .need = 1, .flags = ack->flags};

        coord_count(c, COORD_NOQUORUM, 1);
        coord_count(c, COORD_TIMEOUT, 1);
        ack->kind = ACK_DONE;
        coord_answer_held(c, &ack->asker, &reply, &ack->context, &ack->old);
    }
    return UINT64_MAX;
}
