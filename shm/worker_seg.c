/* worker-I.seg: made and written by worker I, read by its siblings, INFO and tools. */
#include "shm/worker_seg.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>

#define HEARTBEAT_US 100000

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct worker_body, heartbeat_us),
    SEGMENT_FIELD(struct worker_body, ring_version),
    SEGMENT_FIELD(struct worker_body, state),
    SEGMENT_FIELD(struct worker_body, partitions),
    SEGMENT_FIELD(struct worker_body, cpu),
    SEGMENT_FIELD(struct worker_body, workers),
    SEGMENT_FIELD(struct worker_body, sleeping),
    SEGMENT_FIELD(struct worker_body, inbox),
    SEGMENT_FIELD(struct worker_inbox, head),
    SEGMENT_FIELD(struct worker_inbox, producer_incarnation),
    SEGMENT_FIELD(struct worker_inbox, bytes),
    SEGMENT_FIELD(struct worker_inbox, resets),
    SEGMENT_FIELD(struct worker_body, counters),
    SEGMENT_FIELD(struct worker_body, hists),
    SEGMENT_FIELD(struct worker_named_hist, name),
    SEGMENT_FIELD(struct worker_named_hist, hist),
    SEGMENT_FIELD(struct hist, count),
    SEGMENT_FIELD(struct hist, sum_us),
    SEGMENT_FIELD(struct hist, max_us),
    SEGMENT_FIELD(struct hist, buckets),
    SEGMENT_FIELD(struct worker_vnode, id),
    SEGMENT_FIELD(struct worker_vnode, keys),
    SEGMENT_FIELD(struct worker_vnode, hints),
    SEGMENT_FIELD(struct worker_vnode, dot),
    SEGMENT_FIELD(struct worker_vnode, merkle_generation),
    SEGMENT_FIELD(struct worker_vnode, merkle_root),
    SEGMENT_FIELD(struct worker_vnode, state),
    SEGMENT_FIELD(struct worker_vnode, buffered_keys),
    SEGMENT_FIELD(struct worker_vnode, buffered_bytes),
};

_Static_assert(sizeof(struct worker_inbox) == 64, "one cache line for each producer");
_Static_assert(sizeof(struct worker_vnode) == 64, "one cache line for each vnode");
_Static_assert(offsetof(struct worker_body, sleeping) == 64, "as documented");
_Static_assert(offsetof(struct worker_body, inbox) == 128, "as documented");

static const char *const hist_names[WORKER_HIST_COUNT] = {
#define X(name, text) text,
    WORKER_HISTS(X)
#undef X
};

static struct segment_spec spec_of(uint32_t index, uint32_t partitions)
{
    uint64_t seed = counter_fingerprint();

    for (int i = 0; i < WORKER_HIST_COUNT; i++) {
        struct segment_field name = {hist_names[i], (uint32_t)i, 0};
        seed = segment_fingerprint(&name, 1, sizeof(struct worker_named_hist), seed);
    }
    return (struct segment_spec){
        .kind = SEGMENT_WORKER,
        .index = index,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct worker_body), seed),
        .length = sizeof(struct segment_header) + sizeof(struct worker_body) +
                  partitions * sizeof(struct worker_vnode),
        .counters_at =
            (uint32_t)(sizeof(struct segment_header) + offsetof(struct worker_body, counters)),
    };
}

static void name_of(uint32_t index, char out[32])
{
    snprintf(out, 32, "worker-%u.seg", index);
}

int worker_seg_create(struct worker_seg *w, const char *dir, uint32_t index, uint32_t workers,
                      uint32_t partitions, uint32_t cpu, uint64_t incarnation)
{
    struct segment_spec spec = spec_of(index, partitions);
    char name[32];

    ASSERT(workers >= 1 && workers <= LIMIT_WORKERS && index < workers);
    ASSERT(partitions <= LIMIT_PARTITIONS);
    name_of(index, name);
    int err = segment_create(&w->segment, dir, name, &spec, incarnation);
    if (err < 0)
        return err;
    w->body = segment_body(&w->segment);
    w->body->partitions = partitions;
    w->body->workers = workers;
    w->body->cpu = cpu;
    counter_init(&w->body->counters);
    for (int i = 0; i < WORKER_HIST_COUNT; i++)
        snprintf(w->body->hists[i].name, sizeof w->body->hists[i].name, "%s", hist_names[i]);
    err = segment_publish(&w->segment);
    if (err < 0)
        worker_seg_close(w);
    return err;
}

