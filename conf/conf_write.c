/* The effective configuration file, reloading, and look-ups in a loaded configuration. */
#include "conf/value.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int print_all(const struct conf *c, struct buf *out)
{
    const char *section = "";
    char value[CONF_VALUE];
    int rc = buf_printf(out, "# Written by clockwised; read by its processes. Do not edit.\n");

    for (unsigned i = 0; i < CONF_KEYS && rc == 0; i++) {
        const struct conf_key *k = conf_key_at(i);

        if (strcmp(section, k->section) != 0)
            rc = buf_printf(out, "\n[%s]\n", section = k->section);
        conf_format(c, i, value);
        if (rc == 0)
            rc = buf_printf(out, "%s = %s\n", k->key, value);
    }
    for (uint32_t i = 0; i < c->prefix_count && rc == 0; i++) {
        const struct conf_prefix *p = &c->prefix[i];

        rc = buf_printf(out,
                        "\n[prefix \"%s\"]\nn = %u\nr = %u\nw = %u\npr = %u\npw = %u\ndw = %u\n",
                        p->prefix, p->n, p->r, p->w, p->pr, p->pw, p->dw);
    }
    return rc;
}

static int write_all(int fd, const struct buf *b)
{
    size_t done = 0;

    while (done < buf_len(b)) {
        ssize_t n = write(fd, buf_head(b) + done, buf_len(b) - done);

        if (n < 0 && errno != EINTR)
            return err_from_errno(errno);
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int conf_write_effective(const struct conf *c, const char *path)
{
    char temporary[CONF_PATH + 64];
    struct buf text = {0};
    int rc = print_all(c, &text);
    int fd = -1;

    if (rc != 0)
        goto out;
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid()) >=
        sizeof temporary) {
        rc = -ERR_IO;
        goto out;
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        rc = err_from_errno(errno);
        goto out;
    }
    rc = write_all(fd, &text);
    if (close(fd) != 0 && rc == 0)
        rc = err_from_errno(errno);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = err_from_errno(errno);
    if (rc != 0)
        unlink(temporary);
out:
    buf_free(&text);
    return rc;
}

int conf_take_reloadable(struct conf *current, const struct conf *fresh,
                         void (*ignored)(void *arg, const struct conf_key *key), void *arg,
                         char error[CONF_ERROR])
{
    struct conf merged = *current, source = *fresh;
    char reason[CONF_ERROR];
    unsigned blame = 0;
    int taken = 0;

    for (unsigned i = 0; i < CONF_KEYS; i++) {
        size_t size;
        void *to = conf_field(&merged, i, &size);
        const void *from = conf_field(&source, i, NULL);

        if (memcmp(to, from, size) == 0)
            continue;
        if (conf_key_at(i)->reloadable) {
            memcpy(to, from, size);
            taken++;
        } else if (ignored != NULL) {
            ignored(arg, conf_key_at(i));
        }
    }
    if (merged.prefix_count != fresh->prefix_count ||
        memcmp(merged.prefix, fresh->prefix, sizeof merged.prefix) != 0) {
        merged.prefix_count = fresh->prefix_count;
        memcpy(merged.prefix, fresh->prefix, sizeof merged.prefix);
        taken++;
    }
    /* Both were sound; a mixture of them need not be (r of one, n of the other). */
    if (conf_check(&merged, &blame, reason) != 0) {
        snprintf(error, CONF_ERROR, "%s: %.300s, with what cannot change while running",
                 conf_key_at(blame)->key, reason);
        return -ERR_INVAL;
    }
    *current = merged;
    return taken;
}

int conf_change(struct conf *c, const char *name, const char *text, char reason[CONF_ERROR])
{
    const char *dot = strchr(name, '.');
    int rc = -ERR_NOTFOUND;

    reason[0] = '\0';
    for (unsigned i = 0; i < CONF_KEYS; i++) {
        const struct conf_key *k = conf_key_at(i);
        bool same = dot == NULL ? strcmp(k->key, name) == 0
                                : strlen(k->section) == (size_t)(dot - name) &&
                                      strncmp(k->section, name, (size_t)(dot - name)) == 0 &&
                                      strcmp(k->key, dot + 1) == 0;

        if (same && k->reloadable)
            return conf_value_set(c, i, text, reason);
        if (same)
            rc = -ERR_DENIED;
    }
    return rc;
}

int conf_log_level(const struct conf *c)
{
    return LOG_ERROR + c->node.log_level;
}

uint32_t conf_replicas(const struct conf *c)
{
    uint32_t n = c->cluster.n;

    for (uint32_t i = 0; i < c->prefix_count; i++)
        if (c->prefix[i].n > n)
            n = c->prefix[i].n;
    return n;
}

const struct conf_prefix *conf_quorums(const struct conf *c, const void *key, size_t key_len,
                                       struct conf_prefix *scratch)
{
    for (uint32_t i = 0; i < c->prefix_count; i++) {
        size_t len = strlen(c->prefix[i].prefix);

        if (len <= key_len && memcmp(c->prefix[i].prefix, key, len) == 0)
            return &c->prefix[i];
    }
    *scratch = (struct conf_prefix){.n = c->cluster.n,
                                    .r = c->cluster.r,
                                    .w = c->cluster.w,
                                    .pr = c->cluster.pr,
                                    .pw = c->cluster.pw,
                                    .dw = c->cluster.dw};
    return scratch;
}
