/* A disk that forgets. See recorder.h. The system calls that it replaces are made with syscall(2);
 * all of them run under one lock, so that the notes have the order of the deeds. Syncs are only
 * noted: the real disk is not what is tested. */
#include "tests/crash/recorder.h"

#include "base/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SECTOR = 512, FDS = 4096, PATH = 256, FILES = 4096 };

enum kind { N_CREATE, N_WRITE, N_SYNC, N_SIZE, N_RENAME, N_UNLINK, N_MKDIR, N_RMDIR, N_SYNC_DIR };

struct note {
    enum kind kind;
    uint32_t file;
    uint64_t offset, len;
    bool synced; /* O_DSYNC */
    uint8_t *data;
    char path[PATH], to[PATH]; /* below the folder */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool recording;
static char root[PATH_MAX];
static struct note *notes;
static size_t note_count, note_capacity;
static uint32_t file_count;

/* Names as they are now, to know which file a path means. */
static struct name {
    char path[PATH];
    uint32_t file;
    bool used;
} names[FILES];

static struct {
    uint32_t file; /* 0: not ours */
    bool dsync, dir;
    char path[PATH];
} fds[FDS];

/* --- notes --- */

static struct note *add_note(enum kind kind)
{
    if (note_count == note_capacity) {
        note_capacity = note_capacity == 0 ? 4096 : note_capacity * 2;
        notes = realloc(notes, note_capacity * sizeof *notes);
        ASSERT(notes != NULL);
    }
    memset(&notes[note_count], 0, sizeof *notes);
    notes[note_count].kind = kind;
    return &notes[note_count++];
}

size_t recorder_now(void)
{
    pthread_mutex_lock(&lock);
    size_t n = note_count;
    pthread_mutex_unlock(&lock);
    return n;
}

/* The part of a path below the folder, or NULL. Lock files are LMDB's own business: it makes them
 * anew at each start. */
static const char *ours(const char *path)
{
    size_t len = strlen(root);

    if (!recording || strncmp(path, root, len) != 0 || path[len] != '/')
        return NULL;
    if (strstr(path, "/lock.mdb") != NULL)
        return NULL;
    ASSERT(strlen(path + len + 1) < PATH);
    return path + len + 1;
}

static struct name *find_name(const char *path)
{
    for (uint32_t i = 0; i < FILES; i++)
        if (names[i].used && strcmp(names[i].path, path) == 0)
            return &names[i];
    return NULL;
}

static void set_name(const char *path, uint32_t file)
{
    struct name *name = find_name(path);

    for (uint32_t i = 0; name == NULL && i < FILES; i++)
        if (!names[i].used)
            name = &names[i];
    ASSERT(name != NULL);
    snprintf(name->path, PATH, "%s", path);
    name->file = file;
    name->used = true;
}

/* Move all names at or below `from` to `to`; NULL: remove them. */
static void move_names(struct name *table, const char *from, const char *to)
{
    size_t len = strlen(from);

    for (uint32_t i = 0; i < FILES; i++) {
        char moved[2 * PATH];

        if (!table[i].used || strncmp(table[i].path, from, len) != 0 ||
            (table[i].path[len] != 0 && table[i].path[len] != '/'))
            continue;
        if (to == NULL) {
            table[i].used = false;
            continue;
        }
        snprintf(moved, sizeof moved, "%s%s", to, table[i].path + len);
        for (uint32_t j = 0; j < FILES; j++)
            if (j != i && table[j].used && strcmp(table[j].path, moved) == 0)
                table[j].used = false;
        ASSERT(strlen(moved) < PATH);
        memcpy(table[i].path, moved, strlen(moved) + 1);
    }
}

/* --- the system calls --- */

int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    const char *below;
    bool existed;
    int fd;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    pthread_mutex_lock(&lock);
    below = ours(path);
    existed = below != NULL && access(path, F_OK) == 0;
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        memset(&fds[fd], 0, sizeof fds[fd]);
        if (below != NULL) {
            snprintf(fds[fd].path, PATH, "%s", below);
            fds[fd].dir = (flags & O_DIRECTORY) != 0;
            fds[fd].dsync = (flags & O_DSYNC) != 0;
            if ((flags & O_CREAT && !existed) || flags & O_TRUNC) {
                struct note *note = add_note(N_CREATE);

                note->file = ++file_count;
                snprintf(note->path, PATH, "%s", below);
                set_name(below, note->file);
            }
            if (!fds[fd].dir && find_name(below) != NULL)
                fds[fd].file = find_name(below)->file;
        } else if (recording && strcmp(path, root) == 0) {
            fds[fd].dir = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static void note_write(int fd, const void *data, size_t len, uint64_t offset)
{
    struct note *note = add_note(N_WRITE);

    note->file = fds[fd].file;
    note->offset = offset;
    note->len = len;
    note->synced = fds[fd].dsync;
    note->data = malloc(len);
    ASSERT(note->data != NULL);
    memcpy(note->data, data, len);
}

static bool is_ours(int fd)
{
    return recording && fd >= 0 && fd < FDS && fds[fd].file != 0;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    ssize_t n;

    pthread_mutex_lock(&lock);
    n = syscall(SYS_pwrite64, fd, data, len, offset);
    if (n > 0 && is_ours(fd))
        note_write(fd, data, (size_t)n, (uint64_t)offset);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t n;

    pthread_mutex_lock(&lock);
    off_t at = is_ours(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    n = syscall(SYS_writev, fd, parts, count);
    if (n > 0 && is_ours(fd))
        for (int i = 0; i < count; i++) {
            note_write(fd, parts[i].iov_base, parts[i].iov_len, (uint64_t)at);
            at += (off_t)parts[i].iov_len;
        }
    pthread_mutex_unlock(&lock);
    return n;
}

static int sync_call(long number, int fd)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = fd >= 0 ? 0 : (int)syscall(number, fd); /* what a sync does is simulated */
    if (rc == 0 && recording && fd >= 0 && fd < FDS) {
        if (fds[fd].dir) {
            struct note *note = add_note(N_SYNC_DIR);

            memcpy(note->path, fds[fd].path, PATH);
        } else if (fds[fd].file != 0) {
            add_note(N_SYNC)->file = fds[fd].file;
        }
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

int fdatasync(int fd)
{
    return sync_call(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_call(SYS_fsync, fd);
}

static void note_size(int fd, uint64_t size)
{
    struct note *note = add_note(N_SIZE);

    note->file = fds[fd].file;
    note->len = size;
}

int ftruncate(int fd, off_t size)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0 && is_ours(fd))
        note_size(fd, (uint64_t)size);
    pthread_mutex_unlock(&lock);
    return rc;
}

int truncate(const char *path, off_t size)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = (int)syscall(SYS_truncate, path, size);
    if (rc == 0 && ours(path) != NULL && find_name(ours(path)) != NULL) {
        struct note *note = add_note(N_SIZE);

        note->file = find_name(ours(path))->file;
        note->len = (uint64_t)size;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    if (rc == 0 && is_ours(fd))
        note_size(fd, (uint64_t)(offset + len));
    pthread_mutex_unlock(&lock);
    return rc;
}

int rename(const char *from, const char *to)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = (int)syscall(SYS_rename, from, to);
    if (rc == 0 && ours(from) != NULL) {
        struct note *note = add_note(N_RENAME);

        snprintf(note->path, PATH, "%s", ours(from));
        snprintf(note->to, PATH, "%s", ours(to));
        move_names(names, note->path, note->to);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void note_removal(const char *below)
{
    if (below == NULL)
        return;
    snprintf(add_note(N_UNLINK)->path, PATH, "%s", below);
    move_names(names, below, NULL);
}

int unlink(const char *path)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = (int)syscall(SYS_unlink, path);
    if (rc == 0)
        note_removal(ours(path));
    pthread_mutex_unlock(&lock);
    return rc;
}

int unlinkat(int dir, const char *name, int flags)
{
    char path[PATH_MAX], link[64];
    ssize_t len;
    int rc;

    pthread_mutex_lock(&lock);
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    len = readlink(link, path, sizeof path - 1);
    rc = (int)syscall(SYS_unlinkat, dir, name, flags);
    if (rc == 0 && len > 0 && (size_t)len + strlen(name) + 2 < sizeof path) {
        path[len] = '/';
        strcpy(path + len + 1, name);
        note_removal(ours(path));
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static int dir_call(enum kind kind, int rc, const char *path)
{
    if (rc == 0 && ours(path) != NULL)
        snprintf(add_note(kind)->path, PATH, "%s", ours(path));
    pthread_mutex_unlock(&lock);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    pthread_mutex_lock(&lock);
    return dir_call(N_MKDIR, (int)syscall(SYS_mkdir, path, mode), path);
}

int rmdir(const char *path)
{
    pthread_mutex_lock(&lock);
    return dir_call(N_RMDIR, (int)syscall(SYS_rmdir, path), path);
}

/* Files that are made again from notes have other inodes and birth times than the ones they stand
 * for; the disk that forgets is still the same disk. */
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
    int rc = (int)syscall(SYS_statx, dir, path, flags, mask, out);

    if (rc == 0) {
        out->stx_ino = 1;
        memset(&out->stx_btime, 0, sizeof out->stx_btime);
    }
    return rc;
}

/* --- begin and end --- */

static void take_folder(const char *below)
{
    char path[2 * PATH_MAX];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "%s%s%s", root, below[0] ? "/" : "", below);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[2 * PATH], full[3 * PATH_MAX];
        struct stat st;

        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock.mdb") == 0)
            continue;
        snprintf(inner, sizeof inner, "%.200s%s%.200s", below, below[0] ? "/" : "", entry->d_name);
        snprintf(full, sizeof full, "%s/%s", root, inner);
        ASSERT(strlen(inner) < PATH && stat(full, &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            snprintf(add_note(N_MKDIR)->path, PATH, "%.255s", inner);
            take_folder(inner);
            continue;
        }
        struct note *note = add_note(N_CREATE);
        uint32_t file = note->file = ++file_count;
        snprintf(note->path, PATH, "%.255s", inner);
        set_name(note->path, file);
        note = add_note(N_WRITE);
        note->file = file;
        note->synced = true;
        note->len = (uint64_t)st.st_size;
        note->data = malloc(note->len + 1);
        int fd = (int)syscall(SYS_openat, AT_FDCWD, full, O_RDONLY);
        ASSERT(fd >= 0 && read(fd, note->data, note->len) == (ssize_t)note->len);
        close(fd);
    }
    if (dir != NULL)
        closedir(dir);
    snprintf(add_note(N_SYNC_DIR)->path, PATH, "%s", below);
}

void recorder_begin(const char *dir)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < note_count; i++)
        free(notes[i].data);
    note_count = 0;
    file_count = 0;
    memset(names, 0, sizeof names);
    memset(fds, 0, sizeof fds);
    snprintf(root, sizeof root, "%s", dir);
    take_folder("");
    recording = true;
    pthread_mutex_unlock(&lock);
}

void recorder_end(void)
{
    pthread_mutex_lock(&lock);
    recording = false;
    pthread_mutex_unlock(&lock);
}

/* --- making a state --- */

struct content {
    uint8_t *data;
    size_t len, capacity;
    size_t *pending; /* notes not yet synced */
    size_t pending_count, pending_capacity;
};

static void grow(struct content *c, size_t len)
{
    if (len > c->capacity) {
        size_t capacity = len < 4096 ? 4096 : len * 2;

        c->data = realloc(c->data, capacity);
        ASSERT(c->data != NULL);
        memset(c->data + c->capacity, 0, capacity - c->capacity);
        c->capacity = capacity;
    }
    if (len > c->len)
        c->len = len;
}

static void apply_range(struct content *c, const struct note *note, size_t from, size_t to)
{
    grow(c, note->offset + to);
    memcpy(c->data + note->offset + from, note->data + from, to - from);
}

static void apply_whole(struct content *c, const struct note *note)
{
    if (note->kind == N_SIZE) {
        if (note->len < c->len) {
            memset(c->data + note->len, 0, c->len - note->len);
            c->len = note->len;
        }
        grow(c, note->len);
    } else if (note->len > 0) {
        apply_range(c, note, 0, note->len);
    }
}

/* Some of the sectors of a write. */
static void apply_torn(struct content *c, const struct note *note, struct rand *r)
{
    uint64_t at = 0;

    while (note->kind == N_WRITE && at < note->len) {
        uint64_t end = (note->offset + at) / SECTOR * SECTOR + SECTOR - note->offset;

        if (end > note->len)
            end = note->len;
        if (rand_chance(r, 500000))
            apply_range(c, note, at, end);
        at = end;
    }
}

static void apply_sync(struct content *c)
{
    for (size_t i = 0; i < c->pending_count; i++)
        apply_whole(c, &notes[c->pending[i]]);
    c->pending_count = 0;
}

static void add_pending(struct content *c, size_t note)
{
    if (c->pending_count == c->pending_capacity) {
        c->pending_capacity = c->pending_capacity == 0 ? 64 : c->pending_capacity * 2;
        c->pending = realloc(c->pending, c->pending_capacity * sizeof *c->pending);
        ASSERT(c->pending != NULL);
    }
    c->pending[c->pending_count++] = note;
}

/* Four kinds of power cut: everything unsynced is lost, or is there, or any part of it, or only the
 * later part of it (reordering at its worst). */
static void cut_power(struct content *c, struct rand *r, unsigned kind)
{
    for (size_t i = 0; i < c->pending_count; i++) {
        const struct note *note = &notes[c->pending[i]];
        uint64_t dice = rand_below(r, 3);

        if (kind == 1 || (kind == 2 && dice == 0) || (kind == 3 && i >= c->pending_count / 2))
            apply_whole(c, note);
        else if (kind == 2 && dice == 1)
            apply_torn(c, note, r);
    }
    c->pending_count = 0;
}

/* Is `path` an entry of the folder `dir`? */
static bool entry_of(const char *path, const char *dir)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);

    return strlen(dir) == len && strncmp(path, dir, len) == 0;
}

