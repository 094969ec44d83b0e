/* Reading a journal back. See journal_format.h for what a gap between LSNs means. */
#include "store/journal_walk.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/journal_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Does the record `first`, just found by w, or a later one say that the LSN was on disk when it was
 * written? 1, 0 or an error. */
static int was_durable(const struct journal_walker *w, const struct journal_record *first,
                       uint64_t lsn)
{
    struct journal_walker ahead = *w;
    struct journal_record record = *first;
    int rc = 1;

    ahead.data = calloc(1, w->capacity);
    if (ahead.data == NULL)
        return -ERR_NOMEM;
    memcpy(ahead.data, w->data, w->used);
    while (rc == 1 && record.lsn - record.unsynced < lsn)
        rc = journal_walk(&ahead, &record);
    free(ahead.data);
    return rc;
}

/* Make the records of one segment unreadable from the one just found on, and step to the next
 * segment that has any. As journal_walk(). */
static int wipe_segment(struct journal_walker *w, struct journal_record *record, uint64_t *wiped)
{
    static const uint8_t zeros[JOURNAL_RECORD];
    uint32_t index = w->index;
    char path[FILE_PATH];
    int fd, err, rc;

    journal_file_path(path, w->dir, w->segments[index].sequence);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(errno);
    do {
        err = file_write_at(fd, zeros, sizeof zeros, w->found);
        (*wiped)++;
        rc = err == 0 ? journal_walk(w, record) : err;
    } while (rc == 1 && w->index == index);
    if (err == 0)
        err = file_sync(fd);
    close(fd);
    return err == 0 ? rc : err;
}

/* Cut off `record`, just found by w, and everything after it. */
static int cut_tail(struct journal_walker *w, struct journal_record *record,
                    struct journal_replay *r)
{
    int rc;

    do
        rc = wipe_segment(w, record, &r->torn);
    while (rc == 1);
    if (rc == 0)
        log_notice("journal %s: cut off a torn tail of %" PRIu64 " records", w->dir, r->torn);
    return rc;
}

static int compare_segments(const void *a, const void *b)
{
    const struct journal_segment *x = a, *y = b;

    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int list_segments(const char *dir, struct journal_replay *r)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    uint32_t capacity = 0;
    int err = 0;

    if (d == NULL)
        return errno == ENOENT ? 0 : err_from_errno(errno);
    while (err == 0 && (entry = readdir(d)) != NULL) {
        uint64_t sequence;
        struct stat st;
        int end = 0;

        if (sscanf(entry->d_name, "%12" SCNu64 ".wal%n", &sequence, &end) != 1 || end == 0 ||
            entry->d_name[end] != 0 || fstatat(dirfd(d), entry->d_name, &st, 0) != 0)
            continue;
        if (r->segment_count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            struct journal_segment *grown = realloc(r->segments, capacity * sizeof *grown);

            if (grown == NULL) {
                err = -ERR_NOMEM;
                break;
            }
            r->segments = grown;
        }
        r->segments[r->segment_count++] =
            (struct journal_segment){.sequence = sequence, .bytes = (uint64_t)st.st_size};
    }
    closedir(d);
    if (r->segment_count > 0)
        qsort(r->segments, r->segment_count, sizeof *r->segments, compare_segments);
    return err;
}

/* A segment's header is durable before the segment has its name: a bad one is damage. */
static void look_at_headers(const char *dir, struct journal_replay *r)
{
    for (uint32_t i = 0; i < r->segment_count; i++) {
        uint8_t header[JOURNAL_HEADER];
        struct journal_header h;
        char path[FILE_PATH];
        size_t got = 0;

        journal_file_path(path, dir, r->segments[i].sequence);
        file_load(path, header, sizeof header, &got);
        if (!journal_good_header(header, got)) {
            log_error("journal %s: segment %" PRIu64 " has a damaged header", dir,
                      r->segments[i].sequence);
            r->segments[i].damaged = true;
            continue;
        }
        memcpy(&h, header, sizeof h);
        if (h.worker != r->worker) {
            log_error("journal %s: segment %" PRIu64 " belongs to worker %" PRIu32, dir,
                      r->segments[i].sequence, h.worker);
            r->segments[i].damaged = true;
            continue;
        }
        r->segments[i].made_bytes = h.size;
        r->segments[i].unused = h.first_lsn == 0; /* unless a record is found all the same */
    }
}

/* Before the record just found in this segment others are missing. */
static void mark_gap(struct journal_replay *r, uint32_t index)
{
    r->segments[index].damaged = true;
    if (index > 0 && r->segments[index].end == 0)
        r->segments[index - 1].damaged = true;
}

/* Apply one record; 1 to go on, 0 when the tail was cut, or an error. */
static int replay_record(struct journal_walker *w, struct journal_record *record,
                         struct journal_replay *r)
{
    struct slice payload =
        slice_of(w->data + w->found + JOURNAL_RECORD, record->len - JOURNAL_RECORD);
    int rc;

