/* What the files of commands share beyond call.h. Used by workers. */
#ifndef CLOCKWISE_WORKERS_CMD_H
#define CLOCKWISE_WORKERS_CMD_H

#include "workers/call.h"

/* The Redis whose command set and replies clients may expect. */
#define CMD_REDIS_VERSION "7.2.0"

/* The line of CLIENT INFO about a connection. */
void cmd_client_describe(const struct conn *conn, struct resp_out *to);

/* INFO's sections of these names, from what all workers have answered (cmd_stats.c). */
void cmd_write_commandstats(const struct pending *p, struct resp_out *text);
void cmd_write_errorstats(const struct pending *p, struct resp_out *text);
void cmd_write_latencystats(const struct pending *p, struct resp_out *text);

/* What INFO says. */
void cmd_get_info(struct call *call, struct worker_info *info);

/* Is this a name that a connection may have? */
bool cmd_name_ok(struct slice name);

/* Name the connection; replies the error and returns false if the name is not allowed. */
bool cmd_set_name(struct call *call, struct slice name);

#endif
