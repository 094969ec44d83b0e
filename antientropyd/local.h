/* What antientropyd asks of the workers of its node, over their Unix sockets (core/repair.def, 50 to
 * 99). One connection for each worker, made again when it breaks; a worker that is away answers
 * nothing and everybody is told so. Nothing here blocks. */
#ifndef CLOCKWISE_ANTIENTROPYD_LOCAL_H
#define CLOCKWISE_ANTIENTROPYD_LOCAL_H

#include "core/repair.h"
#include "ipc/loop.h"

struct local;

/* The answer, or NULL if there will be none. Slices are valid during the call. */
typedef void local_fn(void *arg, const struct repair *answer);

struct local_conf {
    const char *runtime_dir; /* borrowed */
    uint16_t workers;
};

/* NULL without memory. */
struct local *local_new(const struct local_conf *conf, struct loop *loop);

/* Ask the worker that owns the partition; m's request number is set here. done is called later, once.
 * -ERR_UNAVAILABLE: the worker is away; -ERR_BUSY: too much is under way; -ERR_LIMIT, -ERR_NOMEM; then
 * done is not called. */
int local_ask(struct local *l, uint32_t partition, struct repair *m, local_fn *done, void *arg);

/* Whatever was asked with this arg: nobody wants to know any more. */
void local_forget(struct local *l, const void *arg);

/* Connect to workers that are not connected. Call about once a second and when a worker has come up. */
void local_tick(struct local *l);

#endif