/* The row count is the one number of the body that readers index by. */
static int accept(struct worker_seg *w)
{
    const struct worker_body *body = segment_body(&w->segment);

    if (body->partitions > LIMIT_PARTITIONS ||
        w->segment.length < spec_of(0, body->partitions).length || body->workers > LIMIT_WORKERS) {
        snprintf(w->segment.why, sizeof w->segment.why,
                 "a vnode table of %u rows for %u workers does not fit", body->partitions,
                 body->workers);
        worker_seg_close(w);
        return -ERR_CORRUPT;
    }
    w->body = segment_body(&w->segment);
    return 0;
}

int worker_seg_attach(struct worker_seg *w, const char *dir, uint32_t index)
{
    struct segment_spec spec = spec_of(index, 0);
    char name[32];

    name_of(index, name);
    int err = segment_attach(&w->segment, dir, name, &spec);
    return err < 0 ? err : accept(w);
}

int worker_seg_refresh(struct worker_seg *w)
{
    int changed = segment_reattach_if_replaced(&w->segment);

    if (changed != 1)
        return changed;
    int err = accept(w);
    return err < 0 ? err : 1;
}

void worker_seg_close(struct worker_seg *w)
{
    segment_close(&w->segment);
    w->body = NULL;
}

void worker_seg_heartbeat(struct worker_seg *w, uint64_t now_mono_us)
{
    uint64_t last = atomic_load_explicit(&w->body->heartbeat_us, memory_order_relaxed);

    if (now_mono_us - last >= HEARTBEAT_US)
        atomic_store_explicit(&w->body->heartbeat_us, now_mono_us, memory_order_relaxed);
}

void worker_seg_set_state(struct worker_seg *w, enum worker_state state)
{
    atomic_store_explicit(&w->body->state, (uint32_t)state, memory_order_relaxed);
}

void worker_seg_vnode(struct worker_seg *w, uint32_t partition, enum worker_vnode_state state,
                      uint64_t id, uint64_t keys, uint64_t hints)
{
    ASSERT(partition < w->body->partitions);
    struct worker_vnode *row = &w->body->vnodes[partition];

    atomic_store_explicit(&row->id, id, memory_order_relaxed);
    atomic_store_explicit(&row->keys, keys, memory_order_relaxed);
    atomic_store_explicit(&row->hints, hints, memory_order_relaxed);
    atomic_store_explicit(&row->state, (uint32_t)state, memory_order_release);
}

void worker_seg_buffered(struct worker_seg *w, uint32_t partition, uint64_t keys, uint64_t bytes)
{
    ASSERT(partition < w->body->partitions);
    struct worker_vnode *row = &w->body->vnodes[partition];

    atomic_store_explicit(&row->buffered_keys, (uint32_t)keys, memory_order_relaxed);
    atomic_store_explicit(&row->buffered_bytes, bytes, memory_order_relaxed);
}

void worker_seg_tree(struct worker_seg *w, uint32_t partition, uint64_t generation, uint64_t root)
{
    ASSERT(partition < w->body->partitions);
    struct worker_vnode *row = &w->body->vnodes[partition];

    atomic_store_explicit(&row->merkle_generation, generation, memory_order_relaxed);
    atomic_store_explicit(&row->merkle_root, root, memory_order_relaxed);
}

const char *worker_seg_hist_name(enum worker_hist h)
{
    ASSERT(h < WORKER_HIST_COUNT);
    return hist_names[h];
}

const char *worker_seg_state_name(uint32_t state)
{
    static const char *const names[] = {"starting", "serving", "draining"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *worker_seg_vnode_state_name(uint32_t state)
{
    static const char *const names[] = {"none", "open", "quarantined", "recovering"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
