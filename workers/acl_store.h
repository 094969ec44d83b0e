/* The users' files, and how the workers of a node agree on them.
 *
 * All workers read one file in the runtime directory, `users`: a head with a generation, then every
 * user with its birth. Whoever changes something holds the lock, reads what is newer than its own,
 * changes, replaces the file and announces the generation in its shared memory segment; the others
 * look for announcements at the start of every turn, so that no command that follows a change's reply
 * is judged by what was before. The file is of one run of the supervisor; a new run begins with the
 * configured aclfile and requirepass. ACL SAVE writes the aclfile, by a thread, because that syncs.
 *
 * Used by workers; one thread. Blocks for small files: to read them, and to write one that is not
 * synced. */
#ifndef CLOCKWISE_WORKERS_ACL_STORE_H
#define CLOCKWISE_WORKERS_ACL_STORE_H

#include "conf/conf.h"
#include "ipc/loop.h"
#include "workers/acl.h"

#include <pthread.h>

struct acl_store_conf {
    const char *file;        /* users in Redis's format, or "" */
    const char *runtime_dir; /* where the workers share them */
    const char *requirepass; /* of the default user, if the file does not name it */
    uint64_t run;            /* names the supervisor's run */
    bool exposed;            /* not on loopback alone: the default user needs a password */
    /* The newest generation that another worker announces; announce one. */
    uint64_t (*newest)(void *arg);
    void (*announce)(void *arg, uint64_t generation);
    /* ACL SAVE has ended: 0, -ERR_DISKFULL, -ERR_IO. */
    void (*saved)(void *arg, uint64_t token, int rc);
    void *arg;
};

struct acl_store {
    struct acl_store_conf conf; /* strings are copied below */
    char file[CONF_PATH], dir[CONF_RUNTIME_PATH];
    struct acl *acl;
    uint64_t generation; /* of what `acl` holds */
    int lock_fd;
    struct loop *loop;
    struct loop_watch watch;
    int event_fd; /* the thread has finished */
    bool saving;
    uint64_t token;
    int save_rc;
    pthread_t thread;
    struct buf text; /* being saved */
};

/* Fill *a, which is open, with the node's users. Errors come with a reason, "file:line:
 * reason" where a line is to blame. Waits for the lock. */
int acl_store_open(struct acl_store *s, struct acl *a, const struct acl_store_conf *conf,
                   struct loop *loop, char why[ACL_WHY]);

/* Waits for a thread that still saves. */
void acl_store_close(struct acl_store *s);

/* Take over what another worker has announced. True if the users have changed. */
bool acl_store_refresh(struct acl_store *s);

/* Before a change: 0 with the lock held and the newest users, or -ERR_BUSY: try again in a later
 * turn; or another error with a reason. */
int acl_store_begin(struct acl_store *s, char why[ACL_WHY]);

/* After it. keep: the change holds and goes to all workers; otherwise, and on error, what was before
 * is in force again. -ERR_DENIED: it would let strangers in; -ERR_DISKFULL, -ERR_IO. */
int acl_store_end(struct acl_store *s, bool keep, char why[ACL_WHY]);

/* Within a change: replace the users by those of the aclfile. */
int acl_store_load(struct acl_store *s, char why[ACL_WHY]);

/* Begin to write the aclfile; `saved` tells how it went. -ERR_BUSY: one is being written. */
int acl_store_save(struct acl_store *s, uint64_t token);

#endif
