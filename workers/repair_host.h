/* The worker's ear for its antientropyd: a Unix socket in the runtime directory on which LOOK, FETCH,
 * MERGE, DROP and their like of core/repair.def are asked. Every answer waits until what it tells is
 * durable. Nothing here blocks; what is asked is taken one message a turn, and not at all while
 * clients are being slowed down. */
#ifndef CLOCKWISE_WORKERS_REPAIR_HOST_H
#define CLOCKWISE_WORKERS_REPAIR_HOST_H

#include "ipc/loop.h"

struct worker;
struct repair_host;

/* Listen. -ERR_NOMEM, -ERR_IO, -ERR_LIMIT (the path is too long). *out is owned by the caller. */
int repair_host_open(struct repair_host **out, struct worker *w);
void repair_host_close(struct repair_host *h);

/* Everything stored up to lsn is durable: send the answers that waited for it. */
void repair_host_durable(struct repair_host *h, uint64_t lsn);

#endif
