/* The flush thread and its two queues. The loop submits and takes; neither ever waits for the
 * other's work. The thread runs at a lower priority, so that it does not starve the loop. */
#include "store/flusher.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "store/vnode.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICENESS = 5, RETRY_US = 1000000 };

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
    bool unsaved; /* something that no journal brings back has been committed */
};

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
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* waking, it preempts nobody */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICENESS);
    pthread_mutex_lock(&f->lock);
    while (wait_for_work(f), !f->stopping) {
        struct vnode *v;
        bool prepare = f->prepare, last;

        f->prepare = false;
        v = queue_pop(&f->todo);
        last = f->todo.first == NULL;
        pthread_mutex_unlock(&f->lock);
        if (prepare && f->journal != NULL)
            prepare_journal(f);
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
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
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
    pthread_mutex_lock(&f->lock);
    f->journal = j;
    pthread_mutex_unlock(&f->lock);
}

void flusher_submit(struct flusher *f, struct vnode *v)
{
    ASSERT(v->busy && v->work.todo != 0);
    pthread_mutex_lock(&f->lock);
    queue_push(&f->todo, v);
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->wake);
}

struct vnode *flusher_take(struct flusher *f)
{
    struct vnode *v;

    pthread_mutex_lock(&f->lock);
    v = queue_pop(&f->done);
    pthread_mutex_unlock(&f->lock);
    return v;
}

void flusher_need_prepare(struct flusher *f)
{
    pthread_mutex_lock(&f->lock);
    f->prepare = true;
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->wake);
}
