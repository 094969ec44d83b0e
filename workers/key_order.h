/* The order of commands of one key in one pipeline. Requests of a connection are under way side by
 * side, and may be coordinated by different nodes; a client that sends SET and then GET of one key in
 * one go still wants its own value, and one that sends GET and then SET not yet the new one. So a read
 * waits for writes of its key that are under way for the same connection, and a write for reads.
 * Writes are stamped in the order in which they come, and reads of the same key disturb nobody.
 *
 * Keys are remembered as bits of a filter, which is emptied whenever nothing is under way. Two keys may
 * share a bit: then a command waits needlessly, and briefly. */
#ifndef CLOCKWISE_WORKERS_KEY_ORDER_H
#define CLOCKWISE_WORKERS_KEY_ORDER_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define KEY_ORDER_BITS 1024u

struct command;

/* All zero: nothing is under way. */
struct key_order {
    bool used;
    uint64_t reading[KEY_ORDER_BITS / 64], writing[KEY_ORDER_BITS / 64];
};

/* May the command be run now? Then its keys are remembered. idle: nothing of the connection is under
 * way, so it may. */
bool key_order_admits(struct key_order *o, bool idle, const struct command *command, uint32_t argc,
                      const struct slice *argv);

#endif
