/* All client connections of one worker: accepting, finding, counting, slowing down, ending them.
 * Used by workers; one thread; nothing here blocks. */
#ifndef CLOCKWISE_WORKERS_CLIENTS_H
#define CLOCKWISE_WORKERS_CLIENTS_H

#include "core/object.h"
#include "ipc/loop.h"
#include "ipc/wire.h"
#include "workers/acl.h"
#include "workers/acl_log.h"
#include "workers/activity.h"
#include "workers/engine.h"
#include "workers/monitor.h"
#include "workers/pending.h"
#include "workers/resp_parse.h"

#define CLIENTS_SCRATCH      (64u << 10) /* bytes of one read */
#define CLIENTS_BUCKETS      4096        /* of the index by id */
#define CLIENTS_LISTENERS    4
#define CLIENTS_HANDSHAKE_MS 10000u

/* Which listening socket a connection came through. */
enum clients_port {
    CLIENTS_FRONT, /* any key is served */
    CLIENTS_WORKER /* keys of other workers are answered with MOVED, a few times */
};

struct acl_store;
struct conn;

struct conn_list {
    struct conn *first, *last;
};

struct clients_listener {
    struct clients *clients;
    struct loop_watch watch;
    int fd; /* not owned */
    enum clients_port port;
};

struct clients {
    struct loop *loop;
    struct engine *engine;
    struct client_stats stats;
    struct resp_limits limits;
    struct pending_table pending;

    struct acl acl;              /* the users as this worker knows them */
    struct acl_store *acl_store; /* how all workers agree on them; NULL: this one is alone */
    struct acl_log acl_log;
    struct activity activity;
    struct monitor monitor;
    uint64_t begun; /* commands that had to wait for their replies */

    bool pausing, pause_all; /* CLIENT PAUSE: writes, or all commands, wait */
    uint64_t pause_until_us;
    struct loop_timer pause_timer;

    struct clients_listener listeners[CLIENTS_LISTENERS];
    uint32_t listener_count;
    bool listening;
    bool draining;

    uint64_t next_id;
    struct conn *buckets[CLIENTS_BUCKETS];
    struct conn_list active;  /* by last activity, newest last */
    struct conn_list idle;    /* silent for long: they hold no memory; also by last activity */
    struct conn_list stalled; /* waiting for the engine to take requests, or for memory */
    struct conn *dirty;       /* have something to do at the end of this turn */

    size_t input_bytes;     /* memory that the connections hold for commands */
    size_t output_bytes;    /* and for replies */
    struct conn *favoured;  /* may take memory beyond the limit of all, or NULL */
    uint64_t tls_logged_us; /* when a failed handshake was last named in the log */
    bool pressure;          /* as the engine said at the start of this turn */
    bool answered;          /* an answer came in this turn: stalled connections may try again */
    struct loop_task flush;
    struct loop_timer retry, tick;
    struct loop_hook hook;

    struct resp_out discard; /* where replies go that nobody wants */
    struct object object;    /* scratch for reading answers */
    uint8_t scratch[CLIENTS_SCRATCH];
};

/* Takes nothing over; loop and engine must outlive the clients. -ERR_NOMEM. */
int clients_open(struct clients **out, struct loop *loop, struct engine *engine);

/* Close all connections. Answers still to come must not be passed on any more. */
void clients_close(struct clients *c);

/* Accept connections from a listening socket (not blocking, shared with other workers; not owned).
 * -ERR_LIMIT, -ERR_NOMEM. */
int clients_listen(struct clients *c, int fd, enum clients_port port);

/* Serve a connected socket; takes the descriptor over, also on error. Returns the connection or
 * NULL. */
struct conn *clients_adopt(struct clients *c, int fd, enum clients_port port);

/* The engine's answer to a token. Unknown tokens are ignored. May be called from within
 * engine->put() and get(). */
void clients_reply(struct clients *c, uint64_t token, const struct coord_reply *answer);

/* Stop accepting and reading; connections end when their replies are sent. */
void clients_drain(struct clients *c);

/* True when a drain has finished. */
bool clients_drained(const struct clients *c);

/* An error reply begins with these words. */
void clients_count_error(struct clients *c, const char *text);

/* Counters, up to date at the end of each turn. */
const struct client_stats *clients_stats(const struct clients *c);

/* The connection with this id, or NULL. */
struct conn *clients_find(const struct clients *c, uint64_t id);

/* The commands of clients wait for so long, or those that write; and no longer. clients_pause.c. */
void clients_pause(struct clients *c, uint64_t ms, bool writes_only);
void clients_unpause(struct clients *c);
/* Has this command to wait? */
struct command;
bool clients_paused(const struct clients *c, const struct command *command);

/* Do something among this worker's connections for a client of a sibling: the words (packed.h) name it.
 * Text for the asker is appended. -ERR_INVAL: there is no such thing; -ERR_NOMEM. */
int clients_run(struct clients *c, struct slice words, struct buf *text);

/* The users have changed: every connection follows its user; those whose user is gone, or is another
 * one now, end: `running` after its reply, the others at once. */
void clients_users_changed(struct clients *c, struct conn *running);

/* Lists, for conn.c. */
void clients_touch(struct clients *c, struct conn *conn);  /* it has just been active */
void clients_dirty(struct clients *c, struct conn *conn);  /* look at it at the end of the turn */
void clients_stall(struct clients *c, struct conn *conn);  /* try it again when there is room */
void clients_forget(struct clients *c, struct conn *conn); /* it is about to be freed */

#endif
