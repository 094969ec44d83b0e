/* Every listening socket of the node. The supervisor binds them before it starts anybody and keeps
 * them, so that a crashed worker costs its clients a pause and never a refused connection. */
#ifndef CLOCKWISE_SUPERVISOR_LISTENERS_H
#define CLOCKWISE_SUPERVISOR_LISTENERS_H

#include "conf/conf.h"

#include <stddef.h>

struct listeners {
    int front;
    int client[LIMIT_WORKERS];
    int peer[LIMIT_WORKERS];
    int wake[LIMIT_WORKERS]; /* eventfds */
    int gossip_udp, gossip_tcp;
    int repair;
    int notify; /* Unix datagram socket gossip.sock in the runtime directory */
    int admin;  /* Unix stream socket admin.sock there, for workers with administrators' commands */
    uint32_t workers;
};

/* Bind everything. 0, or -ERR_* with "address:port: reason" in error; then everything is closed. */
int listeners_open(struct listeners *l, const struct conf *c, char *error, size_t error_size);
void listeners_close(struct listeners *l);

#endif
