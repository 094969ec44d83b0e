/* The set of users of one worker. Runs in workers; makes no system call. */
#include "workers/acl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/rand.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_NAME  "default"
#define DEFAULT_BIRTH 1

/* ---- the set ---- */

/* Where a name is, or belongs. */
static uint32_t place(const struct acl *a, struct slice name, bool *found)
{
    uint32_t low = 0, high = a->count;

    *found = false;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        struct slice other = slice_str(a->users[middle]->name);
        size_t least = name.len < other.len ? name.len : other.len;
        int order = memcmp(other.data, name.data, least);

        if (order == 0)
            order = other.len < name.len ? -1 : other.len > name.len;
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct acl_user *acl_find(const struct acl *a, struct slice name)
{
    bool found;
    uint32_t at = place(a, name, &found);

    return found ? a->users[at] : NULL;
}

int acl_put(struct acl *a, struct acl_user *u)
{
    bool found;
    uint32_t at = place(a, slice_str(u->name), &found);

    if (found) {
        acl_user_unref(a->users[at]);
    } else if (a->count == LIMIT_ACL_USERS) {
        acl_user_unref(u);
        return -ERR_LIMIT;
    } else {
        struct acl_user **more = realloc(a->users, (a->count + 1) * sizeof *more);
        if (more == NULL) {
            acl_user_unref(u);
            return -ERR_NOMEM;
        }
        a->users = more;
        memmove(more + at + 1, more + at, (a->count - at) * sizeof *more);
        a->count++;
    }
    a->users[at] = u;
    if (strcmp(u->name, DEFAULT_NAME) == 0)
        a->standard = u;
    a->version++;
    return 0;
}

bool acl_remove(struct acl *a, struct slice name)
{
    bool found;
    uint32_t at = place(a, name, &found);

    if (!found)
        return false;
    ASSERT(a->users[at] != a->standard);
    acl_user_unref(a->users[at]);
    a->count--;
    memmove(a->users + at, a->users + at + 1, (a->count - at) * sizeof *a->users);
    a->version++;
    return true;
}

static int apply(struct acl_user *u, const char *rule)
{
    return acl_user_apply(u, slice_str(rule)) == NULL ? 0 : -ERR_NOMEM;
}

int acl_open(struct acl *a, const char *requirepass)
{
    struct acl_user *u = acl_user_new(slice_str(DEFAULT_NAME), DEFAULT_BIRTH);
    int rc;

    memset(a, 0, sizeof *a);
    if (u == NULL || apply(u, "on") != 0 || apply(u, "nopass") != 0 || apply(u, "~*") != 0 ||
        apply(u, "&*") != 0 || apply(u, "+@all") != 0) {
        acl_user_unref(u);
        return -ERR_NOMEM;
    }
    rc = acl_put(a, u);
    if (rc == 0)
        acl_require(a, requirepass, &rc);
    if (rc != 0)
        acl_close(a);
    return rc;
}

void acl_close(struct acl *a)
{
    for (uint32_t i = 0; i < a->count; i++)
        acl_user_unref(a->users[i]);
    free(a->users);
    memset(a, 0, sizeof *a);
}

/* ---- logging in ---- */

struct acl_user *acl_login(const struct acl *a, struct slice name, struct slice password)
{
    struct acl_user *u = acl_find(a, name);
    bool good = acl_user_password_ok(u != NULL ? u : a->standard, password);

    return u != NULL && u->on && good ? u : NULL;
}

bool acl_require(struct acl *a, const char *password, int *rc)
{
    const struct acl_user *now = a->standard;
    struct slice secret = slice_str(password != NULL ? password : "");
    char rule[1024];

    *rc = 0;
    if (secret.len == 0
            ? now->nopass
            : now->password_count == 1 && !now->nopass && acl_user_password_ok(now, secret))
        return false;
    struct acl_user *u = acl_user_copy(now);
    int len = snprintf(rule, sizeof rule, ">%s", password != NULL ? password : "");
    ASSERT(len > 0 && (size_t)len < sizeof rule);
    if (u == NULL || apply(u, secret.len == 0 ? "nopass" : "resetpass") != 0 ||
        (secret.len > 0 && apply(u, rule) != 0)) {
        acl_user_unref(u);
        *rc = -ERR_NOMEM;
        return false;
    }
    *rc = acl_put(a, u);
    return *rc == 0;
}

/* ---- text ---- */

static struct slice next_word(struct slice *line)
{
    const uint8_t *p = line->data, *end = line->data + line->len;

    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    const uint8_t *start = p;
    while (p < end && *p != ' ' && *p != '\t' && *p != '\r')
        p++;
    *line = slice_of(p, (size_t)(end - p));
    return slice_of(start, (size_t)(p - start));
}

static bool parse_birth(struct slice word, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < word.len; i++) {
        if (word.data[i] < '0' || word.data[i] > '9')
            return false;
        *out = *out * 10 + (word.data[i] - '0');
    }
    return word.len > 0 && word.len <= 20 && *out != 0;
}

