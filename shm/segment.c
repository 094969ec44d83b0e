/* The only file that maps memory: creation, attachment and replacement of segments. Runs in every
 * process; holds no state of its own. */
#include "shm/segment.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(struct segment_header) == 128, "the header is 128 bytes");
_Static_assert(offsetof(struct segment_header, counters_at) == 72, "as documented");
_Static_assert(offsetof(struct segment_header, kind_name) == 104, "as documented");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared 64-bit words must not need a lock");

#define TMP_SUFFIX ".tmp"

uint64_t segment_fingerprint(const struct segment_field *fields, size_t count, size_t size,
                             uint64_t seed)
{
    uint64_t h = hash64_seed(&size, sizeof size, seed);

    for (size_t i = 0; i < count; i++) {
        uint32_t where[2] = {fields[i].offset, fields[i].size};

        h = hash64_seed(fields[i].name, strlen(fields[i].name), h);
        h = hash64_seed(where, sizeof where, h);
    }
    return h == 0 ? 1 : h;
}

const char *segment_kind_name(uint32_t kind)
{
    switch (kind) {
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return text;
        SEGMENT_KINDS(X)
#undef X
    }
    return "unknown";
}

__attribute__((format(printf, 3, 4))) static int refuse(struct segment *s, int err,
                                                        const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(s->why, sizeof s->why, format, args);
    va_end(args);
    return err;
}

static int refuse_errno(struct segment *s, const char *what)
{
    int saved = errno;

    return refuse(s, err_from_errno(saved), "%s: %s", what, strerror(saved));
}

/* The start time of a process, in clock ticks since boot: field 22 of /proc/PID/stat, counted after
 * the command's name, which may contain anything. 0 if there is no such process, or if it is dead and
 * only waits to be collected (state Z). */
