/* The order of commands of one key in one pipeline. See key_order.h. Runs in workers. */
#include "workers/key_order.h"

#include "base/hash.h"
#include "workers/command.h"

#include <string.h>

static uint32_t bit_of(struct slice key)
{
    return (uint32_t)hash64(key.data, key.len) % KEY_ORDER_BITS;
}

static bool has(const uint64_t *bits, uint32_t bit)
{
    return (bits[bit / 64] >> bit % 64 & 1) != 0;
}

bool key_order_admits(struct key_order *o, bool idle, const struct command *command, uint32_t argc,
                      const struct slice *argv)
{
    bool writes = (command->flags & CMD_WRITE) != 0;
    uint64_t *mine = writes ? o->writing : o->reading;
    const uint64_t *others = writes ? o->reading : o->writing;
    int step = command->step > 0 ? command->step : 1;
    int last = command->last >= 0 ? command->last : (int)argc + command->last;

    if (idle && o->used)
        memset(o, 0, sizeof *o);
    if (command->first <= 0)
        return true;
    for (int i = command->first; i <= last && i < (int)argc && !idle; i += step)
        if (has(others, bit_of(argv[i])))
            return false;
    for (int i = command->first; i <= last && i < (int)argc; i += step) {
        uint32_t bit = bit_of(argv[i]);

        mine[bit / 64] |= 1ull << bit % 64;
    }
    o->used = true;
    return true;
}
