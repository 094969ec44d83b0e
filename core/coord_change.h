/* Coordination while the ring changes. Shared between the files of core/coord*.c and nobody else. */
#ifndef CLOCKWISE_CORE_COORD_CHANGE_H
#define CLOCKWISE_CORE_COORD_CHANGE_H

#include "core/coord_impl.h"

/* Whom a write coordinated here goes to: the primaries of the list in force, those of the other list
 * while the partition moves, then fallbacks; this node last if it is none of them. Fills r's members,
 * workers and lists, and the indices and counts of setup but for those of the list in force. */
void coord_put_targets(struct coord *c, const struct place *p, const struct msg_PUT *put,
                       struct request *r, struct put_setup *setup);

/* May a write of a coordinator in this ring epoch be counted in the lists with these prints alone
 * (core/msg.def, MERGE)? -ERR_STALE: not any more, as far as this node knows. What is stored is stored
 * all the same. Strict quorums only: list is 0 in others. */
int coord_fence_write(struct coord *c, const struct place *p, uint64_t epoch, uint32_t list,
                      uint32_t also);

/* Likewise for a read of the list with this print. */
int coord_fence_read(struct coord *c, const struct place *p, uint64_t epoch, uint32_t list);

/* Is this node, as it knows and the asker does not know yet, no replica of the partition any more? Then
 * "nothing" is no answer, and there is no place to keep anything. */
bool coord_is_outsider(const struct coord *c, const struct place *p, uint64_t epoch);

#endif
