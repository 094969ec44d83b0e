/* Expiry options of commands. Runs in workers; the time is the engine's. */
#include "workers/expiry.h"

#include "base/err.h"
#include "workers/call.h"

bool expiry_option(struct call *call, uint32_t i, enum expiry_unit *unit)
{
    static const char *const names[] = {"ex", "px", "exat", "pxat"};

    for (unsigned u = 0; u < 4; u++) {
        if (call_is(call, i, names[u])) {
            *unit = (enum expiry_unit)u;
            return true;
        }
    }
    return false;
}

bool expiry_choose(struct call *call, uint32_t i, struct expiry_choice *choice)
{
    enum expiry_unit unit;

    if (!expiry_option(call, i, &unit) || choice->other ||
        (choice->at != 0 && choice->unit != unit))
        return false;
    choice->at = i + 1;
    choice->unit = unit;
    return true;
}

static bool invalid(struct call *call)
{
    call_errorf(call, "ERR invalid expire time in '%s' command", call->command->name);
    return false;
}

/* Milliseconds since 1970, perhaps negative; false if that is out of range. */
static bool absolute(const struct engine *e, int64_t n, enum expiry_unit unit, int64_t *out)
{
    int64_t ms = n;

    if ((unit == EXPIRY_EX || unit == EXPIRY_EXAT) && __builtin_mul_overflow(n, 1000, &ms))
        return false;
    if (unit == EXPIRY_EX || unit == EXPIRY_PX)
        return !__builtin_add_overflow(ms, (int64_t)e->wall_ms, out);
    *out = ms;
    return true;
}

int expiry_try(const struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms)
{
    int64_t n, ms;

    if (!call_int64(call, i, &n))
        return -ERR_FORMAT;
    if (n <= 0 || !absolute(call->engine, n, unit, &ms))
        return -ERR_LIMIT;
    *expiry_ms = (uint64_t)ms;
    return 0;
}

bool expiry_read(struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms)
{
    int rc = expiry_try(call, i, unit, expiry_ms);

    if (rc == -ERR_FORMAT)
        call_not_integer(call);
    else if (rc != 0)
        invalid(call);
    return rc == 0;
}

bool expiry_read_any(struct call *call, uint32_t i, enum expiry_unit unit, uint64_t *expiry_ms)
{
    int64_t n, ms;

    if (!call_int64(call, i, &n)) {
        call_not_integer(call);
        return false;
    }
    if (!absolute(call->engine, n, unit, &ms))
        return invalid(call);
    /* 0 would mean "never". */
    *expiry_ms = ms > 0 ? (uint64_t)ms : 1;
    return true;
}
