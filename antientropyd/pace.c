/* The budget of anti-entropy, cut while clients have to wait for its sake (shm/pace.h). Runs in
 * antientropyd; reads the workers' segments. */
#include "antientropyd/antientropyd.h"

#include "base/cpu.h"

#define COMPETES 10         /* looks, until it is tried again without competing */
#define LEAST    (2u << 20) /* bytes a second that are left in any case */

static bool is_working(const struct antientropyd *a)
{
    for (int i = 0; i < SESSIONS; i++)
        if (a->sessions[i].state != SESSION_FREE)
            return true;
    return false;
}

/* With CPU to spare, this process has only what nobody else wants, so that no worker that wakes up waits
 * for it. Where the workers wait for a CPU by themselves, it would have none: there it competes, at a third
 * of their share. Whether they wait for its sake, only trying tells. */
static void share_cpu(struct antientropyd *a)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < a->conf.node.workers; i++)
        if (segment_mapped(&a->workers[i].segment)) {
            uint64_t percent = counter_get(&a->workers[i].body->counters, CTR_cpu_wait_percent);

            most = percent > most ? percent : most;
        }
    a->cpu_short = most >= WORKER_CPU_SHORT_PERCENT;
    bool idle = a->may_idle && (a->idle ? !a->cpu_short : ++a->competed >= COMPETES);

    if (idle != a->idle)
        cpu_set_idle(0, idle);
    if (idle)
        a->competed = 0;
    a->idle = idle;
}

void pace_tick(struct antientropyd *a)
{
    static struct hist recent;

    share_cpu(a);
    memset(&recent, 0, sizeof recent);
    for (uint32_t i = 0; i < a->conf.node.workers; i++)
        if (segment_mapped(&a->workers[i].segment))
            pace_recent(&a->before[i], a->workers[i].body, &recent);
    if (pace_step(&a->pace, &recent, is_working(a), LEAST, a->conf.limits.repair_bandwidth_bytes))
        counter_add(a->counters, CTR_repair_yields, 1);
    peers_budget(a->peers, a->pace.budget);
}
