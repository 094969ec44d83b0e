/* Users in files: the one that the workers of a node share, and the aclfile. Runs in workers. */
#include "workers/acl_store.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#define SHARED_NAME "users"
#define HEAD        "clockwise-users"

/* ---- the shared file ---- */

static void path_of(const struct acl_store *s, const char *suffix, char out[CONF_PATH])
{
    snprintf(out, CONF_PATH, "%s/" SHARED_NAME "%s", s->dir, suffix);
}

/* The whole of a file; free *text. -ERR_NOTFOUND, -ERR_LIMIT, -ERR_IO, -ERR_NOMEM. */
static int load_text(const char *path, char **text, size_t *len)
{
    *text = malloc(LIMIT_ACL_TEXT);
    if (*text == NULL)
        return -ERR_NOMEM;
    return file_load(path, *text, LIMIT_ACL_TEXT, len);
}

/* Users of this run from the shared file. -ERR_NOTFOUND if there are none. */
static int read_shared(struct acl_store *s, char why[ACL_WHY])
{
    char path[CONF_PATH], *text = NULL;
    size_t len = 0;
    unsigned long long generation = 0, run = 0;
    int used = 0;

    path_of(s, "", path);
    int rc = load_text(path, &text, &len);
    if (rc != 0) {
        snprintf(why, ACL_WHY, "%s: %s", path, err_text(rc));
        free(text);
        return rc;
    }
    char *line_end = memchr(text, '\n', len);
    if (line_end == NULL)
        rc = -ERR_CORRUPT;
    else
        *line_end = 0;
    if (rc == 0 && (sscanf(text, HEAD " %llu %llu%n", &generation, &run, &used) != 2 ||
                    used != line_end - text))
        rc = -ERR_CORRUPT;
    if (rc == 0 && run != s->conf.run)
        rc = -ERR_NOTFOUND;
    if (rc == 0) {
        size_t head = (size_t)(line_end + 1 - text);
        rc = acl_parse(s->acl, slice_of(text + head, len - head), path, true, why);
    } else {
        snprintf(why, ACL_WHY, "%s: %s", path, err_text(rc));
    }
    if (rc == 0)
        s->generation = generation;
    free(text);
    return rc;
}

static int write_whole(const char *path, struct slice content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_from_errno(errno);
    int rc = file_write_at(fd, content.data, content.len, 0);
    close(fd);
    return rc;
}

/* Not synced: after a power cut there is another run. */
static int write_shared(struct acl_store *s, uint64_t generation)
{
    char path[CONF_PATH], fresh[CONF_PATH];
    struct buf text = {.limit = LIMIT_ACL_TEXT};

    path_of(s, "", path);
    path_of(s, ".new", fresh);
    int rc = buf_printf(&text, HEAD " %llu %llu\n", (unsigned long long)generation,
                        (unsigned long long)s->conf.run);
    if (rc == 0)
        rc = acl_print(s->acl, true, &text);
    if (rc == 0)
        rc = write_whole(fresh, slice_of(buf_head(&text), buf_len(&text)));
    if (rc == 0 && rename(fresh, path) != 0)
        rc = err_from_errno(errno);
    buf_free(&text);
    return rc;
}

static int publish(struct acl_store *s, char why[ACL_WHY])
{
    int rc;

    if (s->conf.exposed && !acl_closed(s->acl)) {
        snprintf(why, ACL_WHY,
                 "the node listens beyond the loopback address: the default user needs a password");
        return -ERR_DENIED;
    }
    if ((rc = write_shared(s, s->generation + 1)) != 0) {
        snprintf(why, ACL_WHY, "cannot share the users with the other workers: %s", err_text(rc));
        return rc;
    }
    s->generation++;
    s->conf.announce(s->conf.arg, s->generation);
    return 0;
}

/* ---- changes ---- */

bool acl_store_refresh(struct acl_store *s)
{
    char why[ACL_WHY];
    uint64_t newest = s->conf.newest(s->conf.arg);

    if (newest <= s->generation)
        return false;
    if (read_shared(s, why) != 0) {
        log_error("users: %s", why);
        s->generation = newest; /* once for each announcement */
        return false;
    }
    s->conf.announce(s->conf.arg, s->generation);
    return true;
}

int acl_store_begin(struct acl_store *s, char why[ACL_WHY])
{
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return -ERR_BUSY;
    int rc = read_shared(s, why);
    if (rc != 0)
        flock(s->lock_fd, LOCK_UN);
    return rc;
}

