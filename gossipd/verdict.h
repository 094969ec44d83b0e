/* Which workers of this node find which members down, now. Values only; nothing blocks. */
#ifndef CLOCKWISE_GOSSIPD_VERDICT_H
#define CLOCKWISE_GOSSIPD_VERDICT_H

#include "core/ring.h"

struct verdict_table {
    uint32_t count;
    struct verdict_row {
        struct node_id id;
        uint64_t
            down[LIMIT_WORKERS]; /* by worker of this node: a bit for each worker of the member */
    } row[LIMIT_MEMBERS];
};

/* Worker `from` of this node says that `worker` of a member is down, or up again. Numbers that no
 * worker has, and more members than a ring may have, are ignored. */
void verdict_note(struct verdict_table *t, const struct node_id *id, uint32_t from, uint32_t worker,
                  bool down);

/* Worker `from` has been started anew: what it said before is void. */
void verdict_forget(struct verdict_table *t, uint32_t from);

/* How many workers of this node find a worker of this member down. */
uint32_t verdict_count(const struct verdict_table *t, const struct node_id *id);

#endif
