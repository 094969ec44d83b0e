/* A replica of one key for tests: an encoded object, its open view, and a counter of dots. */
#ifndef CLOCKWISE_TESTS_OBJECT_KIT_H
#define CLOCKWISE_TESTS_OBJECT_KIT_H

#include "base/check.h"
#include "base/rand.h"
#include "core/object.h"

struct replica {
    uint64_t vnode, n; /* n: the last dot issued */
    struct buf bytes;
    struct object o;
};

static inline void replica_init(struct replica *r, uint64_t vnode, const char *key)
{
    r->vnode = vnode;
    r->n = 0;
    buf_init(&r->bytes, 0);
    object_empty(&r->o, slice_str(key));
}

static inline void replica_free(struct replica *r)
{
    buf_free(&r->bytes);
}

/* Put the object in `fresh` in the place of the replica's. */
static inline void replica_adopt(struct replica *r, struct buf *fresh)
{
    buf_free(&r->bytes);
    r->bytes = *fresh;
    ASSERT(object_open(&r->o, slice_of(buf_head(&r->bytes), buf_len(&r->bytes))) == 0);
}

/* Let the replica coordinate a write with its next dot; what w lacks is filled in. */
static inline int replica_write(struct replica *r, struct object_write w, struct causal *reply)
{
    struct buf fresh = {0};

    w.dot = (struct dot){r->vnode, ++r->n};
    if (w.sibling_limit == 0)
        w.sibling_limit = LIMIT_SIBLINGS;
    size_t bound = object_put_bound(&r->o, &w);
    int rc = object_put(&r->o, &w, &fresh, reply);

    ASSERT(buf_len(&fresh) <= bound && (rc >= 0) == (buf_len(&fresh) > 0));
    if (rc >= 0)
        replica_adopt(r, &fresh);
    return rc;
}

static inline int replica_put(struct replica *r, const struct causal *seen, const char *value,
                              struct causal *reply)
{
    return replica_write(r, (struct object_write){.seen = seen, .value = slice_str(value)}, reply);
}

static inline int replica_merge(struct replica *r, const struct object *from)
{
    struct buf fresh = {0};
    int rc = object_merge(&r->o, from, &fresh);

    ASSERT((rc == 0) == (buf_len(&fresh) > 0));
    if (rc == 0)
        replica_adopt(r, &fresh);
    return rc;
}

/* Is there exactly one sibling with this value? */
static inline bool replica_has(const struct replica *r, const char *value)
{
    struct sibling s;
    int found = 0;

    for (size_t cursor = 0; object_next(&r->o, &cursor, &s);)
        found += slice_equal(s.value, slice_str(value));
    return found == 1;
}

static inline bool replica_equal(const struct replica *a, const struct replica *b)
{
    return slice_equal(a->o.encoded, b->o.encoded);
}

#endif
