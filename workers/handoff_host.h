/* Binds the hinted handoff of core/handoff.h to this worker's store and links, and keeps hints
 * within their caps. Everything is called from the worker's one thread and nothing blocks.
 *
 * After a start the hints on disk are counted first, a bounded piece in each turn; deliveries begin
 * when that is done. A cap is of one target and holds for the node: each worker takes its share. */
#ifndef CLOCKWISE_WORKERS_HANDOFF_HOST_H
#define CLOCKWISE_WORKERS_HANDOFF_HOST_H

#include "core/msg.h"
#include "core/position.h"
#include "core/ring.h"

struct worker;
struct handoff_state;

/* Made before the first view. -ERR_NOMEM. */
int handoff_host_open(struct worker *w);

/* The worker has a new view. Call after its vnodes have been opened. */
void handoff_host_view(struct worker *w);

/* The configuration has been reloaded. */
void handoff_host_reload(struct worker *w);

/* Keep a hint; as in core/coord.h. -ERR_LIMIT: the target's cap is reached, nothing is kept. */
int handoff_host_add(struct worker *w, uint32_t partition, const struct node_id *target,
                     const struct position *pos, uint64_t *lsn);

/* An answer whose number handoff_owns(). */
void handoff_host_receive(struct worker *w, const struct msg_MERGED *m);

void handoff_host_link_down(struct worker *w, uint16_t member, uint16_t worker);

/* Before every sleep of the loop: do what is due, and arm the timer for what is not. */
void handoff_host_turn(struct worker *w);

/* Every 100 ms or so: drop hints that are too old, and deliver fewer while clients have to wait. */
void handoff_host_sweep(struct worker *w);

/* Is a hint held for a target at one position? For CW.EXPLAIN. */
bool handoff_host_holds(struct worker *w, uint32_t partition, const struct node_id *target,
                        const struct position *pos);

/* Hints of all targets in one partition. */
uint64_t handoff_host_held(const struct worker *w, uint32_t partition);

/* Copy the numbers to the counters in shared memory. */
void handoff_host_publish(struct worker *w);

#endif
