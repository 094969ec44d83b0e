/* The certificates of a worker's ports: read at the start, read again on reload. Runs in a worker;
 * blocks for the files. */
#include "base/log.h"
#include "workers/worker.h"

static int read_files(const struct worker *w, enum tls_verify verify, struct tls_context **out,
                      char why[TLS_WHY])
{
    struct tls_conf conf = {.cert = w->conf.security.tls_cert,
                            .key = w->conf.security.tls_key,
                            .ca = w->conf.security.tls_ca,
                            .verify = verify};

    return tls_context_new(out, &conf, why);
}

/* Both or none. */
static int replace(struct worker *w, char why[TLS_WHY])
{
    static const enum tls_verify of_clients[] = {
        [CONF_AUTH_NO] = TLS_VERIFY_NONE,
        [CONF_AUTH_OPTIONAL] = TLS_VERIFY_OPTIONAL,
        [CONF_AUTH_YES] = TLS_VERIFY_REQUIRED,
    };
    struct tls_context *client = NULL, *peer = NULL;
    int rc = 0;

    if (w->conf.security.tls)
        rc = read_files(w, of_clients[w->conf.security.tls_auth_clients], &client, why);
    if (rc == 0 && w->conf.security.tls_cluster)
        rc = read_files(w, TLS_VERIFY_REQUIRED, &peer, why);
    if (rc != 0) {
        tls_context_free(client);
        return rc;
    }
    tls_context_free(w->client_tls);
    tls_context_free(w->peer_tls);
    w->client_tls = client;
    w->peer_tls = peer;
    return 0;
}

int worker_tls_open(struct worker *w, char why[TLS_WHY])
{
    return replace(w, why);
}

void worker_tls_reload(struct worker *w)
{
    char why[TLS_WHY];

    if (replace(w, why) != 0)
        log_error("reload: the certificates in use stay: %s", why);
    link_set_set_tls(w->links, w->peer_tls);
}
