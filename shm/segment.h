/* Segments: files in the runtime directory that one process writes and everyone else maps read-only.
 *
 * Every segment begins with this header. All numbers are native-endian: segments never leave the
 * machine.
 *
 *   offset size field        who changes it, when; why a stale read is harmless
 *   0      8    magic        the writer, last of all before the file gets its name; a file with a
 *                            name has it, so its absence means "not ours" or "damaged"
 *   8      4    kind         the writer before magic; constant
 *   12     4    index        the writer before magic; constant (worker number, else 0)
 *   16     8    fingerprint  the writer before magic; constant (hash of the layout behind the header)
 *   24     8    length       the writer before magic; constant (bytes of the whole file)
 *   32     8    incarnation  the writer before magic; constant (names this run; never used twice)
 *   40     8    generation   the writer before magic; constant (1 + that of the file it replaces)
 *   48     8    created_ms   the writer before magic; constant (wall clock)
 *   56     8    birth        the writer before magic; constant (start time of the writer's process
 *                            in clock ticks since boot, so that a reused pid is told apart)
 *   64     4    pid          the writer before magic; constant
 *   68     4    ended        the writer, 0 -> 1, when it leaves in good order; people read it, no
 *                            protocol depends on it
 *   72     4    counters_at  the writer before magic; constant (offset of a struct counter_block,
 *                            0: none), so that a tool of another build can print the counters
 *   76     4    header_bytes the writer before magic; constant (128)
 *   80     24   build        the writer before magic; constant (version text, for people)
 *   104    24   kind_name    the writer before magic; constant (for people)
 *   128         the body, described by the header file of its kind
 *
 * A writer fills NAME.tmp and renames it to NAME, so a reader never sees a half-made file, and a
 * restarted writer never touches what readers of its predecessor have mapped: they go on reading
 * the last state of the dead one until they look (segment_reattach_if_replaced). All space is
 * allocated before the file is mapped: a full tmpfs is an error here and not a SIGBUS later.
 *
 * This is the only file that maps memory (LMDB does its own). */
#ifndef CLOCKWISE_SHM_SEGMENT_H
#define CLOCKWISE_SHM_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_MAGIC    0x0a0d4745535743ull /* "CWSEG\r\n" and a zero, little-endian */
#define SEGMENT_PATH_MAX 256
#define SEGMENT_WHY_MAX  256

/* The kinds of segments: X(KIND, number, name). Numbers are stable. */
#define SEGMENT_KINDS(X)                                                                           \
    X(NODE, 1, "node")                                                                             \
    X(RING, 2, "ring")                                                                             \
    X(WORKER, 3, "worker")                                                                         \
    X(MAIL, 4, "mail")                                                                             \
    X(GOSSIP, 5, "gossip")                                                                         \
    X(REPAIR, 6, "repair")

enum segment_kind {
#define X(name, number, text) SEGMENT_##name = number,
    SEGMENT_KINDS(X)
#undef X
};

struct segment_header {
    _Atomic uint64_t magic;
    uint32_t kind;
    uint32_t index;
    uint64_t fingerprint;
    uint64_t length;
    uint64_t incarnation;
    uint64_t generation;
    uint64_t created_ms;
    uint64_t birth;
    uint32_t pid;
    _Atomic uint32_t ended;
    uint32_t counters_at;
    uint32_t header_bytes;
    char build[24];
    char kind_name[24];
};

/* What a writer makes and what a reader expects. */
struct segment_spec {
    enum segment_kind kind;
    uint32_t index;
    uint64_t fingerprint; /* attach: 0 accepts any layout (tools) */
    size_t length;        /* create: exact; attach: at least */
    uint32_t counters_at; /* create only */
};

/* One mapped segment. Set to all zero bytes it is "not mapped" and may be closed. Do not copy. */
struct segment {
    struct segment_header *header; /* NULL: not mapped; read-only for readers */
    size_t length;
    bool writer;
    struct segment_spec spec;
    uint64_t device, inode;
    char path[SEGMENT_PATH_MAX];
    char why[SEGMENT_WHY_MAX]; /* reason of the last failure, for people */
};

/* One field of a layout, for its fingerprint. */
struct segment_field {
    const char *name;
    uint32_t offset, size;
};
#define SEGMENT_FIELD(type, member)                                                                \
    {                                                                                              \
#member, (uint32_t)offsetof(type, member), (uint32_t)sizeof(((type *)0)->member)           \
    }

/* Hash of a list of fields, of the size of the whole and of a seed (the fingerprint of something it
 * contains, or 0). Never 0. Pure. */
uint64_t segment_fingerprint(const struct segment_field *fields, size_t count, size_t size,
                             uint64_t seed);

/* Name of a kind, or "unknown". */
const char *segment_kind_name(uint32_t kind);

/* Writer: make DIR/NAME.tmp of spec->length bytes, all zero behind the header, and map it for
 * writing. Readers cannot see it until segment_publish(). incarnation must not be 0. Blocks for
 * file system calls. -ERR_DISKFULL, -ERR_NOMEM, -ERR_DENIED, -ERR_NOTFOUND (no such directory),
 * -ERR_IO; s->why says more. On error nothing is left behind and s is not mapped. */
int segment_create(struct segment *s, const char *dir, const char *name,
                   const struct segment_spec *spec, uint64_t incarnation);

/* Writer: store the magic and rename the file into place, replacing that of an earlier run. Errors
 * as above; s stays mapped and unpublished then. */
int segment_publish(struct segment *s);

/* Reader: map DIR/NAME read-only after verifying that it is whole and is what spec says. Errors,
 * each with a reason in s->why: -ERR_NOTFOUND, -ERR_DENIED, -ERR_CORRUPT (too short, or length and
 * file disagree), -ERR_FORMAT (foreign: no magic, not a regular file), -ERR_VERSION (another
 * layout), -ERR_INVAL (another kind or index than asked for), -ERR_IO. s must not be mapped. */
int segment_attach(struct segment *s, const char *dir, const char *name,
                   const struct segment_spec *spec);

/* Reader: if a restarted writer has put a new file in place, map that instead. One stat call when
 * nothing changed: fit for once a second, and for every time that a restart was announced. 1: now
 * mapped anew, every pointer into the old map is dead. 0: unchanged. An error as of segment_attach()
 * leaves the old map in place (also when the file is gone). Also attaches a segment that was not
 * there at the first try. */
int segment_reattach_if_replaced(struct segment *s);

/* Unmap. A writer's segment is first marked as ended in good order; its file stays, for the dump
 * tool. A file that was never published is removed. */
void segment_close(struct segment *s);

/* Is the process that wrote this segment still running? Compares pid and birth. Reads /proc: for
 * tools, not for loops. */
bool segment_writer_alive(const struct segment *s);

static inline void *segment_body(const struct segment *s)
{
    return (uint8_t *)s->header + sizeof(struct segment_header);
}

static inline bool segment_mapped(const struct segment *s)
{
    return s->header != NULL;
}

static inline uint64_t segment_incarnation(const struct segment *s)
{
    return s->header->incarnation;
}

#endif
