/* What the files about a connection share: conn.c (its life and its turns), conn_input.c (requests),
 * conn_output.c (replies). */
#ifndef CLOCKWISE_WORKERS_CONN_IMPL_H
#define CLOCKWISE_WORKERS_CONN_IMPL_H

#include "workers/conn.h"

/* A buffer larger than this is given back as soon as it is empty. */
#define CONN_BUFFER_KEEP ((size_t)64 << 10)

/* conn.c. */

/* Tell the totals of the clients what its buffers take now. */
void conn_account(struct conn *conn);
/* Does the loop watch for bytes to read, for room to write? */
void conn_watch_input(struct conn *conn, bool on);
void conn_watch_output(struct conn *conn, bool on);

/* conn_input.c. */

/* Read what has arrived and run the commands in it. May doom the connection. */
void conn_read(struct conn *conn);
/* May the commands that wait be run now? Not for a stall that clients_stall() keeps. */
bool conn_stall_is_over(const struct conn *conn);

/* conn_output.c. */

/* What is unsent and what is still to come together: a pipeline of large reads is slowed down before
 * its replies pass the limit at which a slow reader is disconnected. Of a client that has not had a
 * reply yet a few requests are let through, to see how large replies are. */
bool conn_output_high(const struct conn *conn);
/* Does the client read too slowly? Whoever asks for one value gets it, however small the limit and however
 * slow the client: the largest of the replies does not count. */
bool conn_reads_too_slowly(struct conn *conn);
/* Send what the socket takes. False if the connection is broken. */
bool conn_send(struct conn *conn);

#endif
