/* MONITOR: connections that are shown what the clients of all workers of this node run. It is a sample:
 * a worker shows so many commands a second and no more, whatever it runs, and a watcher that does not
 * read misses lines; how many were left out is said in the stream. What may hold a password is never
 * shown: commands of administrators, AUTH, and what follows HELLO's version.
 *
 * A worker with watchers tells its siblings so every second; each then sends it what it has gathered
 * every few milliseconds, as one message (spread.h), until it has not been told for a while. Used by workers; one thread. */
#ifndef CLOCKWISE_WORKERS_MONITOR_H
#define CLOCKWISE_WORKERS_MONITOR_H

#include "base/buf.h"
#include "core/limits.h"
#include "ipc/loop.h"

struct call;
struct clients;
struct conn;

struct monitor_watcher {
    struct conn *conn;
    uint64_t missed; /* lines that it has not been told of, since it was last told how many */
};

struct monitor {
    struct monitor_watcher watchers[LIMIT_MONITORS];
    uint32_t count;
    uint64_t wanted_us[LIMIT_WORKERS]; /* until then a sibling wants lines */
    uint64_t wanted_until_us;          /* the latest of those */
    uint32_t credit;                   /* commands that may be shown now */
    uint64_t credited_us;
    uint64_t missed;         /* commands not shown, since it was last said how many */
    struct buf lines;        /* gathered, to be sent when the timer ends */
    struct loop_timer timer; /* runs while there is something to send or to say */
};

void monitor_open(struct monitor *m);
void monitor_close(struct clients *c);

/* Is anybody watching? Cheap: asked for each command. */
static inline bool monitor_wanted(const struct monitor *m, uint64_t now_us)
{
    return m->count > 0 || m->wanted_until_us > now_us;
}

/* A command has been taken: its arguments are still there. */
void monitor_note(const struct call *call);

/* Every second: tell the siblings that there are watchers here. */
void monitor_tick(struct clients *c);

/* A connection stops watching, if it does; is it one that does? */
void monitor_leave(struct clients *c, struct conn *conn);
bool monitor_is_watcher(const struct clients *c, const struct conn *conn);

#endif
