/* What happens to siblings: a write at a vnode, the choice of a winner, expiry. Merging is
 * object_merge.c, the encoded form object_codec.c. Runs in workers and in the simulator. */
#include "core/object_codec.h"

#include "base/check.h"
#include "base/err.h"
#include "core/planted.h"

/* Single dots that a writer is given back. All that it had seen is superseded by its new write, so
 * a dot left out can only show a false sibling where the new write has not arrived yet; without a
 * bound a chain of writes beside a sibling that its writer never looks at would carry every dot of
 * the chain along. */
enum { REPLY_CLOUD = 8 };

/* Is x the newer of two siblings: newest time, then highest dot? */
static bool newer(const struct sibling *x, const struct sibling *y)
{
    return x->time != y->time ? x->time > y->time : dot_compare(x->dot, y->dot) > 0;
}

static bool is_live(const struct sibling *s, uint64_t now_ms)
{
    return (s->flags & SIBLING_TOMBSTONE) == 0 && (s->expiry_ms == 0 || s->expiry_ms > now_ms);
}

bool object_winner(const struct object *o, uint64_t now_ms, struct sibling *out, uint32_t *live)
{
    struct sibling s;
    uint32_t count = 0;

    for (size_t cursor = 0; object_next(o, &cursor, &s);) {
        if (!is_live(&s, now_ms))
            continue;
        if (count++ == 0 || newer(&s, out))
            *out = s;
    }
    if (live != NULL)
        *live = count;
    return count > 0;
}

uint64_t object_next_expiry(const struct object *o)
{
    struct sibling s;
    uint64_t earliest = 0;

    for (size_t cursor = 0; object_next(o, &cursor, &s);)
        if ((s.flags & SIBLING_TOMBSTONE) == 0 && s.expiry_ms != 0 &&
            (earliest == 0 || s.expiry_ms < earliest))
            earliest = s.expiry_ms;
    return earliest;
}

/* Up to which n may a writer that has seen `seen` and d be told that it has seen every dot of the
 * vnode, if the holder of `old` knows all of them up to known? To just below the first that is
 * alive and that the writer does not know. */
static uint64_t tellable(const struct object *old, const struct causal *seen, struct dot d,
                         uint64_t vnode, uint64_t known)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(old, &cursor, &s);) {
        if (s.dot.vnode < vnode)
            continue;
        if (s.dot.vnode > vnode || s.dot.n > known)
            break;
        if (!dot_equal(s.dot, d) && !causal_covers(seen, s.dot))
            return s.dot.n - 1;
    }
    return known;
}

/* The context for a writer that had seen `seen` and then got dot d. `known` is the context of what
 * the coordinator now has; old is what it had. */
static void make_reply(const struct object *old, const struct causal *seen, struct dot d,
                       const struct causal *known, struct causal *reply)
{
    uint64_t own = causal_seen_up_to(known, d.vnode);

    causal_copy(reply, seen);
    if (d.n > tellable(old, seen, d, d.vnode, own) || causal_raise(reply, d.vnode, d.n) != 0)
        causal_see(reply, d);
    for (uint32_t i = 0; i < reply->cloud_count;) {
        uint64_t vnode = reply->cloud[i].vnode;
        uint64_t up_to = causal_seen_up_to(known, vnode);

        if (up_to != 0)
            causal_fold(reply, vnode, tellable(old, seen, d, vnode, up_to));
        /* What was folded stood at i; what is left of this vnode stands there now. */
        while (i < reply->cloud_count && reply->cloud[i].vnode == vnode)
            i++;
    }
}

static const struct request_id *find_id(const struct object *o, uint64_t id)
{
    for (uint32_t i = 0; i < o->id_count; i++)
        if (o->ids[i].id == id)
            return &o->ids[i];
    return NULL;
}

bool object_carried_out(const struct object *o, uint64_t request_id, struct dot *dot)
{
    const struct request_id *known = find_id(o, request_id);

    if (known != NULL)
        *dot = known->dot;
    return known != NULL;
}

