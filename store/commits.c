/* How far vnodes had come. Used by the loop when it opens a vnode, and by the flush thread. */
#include "store/commits.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/varint.h"
#include "store/file.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COMMITS_MAGIC "CWCOMM01"

enum { HEADER = 24, ENTRY = 24, CHECK = 8 };

struct known {
    uint64_t id, commits; /* id 0: nothing */
};

struct commits {
    pthread_mutex_t lock;
    uint32_t partitions, used;
    uint64_t version, saved; /* of what is known, and of what the file says */
    uint64_t saved_lsn;
    struct known known[];
};

int commits_open(struct commits **out, uint32_t partitions)
{
    struct commits *c = calloc(1, sizeof *c + partitions * sizeof c->known[0]);

    if (c == NULL)
        return -ERR_NOMEM;
    pthread_mutex_init(&c->lock, NULL);
    c->partitions = partitions;
    *out = c;
    return 0;
}

void commits_close(struct commits *c)
{
    if (c == NULL)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void commits_note(struct commits *c, uint32_t partition, uint64_t id, uint64_t commits)
{
    struct known *k = &c->known[partition];

    ASSERT(partition < c->partitions && id != 0);
    pthread_mutex_lock(&c->lock);
    if (k->id != id || k->commits < commits) {
        c->used += k->id == 0;
        *k = (struct known){id, commits};
        c->version++;
    }
    pthread_mutex_unlock(&c->lock);
}

uint64_t commits_least(struct commits *c, uint32_t partition, uint64_t id)
{
    const struct known *k = &c->known[partition];
    uint64_t least;

    ASSERT(partition < c->partitions);
    pthread_mutex_lock(&c->lock);
    least = k->id == id ? k->commits : 0;
    pthread_mutex_unlock(&c->lock);
    return least;
}

static int take_entries(struct commits *c, const uint8_t *bytes, size_t len)
{
    uint64_t count;

    if (len < HEADER + CHECK || memcmp(bytes, COMMITS_MAGIC, 8) != 0 ||
        load_le64(bytes + len - CHECK) != hash64(bytes, len - CHECK))
        return -ERR_CORRUPT;
    count = load_le64(bytes + 8);
    if (count != (len - HEADER - CHECK) / ENTRY || (len - HEADER - CHECK) % ENTRY != 0)
        return -ERR_CORRUPT;
    for (const uint8_t *at = bytes + HEADER; count > 0; count--, at += ENTRY) {
        uint64_t partition = load_le64(at), id = load_le64(at + 8);

        if (partition >= c->partitions || id == 0)
            return -ERR_CORRUPT;
        commits_note(c, (uint32_t)partition, id, load_le64(at + 16));
    }
    c->saved = c->version;
    c->saved_lsn = load_le64(bytes + 16);
    return 0;
}

int commits_load(struct commits *c, const char *journal_dir, uint64_t *lsn)
{
    size_t room = HEADER + (size_t)c->partitions * ENTRY + CHECK, got;
    uint8_t *bytes = malloc(room);
    char path[FILE_PATH];
    int err;

    if (bytes == NULL)
        return -ERR_NOMEM;
    file_path(path, "%s/commits", journal_dir);
    c->saved_lsn = 0;
    err = file_load(path, bytes, room, &got);
    if (err == 0)
        err = take_entries(c, bytes, got);
    free(bytes);
    *lsn = c->saved_lsn;
    if (err == -ERR_CORRUPT || err == -ERR_LIMIT) {
        log_error("%s is damaged: older copies of vnodes may go unnoticed this time", path);
        err = 0;
    }
    return err == -ERR_NOTFOUND ? 0 : err;
}

static size_t fill(const struct commits *c, uint64_t lsn, uint8_t *bytes)
{
    uint8_t *at = bytes + HEADER;

    memcpy(bytes, COMMITS_MAGIC, 8);
    store_le64(bytes + 8, c->used);
    store_le64(bytes + 16, lsn);
    for (uint32_t p = 0; p < c->partitions; p++) {
        if (c->known[p].id == 0)
            continue;
        store_le64(at, p);
        store_le64(at + 8, c->known[p].id);
        store_le64(at + 16, c->known[p].commits);
        at += ENTRY;
    }
    store_le64(at, hash64(bytes, (size_t)(at - bytes)));
    return (size_t)(at - bytes) + CHECK;
}

int commits_save(struct commits *c, const char *journal_dir, uint64_t lsn)
{
    uint8_t *bytes = NULL;
    uint64_t version;
    size_t len = 0;
    bool same;
    int err;

    pthread_mutex_lock(&c->lock);
    version = c->version;
    same = version == c->saved && lsn == c->saved_lsn;
    if (!same) {
        bytes = malloc(HEADER + (size_t)c->used * ENTRY + CHECK);
        if (bytes != NULL)
            len = fill(c, lsn, bytes);
    }
    pthread_mutex_unlock(&c->lock);
    if (bytes == NULL)
        return same ? 0 : -ERR_NOMEM;
    err = file_replace(journal_dir, "commits", slice_of(bytes, len));
    free(bytes);
    if (err == 0) {
        pthread_mutex_lock(&c->lock);
        c->saved = version;
        c->saved_lsn = lsn;
        pthread_mutex_unlock(&c->lock);
    }
    return err;
}
