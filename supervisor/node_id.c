/* Directories, lock and identity of the node. Runs in the supervisor at its start; blocks for the
 * file system. */
#include "supervisor/node_id.h"

#include "base/err.h"
#include "base/rand.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 320

static int fail(char *error, size_t size, const char *what, const char *path, int errno_value)
{
    snprintf(error, size, "cannot %s %s: %s", what, path, strerror(errno_value));
    return err_from_errno(errno_value);
}

int node_id_make_dir(const char *path, char *error, size_t error_size)
{
    char part[PATH_BYTES];
    struct stat st;

    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return fail(error, error_size, "make", path, ENAMETOOLONG);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char end = *p;

        *p = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return fail(error, error_size, "make", part, errno);
        if (end == 0)
            break;
        *p = end;
    }
    if (stat(path, &st) != 0)
        return fail(error, error_size, "look at", path, errno);
    if (!S_ISDIR(st.st_mode))
        return fail(error, error_size, "use", path, ENOTDIR);
    if ((st.st_uid != geteuid() && geteuid() != 0) || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        snprintf(error, error_size, "%s belongs to or may be written by others", path);
        return -ERR_DENIED;
    }
    return 0;
}

int node_id_lock(const char *dir, const char *what, int *fd, uint64_t *started_ms, char *error,
                 size_t error_size)
{
    char path[PATH_BYTES], text[64];

    snprintf(path, sizeof path, "%s/lock", dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return fail(error, error_size, "open", path, errno);
    bool free = flock(*fd, LOCK_EX | LOCK_NB) == 0;
    ssize_t n = pread(*fd, text, sizeof text - 1, 0);

    /* The pid and the start of the holder, or of the run before. */
    text[n > 0 ? n : 0] = 0;
    char *end = text;
    unsigned long pid = strtoul(text, &end, 10);
    if (!free) {
        close(*fd);
        snprintf(error, error_size, "another clockwised with pid %lu uses the %s directory %s", pid,
                 what, dir);
        return -ERR_BUSY;
    }
    uint64_t before_ms = strtoull(end, NULL, 10);
    if (before_ms < UINT64_MAX >> 22 && *started_ms <= before_ms)
        *started_ms = before_ms + 1;
    int len = snprintf(text, sizeof text, "%d %" PRIu64 "\n", (int)getpid(), *started_ms);
    if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text, (size_t)len, 0) != len)
        return fail(error, error_size, "write", path, errno);
    return 0;
}

/* Read a whole small file. Bytes, or -1 with errno. */
static ssize_t read_small(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    ssize_t n = read(fd, out, size - 1);
    int saved = errno;
    close(fd);
    errno = saved;
    if (n >= 0)
        out[n] = 0;
    return n;
}

/* Replace a small file; durable, with its name, when this returns. */
static int write_small(const char *dir, const char *name, const char *text, char *error,
                       size_t error_size)
{
    char path[PATH_BYTES], temporary[PATH_BYTES + 8];
    size_t len = strlen(text);
    int dir_fd = -1, rc = 0;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(error, error_size, "make", temporary, errno);
    errno = EIO;
    if (write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
        rc = fail(error, error_size, "write", temporary, errno);
    close(fd);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = fail(error, error_size, "rename", temporary, errno);
    if (rc == 0) {
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0 || fsync(dir_fd) != 0)
            rc = fail(error, error_size, "sync", dir, errno);
        if (dir_fd >= 0)
            close(dir_fd);
    }
    return rc;
}

int node_id_load(const char *dir, struct node_id *out, char *error, size_t error_size)
{
    char path[PATH_BYTES], text[64];

    snprintf(path, sizeof path, "%s/node-id", dir);
    ssize_t n = read_small(path, text, sizeof text);
    if (n >= 0) {
        text[strcspn(text, "\n")] = 0;
        if (node_id_parse(out, text) == 0 && !node_id_is_zero(out))
            return 0;
        snprintf(error, error_size, "%s is damaged: not 32 hexadecimal digits", path);
        return -ERR_CORRUPT;
    }
    if (errno != ENOENT)
        return fail(error, error_size, "read", path, errno);
    rand_bytes(out->b, sizeof out->b);
    node_id_format(out, text);
    size_t len = strlen(text);
    text[len] = '\n';
    text[len + 1] = 0;
    return write_small(dir, "node-id", text, error, error_size);
}

int node_id_read_workers(const char *dir, uint32_t *out, char *error, size_t error_size)
{
    char path[PATH_BYTES], text[16], *end;

    *out = 0;
    snprintf(path, sizeof path, "%s/workers", dir);
    if (read_small(path, text, sizeof text) < 0)
        return errno == ENOENT ? 0 : fail(error, error_size, "read", path, errno);
    unsigned long count = strtoul(text, &end, 10);
    if (end == text || *end != '\n' || count < 1 || count > LIMIT_WORKERS) {
        snprintf(error, error_size, "%s is damaged: not a number of workers", path);
        return -ERR_CORRUPT;
    }
    *out = (uint32_t)count;
    return 0;
}

int node_id_write_workers(const char *dir, uint32_t workers, char *error, size_t error_size)
{
    char text[16];

    snprintf(text, sizeof text, "%u\n", workers);
    return write_small(dir, "workers", text, error, error_size);
}
