/* Administrators' commands on their way to gossipd: connects to admin.sock in the runtime directory, sends
 * one frame, receives one (gossipd/admin.h has the format). Bounded in number, size and time; nothing
 * blocks. Runs in a worker. */
#ifndef CLOCKWISE_WORKERS_ADMIN_H
#define CLOCKWISE_WORKERS_ADMIN_H

#include "base/slice.h"
#include "ipc/loop.h"

#include <stdint.h>

struct admin;

/* What has come of a request: 0 and the answer, which begins with '+' or '-' (valid during the call);
 * or -ERR_UNAVAILABLE, -ERR_TIMEOUT, -ERR_FORMAT. */
typedef void admin_answer_fn(void *arg, uint64_t token, int rc, struct slice answer);

/* runtime_dir and arg are borrowed. -ERR_NOMEM. */
int admin_open(struct admin **out, struct loop *loop, const char *runtime_dir,
               admin_answer_fn *answer, void *arg);
void admin_close(struct admin *a);

/* Send a request. 0: the answer will come, in a later turn. -ERR_BUSY: too many are under way;
 * -ERR_UNAVAILABLE: gossipd does not listen; -ERR_NOMEM. */
int admin_ask(struct admin *a, uint64_t token, struct slice request);

#endif
