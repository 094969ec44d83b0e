/* What a command's arguments are, from the notation of command.def, as COMMAND DOCS tells it
 * (https://redis.io/docs/latest/commands/command-docs/). Runs in workers; pure.
 *
 *   list = item { (" " | "|") item }
 *   item = arg | "[" arg "]"                          optional
 *   arg  = TOKEN                                      the word itself, in capitals
 *        | [TOKEN "="] name [type] ["+" ["*"]]        "+" once or more; "*" each with the token before it
 *   type = "#i" integer | "#t" Unix time | "#p" pattern | "#k" key
 *        | "(" list ")" one of them | "{" list "}" all of them, in this order;   otherwise a string
 *
 * Example: SET is key#k value [GET] [expiration(EX=seconds#i|KEEPTTL)]. */
#ifndef CLOCKWISE_WORKERS_COMMAND_ARGS_H
#define CLOCKWISE_WORKERS_COMMAND_ARGS_H

#include "workers/resp_reply.h"

/* Write the array of arguments. The notation is our own: a mistake in it asserts. */
void command_args_write(struct resp_out *out, const char *notation);

#endif
