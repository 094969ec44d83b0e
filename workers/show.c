/* What a worker holds of one key, for whoever asks. Runs in a worker. */
#include "workers/show.h"

#include "base/err.h"
#include "core/object.h"
#include "workers/handoff_host.h"

#include <string.h>

/* For whom are hints held at this position? Any member may be owed one, also one that the ring has given
 * the partition to or taken it from. */
static void find_owed(struct worker *w, uint32_t partition, const struct position *pos,
                      struct engine_shown *out)
{
    for (uint16_t i = 0; i < w->view.member_count && out->owed < LIMIT_WALK; i++) {
        const struct node_id *id = &w->view.members[i].id;

        if (i != w->view.self && handoff_host_holds(w, partition, id, pos))
            out->owed_to[out->owed++] = *id;
    }
}

static int describe(struct worker *w, struct slice encoded, struct engine_shown *out, char *text,
                    struct slice *context)
{
    struct object *o = &w->show;
    struct sibling s;
    int rc = object_open(o, encoded);

    if (rc != 0)
        return rc;
    rc = causal_to_text(&o->causal, o->key, text, LIMIT_CONTEXT_TEXT);
    if (rc < 0)
        return rc;
    *context = slice_of(text, (size_t)rc);
    out->digest = object_digest(o);
    for (size_t cursor = 0; object_next(o, &cursor, &s);)
        out->siblings++;
    return 0;
}

int show_own(struct worker *w, struct slice key, struct engine_shown *out,
             char text[LIMIT_CONTEXT_TEXT], struct slice *context)
{
    struct position pos = position_of(key);
    struct slice object;
    uint64_t horizon_ms;

    memset(out, 0, sizeof *out);
    *context = slice_of("", 0);
    if (w->view.epoch == 0)
        return -ERR_UNAVAILABLE;
    uint32_t partition = position_partition(&pos, w->view.q_bits);

    if (ring_worker_of(partition, w->workers) != w->index)
        return -ERR_STALE;
    out->vnode_id = store_vnode_id(w->store, partition);
    if (out->vnode_id == 0)
        return 0;
    out->standing = store_standing(w->store, partition, &horizon_ms);
    find_owed(w, partition, &pos, out);
    int rc = store_get(w->store, partition, &pos, key, &object);

    if (rc == 0)
        return describe(w, object, out, text, context);
    return rc == -ERR_NOTFOUND ? 0 : rc;
}
