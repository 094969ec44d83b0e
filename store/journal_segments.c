/* Segments of the journal: the next one, old ones, the reserve. Runs in the flush thread (preparing) and
 * in the loop (releasing). */
#include "store/journal_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"

#include <stdlib.h>
#include <unistd.h>

enum { SPARE_SEGMENTS = 2 /* released segments kept to be recycled */ };

static int list_push(struct retired_list *list, struct retired item)
{
    if (list->count == list->capacity) {
        uint32_t wanted = list->capacity == 0 ? 16 : list->capacity * 2;
        struct retired *items = realloc(list->items, wanted * sizeof *items);

        if (items == NULL)
            return -ERR_NOMEM;
        list->items = items;
        list->capacity = wanted;
    }
    list->items[list->count++] = item;
    return 0;
}

int journal_retain(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes)
{
    int err = list_push(&j->retained, (struct retired){sequence, last_lsn, bytes});

    if (err == 0)
        atomic_fetch_add(&j->retained_bytes, bytes);
    return err;
}

static struct retired list_take(struct retired_list *list, uint32_t at)
{
    struct retired item = list->items[at];

    memmove(list->items + at, list->items + at + 1, (--list->count - at) * sizeof item);
    return item;
}

/* Remove what is too much to keep for recycling, oldest first and each durably: a missing segment
 * between older and newer ones would be taken for damage. */
static void remove_released(struct journal *j)
{
    char path[FILE_PATH];

    pthread_mutex_lock(&j->lock);
    while (j->released.count > 0 && (j->released.count > SPARE_SEGMENTS || j->full ||
                                     j->released.items[0].bytes != j->conf.segment_bytes)) {
        struct retired old = list_take(&j->released, 0);

        pthread_mutex_unlock(&j->lock);
        journal_file_path(path, j->dir, old.sequence);
        unlink(path);
        file_sync_dir(j->dir);
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
}

int journal_prepare(struct journal *j)
{
    struct journal_file made = {.fd = -1};
    struct retired old = {0};
    bool recycle = false, reserve, next;
    uint64_t sequence;
    char path[FILE_PATH];
    int err = 0;

    pthread_mutex_lock(&j->lock);
    next = j->next.fd < 0 && !j->preparing;
    reserve = !j->have_reserve;
    sequence = j->sequence + 1;
    if (next)
        j->preparing = true;
    if (next && j->released.count > 0 && j->released.items[0].bytes == j->conf.segment_bytes) {
        old = list_take(&j->released, 0);
        recycle = true;
    }
    pthread_mutex_unlock(&j->lock);

    if (recycle) {
        journal_file_path(path, j->dir, old.sequence);
        err = journal_file_recycle(&made, j->dir, j->conf.worker, path, sequence,
                                   j->conf.segment_bytes);
    } else if (next) {
        err = journal_file_create(&made, j->dir, j->conf.worker, sequence, j->conf.segment_bytes,
                                  true);
    }
    if (err != 0 && err != -ERR_DISKFULL)
        check_panic("cannot make a journal segment: %s", err_text(err));
    pthread_mutex_lock(&j->lock);
    if (next) {
        j->preparing = false;
        if (err == 0) {
            if (j->full)
                log_notice("there is room again: journal goes on");
            j->next = made;
            j->sequence = sequence;
            j->full = false;
        } else {
            if (!j->full)
                log_error("disk full: writes are refused until there is room");
            j->full = true;
        }
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    remove_released(j);
    if (reserve && err == 0) {
        err = journal_file_reserve(j->dir, j->reserve_path, j->reserve_bytes);
        pthread_mutex_lock(&j->lock);
        j->have_reserve = err == 0;
        pthread_mutex_unlock(&j->lock);
    }
    return err;
}

void journal_release(struct journal *j, uint64_t needed)
{
    bool any = false;

    pthread_mutex_lock(&j->lock);
    while (j->retained.count > 0 && j->retained.items[0].last_lsn < needed) {
        if (list_push(&j->released, j->retained.items[0]) != 0)
            break;
        atomic_fetch_sub(&j->retained_bytes, j->retained.items[0].bytes);
        list_take(&j->retained, 0);
        any = true;
    }
    pthread_mutex_unlock(&j->lock);
    if (any)
        j->conf.need_prepare(j->conf.arg);
}

int journal_adopt(struct journal *j, uint64_t sequence, uint64_t last_lsn, uint64_t bytes)
{
    int err;

    pthread_mutex_lock(&j->lock);
    err = journal_retain(j, sequence, last_lsn, bytes);
    pthread_mutex_unlock(&j->lock);
    return err;
}

uint64_t journal_retained(const struct journal *j)
{
    return atomic_load_explicit(&j->retained_bytes, memory_order_relaxed);
}