int acl_store_end(struct acl_store *s, bool keep, char why[ACL_WHY])
{
    char ignored[ACL_WHY];
    int rc = keep ? publish(s, why) : 0;

    if ((rc != 0 || !keep) && read_shared(s, ignored) != 0)
        log_error("users: %s", ignored);
    flock(s->lock_fd, LOCK_UN);
    return rc;
}

int acl_store_load(struct acl_store *s, char why[ACL_WHY])
{
    char *text = NULL;
    size_t len = 0;
    int rc = load_text(s->file, &text, &len);

    if (rc != 0)
        snprintf(why, ACL_WHY, "%s: %s", s->file, err_text(rc));
    else
        rc = acl_parse(s->acl, slice_of(text, len), s->file, false, why);
    free(text);
    return rc;
}

/* ---- saving ---- */

static void *save(void *arg)
{
    struct acl_store *s = arg;
    char dir[CONF_PATH];
    char *slash;
    uint64_t one = 1;

    snprintf(dir, sizeof dir, "%s", s->file);
    slash = strrchr(dir, '/'); /* the path is absolute: there is one */
    *slash = 0;
    s->save_rc = file_replace(dir[0] != 0 ? dir : "/", slash + 1,
                              slice_of(buf_head(&s->text), buf_len(&s->text)));
    if (write(s->event_fd, &one, sizeof one) != sizeof one)
        check_panic("cannot tell that the users are saved");
    return NULL;
}

static void on_saved(void *arg, uint32_t events)
{
    struct acl_store *s = arg;
    uint64_t count;

    (void)events;
    if (read(s->event_fd, &count, sizeof count) != sizeof count)
        return;
    pthread_join(s->thread, NULL);
    s->saving = false;
    buf_free(&s->text);
    if (s->save_rc != 0)
        log_error("%s: %s", s->file, err_text(s->save_rc));
    s->conf.saved(s->conf.arg, s->token, s->save_rc);
}

int acl_store_save(struct acl_store *s, uint64_t token)
{
    if (s->saving)
        return -ERR_BUSY;
    buf_init(&s->text, LIMIT_ACL_TEXT);
    int rc = acl_print(s->acl, false, &s->text);
    s->token = token;
    if (rc == 0 && pthread_create(&s->thread, NULL, save, s) != 0)
        rc = -ERR_NOMEM;
    if (rc != 0)
        buf_free(&s->text);
    s->saving = rc == 0;
    return rc;
}

/* ---- the beginning and the end ---- */

/* The first worker of a run makes the shared file; the others read it. */
static int begin_run(struct acl_store *s, char why[ACL_WHY])
{
    int rc = read_shared(s, why);

    if (rc == 0) {
        s->conf.announce(s->conf.arg, s->generation);
        return 0;
    }
    if (rc != -ERR_NOTFOUND && rc != -ERR_CORRUPT && rc != -ERR_INVAL)
        return rc;
    s->generation = s->conf.newest(s->conf.arg);
    if (s->file[0] != 0 && (rc = acl_store_load(s, why)) != 0)
        return rc;
    return publish(s, why);
}

int acl_store_open(struct acl_store *s, struct acl *a, const struct acl_store_conf *conf,
                   struct loop *loop, char why[ACL_WHY])
{
    char path[CONF_PATH];

    memset(s, 0, sizeof *s);
    s->conf = *conf;
    s->acl = a;
    s->loop = loop;
    snprintf(s->file, sizeof s->file, "%s", conf->file);
    snprintf(s->dir, sizeof s->dir, "%s", conf->runtime_dir);
    s->conf.file = s->file;
    s->conf.runtime_dir = s->dir;
    path_of(s, ".lock", path);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = 0;
    acl_require(a, conf->requirepass, &rc);
    if (rc == 0 && (s->lock_fd < 0 || s->event_fd < 0 || flock(s->lock_fd, LOCK_EX) != 0))
        rc = err_from_errno(errno);
    if (rc == 0)
        rc = loop_add(loop, &s->watch, s->event_fd, EPOLLIN, on_saved, s);
    if (rc != 0) {
        snprintf(why, ACL_WHY, "%s: %s", path, err_text(rc));
        return rc;
    }
    rc = begin_run(s, why);
    flock(s->lock_fd, LOCK_UN);
    return rc;
}

void acl_store_close(struct acl_store *s)
{
    if (s->saving)
        pthread_join(s->thread, NULL);
    loop_remove(s->loop, &s->watch);
    buf_free(&s->text);
    close(s->event_fd);
    close(s->lock_fd);
}
