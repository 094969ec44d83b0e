/* What one worker remembers of the commands it has run: how many of each and how long they took, the
 * slow ones, and spikes. Behind INFO commandstats and errorstats,
 * SLOWLOG and LATENCY. A command's time is from its
 * start until its reply was ready, other nodes' share included, as exact as turns of the loop are.
 * Everything is of fixed size. Used by workers; one thread; no system call. */
#ifndef CLOCKWISE_WORKERS_ACTIVITY_H
#define CLOCKWISE_WORKERS_ACTIVITY_H

#include "base/slice.h"

#include <stdint.h>

#define ACTIVITY_COMMANDS 256
#define ACTIVITY_BUCKETS  32  /* powers of two of microseconds */
#define ACTIVITY_SLOW     128 /* entries kept at most; slowlog-max-len */
#define ACTIVITY_TEXT     64  /* bytes kept of a slow command's first argument */
#define ACTIVITY_SPIKES   160 /* samples of each event, as in Redis */
#define ACTIVITY_ERRORS   32  /* kinds of errors counted */
#define ACTIVITY_KIND     24  /* bytes of the first word of an error, with its final 0 */

struct activity_command {
    uint64_t calls, usec, failed, rejected;
    uint32_t bucket[ACTIVITY_BUCKETS]; /* i: up to 1 << i us */
};

/* Error replies that begin with one word. */
struct activity_error {
    char kind[ACTIVITY_KIND];
    uint64_t count;
};

struct activity_slow {
    uint64_t id, wall_s, usec;
    uint16_t command;   /* index into the command table */
    uint16_t text_size; /* bytes in text; what was longer is cut */
    uint32_t argc;
    uint32_t cut; /* bytes of the first argument that are not in text */
    char text[ACTIVITY_TEXT];
    char address[72], name[64];
};

enum activity_event { ACTIVITY_EVENT_COMMAND, ACTIVITY_EVENT_LOOP, ACTIVITY_EVENTS };

struct activity_spikes {
    uint32_t count, at; /* at: where the next goes */
    uint32_t max_ms;
    struct {
        uint64_t wall_s;
        uint32_t ms;
    } sample[ACTIVITY_SPIKES];
};

struct activity {
    int64_t slow_us;   /* slowlog-log-slower-than; negative: nothing is kept */
    uint32_t slow_max; /* slowlog-max-len */
    uint32_t spike_ms; /* latency-monitor-threshold; 0: nothing is kept */
    uint64_t slow_id;
    uint32_t slow_count, slow_at; /* slow_at: where the next goes */
    struct activity_slow slow[ACTIVITY_SLOW];
    struct activity_spikes spikes[ACTIVITY_EVENTS];
    struct activity_command commands[ACTIVITY_COMMANDS];
    struct activity_error errors[ACTIVITY_ERRORS]; /* the first with count 0 ends them */
};

void activity_init(struct activity *a);

/* A command has ended. */
void activity_note(struct activity *a, unsigned command, uint64_t usec);

/* Is a command that took so long to be kept as slow? */
static inline bool activity_is_slow(const struct activity *a, uint64_t usec)
{
    return a->slow_us >= 0 && usec >= (uint64_t)a->slow_us && a->slow_max > 0;
}

/* Room for a slow command; the oldest goes if there is none. Its id is set. */
struct activity_slow *activity_slow_add(struct activity *a);

/* Keep at most so many slow commands from now on. */
void activity_slow_keep(struct activity *a, uint32_t most);

/* The i-th newest slow command. */
const struct activity_slow *activity_slow_at(const struct activity *a, uint32_t i);

/* Something took ms; kept as a spike if that is long. */
void activity_spike(struct activity *a, enum activity_event event, uint64_t wall_ms, uint64_t usec);

/* So many errors were replied; the first word of the text is their kind. What is of one kind too many
 * counts as "ERR". */
void activity_errors(struct activity_error list[ACTIVITY_ERRORS], const char *text, uint64_t count);

/* Forget. */
void activity_reset_commands(struct activity *a);
void activity_reset_slow(struct activity *a);

/* The name of an event, and back; ACTIVITY_EVENTS if there is no such. */
const char *activity_event_name(enum activity_event event);

#endif
