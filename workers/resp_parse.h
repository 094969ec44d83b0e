/* The request side of the Redis protocol: an incremental parser of commands, multibulk ("*2\r\n$3...")
 * and inline ("GET key\r\n"), with the limits and the error texts of Redis. Source: redis.io,
 * "Redis serialization protocol specification"; texts observed on redis-server 7.0.
 *
 * The parser owns no bytes. Its caller keeps the bytes of the unfinished command in one run of
 * memory, which may move between calls, and arguments are slices of that run. Memory is the vector
 * of arguments alone, and it never grows faster than bytes arrive.
 *
 * A command whose value or total is larger than the limits, but which Redis would take, is skipped
 * without being kept and ends as RESP_TOO_BIG, so that the connection survives. */
#ifndef CLOCKWISE_WORKERS_RESP_PARSE_H
#define CLOCKWISE_WORKERS_RESP_PARSE_H

#include "base/slice.h"

#define RESP_INLINE_ARGS 8   /* arguments that need no memory of their own */
#define RESP_KEEP_ARGS   256 /* a larger vector is given back after its command */
#define RESP_ERROR_SIZE  64

struct resp_limits {
    uint32_t max_args;    /* arguments of one command */
    uint32_t max_bulk;    /* bytes of one argument that is kept; larger ones are skipped */
    uint32_t max_command; /* bytes of one command that are kept */
    bool unauthenticated; /* the small limits of a client that has not given its password */
};

enum resp_status {
    RESP_MORE,    /* the command is not complete */
    RESP_COMMAND, /* argc, argv and consumed are valid; argc may be 0 (nothing to execute) */
    RESP_TOO_BIG, /* a whole command was skipped; consumed is valid */
    RESP_INVALID, /* protocol error: answer error() and close */
    RESP_NOMEM    /* no memory for the arguments: close */
};

struct resp_parser {
    /* Results. */
    uint32_t argc;
    struct slice *argv; /* slices of the bytes given to the last call; valid until the next */
    size_t consumed;    /* bytes of the run that are done with; may be set with RESP_MORE too */
    size_t want;        /* with RESP_MORE: bytes missing from the current argument, or 0 */
    bool too_long;      /* with RESP_TOO_BIG: the whole command is, not one argument */
    char error[RESP_ERROR_SIZE];
    /* State of the unfinished command. */
    uint32_t expected; /* arguments announced; 0 between commands */
    uint32_t capacity;
    size_t position; /* parsed bytes of the run */
    size_t skip;     /* bytes to drop before going on */
    int64_t bulk;    /* length of the current argument, or -1 */
    bool skipping;   /* the command is too big: keep nothing */
    bool fresh;      /* the next call begins a command */
    struct slice own[RESP_INLINE_ARGS];
};

void resp_parse_init(struct resp_parser *p);
void resp_parse_free(struct resp_parser *p);

/* Parse one command from data, which begins where the last consumed byte ended. Quoted inline
 * arguments are unescaped in place. Call again with the same bytes and more after RESP_MORE (minus
 * consumed, if set), with what follows after RESP_COMMAND and RESP_TOO_BIG; not at all after the
 * others. */
enum resp_status resp_parse(struct resp_parser *p, uint8_t *data, size_t len,
                            const struct resp_limits *limits);

/* Bytes of memory that the parser holds. */
size_t resp_parse_memory(const struct resp_parser *p);

#endif
