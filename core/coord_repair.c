/* What anti-entropy asks of a worker. See coord_repair.h. Runs in workers and in the simulator. */
#include "core/coord_repair.h"

#include "base/check.h"
#include "base/err.h"
#include "core/coord_event.h"
#include "core/coord_impl.h"
#include "core/exchange.h"
#include "core/planted.h"

/* The request at hand. */
struct job {
    struct coord *c;
    uint32_t partition;
    struct buf *out;
    uint64_t lsn;
};

static struct slice out_from(const struct job *job, size_t at)
{
    return slice_of(buf_head(job->out) + at, buf_len(job->out) - at);
}

/* The next record of `size` bytes that begins with a position: 1, 0 at the end, -ERR_FORMAT if the
 * positions are not ascending or not of the partition. */
static int next_record(const struct job *job, struct slice bytes, size_t size, size_t *at,
                       struct position *pos)
{
    struct position last = *pos;

    if (*at == bytes.len)
        return 0;
    if (bytes.len - *at < size)
        return -ERR_FORMAT;
    memcpy(pos->b, bytes.data + *at, POSITION_BYTES);
    if (position_partition(pos, job->c->view->q_bits) != job->partition ||
        (*at > 0 && position_compare(&last, pos) >= 0))
        return -ERR_FORMAT;
    *at += size;
    return 1;
}

/* The object at a position, opened into c->mine. -ERR_NOTFOUND also if it is damaged: the vnode knows. */
static int load_at(const struct job *job, const struct position *pos, struct slice *object)
{
    struct coord *c = job->c;
    int rc = c->host.load_at(c->host.arg, job->partition, pos, object);

    if (rc == 0)
        rc = object_open(&c->mine, *object);
    if (rc == -ERR_CORRUPT)
        coord_count(c, COORD_LOCAL_CORRUPT, 1);
    return rc == -ERR_CORRUPT ? -ERR_NOTFOUND : rc;
}

static int look(struct job *job, const struct repair_LOOK *m, struct repair_LOOKED *answer)
{
    struct position pos = {{0}};
    struct slice object;
    size_t at = 0;
    int rc;

    while ((rc = next_record(job, m->positions, POSITION_BYTES, &at, &pos)) == 1) {
        struct exchange_entry e = {.pos = pos};
        uint8_t bytes[REPAIR_ENTRY_BYTES];
        bool tombstone = false;

        rc = load_at(job, &pos, &object);
        if (rc == 0) {
            e.digest = object_digest(&job->c->mine);
            e.time_ms = horizon_time(&job->c->mine, job->c->wall_ms, &tombstone);
            e.flags = tombstone ? ENTRY_TOMBSTONE : 0;
        } else if (rc != -ERR_NOTFOUND) {
            return rc;
        }
        exchange_entry_encode(&e, bytes);
        rc = buf_append(job->out, bytes, sizeof bytes);
        if (rc != 0)
            return rc;
    }
    answer->entries = out_from(job, 0);
    return rc;
}

static int fetch(struct job *job, const struct repair_FETCH *m, struct repair_FETCHED *answer)
{
    struct position pos = {{0}};
    struct slice object;
    size_t at = 0;
    int rc = 0;

    while (answer->done == 0 || buf_len(job->out) < m->max_bytes) {
        rc = next_record(job, m->positions, POSITION_BYTES, &at, &pos);
        if (rc != 1)
            break;
        answer->done++;
        rc = load_at(job, &pos, &object);
        if (rc == 0)
            rc = buf_append(job->out, object.data, object.len);
        if (rc != 0 && rc != -ERR_NOTFOUND)
            return rc;
    }
    answer->objects = out_from(job, 0);
    return rc < 0 && rc != -ERR_NOTFOUND ? rc : 0;
}

/* Cut the first object off. false: that is none. */
static bool cut_object(struct slice *bytes, struct slice *object)
{
    uint32_t len = 0;

    if (bytes->len < 16)
        return false;
    for (int i = 0; i < 4; i++)
        len |= (uint32_t)bytes->data[4 + i] << 8 * i;
    if (len < 16 || len > bytes->len)
        return false;
    *object = slice_of(bytes->data, len);
    *bytes = slice_of(bytes->data + len, bytes->len - len);
    return true;
}

static int merge_one(struct job *job, struct slice object, bool want_whole, uint8_t *took)
{
    struct coord *c = job->c;
    struct merged merged;
    struct place place;
    struct slice key;
    int rc = object_peek_key(object, &key);

    if (rc != 0)
        return -ERR_FORMAT;
    if (!coord_place(c, key, &place) || !place.mine)
        return -ERR_STALE;
    if (place.partition != job->partition)
        return -ERR_FORMAT;
    rc = coord_merge_in(c, place.partition, &place.pos, NULL, object, true, &merged);
    if (rc == -ERR_CORRUPT || rc == -ERR_VERSION || rc == -ERR_INVAL)
        return -ERR_FORMAT;
    *took = rc != 0       ? REPAIR_TOOK_FAILED
            : merged.dead ? REPAIR_TOOK_DEAD
            : merged.news ? REPAIR_TOOK_NEWS
                          : REPAIR_TOOK_SAME;
    coord_count(c, COORD_MERGE, 1);
    coord_count(c, COORD_MERGE_NEWS, merged.news && rc == 0);
    if (rc != 0 || merged.dead || !want_whole || slice_equal(merged.object, object))
        return 0;
    return buf_append(job->out, merged.object.data, merged.object.len);
}

