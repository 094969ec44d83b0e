/* Binds the pure coordination of core/coord.h to this worker's store and links. */
#ifndef CLOCKWISE_WORKERS_COORD_HOST_H
#define CLOCKWISE_WORKERS_COORD_HOST_H

#include "core/coord.h"

struct engine_replica;
struct worker;

/* The callbacks of struct coord_host over a worker; `arg` of each is the worker. */
void coord_host_fill(struct worker *w, struct coord_host *out);

/* Open, and where needed make, the vnodes that this worker owns as a primary in the view. Blocks for
 * file system calls: called before READY and when the ring itself has changed. */
void coord_host_open_vnodes(struct worker *w);

/* What the own vnode knows of a key: struct engine's `replica`; arg is the worker. */
int coord_host_replica(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                       struct engine_replica *out);

#endif
