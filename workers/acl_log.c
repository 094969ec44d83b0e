/* The log of refusals. Runs in workers; makes no system call. */
#include "workers/acl_log.h"

#include <stdio.h>
#include <stdlib.h>

#define SAME_MS 60000u /* refusals that are alike within this time are counted as one entry */

static void keep_text(char *to, size_t size, struct slice text)
{
    size_t len = text.len < size ? text.len : size - 1;

    if (len > 0)
        memcpy(to, text.data, len);
    to[len] = 0;
}

static bool begins_alike(const char *kept, struct slice text)
{
    size_t len = text.len < ACL_LOG_TEXT ? text.len : ACL_LOG_TEXT - 1;

    return strlen(kept) == len && memcmp(kept, text.data, len) == 0;
}

/* The place of an entry that this refusal belongs to, or of the one that makes room for it. */
static uint32_t find(const struct acl_log *l, uint64_t now_ms, enum acl_refusal reason,
                     struct slice object, struct slice user, bool *found)
{
    for (uint32_t i = 0; i < l->count; i++) {
        const struct acl_log_entry *e = l->entries[i];

        if (now_ms < e->updated_ms + SAME_MS && e->reason == reason &&
            begins_alike(e->object, object) && begins_alike(e->user, user)) {
            *found = true;
            return i;
        }
    }
    *found = false;
    return l->count < l->most ? l->count : l->most - 1;
}

void acl_log_note(struct acl_log *l, uint64_t now_ms, enum acl_refusal reason, struct slice object,
                  struct slice user, struct slice client)
{
    bool found;

    if (l->most == 0)
        return;
    while (l->count > l->most)
        free(l->entries[--l->count]);
    uint32_t at = find(l, now_ms, reason, object, user, &found);
    struct acl_log_entry *e = at < l->count ? l->entries[at] : malloc(sizeof *e);

    if (e == NULL)
        return;
    if (at == l->count)
        l->count++;
    if (!found) {
        *e = (struct acl_log_entry){.id = l->next_id++, .created_ms = now_ms, .reason = reason};
        keep_text(e->object, sizeof e->object, object);
        keep_text(e->user, sizeof e->user, user);
        keep_text(e->client, sizeof e->client, client);
    }
    e->count++;
    e->updated_ms = now_ms;
    e->touched = ++l->touched;
    memmove(l->entries + 1, l->entries, at * sizeof *l->entries);
    l->entries[0] = e;
}

void acl_log_clear(struct acl_log *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        free(l->entries[i]);
    l->count = 0;
}

void acl_log_collect(const struct acl_log *l, struct resp_out *raw)
{
    for (uint32_t i = 0; i < l->count; i++)
        resp_raw(raw, l->entries[i], sizeof *l->entries[i]);
}

static int newest_first(const void *a, const void *b)
{
    const struct acl_log_entry *x = a, *y = b;

    if (x->updated_ms != y->updated_ms)
        return x->updated_ms < y->updated_ms ? 1 : -1;
    return x->touched < y->touched ? 1 : x->touched > y->touched ? -1 : 0;
}

static void reply_entry(const struct acl_log_entry *e, uint64_t now_ms, struct resp_out *out)
{
    static const char *const reasons[] = {"auth", "command", "key"};
    uint64_t age_ms = now_ms > e->created_ms ? now_ms - e->created_ms : 0;

    resp_map(out, 10);
    resp_text(out, "count");
    resp_integer(out, (int64_t)e->count);
    resp_text(out, "reason");
    resp_text(out, e->reason <= ACL_REFUSED_KEY ? reasons[e->reason] : "");
    resp_text(out, "context");
    resp_text(out, "toplevel");
    resp_text(out, "object");
    resp_text(out, e->object);
    resp_text(out, "username");
    resp_text(out, e->user);
    resp_text(out, "age-seconds");
    resp_double(out, (double)age_ms / 1000.0);
    resp_text(out, "client-info");
    resp_text(out, e->client);
    resp_text(out, "entry-id");
    resp_integer(out, (int64_t)e->id);
    resp_text(out, "timestamp-created");
    resp_integer(out, (int64_t)e->created_ms);
    resp_text(out, "timestamp-last-updated");
    resp_integer(out, (int64_t)e->updated_ms);
}

void acl_log_reply(struct acl_log_entry *entries, size_t count, uint64_t now_ms, uint64_t most,
                   struct resp_out *out)
{
    if (count > 1)
        qsort(entries, count, sizeof *entries, newest_first);
    if (most < count)
        count = most;
    resp_array(out, count);
    for (size_t i = 0; i < count; i++)
        reply_entry(&entries[i], now_ms, out);
}
