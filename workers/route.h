/* Which worker of which node a key belongs to, as cluster clients are told. Used by workers. */
#ifndef CLOCKWISE_WORKERS_ROUTE_H
#define CLOCKWISE_WORKERS_ROUTE_H

#include "workers/command.h"

/* The member and worker that cluster clients should send a slot to: the first owner believed to be
 * up, and this node if none is. false before there is a ring. */
bool route_slot(const struct engine *e, uint16_t slot, uint16_t *member, uint16_t *worker);

/* On a worker port: reply MOVED if the first key belongs to another worker and this connection has
 * not been told too often in this ring epoch. Returns true if it replied. */
bool route_moved(struct call *call);

#endif
