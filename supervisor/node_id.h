/* The node's directories: made, locked, and given an identity. */
#ifndef CLOCKWISE_SUPERVISOR_NODE_ID_H
#define CLOCKWISE_SUPERVISOR_NODE_ID_H

#include "core/ring.h"

#include <stddef.h>

/* Make a directory and its missing parents, mode 0700, and check that it is ours alone to write. 0 or
 * -ERR_DENIED, -ERR_IO with a reason in error. */
int node_id_make_dir(const char *path, char *error, size_t error_size);

/* Lock DIR/lock, DIR being the `what` directory, for the life of this process (*fd stays open). *started_ms, the wall clock, is raised
 * above that of the run before if the clock was set back since: incarnations are made from it. 0, or
 * -ERR_BUSY with a reason that names the holder if another process has the lock. */
int node_id_lock(const char *dir, const char *what, int *fd, uint64_t *started_ms, char *error,
                 size_t error_size);

/* Read DIR/node-id, or make it: 128 random bits, durable before the function returns. A file that is
 * there but unreadable is an error: a new identity would orphan everything that the node owns. */
int node_id_load(const char *dir, struct node_id *out, char *error, size_t error_size);

/* The number of workers that ran here last, 0 if none did. Durable when written. */
int node_id_read_workers(const char *dir, uint32_t *out, char *error, size_t error_size);
int node_id_write_workers(const char *dir, uint32_t workers, char *error, size_t error_size);

#endif