/* Insert into a list sorted by id that has room for one more. */
static void insert_id(struct request_id *ids, uint32_t *count, struct request_id new)
{
    uint32_t at = 0;

    while (at < *count && ids[at].id < new.id)
        at++;
    memmove(&ids[at + 1], &ids[at], (*count - at) * sizeof ids[0]);
    ids[at] = new;
    (*count)++;
}

/* What a writer with this context leaves of the siblings. */
struct kept {
    uint32_t count;
    size_t bytes; /* encoded */
};

static struct kept count_kept(const struct object *old, const struct causal *seen)
{
    struct kept kept = {0, 0};
    struct sibling s;

    if (seen == NULL)
        return kept;
    for (size_t before = 0, after = 0; object_next(old, &after, &s); before = after) {
        if (causal_covers(seen, s.dot))
            continue;
        kept.count++;
        kept.bytes += object_sibling_bytes(old, before, after).len;
    }
    return kept;
}

/* Encode the siblings that stay and the new one, in order. */
static uint8_t *encode_siblings(const struct object *old, const struct object_write *w,
                                uint32_t kept, uint8_t *p)
{
    struct sibling s, new = {.dot = w->dot,
                             .time = w->time,
                             .expiry_ms = w->expiry_ms,
                             .flags = w->tombstone ? SIBLING_TOMBSTONE : 0,
                             .value = w->value};
    bool written = false;

    for (size_t before = 0, after = 0; kept > 0 && object_next(old, &after, &s); before = after) {
        if (causal_covers(w->seen, s.dot))
            continue;
        if (!written && dot_order(w->dot, s.dot) < 0) {
            p = object_encode_sibling(p, &new);
            written = true;
        }
        struct slice bytes = object_sibling_bytes(old, before, after);

        memcpy(p, bytes.data, bytes.len);
        p += bytes.len;
        kept--;
    }
    return written ? p : object_encode_sibling(p, &new);
}

/* The context of the coordinator's object after the write. */
static int join_write(const struct object *old, const struct object_write *w, struct causal *result)
{
    causal_copy(result, &old->causal);
    if (w->seen != NULL) {
        if (causal_join(result, w->seen) < 0)
            return -ERR_LIMIT;
        if (result->vector_count > old->causal.vector_count &&
            result->vector_count > LIMIT_VECTOR - LIMIT_WALK)
            return -ERR_LIMIT;
    }
    return causal_raise(result, w->dot.vnode, w->dot.n);
}

static int check_write(const struct object *old, const struct object_write *w, uint32_t kept)
{
    if (causal_covers(&old->causal, w->dot))
        return -ERR_STALE;
    if (kept == old->sibling_count && kept >= w->sibling_limit)
        return -ERR_SIBLINGS;
    return kept < LIMIT_SIBLINGS_MERGED ? 0 : -ERR_SIBLINGS;
}

static size_t write_sibling_bound(const struct object_write *w)
{
    return OBJECT_SIBLING_MAX + w->value.len;
}

size_t object_put_bound(const struct object *old, const struct object_write *w)
{
    size_t seen = w->seen == NULL ? 0 : causal_bound(w->seen);

    return OBJECT_HEAD + 3 * OBJECT_COUNT_MAX + old->key.len + old->encoded.len +
           causal_bound(&old->causal) + seen + CAUSAL_ENTRY_MAX + OBJECT_ID_MAX +
           write_sibling_bound(w);
}

static int put_again(const struct object *old, const struct object_write *w, struct dot first,
                     struct buf *out, struct causal *reply)
{
    int rc = buf_append(out, old->encoded.data, old->encoded.len);
    struct causal nothing;

    if (rc != 0)
        return rc;
    /* A write without a context has seen what was there when it was carried out, which nobody
     * remembers; what has come since then it has not. */
    causal_clear(&nothing);
    if (reply != NULL) {
        make_reply(old, w->seen != NULL ? w->seen : &nothing, first, &old->causal, reply);
        if (reply->time < old->causal.time)
            reply->time = old->causal.time;
    }
    return 1;
}

