/* CLIENT PAUSE: the commands of clients wait for a while. Runs in workers; nothing blocks. */
#include "workers/conn.h"

#include "workers/command.h"

static void pause_due(void *arg)
{
    clients_unpause(arg);
}

void clients_pause(struct clients *c, uint64_t ms, bool writes_only)
{
    uint64_t until_us;

    /* As in Redis, a pause is never made shorter or weaker by another one. */
    if (__builtin_mul_overflow(ms, 1000, &until_us) ||
        __builtin_add_overflow(until_us, c->engine->now_us, &until_us))
        until_us = UINT64_MAX;
    c->pause_all |= !writes_only;
    c->pausing = true;
    if (until_us > c->pause_until_us)
        c->pause_until_us = until_us;
    loop_arm(c->loop, &c->pause_timer, c->pause_until_us, pause_due, c);
}

void clients_unpause(struct clients *c)
{
    struct conn_list *lists[] = {&c->idle, &c->active};

    loop_disarm(c->loop, &c->pause_timer);
    c->pausing = c->pause_all = false;
    c->pause_until_us = 0;
    /* Rare: so a walk over all is no matter. They go on in the next turn of the loop's tasks. */
    for (int l = 0; l < 2; l++)
        for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next)
            if (conn->stall == CONN_PAUSED)
                clients_dirty(c, conn);
}

bool clients_paused(const struct clients *c, const struct command *command)
{
    /* CLIENT itself goes on, so that a pause can be ended. */
    return c->pausing && (c->pause_all ? strncmp(command->name, "client", 6) != 0
                                       : (command->flags & CMD_WRITE) != 0);
}
