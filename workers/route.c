/* Routing hints for cluster clients. Runs in workers; only reads the ring view. */
#include "workers/route.h"

#include "workers/call.h"

/* A client that does not learn is served after so many MOVED in one ring epoch. */
#define MOVED_PER_EPOCH 10

bool route_slot(const struct engine *e, uint16_t slot, uint16_t *member, uint16_t *worker)
{
    if (e->view == NULL || e->index == NULL || e->view->epoch == 0)
        return false;
    uint32_t partition = (uint32_t)slot >> (14 - e->view->q_bits);
    const struct ring_walk *walk = &e->index->walk[partition];

    *member = e->view->self;
    for (unsigned i = 0; i < walk->count; i++) {
        if (e->view->members[walk->member[i]].state <= MEMBER_SUSPECT) {
            *member = walk->member[i];
            break;
        }
    }
    if (*member >= e->view->member_count)
        return false;
    *worker = ring_worker_of(partition, e->view->members[*member].workers);
    return true;
}

/* Is this a read that this worker may serve as one of the replicas that clients are told of? */
static bool serves_reads(const struct call *call, uint16_t slot)
{
    const struct engine *e = call->engine;
    uint32_t partition = (uint32_t)slot >> (14 - e->view->q_bits);
    const struct ring_walk *walk = &e->index->walk[partition];

    if (!e->conf.advertise_replicas || call->command->flags & CMD_WRITE ||
        ring_worker_of(partition, e->view->members[e->view->self].workers) != e->worker)
        return false;
    for (unsigned i = 0; i < walk->primaries; i++)
        if (walk->member[i] == e->view->self)
            return true;
    return false;
}

bool route_moved(struct call *call)
{
    struct conn *conn = call->conn;
    const struct ring_view *view = call->engine->view;
    uint16_t member, worker;
    uint16_t slot = position_slot_of_key(call->argv[call->command->first]);

    if (!route_slot(call->engine, slot, &member, &worker) ||
        (member == view->self && worker == call->engine->worker) || serves_reads(call, slot))
        return false;
    if (conn->moved_epoch != view->epoch) {
        conn->moved_epoch = view->epoch;
        conn->moved = 0;
    }
    if (conn->moved >= MOVED_PER_EPOCH)
        return false;
    conn->moved++;
    call->clients->stats.moved++;
    const struct member *m = &view->members[member];
    call_errorf(call, "MOVED %u %s:%u", slot, m->address, m->worker_port + worker);
    return true;
}
