/* What a worker remembers of its commands. Runs in workers; pure. */
#include "workers/activity.h"

#include "base/check.h"

#include <string.h>

void activity_init(struct activity *a)
{
    memset(a, 0, sizeof *a);
    a->slow_us = 10000;
    a->slow_max = ACTIVITY_SLOW;
}

void activity_note(struct activity *a, unsigned command, uint64_t usec)
{
    struct activity_command *c = &a->commands[command];
    unsigned bucket = usec <= 1 ? 0 : 64u - (unsigned)__builtin_clzll(usec - 1);

    ASSERT(command < ACTIVITY_COMMANDS);
    c->calls++;
    c->usec += usec;
    c->bucket[bucket < ACTIVITY_BUCKETS ? bucket : ACTIVITY_BUCKETS - 1]++;
}

struct activity_slow *activity_slow_add(struct activity *a)
{
    struct activity_slow *s = &a->slow[a->slow_at];

    a->slow_at = (a->slow_at + 1) % ACTIVITY_SLOW;
    if (a->slow_count < a->slow_max && a->slow_count < ACTIVITY_SLOW)
        a->slow_count++;
    else
        a->slow_count = a->slow_max < ACTIVITY_SLOW ? a->slow_max : ACTIVITY_SLOW;
    memset(s, 0, sizeof *s);
    s->id = a->slow_id++;
    return s;
}

void activity_slow_keep(struct activity *a, uint32_t most)
{
    a->slow_max = most < ACTIVITY_SLOW ? most : ACTIVITY_SLOW;
    if (a->slow_count > a->slow_max)
        a->slow_count = a->slow_max;
}

const struct activity_slow *activity_slow_at(const struct activity *a, uint32_t i)
{
    ASSERT(i < a->slow_count);
    return &a->slow[(a->slow_at + ACTIVITY_SLOW - 1 - i) % ACTIVITY_SLOW];
}

void activity_spike(struct activity *a, enum activity_event event, uint64_t wall_ms, uint64_t usec)
{
    struct activity_spikes *s = &a->spikes[event];
    uint64_t ms = usec / 1000, wall_s = wall_ms / 1000;
    uint32_t last = (s->at + ACTIVITY_SPIKES - 1) % ACTIVITY_SPIKES;

    if (a->spike_ms == 0 || ms < a->spike_ms)
        return;
    if (ms > UINT32_MAX)
        ms = UINT32_MAX;
    if (ms > s->max_ms)
        s->max_ms = (uint32_t)ms;
    if (s->count > 0 && s->sample[last].wall_s == wall_s) { /* one sample a second, the worst */
        if (ms > s->sample[last].ms)
            s->sample[last].ms = (uint32_t)ms;
        return;
    }
    s->sample[s->at].wall_s = wall_s;
    s->sample[s->at].ms = (uint32_t)ms;
    s->at = (s->at + 1) % ACTIVITY_SPIKES;
    if (s->count < ACTIVITY_SPIKES)
        s->count++;
}

/* Where errors of a kind are counted, or NULL: there is no more room. */
static struct activity_error *error_of(struct activity_error *list, const char *kind, size_t len)
{
    for (int i = 0; i < ACTIVITY_ERRORS; i++) {
        struct activity_error *e = &list[i];

        if (e->count == 0) {
            memcpy(e->kind, kind, len);
            e->kind[len] = '\0';
        }
        if (strncmp(e->kind, kind, len) == 0 && e->kind[len] == '\0')
            return e;
    }
    return NULL;
}

void activity_errors(struct activity_error list[ACTIVITY_ERRORS], const char *text, uint64_t count)
{
    size_t len = strcspn(text, " ");
    struct activity_error *e = error_of(list, text, len < ACTIVITY_KIND ? len : ACTIVITY_KIND - 1);

    if (e == NULL)
        e = error_of(list, "ERR", 3);
    if (e != NULL)
        e->count += count;
}

void activity_reset_commands(struct activity *a)
{
    memset(a->commands, 0, sizeof a->commands);
    memset(a->errors, 0, sizeof a->errors);
}

void activity_reset_slow(struct activity *a)
{
    a->slow_count = 0;
}

const char *activity_event_name(enum activity_event event)
{
    return event == ACTIVITY_EVENT_COMMAND ? "command" : "event-loop";
}
