/* Binds the pure coordination of core/coord.h to this worker's store and links. */
#ifndef CLOCKWISE_WORKERS_COORD_HOST_H
#define CLOCKWISE_WORKERS_COORD_HOST_H

#include "core/coord.h"

struct worker;

/* The callbacks of struct coord_host over a worker; `arg` of each is the worker. */
void coord_host_fill(struct worker *w, struct coord_host *out);

/* Open, and where needed make, the vnodes that this worker owns as a primary of either table, from
 * w->open_at on, until the time is over (one at least). true: all are open. Blocks for file system
 * calls. */
bool coord_host_open_vnodes(struct worker *w, uint64_t until_us);

/* Is there a vnode of this partition here that can be believed when it says that a key is not there? */
bool coord_host_whole(const struct worker *w, uint32_t partition);

#endif
