/* The budget of anti-entropy, cut while clients have to wait for its sake (shm/pace.h). Runs in
 * antientropyd; reads the workers' segments. */
#include "antientropyd/antientropyd.h"

#define LEAST (2u << 20) /* bytes a second that are left in any case */

static bool is_working(const struct antientropyd *a)
{
    for (int i = 0; i < SESSIONS; i++)
        if (a->sessions[i].state != SESSION_FREE)
            return true;
    return false;
}

void pace_tick(struct antientropyd *a)
{
    static struct hist recent;

    memset(&recent, 0, sizeof recent);
    for (uint32_t i = 0; i < a->conf.node.workers; i++)
        if (segment_mapped(&a->workers[i].segment))
            pace_recent(&a->before[i], a->workers[i].body, &recent);
    if (pace_step(&a->pace, &recent, is_working(a), LEAST, a->conf.limits.repair_bandwidth_bytes))
        counter_add(a->counters, CTR_repair_yields, 1);
    peers_budget(a->peers, a->pace.budget);
}
