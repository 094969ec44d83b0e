/* The flush thread and its two queues. The loop submits and takes; neither ever waits for the
 * other's work.
 *
 * The thread is of the idle class (sched(7)): whoever wakes up has the CPU at once, and not when the
 * scheduler's next tick finds that the thread has had enough. It is so only while nobody waits for it: when
 * buffers fill up, a segment of the journal is wanted, the CPU is short (it could be kept from going
 * on for long with something in its hands) or the store is closed, it is a batch task of lower priority. */
#include "store/flusher.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/err.h"
#include "store/vnode.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { RETRY_US = 1000000 };

struct queue {
    struct vnode *first, *last;
};

struct flusher {
    struct flusher_conf conf;
    struct journal *journal;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct queue todo, done;
    bool prepare, full, stopping;
    bool preparing;    /* it is at it */
    bool hurry;        /* flusher_hurry() */
    bool may_idle;     /* the kernel lets a thread return from the idle class */
    bool idle;         /* the thread is of that class */
    _Atomic pid_t tid; /* 0: it does not run yet */
    bool unsaved;      /* something that no journal brings back has been committed */
};

/* ---- the thread's share of the CPU ---- */

/* With the lock held. */
static void choose_policy(struct flusher *f)
{
    bool idle = f->may_idle && !f->hurry && !f->prepare && !f->preparing && !f->stopping;

    if (f->tid == 0 || idle == f->idle)
        return;
    f->idle = idle;
    cpu_set_idle(f->tid, idle);
}

/* For all but the thread. It may have been interrupted with the lock in its hands: then it is to go on. */
static void lock(struct flusher *f)
{
    if (pthread_mutex_trylock(&f->lock) == 0)
        return;
    if (f->may_idle && f->tid != 0)
        cpu_set_idle(f->tid, false);
    pthread_mutex_lock(&f->lock);
    f->idle = false;
    choose_policy(f);
}

/* ---- the queues ---- */

static void queue_push(struct queue *q, struct vnode *v)
{
    v->queue_next = NULL;
    if (q->last != NULL)
        q->last->queue_next = v;
    else
        q->first = v;
    q->last = v;
}

static struct vnode *queue_pop(struct queue *q)
{
    struct vnode *v = q->first;

    if (v != NULL) {
        q->first = v->queue_next;
        if (q->first == NULL)
            q->last = NULL;
    }
    return v;
}

/* With the lock held; a full disk is looked at again after a while. */
static void wait_for_work(struct flusher *f)
{
    while (!f->stopping && f->todo.first == NULL && !f->prepare) {
        if (f->full) {
            uint64_t until = clock_mono_us() + RETRY_US;
            struct timespec ts = {
                .tv_sec = (time_t)(until / 1000000),
                .tv_nsec = (long)(until % 1000000) * 1000,
            };

            if (pthread_cond_timedwait(&f->wake, &f->lock, &ts) != 0)
                f->prepare = true;
        } else {
            pthread_cond_wait(&f->wake, &f->lock);
        }
    }
}

/* On a full disk the file that is there goes on to say less than it could. */
static void save_commits(struct flusher *f)
{
    int err = commits_save(f->conf.flush.vnode->commits, f->conf.journal_dir,
                           journal_durable(f->journal));

    if (err != 0 && err != -ERR_DISKFULL)
        check_panic("cannot write %s/commits: %s", f->conf.journal_dir, err_text(err));
    f->unsaved = false;
}

static void prepare_journal(struct flusher *f)
{
    save_commits(f); /* before segments go */
    f->full = journal_prepare(f->journal) == -ERR_DISKFULL;
}

static void prepared(struct flusher *f)
{
    pthread_mutex_lock(&f->lock);
    f->preparing = false;
    choose_policy(f);
    pthread_mutex_unlock(&f->lock);
}

static void work_on(struct flusher *f, struct vnode *v)
{
    if (v->work.todo & VNODE_DROP) {
        lmdb_env_close(v->env);
        v->env = NULL;
        vnode_remove_files(v, f->conf.flush.data_dir);
    } else {
        flush_work(v, &f->conf.flush);
        f->unsaved |= v->work.todo & VNODE_RESERVE ||
                      (v->work.todo & VNODE_MARK && v->work.meta.standing != STANDING_WHOLE);
    }
}

static void *flusher_main(void *arg)
{
    struct flusher *f = arg;

    pthread_setname_np(pthread_self(), "flush");
    cpu_background(); /* where it may not, it does without */
    pthread_mutex_lock(&f->lock);
    f->tid = cpu_thread();
    choose_policy(f);
    while (wait_for_work(f), !f->stopping) {
        struct vnode *v;
        bool prepare = f->prepare, last;

        f->prepare = false;
        f->preparing = prepare;
        v = queue_pop(&f->todo);
        last = f->todo.first == NULL;
        pthread_mutex_unlock(&f->lock);
        if (prepare && f->journal != NULL)
            prepare_journal(f);
        if (prepare)
            prepared(f);
        if (v != NULL)
            work_on(f, v);
        if (last && f->unsaved && f->journal != NULL)
            save_commits(f);
        pthread_mutex_lock(&f->lock);
        if (v != NULL) {
            queue_push(&f->done, v);
            pthread_mutex_unlock(&f->lock);
            f->conf.finished(f->conf.arg);
            pthread_mutex_lock(&f->lock);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

int flusher_open(struct flusher **out, const struct flusher_conf *conf)
{
    struct flusher *f = calloc(1, sizeof *f);
    pthread_condattr_t attr;

    if (f == NULL)
        return -ERR_NOMEM;
    f->conf = *conf;
    f->may_idle = cpu_can_idle();
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&f->thread, NULL, flusher_main, f) != 0) {
        free(f);
        return -ERR_NOMEM;
    }
    *out = f;
    return 0;
}

void flusher_stop(struct flusher *f)
{
    lock(f);
    f->stopping = true;
    choose_policy(f);
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->wake);
    pthread_join(f->thread, NULL);
}

struct vnode *flusher_take_any(struct flusher *f)
{
    struct vnode *v = queue_pop(&f->done);

    return v != NULL ? v : queue_pop(&f->todo);
}

void flusher_free(struct flusher *f)
{
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->wake);
    free(f);
}

void flusher_set_journal(struct flusher *f, struct journal *j)
{
    lock(f);
    f->journal = j;
    pthread_mutex_unlock(&f->lock);
}

void flusher_submit(struct flusher *f, struct vnode *v)
{
    ASSERT(v->busy && v->work.todo != 0);
    lock(f);
    queue_push(&f->todo, v);
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->wake);
}

struct vnode *flusher_take(struct flusher *f)
{
    struct vnode *v;

    lock(f);
    v = queue_pop(&f->done);
    pthread_mutex_unlock(&f->lock);
    return v;
}

void flusher_hurry(struct flusher *f, bool hurry)
{
    if (f->hurry == hurry) /* nobody else writes it */
        return;
    lock(f);
    f->hurry = hurry;
    choose_policy(f);
    pthread_mutex_unlock(&f->lock);
}

void flusher_need_prepare(struct flusher *f)
{
    lock(f);
    f->prepare = true;
    choose_policy(f);
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->wake);
}
