/* The worker's side of anti-entropy: its antientropyd asks it to look at, fetch, merge and drop objects
 * of its vnodes (REPAIR_LOOK, FETCH, MERGE, DROP of core/repair.def). Runs in workers and in the
 * simulator. The other messages of that group are the host's business. */
#ifndef CLOCKWISE_CORE_COORD_REPAIR_H
#define CLOCKWISE_CORE_COORD_REPAIR_H

#include "core/coord.h"
#include "core/repair.h"

/* Objects and positions that one request may have; more is -ERR_LIMIT. */
#define COORD_REPAIR_MAX 16384

/* Carry out m and make its answer. *answer borrows from m and from out, which is cleared first: encode
 * it before anything else is done with the coord or the store. It may be sent when everything up to
 * *lsn is durable. answer->u.*.vnode is left for the host to set.
 *
 * Damaged objects are told as absent (the vnode is taking a new id); objects that this worker cannot
 * store are told one by one (REPAIR_TOOK_FAILED). Never fails as a whole but by answer status:
 * ERR_FORMAT (positions not ascending or not in the partition, objects that cannot be opened),
 * ERR_STALE (the partition is not this worker's), ERR_LIMIT, ERR_NOMEM. m->kind must be one of the
 * four. */
void coord_repair(struct coord *c, const struct repair *m, struct buf *out, struct repair *answer,
                  uint64_t *lsn, uint64_t now_us, uint64_t wall_ms);

#endif
