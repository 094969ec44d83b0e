/* File calls of the storage engine. Used by the worker's three threads and by tools of recovery;
 * keeps no state. */
#include "store/file.h"

#include "base/check.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int file_write_at(int fd, const void *data, size_t len, uint64_t offset)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            return -ERR_IO;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_read_at(int fd, void *data, size_t len, uint64_t offset, size_t *got)
{
    uint8_t *p = data;

    *got = 0;
    while (*got < len) {
        ssize_t n = pread(fd, p + *got, len - *got, (off_t)(offset + *got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

int file_sync(int fd)
{
    return fdatasync(fd) == 0 ? 0 : err_from_errno(errno);
}

int file_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = 0;

    if (fd < 0)
        return err_from_errno(errno);
    if (fsync(fd) != 0)
        err = err_from_errno(errno);
    close(fd);
    return err;
}

int file_make_dir(const char *path)
{
    char parent[FILE_PATH];
    char *slash;

    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0 : err_from_errno(errno);
    file_path(parent, "%s", path);
    slash = strrchr(parent, '/');
    if (slash == NULL || slash == parent)
        return 0;
    *slash = 0;
    return file_sync_dir(parent);
}

int file_replace(const char *dir, const char *name, struct slice content)
{
    char temporary[FILE_PATH], final[FILE_PATH];
    int err, fd;

    file_path(final, "%s/%s", dir, name);
    file_path(temporary, "%s/%s.tmp", dir, name);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_from_errno(errno);
    err = file_write_at(fd, content.data, content.len, 0);
    if (err == 0)
        err = file_sync(fd);
    close(fd);
    if (err == 0 && rename(temporary, final) != 0)
        err = err_from_errno(errno);
    if (err == 0)
        err = file_sync_dir(dir);
    if (err != 0)
        unlink(temporary);
    return err;
}

int file_load(const char *path, void *data, size_t size, size_t *got)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    int err;

    if (fd < 0)
        return errno == ENOENT ? -ERR_NOTFOUND : err_from_errno(errno);
    err = file_read_at(fd, data, size, 0, got);
    if (err == 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size > size)
        err = -ERR_LIMIT;
    close(fd);
    return err;
}

int file_remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (dir == NULL)
        return errno == ENOENT ? 0 : err_from_errno(errno);
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    return rmdir(path) == 0 ? 0 : err_from_errno(errno);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

uint64_t file_size(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void file_path(char *out, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(out, FILE_PATH, format, args);
    va_end(args);
    ASSERT(n > 0 && n < FILE_PATH);
}
