/* What a worker holds of one key, and to whom it owes it: its share of CW.EXPLAIN. One thread; reads the
 * own store alone. */
#ifndef CLOCKWISE_WORKERS_SHOW_H
#define CLOCKWISE_WORKERS_SHOW_H

#include "workers/worker.h"

/* *context: as text, in `text`. -ERR_STALE if the key's partition is another worker's, -ERR_UNAVAILABLE
 * without a ring, or an error of the store; `out` then holds what is known all the same. */
int show_own(struct worker *w, struct slice key, struct engine_shown *out,
             char text[LIMIT_CONTEXT_TEXT], struct slice *context);

#endif
