/* Start numbers. Runs in a worker when it opens its store. */
#include "store/starts.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/varint.h"
#include "store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

enum { STARTS_BYTES = 16 };

static bool any_vnodes(const char *data_dir)
{
    char path[FILE_PATH];
    bool any = false;

    file_path(path, "%s/vnodes", data_dir);
    DIR *d = opendir(path);
    if (d == NULL)
        return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        any |= e->d_name[0] != '.';
    closedir(d);
    return any;
}

static uint64_t last_taken(const char *data_dir, const uint8_t *bytes, size_t len)
{
    if (len == STARTS_BYTES && load_le64(bytes + 8) == hash64(bytes, 8))
        return load_le64(bytes);
    if (!any_vnodes(data_dir))
        return 0;
    log_error("%s/starts is missing or damaged: start numbers go on from the clock", data_dir);
    return clock_wall_ms() / 1000;
}

int starts_take(const char *data_dir, uint64_t *out)
{
    uint8_t bytes[STARTS_BYTES];
    char path[FILE_PATH];
    size_t got = 0;
    int err;

    file_path(path, "%s/starts", data_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err = err_from_errno(errno);
        log_error("cannot open %s: %s", path, err_text(err));
        return err;
    }
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            err = err_from_errno(errno);
            goto out;
        }
    }
    err = file_read_at(fd, bytes, sizeof bytes, 0, &got);
    if (err != 0)
        goto out;
    *out = last_taken(data_dir, bytes, got) + 1;
    store_le64(bytes, *out);
    store_le64(bytes + 8, hash64(bytes, 8));
    err = file_write_at(fd, bytes, sizeof bytes, 0);
    if (err == 0)
        err = file_sync(fd);
    if (err == 0 && got == 0)
        err = file_sync_dir(data_dir);
out:
    close(fd);
    return err;
}
