/* A look at the meta pages of LMDB's data file, which have no checksum: a bit that flips there makes LMDB
 * divide by zero or read beyond the end of the file. Runs where an environment is opened. */
#include "store/lmdb_file.h"

#include "base/err.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_MAGIC 0xBEEFC0DEu

enum { PAGE_LEAST = 512, PAGE_MOST = 65536 };

/* The beginning of a meta page, in the byte order of the machine: page header, magic, format, then the
 * two trees of the environment (the page size stands in the first), newest page, transaction. */
struct meta_page {
    uint8_t header[16];
    uint32_t magic, version;
    uint64_t address, map_bytes;
    uint32_t page_bytes;
    uint8_t trees[92];
    uint64_t last_page, txn;
};
_Static_assert(offsetof(struct meta_page, page_bytes) == 40, "LMDB's meta page");
_Static_assert(offsetof(struct meta_page, last_page) == 136, "LMDB's meta page");

static int check_metas(int fd)
{
    struct meta_page meta[2];
    struct stat st;
    size_t got;
    int err = file_read_at(fd, &meta[0], sizeof meta[0], 0, &got);

    if (err != 0)
        return err;
    if (got < sizeof meta[0])
        return got == 0 ? 0 : -ERR_CORRUPT;
    if (meta[0].magic != META_MAGIC)
        return 0;
    if (meta[0].page_bytes < PAGE_LEAST || meta[0].page_bytes > PAGE_MOST)
        return -ERR_CORRUPT;
    err = file_read_at(fd, &meta[1], sizeof meta[1], meta[0].page_bytes, &got);
    if (err != 0)
        return err;
    if (got < sizeof meta[1] || meta[1].page_bytes != meta[0].page_bytes)
        return -ERR_CORRUPT;
    const struct meta_page *newest = &meta[meta[1].txn > meta[0].txn];
    if (fstat(fd, &st) != 0)
        return err_from_errno(errno);
    return newest->last_page < (uint64_t)st.st_size / newest->page_bytes ? 0 : -ERR_CORRUPT;
}

int lmdb_file_check(const char *folder)
{
    char path[FILE_PATH];
    int fd, err;

    file_path(path, "%s/data.mdb", folder);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err = errno == ENOENT ? 0 : err_from_errno(errno);
        return errno == ENOTDIR || errno == ELOOP ? -ERR_CORRUPT : err;
    }
    err = check_metas(fd);
    close(fd);
    return err == -ERR_IO ? -ERR_CORRUPT : err; /* a bad block, or no file at all */
}
