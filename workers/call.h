/* What command handlers are made of: replies, requests to the engine, options. Used by workers. */
#ifndef CLOCKWISE_WORKERS_CALL_H
#define CLOCKWISE_WORKERS_CALL_H

#include "workers/command.h"

/* Where an immediate reply goes. */
struct resp_out *call_out(struct call *call);

/* An immediate error reply; counted. */
enum call_result call_error(struct call *call, const char *text);
enum call_result call_errorf(struct call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Note in the ACL's log that this was refused to a user. */
void call_note_refusal(struct call *call, enum acl_refusal reason, struct slice object,
                       struct slice user);

/* "syntax error" and "value is not an integer or out of range", as Redis words them. */
enum call_result call_syntax_error(struct call *call);
enum call_result call_not_integer(struct call *call);

/* Ask the engine; `answer` will write the reply. arg is kept for it. */
enum call_result call_get(struct call *call, const struct msg_GET *get, pending_answer_fn *answer,
                          int64_t arg0, int64_t arg1);
enum call_result call_put(struct call *call, const struct msg_PUT *put, pending_answer_fn *answer,
                          int64_t arg0, int64_t arg1);

/* Wait for something else than the engine: `answer` will write the reply when clients_reply() is
 * called with the token. */
uint64_t call_wait(struct call *call, pending_answer_fn *answer);

/* A command of `count` keys: the first call of a command makes the pending reply, later calls (after
 * CALL_AGAIN) find it again. Then issue parts p->issued to count - 1 with call_part_*(), and end
 * with call_many_issued(). */
struct pending *call_many(struct call *call, uint32_t count, bool write, pending_answer_fn *answer,
                          pending_finish_fn *finish);
enum call_result call_part_get(struct call *call, struct pending *p, const struct msg_GET *get);
enum call_result call_part_put(struct call *call, struct pending *p, const struct msg_PUT *put);
enum call_result call_many_issued(struct call *call, struct pending *p);

/* The end of a command of many keys that has failed: replies p->error. */
pending_finish_fn call_finish_error;

/* Note that a part failed; the reply will be its error. Returns true if the answer is an error. */
bool call_part_failed(struct pending *p, const struct coord_reply *answer);

/* An error reply to a command that was waited for; counted. */
void call_fail(struct pending *p, struct resp_out *out, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The error reply for an answer's status (not 0). */
void call_status(struct pending *p, const struct coord_reply *answer, struct resp_out *out);

/* The winner of an answered object at the engine's time; false: there is none. -ERR_* through
 * *status if the object is damaged. The value is valid until the next answer. */
bool call_winner(struct pending *p, const struct coord_reply *answer, struct sibling *winner,
                 int *status);

/* Reply the winner's value, or null. Counts a hit or a miss. */
void call_value(struct pending *p, uint32_t part, const struct coord_reply *answer,
                struct resp_out *out);

/* Is argument i this option, in any case? */
bool call_is(const struct call *call, uint32_t i, const char *option);

/* A 64-bit number, the way Redis reads one; and argument i as such. */
bool call_number(struct slice s, int64_t *out);
bool call_int64(const struct call *call, uint32_t i, int64_t *out);

/* Keys and values within their limits? Replies the error and returns false if not. */
bool call_key_ok(struct call *call, struct slice key);
bool call_value_ok(struct call *call, struct slice value);

#endif
