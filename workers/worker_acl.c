/* The users of this worker and how its siblings hear of changes: a counter in its shared memory
 * segment. Runs in a worker. */
#include "base/err.h"
#include "base/log.h"
#include "workers/acl_store.h"
#include "workers/worker.h"

#include <stdlib.h>

static uint64_t newest(void *arg)
{
    const struct worker *w = arg;
    uint64_t most = 0;

    for (uint16_t i = 0; i < w->workers; i++) {
        const struct segment *s = &w->sibling[i].segment;

        if (i == w->index || !segment_mapped(s))
            continue;
        uint64_t one = counter_get(&w->sibling[i].body->counters, CTR_acl_generation);
        most = one > most ? one : most;
    }
    return most;
}

static void announce(void *arg, uint64_t generation)
{
    struct worker *w = arg;

    counter_set(&w->seg.body->counters, CTR_acl_generation, generation);
}

static void saved(void *arg, uint64_t token, int rc)
{
    struct worker *w = arg;
    struct coord_reply reply = {.status = rc};

    clients_reply(w->clients, token, &reply);
}

int worker_acl_open(struct worker *w, char why[ACL_WHY])
{
    struct acl_store_conf conf = {
        .file = w->conf.security.aclfile,
        .runtime_dir = w->conf.node.runtime_dir,
        .requirepass = w->conf.security.requirepass,
        .run = w->child.incarnation >> 20, /* the supervisor numbers its children from its start */
        .exposed = !conf_is_local(&w->conf),
        .newest = newest,
        .announce = announce,
        .saved = saved,
        .arg = w,
    };

    w->acl_store = calloc(1, sizeof *w->acl_store);
    if (w->acl_store == NULL)
        return -ERR_NOMEM;
    int rc = acl_store_open(w->acl_store, &w->clients->acl, &conf, w->loop, why);
    if (rc == 0)
        w->clients->acl_store = w->acl_store;
    return rc;
}

void worker_acl_turn(struct worker *w)
{
    if (w->acl_store != NULL && acl_store_refresh(w->acl_store))
        clients_users_changed(w->clients, NULL);
}

void worker_acl_require(struct worker *w)
{
    char why[ACL_WHY] = "";
    int rc = acl_store_begin(w->acl_store, why);

    if (rc ==
        -ERR_BUSY) /* whoever holds the lock reloads too, and before or after that does this */
        return;
    if (rc == 0) {
        bool changed = acl_require(&w->clients->acl, w->conf.security.requirepass, &rc);
        int ended = acl_store_end(w->acl_store, changed, why);

        rc = rc != 0 ? rc : ended;
        clients_users_changed(w->clients, NULL);
    }
    if (rc != 0)
        log_error("reload: the password has not changed: %s: %s", err_text(rc), why);
}

void worker_acl_close(struct worker *w)
{
    acl_store_close(w->acl_store);
    free(w->acl_store);
}
