/* Names and folders of vnodes, and the .id files that say which vnode is expected where. Runs in the loop
 * thread, and in the flush thread for removal. */
#include "store/vnode_file.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { ID_LINE = 128 };

static void id_path(char *out, const char *data_dir, uint32_t partition)
{
    file_path(out, "%s/vnodes/%" PRIu32 ".id", data_dir, partition);
}

void vnode_folder(char *out, const char *data_dir, uint32_t partition)
{
    file_path(out, "%s/vnodes/%" PRIu32, data_dir, partition);
}

int vnode_load_id(const char *data_dir, uint32_t partition, struct vnode_expected *out)
{
    char path[FILE_PATH], line[ID_LINE];
    uint32_t named;
    size_t got;
    int err;

    id_path(path, data_dir, partition);
    err = file_load(path, line, sizeof line - 1, &got);
    if (err != 0)
        return err == -ERR_LIMIT ? -ERR_CORRUPT : err;
    line[got] = 0;
    out->commits = 0; /* older files do not say it */
    if (sscanf(line,
               "clockwise-vnode %" SCNu32 " id %" SCNx64 " worker %" SCNu32 " commits %" SCNu64,
               &named, &out->id, &out->worker, &out->commits) < 3 ||
        named != partition)
        return -ERR_CORRUPT;
    return 0;
}

int vnode_write_id(const char *data_dir, const struct vnode *v, uint32_t worker)
{
    const struct vnode_meta *meta = &v->work.meta;
    char dir[FILE_PATH], name[32], line[ID_LINE];
    int n = snprintf(line, sizeof line,
                     "clockwise-vnode %" PRIu32 " id %016" PRIx64 " worker %" PRIu32
                     " commits %" PRIu64 "\n",
                     meta->partition, meta->id, worker, lmdb_env_commits(v->env));

    file_path(dir, "%s/vnodes", data_dir);
    snprintf(name, sizeof name, "%" PRIu32 ".id", meta->partition);
    return file_replace(dir, name, slice_of(line, (size_t)n));
}

int vnode_peek_worker(const char *data_dir, uint32_t partition, uint32_t *worker)
{
    struct vnode_expected expected;
    int err = vnode_load_id(data_dir, partition, &expected);

    if (err == 0)
        *worker = expected.worker;
    return err;
}

bool vnode_exists(const char *data_dir, uint32_t partition)
{
    char path[FILE_PATH];

    vnode_folder(path, data_dir, partition);
    if (file_exists(path))
        return true;
    id_path(path, data_dir, partition);
    return file_exists(path);
}

int vnode_set_aside(const char *data_dir, uint32_t partition)
{
    char from[FILE_PATH], to[FILE_PATH], dir[FILE_PATH];

    vnode_folder(from, data_dir, partition);
    if (!file_exists(from))
        return 0;
    file_path(dir, "%s/quarantine", data_dir);
    if (file_make_dir(dir) != 0)
        return -ERR_IO;
    file_path(to, "%s/%" PRIu32 "-%" PRIu64, dir, partition, clock_wall_us());
    log_error("vnode %" PRIu32 " is damaged: moved to %s", partition, to);
    return rename(from, to) == 0 ? 0 : err_from_errno(errno);
}

static void trash_path(char *out, const char *data_dir, const struct vnode *v)
{
    file_path(out, "%s/vnodes/%" PRIu32 "-%016" PRIx64 ".old", data_dir, v->partition, v->id);
}

int vnode_unlink(struct vnode *v, const char *data_dir)
{
    char path[FILE_PATH], trash[FILE_PATH];

    atomic_store(&v->unlinked, true);
    id_path(path, data_dir, v->partition);
    if (unlink(path) != 0 && errno != ENOENT)
        return err_from_errno(errno);
    vnode_folder(path, data_dir, v->partition);
    trash_path(trash, data_dir, v);
    return rename(path, trash) == 0 ? 0 : err_from_errno(errno);
}

void vnode_sweep(const char *data_dir)
{
    char path[FILE_PATH];
    struct dirent *e;

    file_path(path, "%s/vnodes", data_dir);
    DIR *dir = opendir(path);
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        size_t len = strlen(e->d_name);

        if (len < 4 || strcmp(e->d_name + len - 4, ".old") != 0)
            continue;
        file_path(path, "%s/vnodes/%s", data_dir, e->d_name);
        if (file_remove_dir(path) != 0)
            log_warn("cannot remove %s", path);
    }
    if (dir != NULL)
        closedir(dir);
}

void vnode_remove_files(struct vnode *v, const char *data_dir)
{
    char trash[FILE_PATH];

    trash_path(trash, data_dir, v);
    if (file_remove_dir(trash) != 0)
        log_warn("cannot remove %s", trash);
}