/* A write is newer than what it supersedes, whatever the clocks say, and also where this vnode does not
 * have that: the context tells. If it were not, one that was carried out twice could supersede what
 * has superseded its first execution, and then count as the older one: see merge_ids(). */
static uint64_t write_time(const struct object *old, const struct object_write *w)
{
    uint64_t seen = w->seen != NULL ? w->seen->time : old->causal.time;

    return COORD_BUG(STAMPED_BY_CLOCK) || w->time > seen || seen == UINT64_MAX ? w->time : seen + 1;
}

int object_put(const struct object *old, const struct object_write *asked, struct buf *out,
               struct causal *reply)
{
    struct object_write timed = *asked;
    const struct object_write *w = &timed;
    struct causal result;
    struct request_id ids[LIMIT_IDS + 1];
    struct object_front front = {
        .key = old->key, .causal = &result, .ids = old->ids, .id_count = old->id_count};
    uint8_t *base;

    ASSERT(dot_valid(w->dot) && old->key.len <= LIMIT_KEY && (reply == NULL || reply != w->seen));
    ASSERT(!w->tombstone || w->value.len == 0);
    if (w->value.len > LIMIT_VALUE)
        return -ERR_LIMIT;
    if (w->seen != NULL && causal_highest(w->seen, w->dot.vnode) >= w->dot.n)
        return -ERR_BADCTX;
    timed.time = write_time(old, asked);
    if (w->request_id != 0) {
        const struct request_id *known = find_id(old, w->request_id);

        if (known != NULL)
            return put_again(old, w, known->dot, out, reply);
        memcpy(ids, old->ids, old->id_count * sizeof ids[0]);
        front.ids = ids;
        insert_id(ids, &front.id_count, (struct request_id){w->request_id, w->dot, w->time});
        object_ids_forget(ids, &front.id_count);
    }
    struct kept kept = count_kept(old, w->seen);
    int rc = check_write(old, w, kept.count);

    if (rc == 0)
        rc = join_write(old, w, &result);
    if (rc == 0)
        rc = object_reserve(out, object_bound(&front, kept.bytes + write_sibling_bound(w)), &base);
    if (rc != 0)
        return rc;
    front.sibling_count = kept.count + 1;
    uint8_t *end = encode_siblings(old, w, kept.count, object_encode_front(base, &front));

    object_encode_finish(base, end);
    buf_filled(out, (size_t)(end - base));
    if (result.time < w->time)
        result.time = w->time;
    if (reply != NULL && w->seen == NULL) {
        causal_copy(reply, &result);
    } else if (reply != NULL) {
        make_reply(old, w->seen, w->dot, &result, reply);
        causal_shed(reply, REPLY_CLOUD, w->dot);
        reply->time = result.time; /* what was folded into it may be as new */
    }
    return 0;
}

int object_drop_expired(const struct object *o, uint64_t now_ms, struct buf *out)
{
    struct object_front front = {.key = o->key,
                                 .causal = &o->causal,
                                 .ids = o->ids,
                                 .id_count = o->id_count,
                                 .sibling_count = o->sibling_count};
    uint64_t next = object_next_expiry(o);
    struct sibling s;
    uint8_t *base;

    if (next == 0 || next > now_ms)
        return 0;
    int rc = object_reserve(out, o->encoded.len, &base);

    if (rc != 0)
        return rc;
    uint8_t *p = object_encode_front(base, &front);

    for (size_t cursor = 0; object_next(o, &cursor, &s);) {
        if ((s.flags & SIBLING_TOMBSTONE) == 0 && !is_live(&s, now_ms)) {
            s.flags |= SIBLING_TOMBSTONE;
            s.expiry_ms = 0;
            s.value = slice_of(NULL, 0);
        }
        p = object_encode_sibling(p, &s);
    }
    object_encode_finish(base, p);
    buf_filled(out, (size_t)(p - base));
    return 1;
}
