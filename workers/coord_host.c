/* What the coordination asks of its host, done with the worker's store and links. Runs in a worker;
 * adds no rule of its own. */
#include "workers/coord_host.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "core/coord_event.h"
#include "store/store.h"
#include "workers/handoff_host.h"
#include "workers/link_set.h"
#include "workers/worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEAD_BYTES (64u << 20) /* of values dropped as dead that are kept in one run */

static int host_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct worker *w = arg;

    return link_set_send(w->links, member, worker, m);
}

static bool host_reachable(void *arg, uint16_t member, uint16_t worker)
{
    struct worker *w = arg;
    const struct member *m = &w->view.members[member];

    /* One that has left is asked for nothing, but has its answers. */
    return (m->state < MEMBER_FAULTY || m->lingers) && link_set_reachable(w->links, member, worker);
}

/* A vnode of a partition for which this node is only a fallback is made when first needed. Those of a
 * ring that is being founded lack nothing. (Nodes that lost their data come back under a new id, and so
 * with a later epoch.) */
static int open_vnode(struct worker *w, uint32_t partition, bool create)
{
    uint64_t id;

    if (store_vnode_id(w->store, partition) != 0)
        return 0;
    store_set_founding(w->store, w->view.epoch == 1 && store_start(w->store) <= w->workers &&
                                     ring_keeps(&w->ring_index, partition, w->view.self));
    return store_vnode_open(w->store, partition, create, &id);
}

static int host_load(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                     struct slice *object)
{
    struct worker *w = arg;
    int rc = open_vnode(w, partition, false);

    return rc != 0 ? rc : store_get(w->store, partition, pos, key, object);
}

static int host_store(void *arg, uint32_t partition, const struct position *pos,
                      struct slice object, bool shrinks, uint64_t *lsn)
{
    struct worker *w = arg;
    int rc = open_vnode(w, partition, true);

    return rc != 0 ? rc : store_put(w->store, partition, pos, object, shrinks, lsn);
}

static int host_next_dot(void *arg, uint32_t partition, struct dot *out)
{
    struct worker *w = arg;
    int rc = open_vnode(w, partition, true);

    return rc != 0 ? rc : store_next_dot(w->store, partition, out);
}

static int host_witness_dot(void *arg, uint32_t partition, struct dot seen)
{
    struct worker *w = arg;

    if (store_vnode_id(w->store, partition) != seen.vnode)
        return 0;
    return store_witness_dot(w->store, partition, seen);
}

static int host_hint_add(void *arg, uint32_t partition, const struct node_id *target,
                         const struct position *pos, uint64_t *lsn)
{
    struct worker *w = arg;

    int rc = open_vnode(w, partition, true);

    return rc != 0 ? rc : handoff_host_add(w, partition, target, pos, lsn);
}

static void host_reply(void *arg, uint64_t token, const struct coord_reply *reply)
{
    struct worker *w = arg;

    clients_reply(w->clients, token, reply);
}

/* An event of the core and the counter of the same meaning have one name. */
static const enum counter event_counter[] = {
#define X(name, counter, text) [COORD_##name] = CTR_##counter,
#include "core/coord_event.def"
#undef X
};

static void host_count(void *arg, int event, uint64_t n)
{
    struct worker *w = arg;

    worker_seg_count(&w->seg, event_counter[event], n);
}

static void host_silent(void *arg, uint16_t member, uint16_t worker)
{
    struct worker *w = arg;

    link_set_doubt(w->links, member, worker);
}

static int host_load_at(void *arg, uint32_t partition, const struct position *pos,
                        struct slice *object)
{
    struct worker *w = arg;
    int rc = open_vnode(w, partition, false);

    return rc != 0 ? rc : store_get_at(w->store, partition, pos, object);
}

static int host_standing(void *arg, uint32_t partition, uint64_t *horizon_ms)
{
    struct worker *w = arg;

    return store_standing(w->store, partition, horizon_ms);
}

static void host_late(void *arg, uint32_t partition)
{
    struct worker *w = arg;

    store_note_late(w->store, partition);
}

/* A value that is dropped because it was deleted long ago elsewhere: people may want to look at it. */
static void keep_dead(struct worker *w, struct slice object)
{
    char path[CONF_PATH + 64];

    if (w->dead_fd < 0) {
        snprintf(path, sizeof path, "%s/quarantine", w->conf.node.data_dir);
        mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/quarantine/dead-%u", w->conf.node.data_dir, w->index);
        w->dead_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    if (w->dead_fd < 0 || w->dead_bytes + object.len > DEAD_BYTES)
        return;
    if (write(w->dead_fd, object.data, object.len) == (ssize_t)object.len)
        w->dead_bytes += object.len;
}

static int host_drop(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                     struct slice kept, uint64_t *lsn)
{
    struct worker *w = arg;

    if (kept.len > 0)
        keep_dead(w, kept);
    return store_remove(w->store, partition, pos, key, lsn);
}

void coord_host_fill(struct worker *w, struct coord_host *out)
{
    *out = (struct coord_host){
        .arg = w,
        .send = host_send,
        .reachable = host_reachable,
        .load = host_load,
        .store = host_store,
        .next_dot = host_next_dot,
        .witness_dot = host_witness_dot,
        .hint_add = host_hint_add,
        .load_at = host_load_at,
        .standing = host_standing,
        .late = host_late,
        .drop = host_drop,
        .reply = host_reply,
        .count = host_count,
        .silent = host_silent,
    };
}

/* Open the vnode of a partition if there is reason to. */
static void open_one(struct worker *w, uint32_t partition)
{
    bool keeps = ring_keeps(&w->ring_index, partition, w->view.self);
    /* A fallback's vnode may hold hints: if it is there, it is needed. */
    int rc = open_vnode(w, partition, keeps);
    uint64_t horizon_ms;

    /* One that this node is no replica for any more, or not yet, is not written to with the others. */
    if (rc == 0 && !keeps && store_standing(w->store, partition, &horizon_ms) == STANDING_WHOLE)
        store_set_standing(w->store, partition, store_vnode_id(w->store, partition),
                           STANDING_MISSING);

    if (rc != 0 && (keeps || rc != -ERR_NOTFOUND))
        log_error("vnode %u cannot be opened: %s; it is served by other nodes", partition,
                  err_text(rc));
}

bool coord_host_open_vnodes(struct worker *w, uint64_t until_us)
{
    const struct ring_view *v = &w->view;

    while (v->self != RING_NO_OWNER && w->open_at < w->ring_index.partitions) {
        uint32_t p = w->open_at++;

        if (ring_worker_of(p, v->members[v->self].workers) != w->index)
            continue;
        open_one(w, p);
        if (clock_mono_us() >= until_us)
            return false;
    }
    return true;
}

bool coord_host_whole(const struct worker *w, uint32_t partition)
{
    uint64_t horizon_ms;

    return store_vnode_id(w->store, partition) != 0 &&
           store_standing(w->store, partition, &horizon_ms) == STANDING_WHOLE;
}
