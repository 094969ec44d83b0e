/* Administrators' commands: a worker that a client has asked connects to admin.sock, sends one frame
 * (ipc/frame.h) and receives one.
 *
 *   request  the words, each followed by a 0; the last one may be JSON: then the answer is
 *   answer   '+' or '-' (an error), then text; if something has been changed, when others know of it,
 *            but after a second in any case
 *
 * Only processes of this node can reach the socket; whether the client may ask is judged by the worker.
 * Bounded in number, size and time. Runs in gossipd. */
#ifndef CLOCKWISE_GOSSIPD_ADMIN_H
#define CLOCKWISE_GOSSIPD_ADMIN_H

#include "gossipd/gossipd.h"

#include <stdio.h>

#define ADMIN_WORDS   8
#define ADMIN_REQUEST 4096
#define ADMIN_ANSWER  (1u << 20)

struct admin_words {
    unsigned count; /* without JSON */
    const char *at[ADMIN_WORDS];
    bool json;
};

/* Listen on this descriptor (-1: nobody will ask). -ERR_NOMEM. */
int admin_open(struct gossipd *g, int listen_fd);
void admin_close(struct gossipd *g);

/* admin_verb.c: carry a request out and print the answer, or the error without a final newline.
 * Returns false for an error. */
bool admin_run(struct gossipd *g, const struct admin_words *w, FILE *out);

/* admin_show.c: what a plan comes to, and how the cluster is. */
void admin_show_plan(struct gossipd *g, const struct member_plan *plan, bool json, FILE *out);
void admin_show_status(struct gossipd *g, bool json, FILE *out);
/* The name of a member, or its id if it is not known; returns out. */
const char *admin_name(struct gossipd *g, const struct node_id *id, char *out, size_t size);
/* A change in words: "join node4 (127.0.0.1:17400)". */
void admin_describe(struct gossipd *g, const struct ring_change *c, char *out, size_t size);

#endif
