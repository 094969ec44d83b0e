/* Verification: every record of every vnode of this node is read and checked, and the leaves of its tree
 * made anew and compared; once soon after the start, then within limits.verify_interval. What is
 * damaged is reported to the worker that owns the vnode, which drops it and takes a new id; exchanges
 * mend it. Runs in antientropyd. */
#include "antientropyd/antientropyd.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <inttypes.h>

enum {
    STEP_US = 10000,         /* between steps of the first pass */
    STEP_SHORT_US = 250000,  /* ... while the CPU is short */
    STEP_BYTES = 256 << 10,  /* read in one */
    STEP_CPU_US = 1500,      /* ... or so long */
    STEPS_MAX_US = 10000000, /* between steps of later passes, at most */
    FIRST_US = 3000000       /* after the start */
};

static void on_done(void *arg, const struct repair *answer)
{
    (void)arg;
    (void)answer; /* it shows in the vnode's id */
}

void verify_report(struct antientropyd *a, uint32_t partition, const struct position *pos,
                   bool leaf)
{
    struct vnode_info *v = &a->vnodes.info[partition];
    struct repair m = {.kind = REPAIR_VERIFY_BAD,
                       .u.VERIFY_BAD = {.partition = partition,
                                        .position = slice_of(pos->b, sizeof pos->b),
                                        .leaf = leaf}};
    uint64_t now = clock_mono_us();

    if (now < v->reported_us + 1000000)
        return;
    v->reported_us = now;
    log_error("vnode %" PRIu32 ": %s", partition,
              leaf ? "a leaf of its tree does not fit its rows" : "a record is damaged");
    counter_add(a->counters, CTR_verify_damaged, 1);
    local_ask(a->local, partition, &m, on_done, NULL);
    for (uint8_t i = 0; i < v->peer_count; i++)
        v->peer[i].due_us = now + 500000;
}

/* ---- the walk ---- */

static void next_partition(struct antientropyd *a)
{
    a->verify_leaf = 0;
    if (++a->verify_partition < a->vnodes.partitions)
        return;
    a->verify_partition = 0;
    counter_add(a->counters, CTR_verify_passes, 1);
    if (!a->verified_once)
        log_info("every record has been read and checked once: %" PRIu64 " records, %" PRIu64
                 " damaged",
                 counter_get(a->counters, CTR_verify_rows),
                 counter_get(a->counters, CTR_verify_damaged));
    a->verified_once = true;
}

/* Check one leaf. Returns the bytes read. */
static uint64_t step(struct antientropyd *a)
{
    uint32_t p = a->verify_partition;
    struct snapshot *snapshot;
    struct position bad;
    uint64_t rows = 0, bytes = 0;
    const uint64_t *leaves;
    unsigned bits;
    int rc = vnodes_snapshot(&a->vnodes, p, clock_mono_us(), &snapshot);

    if (rc == 0)
        rc = snapshot_leaves(snapshot, &leaves, &bits);
    if (rc == 0)
        rc = snapshot_verify(snapshot, a->verify_leaf, &rows, &bytes, &bad);
    counter_add(a->counters, CTR_verify_rows, rows);
    counter_add(a->counters, CTR_verify_bytes, bytes);
    if (rc == SNAPSHOT_SOUND) {
        a->verify_leaf++;
        return bytes + 64;
    }
    if (rc == SNAPSHOT_BAD_ROW || rc == SNAPSHOT_BAD_LEAF) {
        verify_report(a, p, &bad, rc == SNAPSHOT_BAD_LEAF);
        a->verify_leaf++;
        return bytes + 64;
    }
    if (rc == -ERR_CORRUPT) {
        struct position first = {{0}};

        verify_report(a, p, &first, true);
    }
    next_partition(a);
    return 64;
}

static uint64_t pause_us(const struct antientropyd *a)
{
    /* One vnode's share of the interval, over the steps that it has taken at the last count. */
    uint64_t steps = counter_get(a->counters, CTR_verify_bytes) /
                         (counter_get(a->counters, CTR_verify_passes) + 1) / STEP_BYTES +
                     a->vnodes.partitions;
    uint64_t us = a->conf.limits.verify_interval_ms * 1000ull / steps;

    if (!a->verified_once)
        return a->cpu_short ? STEP_SHORT_US : STEP_US;
    return us < STEP_US ? STEP_US : us > STEPS_MAX_US ? STEPS_MAX_US : us;
}

static void on_verify(void *arg)
{
    struct antientropyd *a = arg;
    uint64_t bytes = 0, begin = clock_mono_us();
    uint32_t partition = a->verify_partition;

    while (a->view.epoch != 0 && bytes < STEP_BYTES && clock_mono_us() - begin < STEP_CPU_US &&
           a->verify_partition == partition)
        bytes += step(a);
    loop_arm(a->loop, &a->verify, loop_now_us(a->loop) + pause_us(a), on_verify, a);
}

void verify_start(struct antientropyd *a)
{
    loop_arm(a->loop, &a->verify, loop_now_us(a->loop) + FIRST_US, on_verify, a);
}