static bool changes_names(enum kind kind)
{
    return kind == N_CREATE || kind == N_RENAME || kind == N_UNLINK || kind == N_MKDIR ||
           kind == N_RMDIR;
}

/* The notes up to which changes of names are there. */
static size_t names_until(size_t at, struct rand *r)
{
    size_t durable = 0, choices = 0, until;

    for (size_t i = 0; i < at; i++)
        if (notes[i].kind == N_SYNC_DIR)
            for (size_t j = i; j > durable; j--)
                if (changes_names(notes[j - 1].kind) &&
                    (entry_of(notes[j - 1].path, notes[i].path) ||
                     entry_of(notes[j - 1].to, notes[i].path))) {
                    durable = j;
                    break;
                }
    for (size_t i = durable; i < at; i++)
        choices += changes_names(notes[i].kind);
    choices = rand_below(r, choices + 1);
    for (until = durable; until < at && choices > 0; until++)
        choices -= changes_names(notes[until].kind);
    return until;
}

static void make_file(const char *path, const struct content *c)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ASSERT(fd >= 0);
    if (c->len > 0)
        ASSERT(syscall(SYS_pwrite64, fd, c->data, c->len, 0) == (long)c->len);
    close(fd);
}

static void make_names(const char *out, size_t until, const struct content *files)
{
    static struct name made[FILES];

    memset(made, 0, sizeof made);
    for (size_t i = 0; i < until; i++) {
        const struct note *note = &notes[i];

        if (note->kind == N_CREATE || note->kind == N_MKDIR) {
            move_names(made, note->path, NULL);
            for (uint32_t j = 0; j < FILES; j++)
                if (!made[j].used) {
                    made[j].used = true;
                    made[j].file = note->kind == N_MKDIR ? 0 : note->file;
                    memcpy(made[j].path, note->path, PATH);
                    break;
                }
        } else if (note->kind == N_RENAME) {
            move_names(made, note->path, note->to);
        } else if (note->kind == N_UNLINK || note->kind == N_RMDIR) {
            move_names(made, note->path, NULL);
        }
    }
    ASSERT(syscall(SYS_mkdir, out, 0700) == 0);
    for (size_t depth = 0; depth < 4; depth++) /* folders before what is in them */
        for (uint32_t i = 0; i < FILES; i++) {
            char path[PATH_MAX + PATH];
            size_t slashes = 0;

            for (const char *p = made[i].path; made[i].used && *p != 0; p++)
                slashes += *p == '/';
            if (!made[i].used || slashes != depth)
                continue;
            snprintf(path, sizeof path, "%s/%.255s", out, made[i].path);
            if (made[i].file == 0)
                syscall(SYS_mkdir, path, 0700);
            else
                make_file(path, &files[made[i].file]);
        }
}

