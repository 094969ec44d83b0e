/* How many hints this worker holds. See hint_table.h. Knows no store and no network. */
#include "workers/hint_table.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

void hint_table_init(struct hint_table *t, uint32_t partitions)
{
    ASSERT(partitions <= LIMIT_PARTITIONS);
    memset(t, 0, sizeof *t);
    t->partitions = partitions;
}

void hint_table_free(struct hint_table *t)
{
    for (uint32_t i = 0; i < LIMIT_MEMBERS; i++)
        free(t->targets[i].pairs);
    hint_table_init(t, t->partitions);
}

int hint_table_add(struct hint_table *t, uint16_t member, uint32_t partition, uint32_t count,
                   uint64_t bytes, uint64_t time_ms)
{
    ASSERT(member < LIMIT_MEMBERS && partition < t->partitions);
    struct hint_target *target = &t->targets[member];

    if (target->pairs == NULL)
        target->pairs = calloc(t->partitions, sizeof *target->pairs);
    if (target->pairs == NULL)
        return -ERR_NOMEM;
    struct hint_pair *pair = &target->pairs[partition];

    if (pair->count == 0 || time_ms < pair->oldest_ms)
        pair->oldest_ms = time_ms;
    pair->count += count;
    pair->bytes += bytes;
    target->count += count;
    target->bytes += bytes;
    t->held[partition] += count;
    t->count += count;
    t->bytes += bytes;
    return 0;
}

void hint_table_remove(struct hint_table *t, uint16_t member, uint32_t partition)
{
    struct hint_pair *pair = hint_table_pair(t, member, partition);

    ASSERT(pair != NULL && t->held[partition] > 0);
    struct hint_target *target = &t->targets[member];
    uint64_t bytes = pair->bytes / pair->count;

    pair->bytes -= bytes;
    pair->count--;
    target->bytes -= bytes;
    target->count--;
    t->held[partition]--;
    t->bytes -= bytes;
    t->count--;
}

struct hint_pair *hint_table_pair(struct hint_table *t, uint16_t member, uint32_t partition)
{
    ASSERT(member < LIMIT_MEMBERS && partition < t->partitions);
    struct hint_pair *pairs = t->targets[member].pairs;

    return pairs == NULL || pairs[partition].count == 0 ? NULL : &pairs[partition];
}
