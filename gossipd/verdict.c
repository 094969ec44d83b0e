/* What the workers of this node say of their links to other members. Runs in gossipd. */
#include "gossipd/verdict.h"

#include <string.h>

void verdict_note(struct verdict_table *t, const struct node_id *id, uint32_t from, uint32_t worker,
                  bool down)
{
    struct verdict_row *row = NULL;

    if (from >= LIMIT_WORKERS || worker >= LIMIT_WORKERS)
        return;
    for (uint32_t i = 0; i < t->count && row == NULL; i++)
        if (node_id_equal(&t->row[i].id, id))
            row = &t->row[i];
    if (row == NULL && (!down || t->count == LIMIT_MEMBERS))
        return;
    if (row == NULL) {
        row = &t->row[t->count++];
        memset(row, 0, sizeof *row);
        row->id = *id;
    }
    if (down)
        row->down[from] |= 1ull << worker;
    else
        row->down[from] &= ~(1ull << worker);
}

void verdict_forget(struct verdict_table *t, uint32_t from)
{
    for (uint32_t i = 0; i < t->count && from < LIMIT_WORKERS; i++)
        t->row[i].down[from] = 0;
    /* Rows without a verdict are free again. */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (verdict_count(t, &t->row[i].id) > 0)
            t->row[kept++] = t->row[i];
    t->count = kept;
}

uint32_t verdict_count(const struct verdict_table *t, const struct node_id *id)
{
    uint32_t workers = 0;

    for (uint32_t i = 0; i < t->count; i++)
        if (node_id_equal(&t->row[i].id, id))
            for (uint32_t from = 0; from < LIMIT_WORKERS; from++)
                workers += t->row[i].down[from] != 0;
    return workers;
}
