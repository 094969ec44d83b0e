/* Segment files of the journal. See segment.h. */
#include "store/journal_file.h"

#include "base/err.h"
#include "base/rand.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    PACE_BYTES = 1 << 20, /* synced at a time, so that others' syncs do not queue behind */
    PACE_US = 2000,       /* pause after each */
};

static const uint8_t zeros[64 << 10];

void journal_file_path(char *out, const char *dir, uint64_t sequence)
{
    file_path(out, "%s/%012" PRIu64 ".wal", dir, sequence);
}

/* Allocated first, so that a full disk shows before anything is written. Writing zeros then makes every
 * block a written one, so that a later sync of records has no metadata to write: it halves the time of the
 * sync. */
static int make_blocks(const char *path, uint64_t size, bool paced, int *out)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int err = 0;

    if (fd < 0)
        return err_from_errno(errno);
    if (fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP)
        err = err_from_errno(errno);
    for (uint64_t at = 0; err == 0 && at < size; at += sizeof zeros) {
        err = file_write_at(fd, zeros, size - at < sizeof zeros ? size - at : sizeof zeros, at);
        if (paced && err == 0 && at % PACE_BYTES == PACE_BYTES - sizeof zeros) {
            err = file_sync(fd);
            usleep(PACE_US);
        }
    }
    if (err == 0 && fsync(fd) != 0)
        err = err_from_errno(errno);
    if (err != 0) {
        close(fd);
        unlink(path);
        return err;
    }
    *out = fd;
    return 0;
}

int journal_file_stamp(const struct journal_file *s, uint32_t worker, uint64_t first_lsn)
{
    struct journal_header h = {
        .magic = JOURNAL_MAGIC,
        .version = JOURNAL_VERSION,
        .worker = worker,
        .sequence = s->sequence,
        .nonce = s->nonce,
        .size = s->size,
        .first_lsn = first_lsn,
    };

    h.checksum = journal_header_checksum(&h);
    return file_write_at(s->fd, &h, sizeof h, 0);
}

/* Header first, then the name: a file whose header and name disagree is nobody's segment. */
static int begin_segment(struct journal_file *s, const char *dir, uint32_t worker, const char *from)
{
    char path[FILE_PATH];
    int err;

    journal_file_path(path, dir, s->sequence);
    err = journal_file_stamp(s, worker, 0);
    if (err == 0)
        err = file_sync(s->fd);
    if (err == 0 && rename(from, path) != 0)
        err = err_from_errno(errno);
    if (err == 0)
        err = file_sync_dir(dir);
    return err;
}

static void describe(struct journal_file *s, int fd, uint64_t sequence, uint64_t size)
{
    *s = (struct journal_file){
        .fd = fd,
        .sequence = sequence,
        .nonce = rand_id(),
        .size = size,
        .offset = JOURNAL_HEADER,
    };
}

int journal_file_create(struct journal_file *out, const char *dir, uint32_t worker,
                        uint64_t sequence, uint64_t size, bool paced)
{
    char temporary[FILE_PATH];
    int fd, err;

    file_path(temporary, "%s/new.tmp", dir);
    err = make_blocks(temporary, size, paced, &fd);
    if (err != 0)
        return err;
    describe(out, fd, sequence, size);
    err = begin_segment(out, dir, worker, temporary);
    if (err != 0) {
        journal_file_close(out);
        unlink(temporary);
    }
    return err;
}

int journal_file_recycle(struct journal_file *out, const char *dir, uint32_t worker,
                         const char *old_path, uint64_t sequence, uint64_t size)
{
    int fd = open(old_path, O_RDWR | O_CLOEXEC);
    int err;

    if (fd < 0)
        return err_from_errno(errno);
    describe(out, fd, sequence, size);
    err = begin_segment(out, dir, worker, old_path);
    if (err != 0)
        journal_file_close(out);
    return err;
}

int journal_file_reserve(const char *dir, const char *path, uint64_t size)
{
    int fd, err = make_blocks(path, size, true, &fd);

    if (err != 0)
        return err;
    close(fd);
    return file_sync_dir(dir);
}

void journal_file_close(struct journal_file *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
