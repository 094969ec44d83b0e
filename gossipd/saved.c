/* What gossipd remembers across restarts: members and ring, in DATA_DIR/ring, so that a node that
 * starts while others are down knows its ring. The file is a list of gossip messages:
 *
 *   offset size field
 *   0      8    "CWRING1\n"
 *   8      8    hash64 of everything behind, little-endian
 *   16          NEWS of each member, then RING, as in core/gossip.def
 *
 * A damaged file is reported and counts as none: the others will tell. Runs in gossipd. */
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/varint.h"
#include "gossipd/gossipd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAVED_HEADER 16
#define SAVED_MAX    (1u << 20)

static const char magic[8] = {'C', 'W', 'R', 'I', 'N', 'G', '1', '\n'};

static void emit(void *arg, const struct gossip *g)
{
    msg_codec_encode_gossip(g, arg);
}

static int write_synced(const char *path, const struct buf *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0)
        return err_from_errno(errno);
    size_t done = 0;
    while (done < buf_len(b) && rc == 0) {
        ssize_t n = write(fd, buf_head(b) + done, buf_len(b) - done);

        if (n < 0 && errno != EINTR)
            rc = err_from_errno(errno);
        if (n > 0)
            done += (size_t)n;
    }
    if (rc == 0 && fdatasync(fd) != 0)
        rc = err_from_errno(errno);
    close(fd);
    return rc;
}

static void sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (fsync(fd) != 0)
        log_warn("cannot sync %s", path);
    close(fd);
}

void gossipd_save(struct gossipd *g)
{
    char path[CONF_PATH + 16], tmp[CONF_PATH + 16];
    struct buf b = {0};
    uint8_t *head = buf_reserve(&b, SAVED_HEADER);

    if (head == NULL)
        return;
    memcpy(head, magic, sizeof magic);
    buf_filled(&b, SAVED_HEADER);
    member_tell_all(&g->members, emit, &b);
    store_le64(buf_head(&b) + 8, hash64(buf_head(&b) + SAVED_HEADER, buf_len(&b) - SAVED_HEADER));
    snprintf(path, sizeof path, "%s/ring", g->conf.node.data_dir);
    snprintf(tmp, sizeof tmp, "%s/ring.tmp", g->conf.node.data_dir);
    int rc = write_synced(tmp, &b);
    if (rc == 0 && rename(tmp, path) != 0)
        rc = err_from_errno(errno);
    if (rc != 0)
        log_error("cannot save the ring to %s: %s", path, err_text(rc));
    else
        sync_directory(g->conf.node.data_dir);
    buf_free(&b);
}

static int read_file(const char *path, struct buf *b)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0)
        return err_from_errno(errno);
    if (fstat(fd, &st) != 0 || st.st_size < SAVED_HEADER || st.st_size > SAVED_MAX)
        rc = -ERR_CORRUPT;
    uint8_t *at = rc == 0 ? buf_reserve(b, (size_t)st.st_size) : NULL;
    if (at != NULL && read(fd, at, (size_t)st.st_size) == st.st_size)
        buf_filled(b, (size_t)st.st_size);
    else if (rc == 0)
        rc = -ERR_IO;
    close(fd);
    return rc;
}

static void restore(struct gossipd *g, const struct gossip *m)
{
    static const struct member_endpoint nowhere = {.address = "saved"};
    static const struct node_id nobody;

    /* Through the same checks as if somebody had said it. */
    member_receive(&g->members, &nobody, &nowhere, m, loop_now_us(g->loop));
}

void gossipd_load(struct gossipd *g)
{
    char path[CONF_PATH + 16];
    struct buf b = {0};

    snprintf(path, sizeof path, "%s/ring", g->conf.node.data_dir);
    int rc = read_file(path, &b);
    if (rc == 0 && (memcmp(buf_head(&b), magic, sizeof magic) != 0 ||
                    load_le64(buf_head(&b) + 8) !=
                        hash64(buf_head(&b) + SAVED_HEADER, buf_len(&b) - SAVED_HEADER)))
        rc = -ERR_CORRUPT;
    if (rc == 0) {
        struct slice in = slice_of(buf_head(&b) + SAVED_HEADER, buf_len(&b) - SAVED_HEADER);
        struct gossip m;

        while (in.len > 0 && msg_codec_next_gossip(g->codec, &in, &m) == 0)
            restore(g, &m);
    } else if (rc != -ERR_NOTFOUND) {
        log_error("%s: %s; the others will tell", path, err_text(rc));
    }
    buf_free(&b);
}