    /* Where the first batch of a segment was never synced, its header may not say where it begins. */
    if (r->next_lsn == 0)
        r->next_lsn = w->first_lsn != 0 ? w->first_lsn : record->lsn - record->unsynced + 1;
    if (record->lsn > r->next_lsn) {
        rc = was_durable(w, record, r->next_lsn);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return cut_tail(w, record, r);
        log_error("journal %s: records %" PRIu64 " to %" PRIu64 " are damaged", w->dir, r->next_lsn,
                  record->lsn - 1);
        mark_gap(r, w->index);
    }
    rc = r->each(r->arg, record, payload);
    if (rc != 0)
        return rc;
    r->records++;
    /* Whoever opens a journal makes a segment before it appends: a CLEAN in an older one says nothing. */
    r->clean = record->type == JOURNAL_CLEAN && w->index + 1 == w->count;
    r->next_lsn = record->lsn + 1;
    r->segments[w->index].last_lsn = record->lsn;
    r->segments[w->index].unused = false;
    r->segments[w->index].end = w->found + journal_padded(record->len);
    return 1;
}

/* A segment that has become shorter than it was made was trimmed to its last record, or somebody has
 * cut it. Then the beginning of a record is left at its end, unless it was cut where one ended. */
static int look_for_cuts(const char *dir, const struct journal_replay *r)
{
    for (uint32_t i = 0; i < r->segment_count; i++) {
        struct journal_segment *segment = &r->segments[i];
        uint64_t end = segment->end == 0 ? JOURNAL_HEADER : segment->end;
        uint8_t start[JOURNAL_RECORD];
        char path[FILE_PATH];
        size_t got = 0;

        if (segment->damaged || segment->bytes >= segment->made_bytes || segment->bytes <= end)
            continue;
        journal_file_path(path, dir, segment->sequence);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        int err = fd < 0 ? err_from_errno(errno) : file_read_at(fd, start, sizeof start, end, &got);
        if (fd >= 0)
            close(fd);
        if (err != 0)
            return err;
        if (journal_all_zero(start, got))
            continue;
        log_error("journal %s: segment %" PRIu64 " was cut short", dir, segment->sequence);
        segment->damaged = true;
    }
    return 0;
}

/* Records that a killed process had not synced count as durable from now on. */
static int sync_segments(const char *dir, const struct journal_replay *r)
{
    int err = 0;

    for (uint32_t i = 0; err == 0 && i < r->segment_count; i++) {
        char path[FILE_PATH];

        if (r->segments[i].end == 0)
            continue;
        journal_file_path(path, dir, r->segments[i].sequence);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_from_errno(errno);
        err = file_sync(fd);
        close(fd);
    }
    return err;
}

/* Give back what a segment never used: the next replay reads only what is there. A crash in between
 * leaves the file as it was, which is as good. */
static void trim_segments(const char *dir, struct journal_replay *r)
{
    for (uint32_t i = 0; i < r->segment_count; i++) {
        struct journal_segment *segment = &r->segments[i];
        uint64_t end = segment->end == 0 ? JOURNAL_HEADER : segment->end;
        char path[FILE_PATH];

        journal_file_path(path, dir, segment->sequence);
        if (end < segment->bytes && truncate(path, (off_t)end) == 0)
            segment->bytes = end;
    }
}

int journal_replay(const char *dir, struct journal_replay *r)
{
    struct journal_walker w = {.dir = dir, .worker = r->worker};
    struct journal_record record;
    uint64_t total = 0, done = 0;
    uint32_t reported = 0;
    int rc;

    r->records = r->next_lsn = r->damaged = r->torn = 0;
    r->next_sequence = 1;
    r->segments = NULL;
    r->segment_count = 0;
    rc = list_segments(dir, r);
    w.segments = r->segments;
    w.count = r->segment_count;
    r->clean = r->segment_count == 0;
    for (uint32_t i = 0; i < w.count; i++) {
        total += r->segments[i].bytes;
        r->next_sequence = r->segments[i].sequence + 1;
    }
    if (rc == 0)
        look_at_headers(dir, r);
    while (rc == 0 && (rc = journal_walk(&w, &record)) == 1) {
        for (; reported < w.index; reported++)
            done += r->segments[reported].bytes;
        if (r->progress != NULL && r->records % 65536 == 0)
            r->progress(r->arg, done + w.found, total);
        rc = replay_record(&w, &record, r);
        if (rc != 1)
            break;
        rc = 0;
    }
    /* What the newest segment began with may have been lost with the power; its header was not. Of an older
     * one the tail may have been cut, and its header says more than was. */
    if (r->next_lsn == 0)
        r->next_lsn = w.newest_first != 0 ? w.newest_first : 1;
    if (rc == 0)
        rc = look_for_cuts(dir, r);
    for (uint32_t i = 0; i < r->segment_count; i++)
        r->damaged += r->segments[i].damaged;
    if (rc == 0 && !r->clean)
        rc = sync_segments(dir, r);
    if (rc == 0 && r->damaged == 0)
        trim_segments(dir, r);
    free(w.data);
    return rc;
}

void journal_replay_free(struct journal_replay *r)
{
    free(r->segments);
    r->segments = NULL;
    r->segment_count = 0;
}