/* Are the two alike in all but their births? */
static bool same_rights(const struct acl_user *x, const struct acl_user *y)
{
    struct buf a = {0}, b = {0};
    bool same =
        acl_user_describe(x, &a) == 0 && acl_user_describe(y, &b) == 0 &&
        slice_equal(slice_of(buf_head(&a), buf_len(&a)), slice_of(buf_head(&b), buf_len(&b)));

    buf_free(&a);
    buf_free(&b);
    return same;
}

static const char *parse_user(struct acl *fresh, struct slice line, uint64_t birth,
                              const struct acl *old)
{
    static char duplicate[LIMIT_ACL_NAME + 32]; /* one thread; looked at before the next line */

    struct slice name = next_word(&line), rule;
    const char *why = NULL;
    const struct acl_user *before;

    if (!acl_user_name_ok(name))
        return "Usernames can't contain spaces or null characters, nor be empty or too long";
    if (acl_find(fresh, name) != NULL) {
        snprintf(duplicate, sizeof duplicate, "Duplicate user '%.*s' found", (int)name.len,
                 name.data);
        return duplicate;
    }
    struct acl_user *u = acl_user_new(name, birth);
    if (u == NULL)
        return err_text(-ERR_NOMEM);
    while (why == NULL && (rule = next_word(&line)).len > 0)
        why = acl_user_apply(u, rule);
    if (why != NULL) {
        acl_user_unref(u);
        return why;
    }
    if (birth == 0) {
        before = acl_find(old, name);
        u->birth = strcmp(u->name, DEFAULT_NAME) == 0         ? DEFAULT_BIRTH
                   : before != NULL && same_rights(before, u) ? before->birth
                                                              : rand_id();
    }
    int rc = acl_put(fresh, u);
    return rc == 0 ? NULL : err_text(rc);
}

static const char *parse_line(struct acl *fresh, struct slice line, bool births,
                              const struct acl *old)
{
    uint64_t birth = 0;
    struct slice word = next_word(&line);

    if (word.len == 0 || (word.data[0] == '#' && !births))
        return NULL;
    if (births) {
        if (!parse_birth(word, &birth))
            return "a number should come first";
        word = next_word(&line);
    }
    if (!slice_equal(word, slice_str("user")))
        return "line should begin with user keyword";
    return parse_user(fresh, line, birth, old);
}

int acl_parse(struct acl *a, struct slice text, const char *name, bool births, char why[ACL_WHY])
{
    struct acl fresh = {0};
    unsigned number = 0;
    int rc = 0;

    while (text.len > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.data) : text.len;
        const char *wrong = parse_line(&fresh, slice_of(text.data, len), births, a);

        number++;
        if (wrong != NULL) {
            snprintf(why, ACL_WHY, "%s:%u: %s", name, number, wrong);
            acl_close(&fresh);
            return -ERR_INVAL;
        }
        len += end != NULL;
        text = slice_of(text.data + len, text.len - len);
    }
    if (fresh.standard == NULL)
        rc = acl_put(&fresh, acl_user_ref(a->standard));
    if (rc != 0) {
        snprintf(why, ACL_WHY, "%s: %s", name, err_text(rc));
        acl_close(&fresh);
        return rc;
    }
    fresh.version = a->version + 1;
    acl_close(a);
    *a = fresh;
    return 0;
}

int acl_print(const struct acl *a, bool births, struct buf *out)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < a->count; i++) {
        if (births)
            rc = buf_printf(out, "%llu ", (unsigned long long)a->users[i]->birth);
        if (rc == 0)
            rc = acl_user_describe(a->users[i], out);
        if (rc == 0)
            rc = buf_append(out, "\n", 1);
    }
    return rc;
}
