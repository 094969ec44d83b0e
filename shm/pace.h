/* How fast work in the background may go while clients have to wait for its sake: requests' 99th
 * percentile of the last while against what it was at rest. Half as much again is too much: the
 * aim is less than twice over all, which docs/anti-entropy.md measures. Used by antientropyd for its bytes and by workers for hints; the unit of a
 * budget is its user's. One thread; nothing blocks. */
#ifndef CLOCKWISE_SHM_PACE_H
#define CLOCKWISE_SHM_PACE_H

#include "shm/worker_seg.h"

struct pace { /* zero bytes: nothing is known yet */
    uint64_t rest_us, budget;
};

/* Add the requests of a worker since the last look to `out`; `before` is kept by the caller for each worker,
 * zeroed at first. */
void pace_recent(struct hist *before, const struct worker_body *body, struct hist *out);

/* Every 100 ms or more: from the requests since the last look, and from whether there was work in the
 * background, to a new p->budget, from least to most. true: it was cut. */
bool pace_step(struct pace *p, const struct hist *recent, bool working, uint64_t least,
               uint64_t most);

#endif
