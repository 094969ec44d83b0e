/* The role table. Read by the supervisor only; adding a process to a node is one entry here. */
#include "supervisor/roles.h"

#include "base/check.h"

#include <stddef.h>

static const struct role roles[ROLE_COUNT] = {
    [ROLE_RECOVER] = {.name = "recover",
                      .program = "clockwise-worker",
                      .option = "--recover",
                      .once = true,
                      .stage = 0,
                      .oom_score = 100},
    [ROLE_GOSSIPD] = {.name = "gossipd",
                      .program = "clockwise-gossipd",
                      .stage = 1,
                      .fds = ROLE_GOSSIP,
                      .oom_score = 100,
                      .pause_ms = 100,
                      .pause_max_ms = 5000,
                      .forget_ms = 60000,
                      .give_up_after = 8,
                      .retry_ms = 30000},
    [ROLE_WORKER] = {.name = "worker",
                     .program = "clockwise-worker",
                     .per_worker = true,
                     .pinned = true,
                     .stage = 2,
                     .fds = ROLE_FRONT | ROLE_CLIENT | ROLE_PEER | ROLE_WAKE,
                     .oom_score = 200,
                     .pause_ms = 100,
                     .pause_max_ms = 5000,
                     .forget_ms = 60000,
                     .give_up_after = 8,
                     .retry_ms = 30000},
    [ROLE_ANTIENTROPYD] = {.name = "antientropyd",
                           .program = "clockwise-antientropyd",
                           .stage = 3,
                           .fds = ROLE_REPAIR,
                           .oom_score = 300,
                           .pause_ms = 100,
                           .pause_max_ms = 5000,
                           .forget_ms = 60000,
                           .give_up_after = 8,
                           .retry_ms = 30000},
};

const struct role *role_at(enum role_number number)
{
    ASSERT(number < ROLE_COUNT);
    return &roles[number];
}
