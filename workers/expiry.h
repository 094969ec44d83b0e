/* Expiry options of commands: relative or absolute, seconds or milliseconds. Used by workers. */
#ifndef CLOCKWISE_WORKERS_EXPIRY_H
#define CLOCKWISE_WORKERS_EXPIRY_H

#include "workers/command.h"

enum expiry_unit { EXPIRY_EX, EXPIRY_PX, EXPIRY_EXAT, EXPIRY_PXAT };

/* What a command's options have said of the expiry so far. Start with all zero. */
struct expiry_choice {
    uint32_t at; /* the argument with the time, or 0 */
    enum expiry_unit unit;
    bool other; /* KEEPTTL or PERSIST was given, which excludes a time */
};

/* Is argument i EX, PX, EXAT or PXAT, and may it follow what has been chosen? As in Redis the same one
 * may be given again. The time is argument i + 1. */
bool expiry_choose(struct call *call, uint32_t i, struct expiry_choice *choice);

/* Is argument i EX, PX, EXAT or PXAT? */
bool expiry_option(struct call *call, uint32_t i, enum expiry_unit *unit);

/* Argument i as milliseconds since 1970, which must be positive. -ERR_FORMAT: no number; -ERR_LIMIT: out
 * of range. */
int expiry_try(const struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms);

/* Argument i as milliseconds since 1970, which is not 0. It must be positive. Replies Redis's error
 * and returns false if not. */
bool expiry_read(struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms);

/* The same for EXPIRE and its like: the past is allowed (the key expires at once). */
bool expiry_read_any(struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms);

#endif
