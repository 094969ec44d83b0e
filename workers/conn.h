/* One client connection: reads, parses, runs commands in order, writes replies in order, and stops
 * reading while something is full. Used by workers; one thread; nothing here blocks. */
#ifndef CLOCKWISE_WORKERS_CONN_H
#define CLOCKWISE_WORKERS_CONN_H

#include "workers/clients.h"
#include "workers/key_order.h"

#define CONN_NAME 128

/* Why no further command of this connection is run just now. */
enum conn_stall {
    CONN_RUNS,
    CONN_PIPELINE, /* too many replies are owed */
    CONN_OUTPUT,   /* too many bytes wait to be sent */
    CONN_BUSY,     /* the engine takes no more requests */
    CONN_ORDER, /* a command over all keys: what is before it ends first, what is behind it waits */
    CONN_PAUSED, /* CLIENT PAUSE */
    CONN_MEMORY  /* all connections together hold too many bytes of unfinished commands */
};

struct command;

struct conn {
    uint32_t magic;
    struct wire wire;
    struct clients *clients;
    struct loop_watch watch;
    struct loop_timer
        stuck; /* runs during the handshake, and while the client must read, or bytes of
                                others must go, first */
    uint64_t id;
    enum clients_port port;

    /* Requests. */
    struct resp_parser parser;
    struct buf in; /* bytes of commands not yet run; empty most of the time */
    size_t unread; /* while a command runs: bytes of it and of those behind it */
    bool redo;     /* the parser's command could not be run yet: run it again */
    enum conn_stall stall;
    struct key_order order; /* keys of what is under way */
    struct pending *gather; /* the command of many keys that is being issued */
    const struct command *last_command;

    /* Replies. */
    struct resp_out out;         /* bytes to send now */
    struct pending *head, *tail; /* replies owed, oldest first */
    uint32_t owed;               /* commands in that list */
    uint32_t in_flight;          /* requests at the engine */
    uint32_t reads;              /* of these, such as may be answered with a whole value */
    size_t held;                 /* bytes of ready replies that wait for earlier ones */
    size_t expected; /* bytes that a reply of this client is likely to have; 0: none yet */
    size_t
        largest; /* bytes of the largest reply since none was unsent; at most those of one value */
    size_t counted_in, counted_out; /* bytes that the totals know of */
    bool reply_off;                 /* CLIENT REPLY OFF */
    bool skip_next;                 /* CLIENT REPLY SKIP: the next command is silent */
    bool silent;                    /* the command that runs now is */
    bool blocked;                   /* the socket takes no more; wait for EPOLLOUT */

    struct acl_user *user; /* a reference; the default user until another logs in */
    bool authenticated;    /* it has logged in, or did not have to */
    bool ended;            /* the client will send nothing more */
    bool closing;          /* run nothing more; close when all is sent */
    bool doomed;           /* close at the end of this turn, whatever is unsent */
    bool is_dirty;
    bool no_evict, no_touch;
    bool knows_nodes; /* has asked for CLUSTER NODES: one that adds up what each node says */
    struct conn_list *listed; /* active or idle */
    bool is_stalled;

    uint32_t moved; /* MOVED answers in this ring epoch */
    uint64_t moved_epoch;
    uint64_t created_us, active_us, sent_us;
    char name[CONN_NAME], lib_name[CONN_NAME], lib_version[CONN_NAME];

    struct conn *next, *previous; /* in `listed` */
    struct conn *next_stalled, *previous_stalled;
    struct conn *next_dirty;
    struct conn *next_bucket;
};

/* Take a connected, non-blocking socket over. NULL without memory (the descriptor is closed). */
struct conn *conn_open(struct clients *c, int fd, enum clients_port port, uint64_t id);

/* Where the next immediate reply of this connection goes, after those that it owes. */
struct resp_out *conn_out(struct conn *conn);

/* Put a reply that must be waited for into the list. */
void conn_owe(struct conn *conn, struct pending *p);

/* Take the newest reply out of the list again, because its request was refused, and release it. */
void conn_disown(struct conn *conn, struct pending *p);

/* Where p's answer may be written now. */
struct resp_out *conn_answer_out(struct conn *conn, struct pending *p);

/* A reply had so many bytes: the next will be like it. Up at once, down by halves. */
void conn_learn_size(struct conn *conn, size_t len);

/* Count the bytes that p holds until its turn comes. */
void conn_hold(struct conn *conn, struct pending *p);

/* p's reply is complete: send it and those behind it that are ready. */
void conn_ready(struct conn *conn, struct pending *p);

/* Note a request of p's at the engine; and that it has been answered, or was not taken. */
void conn_ask(struct conn *conn, const struct pending *p);
void conn_answered(struct conn *conn, const struct pending *p);

/* Might the answers that are under way be more than the connection may leave unread, if each was as
 * large as a value may be? Then no further value may be asked for, unless it is for the command whose
 * reply is the next to leave: nothing that the client could read first is in its way. */
bool conn_output_full(const struct conn *conn);

/* How many of its commands may wait for their replies. */
uint32_t conn_queue_limit(const struct conn *conn);

/* Must it log in before anything else? */
bool conn_is_stranger(const struct conn *conn);

/* Log in as this user; or start anew as the default user. */
void conn_login(struct conn *conn, struct acl_user *user);
void conn_logout(struct conn *conn);

/* Stop running commands until the reason has gone. */
void conn_stall(struct conn *conn, enum conn_stall why);

/* Go on after a stall, if its reason has gone. Returns false if it still waits for what others hold
 * too: the engine or memory. */
bool conn_resume(struct conn *conn);

/* End of turn: send what there is. Frees the connection if it ends; returns false then. */
bool conn_flush(struct conn *conn);

/* Close when everything owed has been sent. */
void conn_finish(struct conn *conn);

/* Close at the end of this turn. */
void conn_doom(struct conn *conn);

/* Close and free now. Not from within a command of this connection. */
void conn_close(struct conn *conn);

/* Give memory back that a silent connection need not hold. */
void conn_trim(struct conn *conn);

/* "address:port" of the client, or of our end. */
void conn_address(const struct conn *conn, bool local, char *out, size_t size);

#endif
