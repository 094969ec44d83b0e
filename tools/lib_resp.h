/* A connection to a node's client port, for tools: one request, one reply (Redis protocol, RESP2). It
 * blocks, for as long as it was told to. */
#ifndef CLOCKWISE_TOOLS_LIB_RESP_H
#define CLOCKWISE_TOOLS_LIB_RESP_H

#include "base/buf.h"
#include "ipc/tls.h"
#include "ipc/wire.h"

#define RESP_WHY TLS_WHY

struct resp_client {
    struct wire wire;
    struct tls_context *tls; /* NULL: plain */
    struct buf in;
    uint32_t timeout_ms; /* of each step */
    char why[RESP_WHY];  /* of the last error */
};

struct resp_client_conf {
    const char *host, *port;
    uint32_t timeout_ms;
    bool tls;
    const char *cert, *key, *ca; /* with tls; may be empty */
};

/* Connect. 0 or an error with a reason in c->why. Close it in either case. */
int resp_client_open(struct resp_client *c, const struct resp_client_conf *conf);
void resp_client_close(struct resp_client *c);

/* Send a command and receive its reply, a text of any kind: 0 with *text (valid until the next call),
 * -ERR_DENIED if it is an error reply (*text says which), other errors with a reason. */
int resp_client_call(struct resp_client *c, const char *const *words, unsigned count,
                     struct slice *text);

#endif