static int merge(struct job *job, const struct repair_MERGE *m, struct repair_MERGED *answer)
{
    struct slice rest = m->objects, object;
    size_t count = 0;

    while (rest.len > 0) {
        if (!cut_object(&rest, &object))
            return -ERR_FORMAT;
        if (++count > COORD_REPAIR_MAX)
            return -ERR_LIMIT;
    }
    if (buf_reserve(job->out, count + 1) == NULL)
        return -ERR_NOMEM;
    buf_filled(job->out, count);
    rest = m->objects;
    for (size_t i = 0; i < count; i++) {
        uint8_t took = REPAIR_TOOK_FAILED;

        ASSERT(cut_object(&rest, &object));
        int rc = merge_one(job, object, (m->flags & REPAIR_WANT_WHOLE) != 0, &took);

        if (rc != 0)
            return rc;
        buf_head(job->out)[i] = took;
    }
    answer->took = slice_of(buf_head(job->out), count);
    answer->objects = out_from(job, count);
    return 0;
}

/* Values that nobody has asked to be deleted here: people may want to see them. */
static bool is_worth_keeping(const struct object *o, uint64_t now_ms)
{
    bool tombstone;

    horizon_time(o, now_ms, &tombstone);
    return !tombstone;
}

static int drop_one(struct job *job, const struct position *pos, uint64_t digest, uint8_t *took)
{
    struct coord *c = job->c;
    struct slice object, kept = slice_of(NULL, 0);
    uint64_t lsn;
    int rc = load_at(job, pos, &object);

    if (rc == -ERR_NOTFOUND) {
        *took = REPAIR_TOOK_SAME;
        return 0;
    }
    if (rc != 0)
        return rc;
    *took = REPAIR_TOOK_FAILED;
    if (object_digest(&c->mine) != digest)
        return 0;
    if (is_worth_keeping(&c->mine, c->wall_ms))
        kept = object;
    if (c->host.drop(c->host.arg, job->partition, pos, c->mine.key, kept, &lsn) != 0)
        return 0;
    *took = REPAIR_TOOK_NEWS;
    if (lsn > c->last_lsn)
        c->last_lsn = lsn;
    coord_count(c, COORD_DROPPED, 1);
    return 0;
}

static int drop(struct job *job, const struct repair_DROP *m, struct repair_DROPPED *answer)
{
    struct position pos = {{0}};
    size_t at = 0;
    int rc;

    while ((rc = next_record(job, m->drops, REPAIR_DROP_BYTES, &at, &pos)) == 1) {
        const uint8_t *p = m->drops.data + at - 8;
        uint64_t digest = 0;
        uint8_t took;

        for (int i = 0; i < 8; i++)
            digest |= (uint64_t)p[i] << 8 * i;
        rc = drop_one(job, &pos, digest, &took);
        if (rc == 0)
            rc = buf_append(job->out, &took, 1);
        if (rc != 0)
            return rc;
    }
    answer->took = out_from(job, 0);
    return rc;
}

/* Does this worker have the partition? */
static int check_partition(const struct job *job)
{
    const struct coord *c = job->c;

    if (c->view == NULL || c->view->epoch == 0)
        return -ERR_UNAVAILABLE;
    if (job->partition >> c->view->q_bits != 0)
        return -ERR_FORMAT;
    return c->view->self != RING_NO_OWNER &&
                   coord_worker_at(c, c->view->self, job->partition) == c->worker
               ? 0
               : -ERR_STALE;
}

#define CARRY_OUT(asked, told, function)                                                           \
    case REPAIR_##asked: {                                                                         \
        struct repair_##told *a = &answer->u.told;                                                 \
                                                                                                   \
        answer->kind = REPAIR_##told;                                                              \
        *a = (struct repair_##told){.request = m->u.asked.request};                                \
        job.partition = m->u.asked.partition;                                                      \
        int rc = check_partition(&job);                                                            \
                                                                                                   \
        if (rc == 0)                                                                               \
            rc = function(&job, &m->u.asked, a);                                                   \
        if (rc != 0)                                                                               \
            *a = (struct repair_##told){.request = m->u.asked.request, .status = (uint32_t)-rc};   \
        break;                                                                                     \
    }

void coord_repair(struct coord *c, const struct repair *m, struct buf *out, struct repair *answer,
                  uint64_t *lsn, uint64_t now_us, uint64_t wall_ms)
{
    struct job job = {.c = c, .out = out};

    coord_enter(c, now_us, wall_ms);
    buf_clear(out);
    switch (m->kind) {
        CARRY_OUT(LOOK, LOOKED, look)
        CARRY_OUT(FETCH, FETCHED, fetch)
        CARRY_OUT(MERGE, MERGED, merge)
        CARRY_OUT(DROP, DROPPED, drop)
    default:
        UNREACHABLE();
    }
    *lsn = COORD_BUG(AGREED_BEFORE_DURABLE) ? 0 : c->last_lsn;
}