void recorder_make(const char *out, size_t at, struct rand *r)
{
    struct content *files;
    unsigned kind = (unsigned)rand_below(r, 4);

    pthread_mutex_lock(&lock);
    ASSERT(at <= note_count);
    files = calloc(file_count + 1, sizeof *files);
    ASSERT(files != NULL);
    for (size_t i = 0; i < at; i++) {
        const struct note *note = &notes[i];

        if (note->kind == N_SYNC)
            apply_sync(&files[note->file]);
        else if (note->kind == N_WRITE && note->synced)
            apply_whole(&files[note->file], note);
        else if (note->kind == N_WRITE || note->kind == N_SIZE)
            add_pending(&files[note->file], i);
    }
    for (uint32_t f = 1; f <= file_count; f++)
        cut_power(&files[f], r, rand_chance(r, 800000) ? kind : (unsigned)rand_below(r, 4));
    make_names(out, names_until(at, r), files);
    for (uint32_t f = 0; f <= file_count; f++) {
        free(files[f].data);
        free(files[f].pending);
    }
    free(files);
    pthread_mutex_unlock(&lock);
}

void recorder_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[PATH_MAX];
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            recorder_remove(inner);
        else
            syscall(SYS_unlink, inner);
    }
    if (dir != NULL)
        closedir(dir);
    syscall(SYS_rmdir, path);
}
