/* The partitions of this node, as antientropyd sees them. See vnodes.h. */
#include "antientropyd/vnodes.h"

#include "base/err.h"

#include <stdlib.h>

enum { OPEN_MAX = 256, KEEP_US = 30000000 };

int vnodes_init(struct vnodes *v, const char *data_dir, uint8_t q_bits, uint64_t map_bytes)
{
    *v = (struct vnodes){
        .data_dir = data_dir, .q_bits = q_bits, .map_bytes = map_bytes, .partitions = 1u << q_bits};
    v->info = calloc(v->partitions, sizeof *v->info);
    return v->info == NULL ? -ERR_NOMEM : 0;
}

void vnodes_close(struct vnodes *v, uint32_t partition)
{
    struct vnode_info *i = &v->info[partition];

    if (i->snapshot == NULL)
        return;
    snapshot_close(i->snapshot);
    i->snapshot = NULL;
    v->open--;
}

static void close_oldest(struct vnodes *v)
{
    uint32_t oldest = v->partitions;

    for (uint32_t p = 0; p < v->partitions; p++)
        if (v->info[p].snapshot != NULL &&
            (oldest == v->partitions || v->info[p].used_us < v->info[oldest].used_us))
            oldest = p;
    vnodes_close(v, oldest);
}

int vnodes_snapshot(struct vnodes *v, uint32_t partition, uint64_t now_us, struct snapshot **out)
{
    struct vnode_info *i = &v->info[partition];

    if (i->snapshot != NULL && !snapshot_is_current(i->snapshot))
        vnodes_close(v, partition);
    if (i->snapshot == NULL) {
        if (v->open >= OPEN_MAX)
            close_oldest(v);
        int rc = snapshot_open(&i->snapshot, v->data_dir, partition, v->q_bits, v->map_bytes);

        if (rc != 0)
            return rc;
        v->open++;
    }
    i->used_us = now_us;
    *out = i->snapshot;
    return 0;
}

void vnodes_tidy(struct vnodes *v, uint64_t now_us)
{
    for (uint32_t p = 0; v->open > 0 && p < v->partitions; p++)
        if (v->info[p].snapshot != NULL && now_us - v->info[p].used_us > KEEP_US)
            vnodes_close(v, p);
}