static uint64_t birth_of(uint32_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *at = strrchr(text, ')');
    if (at != NULL && (at[1] != ' ' || at[2] == 'Z' || at[2] == 'X'))
        return 0;
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

static int set_path(struct segment *s, const char *dir, const char *name)
{
    int n = snprintf(s->path, sizeof s->path, "%s/%s", dir, name);

    if (n < 0 || (size_t)n >= sizeof s->path - sizeof TMP_SUFFIX)
        return refuse(s, -ERR_LIMIT, "the path of %s is too long", name);
    return 0;
}

static void tmp_path(const struct segment *s, char out[SEGMENT_PATH_MAX])
{
    size_t len = strlen(s->path);

    ASSERT(len + sizeof TMP_SUFFIX <= SEGMENT_PATH_MAX);
    memcpy(out, s->path, len);
    memcpy(out + len, TMP_SUFFIX, sizeof TMP_SUFFIX);
}

/* Generation of the file that is about to be replaced, 0 if there is none or it is no segment. */
static uint64_t generation_before(const struct segment *s)
{
    struct segment_header h;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return 0;
    ssize_t n = pread(fd, &h, sizeof h, 0);
    close(fd);
    return n == (ssize_t)sizeof h && h.magic == SEGMENT_MAGIC ? h.generation : 0;
}

static void fill_header(struct segment *s, uint64_t incarnation)
{
    struct segment_header *h = s->header;

    h->kind = s->spec.kind;
    h->index = s->spec.index;
    h->fingerprint = s->spec.fingerprint;
    h->length = s->length;
    h->incarnation = incarnation;
    h->generation = generation_before(s) + 1;
    h->created_ms = clock_wall_ms();
    h->pid = (uint32_t)getpid();
    h->birth = birth_of(h->pid);
    h->counters_at = s->spec.counters_at;
    h->header_bytes = sizeof *h;
    snprintf(h->build, sizeof h->build, "%s", CLOCKWISE_VERSION);
    snprintf(h->kind_name, sizeof h->kind_name, "%s", segment_kind_name(s->spec.kind));
}

/* Make the temporary file with all its space, and map it. */
static int make_file(struct segment *s, const char *path)
{
    struct stat st;
    int err = 0;

    unlink(path); /* of a run that was killed before it could publish */
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return refuse_errno(s, "cannot make it");
    int failed = posix_fallocate(fd, 0, (off_t)s->length);
    if (failed != 0) {
        errno = failed;
        err = refuse_errno(s, "cannot allocate its space");
        goto out;
    }
    if (fstat(fd, &st) != 0) {
        err = refuse_errno(s, "cannot stat it");
        goto out;
    }
    void *map = mmap(NULL, s->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        err = refuse_errno(s, "cannot map it");
        goto out;
    }
    s->header = map;
    s->device = st.st_dev;
    s->inode = st.st_ino;
out:
    close(fd);
    if (err < 0)
        unlink(path);
    return err;
}

int segment_create(struct segment *s, const char *dir, const char *name,
                   const struct segment_spec *spec, uint64_t incarnation)
{
    char path[SEGMENT_PATH_MAX];

    ASSERT(s->header == NULL);
    ASSERT(incarnation != 0 && spec->fingerprint != 0);
    ASSERT(spec->length > sizeof(struct segment_header));
    memset(s, 0, sizeof *s);
    s->spec = *spec;
    s->length = spec->length;
    s->writer = true;
    int err = set_path(s, dir, name);
    if (err < 0)
        return err;
    tmp_path(s, path);
    err = make_file(s, path);
    if (err < 0)
        return err;
    fill_header(s, incarnation);
    return 0;
}

int segment_publish(struct segment *s)
{
    char path[SEGMENT_PATH_MAX];

    ASSERT(s->header != NULL && s->writer);
    tmp_path(s, path);
    atomic_store_explicit(&s->header->magic, SEGMENT_MAGIC, memory_order_release);
    if (rename(path, s->path) != 0)
        return refuse_errno(s, "cannot rename it into place");
    return 0;
}

/* Everything that can be told from the header before its body is trusted. */
static int verify(struct segment *s, const struct segment_header *h, uint64_t file_bytes)
{
    const struct segment_spec *want = &s->spec;

    if (atomic_load_explicit(&h->magic, memory_order_acquire) != SEGMENT_MAGIC)
        return refuse(s, -ERR_FORMAT, "not a Clockwise segment (no magic number)");
    if (h->header_bytes != sizeof *h)
        return refuse(s, -ERR_VERSION, "header of %u bytes, this build knows one of %zu",
                      h->header_bytes, sizeof *h);
    if (h->length != file_bytes)
        return refuse(s, -ERR_CORRUPT, "says that it has %llu bytes but has %llu",
                      (unsigned long long)h->length, (unsigned long long)file_bytes);
    if (h->kind != (uint32_t)want->kind)
        return refuse(s, -ERR_INVAL, "a %s segment where a %s segment should be",
                      segment_kind_name(h->kind), segment_kind_name(want->kind));
    if (h->index != want->index)
        return refuse(s, -ERR_INVAL, "segment number %u where number %u should be", h->index,
                      want->index);
    if (want->fingerprint != 0 && h->fingerprint != want->fingerprint)
        return refuse(s, -ERR_VERSION,
                      "another layout (of build %.*s): %016llx, this build: %016llx",
                      (int)sizeof h->build, h->build, (unsigned long long)h->fingerprint,
                      (unsigned long long)want->fingerprint);
    if (h->length < want->length)
        return refuse(s, -ERR_CORRUPT, "too short for its kind: %llu bytes, at least %zu",
                      (unsigned long long)h->length, want->length);
    if (h->incarnation == 0 || h->pid == 0)
        return refuse(s, -ERR_CORRUPT, "a header without its writer");
    return 0;
}

static int map_file(struct segment *s, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return refuse_errno(s, "cannot stat it");
    if (!S_ISREG(st.st_mode))
        return refuse(s, -ERR_FORMAT, "not a regular file");
    if ((uint64_t)st.st_size < sizeof(struct segment_header))
        return refuse(s, -ERR_CORRUPT, "too short for a header: %lld bytes", (long long)st.st_size);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return refuse_errno(s, "cannot map it");
    int err = verify(s, map, (uint64_t)st.st_size);
    if (err < 0) {
        munmap(map, (size_t)st.st_size);
        return err;
    }
    s->header = map;
    s->length = (size_t)st.st_size;
    s->device = st.st_dev;
    s->inode = st.st_ino;
    return 0;
}

static int attach_path(struct segment *s)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return refuse_errno(s, "cannot open it");
    int err = map_file(s, fd);
    close(fd);
    return err;
}

int segment_attach(struct segment *s, const char *dir, const char *name,
                   const struct segment_spec *spec)
{
    ASSERT(s->header == NULL);
    memset(s, 0, sizeof *s);
    s->spec = *spec;
    int err = set_path(s, dir, name);
    return err < 0 ? err : attach_path(s);
}

int segment_reattach_if_replaced(struct segment *s)
{
    struct stat st;

    ASSERT(!s->writer && s->path[0] != 0);
    if (stat(s->path, &st) != 0)
        return refuse_errno(s, "cannot stat it");
    if (s->header != NULL && st.st_ino == s->inode && st.st_dev == s->device)
        return 0;
    struct segment_header *old = s->header;
    size_t old_length = s->length;
    int err = attach_path(s);
    if (err < 0)
        return err;
    if (old != NULL)
        munmap(old, old_length);
    return 1;
}

void segment_close(struct segment *s)
{
    if (s->header == NULL)
        return;
    if (s->writer) {
        bool published = atomic_load_explicit(&s->header->magic, memory_order_relaxed) != 0;
        atomic_store_explicit(&s->header->ended, 1, memory_order_relaxed);
        if (!published) {
            char path[SEGMENT_PATH_MAX];
            tmp_path(s, path);
            unlink(path);
        }
    }
    munmap(s->header, s->length);
    s->header = NULL;
    s->length = 0;
}

bool segment_writer_alive(const struct segment *s)
{
    uint64_t birth = birth_of(s->header->pid);

    return birth != 0 && birth == s->header->birth;
}
