/* The flush thread: takes vnodes with work, one after the other, and gives them back. It also makes
 * and removes journal segments. */
#ifndef CLOCKWISE_STORE_FLUSHER_H
#define CLOCKWISE_STORE_FLUSHER_H

#include "store/flush.h"
#include "store/journal.h"

struct flusher;

struct flusher_conf {
    struct flush_conf flush;
    const char *journal_dir;     /* where what is known of commits is kept (commits.h) */
    void (*finished)(void *arg); /* called by the flush thread when it has given something back */
    void *arg;
};

int flusher_open(struct flusher **out, const struct flusher_conf *conf);

/* Finish the vnode in work, leave the rest undone, end the thread. After that only
 * flusher_need_prepare() (to no effect) and the next two may be called. */
void flusher_stop(struct flusher *f);
/* After flusher_stop(): a vnode that is still the thread's, finished or not, or NULL. */
struct vnode *flusher_take_any(struct flusher *f);
void flusher_free(struct flusher *f);

/* The journal whose segments are prepared; set once, before the first submit. */
void flusher_set_journal(struct flusher *f, struct journal *j);

/* Hand over a vnode with v->work.todo set. It is the thread's until flusher_take() returns it. */
void flusher_submit(struct flusher *f, struct vnode *v);

/* A finished vnode, or NULL. */
struct vnode *flusher_take(struct flusher *f);

/* Should the thread compete for the CPU (buffers fill up, the CPU is short), or have only what nobody else
 * wants? The latter at first. From the loop; often called, cheap without a change. */
void flusher_hurry(struct flusher *f, bool hurry);

/* The journal needs a segment. From any thread. */
void flusher_need_prepare(struct flusher *f);

#endif
