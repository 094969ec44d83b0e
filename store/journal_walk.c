/* Walking over the good records of a journal. See journal_format.h. */
#include "store/journal_walk.h"

#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_STEP (64u << 10)

bool journal_good_header(const uint8_t *data, size_t len)
{
    struct journal_header h;

    if (len < sizeof h)
        return false;
    memcpy(&h, data, sizeof h);
    return memcmp(h.magic, JOURNAL_MAGIC, sizeof h.magic) == 0 &&
           h.checksum == journal_header_checksum(&h);
}

bool journal_all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* Read a segment into w->data. Most of one may never have been written: its zeros cost a look, but
 * no memory. */
static int read_segment(struct journal_walker *w, const char *path, uint64_t bytes, size_t *got)
{
    uint8_t step[READ_STEP];
    size_t at, n, used = 0;
    int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_from_errno(errno);
    for (at = 0; at < bytes; at += n) {
        err = file_read_at(fd, step, bytes - at < sizeof step ? bytes - at : sizeof step, at, &n);
        if (err != 0 || n == 0)
            break;
        if (!journal_all_zero(step, n)) {
            memcpy(w->data + at, step, n);
            used = at + n;
        } else if (at < w->used) {
            memset(w->data + at, 0, n);
        }
    }
    close(fd);
    if (at < w->used)
        memset(w->data + at, 0, w->used - at);
    w->used = used;
    *got = at;
    return err;
}

static int load_segment(struct journal_walker *w)
{
    struct journal_segment *segment = &w->segments[w->index];
    struct journal_header h;
    char path[FILE_PATH];
    size_t got;
    int err;

    w->size = 0;
    w->first_lsn = 0;
    w->loaded = true;
    if (segment->bytes > w->capacity) {
        free(w->data);
        w->used = 0;
        w->capacity = 0;
        w->data = calloc(1, segment->bytes);
        if (w->data == NULL)
            return -ERR_NOMEM;
        w->capacity = segment->bytes;
    }
    journal_file_path(path, w->dir, segment->sequence);
    err = read_segment(w, path, segment->bytes, &got);
    if (err == -ERR_IO) { /* what could be read of it counts all the same */
        log_error("%s cannot be read", path);
        segment->damaged = true;
    } else if (err != 0) {
        log_error("cannot read %s: %s", path, err_text(err));
        return err;
    }
    if (!journal_good_header(w->data, got))
        return 0;
    memcpy(&h, w->data, sizeof h);
    if (h.version != JOURNAL_VERSION)
        return -ERR_VERSION;
    if (h.sequence != segment->sequence || h.worker != w->worker)
        return 0; /* an interrupted recycling: nobody needed what it held */
    w->nonce = h.nonce;
    w->first_lsn = h.first_lsn;
    if (h.first_lsn != 0)
        w->newest_first = h.first_lsn;
    w->size = got;
    w->offset = JOURNAL_HEADER;
    return 0;
}

/* Is there a good record at `at`? */
static bool good_record(const struct journal_walker *w, size_t at, struct journal_record *out)
{
    if (w->size - at < JOURNAL_RECORD)
        return false;
    memcpy(out, w->data + at, sizeof *out);
    if (out->len < JOURNAL_RECORD || out->len > w->size - at || out->type < JOURNAL_PUT ||
        out->type > JOURNAL_CLEAN || out->zero != 0 || out->zero2 != 0 || out->lsn <= w->above ||
        (w->above != 0 && out->lsn - w->above > UINT32_MAX))
        return false;
    return out->checksum == journal_record_checksum(w->data + at, out->len, w->nonce);
}

/* Most of a segment may never have been written. Leaves the last place of the zeros to the caller. */
static void skip_zeros(struct journal_walker *w)
{
    static const uint8_t zeros[4096];

    while (w->offset + sizeof zeros + JOURNAL_RECORD <= w->used &&
           memcmp(w->data + w->offset, zeros, sizeof zeros) == 0)
        w->offset += sizeof zeros - JOURNAL_ALIGN;
}

int journal_walk(struct journal_walker *w, struct journal_record *out)
{
    for (; w->index < w->count; w->index++, w->loaded = false) {
        if (!w->loaded) {
            int err = load_segment(w);

            if (err != 0)
                return err;
        }
        if (w->size == 0)
            continue;
        for (; w->offset + JOURNAL_RECORD <= w->size && w->offset < w->used;
             w->offset += JOURNAL_ALIGN) {
            if (!good_record(w, w->offset, out)) {
                skip_zeros(w);
                continue;
            }
            w->found = w->offset;
            w->offset += journal_padded(out->len);
            w->above = out->lsn;
            return 1;
        }
    }
    return 0;
}
