/* How many hints this worker holds, by target and partition: what the store cannot say without
 * looking through all of them. Lives in the worker's heap; the truth is in the store. One thread. */
#ifndef CLOCKWISE_WORKERS_HINT_TABLE_H
#define CLOCKWISE_WORKERS_HINT_TABLE_H

#include "core/limits.h"

#include <stdint.h>

struct hint_pair { /* one target and one partition */
    uint32_t count;
    uint64_t bytes;     /* of the objects, as they were when the hints were made */
    uint64_t oldest_ms; /* no hint is older; the oldest may have gone since */
};

struct hint_target {
    struct hint_pair *pairs; /* [partitions]; NULL until there is a hint for it */
    uint64_t count, bytes;
};

struct hint_table {
    uint32_t partitions;
    struct hint_target targets[LIMIT_MEMBERS]; /* by index of the member in the view */
    uint64_t count, bytes;
    uint32_t held[LIMIT_PARTITIONS]; /* of all targets */
};

/* Fill with nothing. */
void hint_table_init(struct hint_table *t, uint32_t partitions);
void hint_table_free(struct hint_table *t);

/* Note `count` hints more. -ERR_NOMEM: not noted. */
int hint_table_add(struct hint_table *t, uint16_t member, uint32_t partition, uint32_t count,
                   uint64_t bytes, uint64_t time_ms);

/* Note that one has gone; its bytes are taken to be the average of its pair. There must be one. */
void hint_table_remove(struct hint_table *t, uint16_t member, uint32_t partition);

/* The pair, NULL if there is no hint in it. */
struct hint_pair *hint_table_pair(struct hint_table *t, uint16_t member, uint32_t partition);

#endif
