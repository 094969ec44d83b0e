/* The store of the simulator: keeps the promises of store/store.h, and no more than those. What is
 * written is visible at once, survives the process from then on and a power cut after a group commit; a
 * power cut keeps a random prefix of what was not durable. Dots are reserved durably in blocks. A vnode that has forgotten something takes
 * a new id. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

static struct blob *blob_make(struct slice bytes)
{
    struct blob *b = malloc(sizeof *b + bytes.len);

    ASSERT(b != NULL);
    b->refs = 1;
    b->len = (uint32_t)bytes.len;
    if (bytes.len > 0)
        memcpy(b->bytes, bytes.data, bytes.len);
    return b;
}

void disk_blob_drop(struct blob *b)
{
    if (b != NULL && --b->refs == 0)
        free(b);
}

static void blob_set(struct blob **to, struct blob *from)
{
    if (from != NULL)
        from->refs++;
    disk_blob_drop(*to);
    *to = from;
}

static struct disk *disk_of(struct worker *w)
{
    return &w->sim->node[w->node].disk;
}

static bool owns(struct worker *w, unsigned key)
{
    return worker_of_key(w->sim, w->node, key) == w->index;
}

/* The vnode has forgotten something: what it will issue must not be mistaken for what it has. */
static void new_identity(struct sim *s, struct vnode *v)
{
    do
        v->id = rand_next(&s->rand);
    while (v->id == 0);
    v->next = 1;
    v->reserved = s->block;
    v->reserving = false;
    if (COORD_BUG(HORIZON_SURVIVES) && v->horizon_ms != 0)
        return;
    v->standing = STANDING_MISSING;
    v->horizon_ms = 0;
}

bool disk_is_fresh(const struct sim *s, unsigned node, unsigned partition)
{
    return !s->node[node].disk.used[partition] && s->node[node].view.epoch == 1;
}

void disk_vnode_create(struct sim *s, unsigned node, unsigned partition)
{
    struct disk *d = &s->node[node].disk;
    struct vnode *v = &d->vnode[partition];

    ASSERT(v->id == 0);
    new_identity(s, v);
    if (disk_is_fresh(s, node, partition))
        v->standing = STANDING_WHOLE;
    v->whole_us = s->now;
    d->used[partition] = true;
    v->stamp_ms = node_wall_ms(s, node);
    v->written_us = s->now;
}

/* Whoever uses what was lent by an earlier load uses poison. */
static void poison(struct worker *w)
{
    if (w->lent == NULL)
        return;
    memset(w->lent->bytes, 0xdd, w->lent->len);
    free(w->lent);
    w->lent = NULL;
}

int disk_load(struct worker *w, unsigned key, struct slice *object)
{
    struct image *live = &disk_of(w)->live;

    ASSERT(owns(w, key));
    poison(w);
    if (live->object[key] == NULL)
        return -ERR_NOTFOUND;
    if (live->damaged[key] != SOUND) {
        if (COORD_BUG(CORRUPT_IS_MISSING)) {
            blob_set(&live->object[key], NULL);
            return -ERR_NOTFOUND;
        }
        if (live->damaged[key] == DAMAGED) {
            new_identity(w->sim, &disk_of(w)->vnode[w->sim->key[key].partition]);
            blob_set(&disk_of(w)->flushed[key], NULL); /* one goes with the other */
        }
        live->damaged[key] = DAMAGE_TOLD;
        if (w->sim
                ->repair) { /* the row goes, as in store.h; without anti-entropy it is kept in mind */
            blob_set(&live->object[key], NULL);
            blob_set(&disk_of(w)->durable.object[key], NULL);
            live->damaged[key] = disk_of(w)->durable.damaged[key] = SOUND;
            disk_of(w)->mended_us[key] = w->sim->now;
        }
        return -ERR_CORRUPT;
    }
    w->lent = blob_make(slice_of(live->object[key]->bytes, live->object[key]->len));
    *object = slice_of(w->lent->bytes, w->lent->len);
    return 0;
}

static uint64_t append(struct worker *w, struct op op)
{
    struct journal *j = &w->journal;

    if (j->count == j->capacity) {
        j->capacity = j->capacity ? 2 * j->capacity : 64;
        j->ops = realloc(j->ops, j->capacity * sizeof j->ops[0]);
        ASSERT(j->ops != NULL);
    }
    j->ops[j->count++] = op;
    return j->first_lsn + j->count - 1;
}

static void apply(struct image *image, const struct op *op)
{
    if (op->kind == OP_PUT) { /* without an object: it is dropped */
        blob_set(&image->object[op->key], op->object);
        if (op->given)
            blob_set(&image->given[op->key], op->object);
        image->damaged[op->key] = SOUND;
    } else {
        image->hint[op->target][op->key] = op->kind == OP_HINT_ADD;
    }
}

int disk_store(struct worker *w, unsigned key, struct slice object, uint64_t *lsn)
{
    struct disk *d = disk_of(w);
    struct blob *b = blob_make(object);
    struct op op = {.kind = OP_PUT, .given = !w->sim->merging, .key = (uint16_t)key, .object = b};
    struct blob *old = d->live.object[key];

    ASSERT(owns(w, key));
    poison(w);
    if (w->sim->merging && w->sim->chaos && !w->sim->calm && sim_percent(w->sim, 2)) {
        disk_blob_drop(b);
        return -ERR_DISKFULL;
    }
    oracle_stored(w->sim, w->node, key,
                  old != NULL && d->live.damaged[key] == SOUND ? slice_of(old->bytes, old->len)
                                                               : slice_of(NULL, 0),
                  slice_of(b->bytes, b->len));
    if (d->vnode[w->sim->key[key].partition].id == 0)
        disk_vnode_create(w->sim, w->node, w->sim->key[key].partition);
    if (op.given)
        d->vnode[w->sim->key[key].partition].written_us = w->sim->now;
    if (d->dirty_ms[key] == 0)
        d->dirty_ms[key] = node_wall_ms(w->sim, w->node);
    d->stored_us[key] = w->sim->now;
    if (d->live.damaged[key] != SOUND)
        d->mended_us[key] = w->sim->now;
    apply(&d->live, &op);
    *lsn = append(w, op);
    return 0;
}

int disk_drop(struct worker *w, unsigned key, uint64_t *lsn)
{
    struct op op = {.kind = OP_PUT, .key = (uint16_t)key};
    struct disk *d = disk_of(w);

    ASSERT(owns(w, key));
    poison(w);
    sim_trace(w->sim, "drop", w->node, key, 0);
    if (d->dirty_ms[key] == 0)
        d->dirty_ms[key] = node_wall_ms(w->sim, w->node);
    apply(&d->live, &op);
    *lsn = append(w, op);
    return 0;
}

void disk_vnode_drop(struct sim *s, unsigned node, unsigned partition)
{
    struct disk *d = &s->node[node].disk;
    struct worker *w = &s->node[node].worker[ring_worker_of(partition, (uint16_t)s->workers)];

    sim_trace(s, "drop vnode", node, partition, 0);
    for (unsigned k = 0; k < s->keys; k++) {
        if (s->key[k].partition != partition)
            continue;
        for (uint32_t i = 0; i < w->journal.count; i++)
            ASSERT(w->journal.ops[i].key != k);
        blob_set(&d->live.object[k], NULL);
        blob_set(&d->durable.object[k], NULL);
        blob_set(&d->flushed[k], NULL);
        blob_set(&d->live.given[k], NULL);
        blob_set(&d->durable.given[k], NULL);
        d->dirty_ms[k] = 0;
        d->live.damaged[k] = d->durable.damaged[k] = SOUND;
    }
    memset(&d->vnode[partition], 0, sizeof d->vnode[partition]);
}

void disk_flush(struct sim *s, unsigned node, unsigned partition)
{
    struct disk *d = &s->node[node].disk;

    for (unsigned k = 0; k < s->keys; k++) {
        if (s->key[k].partition != partition || d->live.damaged[k] == DAMAGED)
            continue;
        blob_set(&d->flushed[k], d->live.damaged[k] == SOUND ? d->durable.object[k] : NULL);
        if (d->live.object[k] == d->durable.object[k])
            d->dirty_ms[k] = 0;
    }
}

int disk_hint(struct worker *w, enum op_kind kind, unsigned key, unsigned target, uint64_t *lsn)
{
    struct op op = {.kind = (uint8_t)kind, .key = (uint16_t)key, .target = (uint8_t)target};

    ASSERT(owns(w, key) && target != w->node);
    apply(&disk_of(w)->live, &op);
    if (kind == OP_HINT_ADD)
        disk_of(w)->hint_ms[target][key] = node_wall_ms(w->sim, w->node);
    *lsn = append(w, op);
    return 0;
}

static void reserved(struct sim *s, const struct event *e)
{
    struct worker *w = e->p;
    struct vnode *v = &s->node[w->node].disk.vnode[e->a];

    if (node_defer(s, w->node, e))
        return;
    if (!w->up || w->incarnation != e->b || !v->reserving)
        return;
    v->reserving = false;
    v->reserved += s->block;
    sim_trace(s, "reserved", w->node, e->a, v->reserved);
    worker_turn(w);
}

int disk_next_dot(struct worker *w, unsigned partition, struct dot *out)
{
    struct sim *s = w->sim;
    struct vnode *v = &disk_of(w)->vnode[partition];

    if (v->id == 0)
        disk_vnode_create(s, w->node, partition);
    if (v->next + s->block / 2 > v->reserved && !v->reserving) {
        v->reserving = true;
        sim_after(s, sim_range(s, 50, s->sync_us), reserved, w, partition, w->incarnation);
    }
    if (v->next > v->reserved)
        return -ERR_BUSY;
    *out = (struct dot){v->id, v->next++};
    oracle_dot_issued(s, *out);
    return 0;
}

int disk_witness(struct worker *w, unsigned partition, struct dot seen)
{
    struct vnode *v = &disk_of(w)->vnode[partition];

    if (v->id == 0 || seen.vnode != v->id || seen.n < v->next || COORD_BUG(BACKUP_KEEPS_ID))
        return 0;
    new_identity(w->sim, v);
    v->standing = STANDING_AWAY; /* a copy from a backup */
    sim_trace(w->sim, "new vnode id", w->node, partition, v->id);
    return 1;
}

static void make_durable(struct worker *w, uint32_t count)
{
    struct journal *j = &w->journal;

    for (uint32_t i = 0; i < count; i++) {
        apply(&disk_of(w)->durable, &j->ops[i]);
        disk_blob_drop(j->ops[i].object);
    }
    if (count > 0)
        memmove(j->ops, j->ops + count, (j->count - count) * sizeof j->ops[0]);
    j->count -= count;
    j->first_lsn += count;
}

static void synced(struct sim *s, const struct event *e)
{
    struct worker *w = e->p;

    if (node_defer(s, w->node, e))
        return;
    if (!w->up || w->incarnation != e->b)
        return;
    uint64_t lsn = w->journal.syncing;

    make_durable(w, (uint32_t)(lsn + 1 - w->journal.first_lsn));
    w->journal.syncing = 0;
    if (w->durable < lsn)
        w->durable = lsn;
    sim_trace(s, "durable", w->node * 10u + w->index, lsn, 0);
    coord_durable(w->coord, w->durable, s->now);
    worker_turn(w);
}

static void early(struct sim *s, const struct event *e)
{
    struct worker *w = e->p;

    if (node_defer(s, w->node, e) || !w->up || w->incarnation != e->b || w->durable >= e->a)
        return;
    w->durable = e->a;
    coord_durable(w->coord, w->durable, s->now);
    worker_turn(w);
}

void disk_kick(struct worker *w)
{
    struct journal *j = &w->journal;
    struct sim *s = w->sim;
    uint64_t slow = s->node[w->node].slow_us;

    if (COORD_BUG(SYNC_LIES) && j->count > 0 && w->durable < j->first_lsn + j->count - 1)
        sim_after(s, 1, early, w, j->first_lsn + j->count - 1, w->incarnation);
    if (j->syncing != 0 || j->count == 0)
        return;
    j->syncing = j->first_lsn + j->count - 1;
    sim_after(s, sim_range(s, 50, s->sync_us) + (slow > 0 ? sim_range(s, 0, slow) : 0), synced, w,
              0, w->incarnation);
}

void disk_crashed(struct worker *w, bool power)
{
    struct disk *d = disk_of(w);
    struct journal *j = &w->journal;

    w->tail_lost = power;
    make_durable(w, power || COORD_BUG(SENT_BEFORE_WRITTEN)
                        ? (uint32_t)sim_range(w->sim, 0, j->count)
                        : j->count);
    for (uint32_t i = 0; i < j->count; i++)
        disk_blob_drop(j->ops[i].object);
    j->first_lsn += j->count;
    j->count = 0;
    j->syncing = 0;
    poison(w);
    for (unsigned k = 0; k < w->sim->keys; k++) {
        if (!owns(w, k))
            continue;
        blob_set(&d->live.object[k], d->durable.object[k]);
        d->live.damaged[k] = d->durable.damaged[k];
        blob_set(&d->live.given[k], d->durable.given[k]);
        for (unsigned n = 0; n < SIM_NODES; n++)
            d->live.hint[n][k] = d->durable.hint[n][k];
    }
}

void disk_started(struct worker *w)
{
    struct sim *s = w->sim;

    for (unsigned p = 0; p < 1u << s->q_bits; p++) {
        struct vnode *v = &disk_of(w)->vnode[p];

        if (v->id == 0 || ring_worker_of(p, (uint16_t)s->workers) != w->index)
            continue;
        if (COORD_BUG(DOT_REUSED))
            v->reserved -= s->block;
        v->late_ms = node_wall_ms(s, w->node);
        v->purges = false;
        v->next = v->reserved + 1;
        v->reserved += s->block;
        v->reserving = false;
        /* What the power cut took from here may have reached others. Who goes on with the same id would
         * claim to have seen it, and would make them drop it. */
        if (w->tail_lost && !COORD_BUG(POWER_CUT_KEEPS_ID))
            new_identity(s, v);
    }
    w->tail_lost = false;
}

static void image_copy(struct image *to, const struct image *from)
{
    for (unsigned k = 0; k < SIM_KEYS; k++) {
        blob_set(&to->object[k], from->object[k]);
        blob_set(&to->given[k], from->given[k]);
        to->damaged[k] = from->damaged[k];
    }
    memcpy(to->hint, from->hint, sizeof to->hint);
}

void disk_wipe(struct sim *s, unsigned node)
{
    struct disk *d = &s->node[node].disk;
    static const struct image empty;

    ASSERT(!s->node[node].up);
    image_copy(&d->live, &empty);
    image_copy(&d->durable, &empty);
    for (unsigned k = 0; k < SIM_KEYS; k++)
        blob_set(&d->flushed[k], NULL);
    memset(d->dirty_ms, 0, sizeof d->dirty_ms);
    if (!COORD_BUG(HORIZON_SURVIVES)) {
        memset(d->vnode, 0, sizeof d->vnode);
        return;
    }
    for (unsigned p = 0; p < SIM_PARTITIONS; p++)
        if (d->vnode[p].id != 0)
            new_identity(s, &d->vnode[p]);
}

void disk_backup(struct sim *s, unsigned node)
{
    struct disk *d = &s->node[node].disk;

    if (d->has_backup && sim_percent(s, 70))
        return; /* the older a backup, the more a node has forgotten that comes back with it */
    d->has_backup = true;
    image_copy(&d->backup, &d->durable);
    memcpy(d->backup_vnode, d->vnode, sizeof d->vnode);
}

void disk_restore(struct sim *s, unsigned node)
{
    struct disk *d = &s->node[node].disk;

    ASSERT(!s->node[node].up);
    if (!d->has_backup)
        return;
    image_copy(&d->live, &d->backup);
    image_copy(&d->durable, &d->backup);
    memcpy(d->vnode, d->backup_vnode, sizeof d->vnode);
    for (unsigned k = 0; k < SIM_KEYS; k++) {
        blob_set(&d->flushed[k], d->backup.object[k]);
        blob_set(&d->live.given[k], NULL);
        blob_set(&d->durable.given[k], NULL);
        d->dirty_ms[k] = 0;
    }
    s->node[node].unnoticed = sim_percent(s, 40);
    for (unsigned p = 0; p < SIM_PARTITIONS; p++)
        if (d->vnode[p].id != 0 && !COORD_BUG(BACKUP_KEEPS_ID) && !s->node[node].unnoticed) {
            new_identity(s, &d->vnode[p]); /* the files are not the ones that it knew */
            d->vnode[p].standing = STANDING_AWAY;
        }
}

void disk_renew(struct sim *s, unsigned node, unsigned partition, uint64_t id)
{
    struct vnode *v = &s->node[node].disk.vnode[partition];

    if (v->id == id && id != 0 && !COORD_BUG(BACKUP_KEEPS_ID)) {
        new_identity(s, v);
        v->standing = STANDING_AWAY;
    }
}

void disk_damage(struct sim *s, unsigned node, unsigned key)
{
    struct disk *d = &s->node[node].disk;

    if (d->durable.object[key] != NULL && d->durable.object[key] == d->live.object[key])
        d->durable.damaged[key] = d->live.damaged[key] = DAMAGED;
}

void disk_forget(struct sim *s, unsigned node, unsigned key)
{
    struct disk *d = &s->node[node].disk;

    blob_set(&d->live.object[key], NULL);
    blob_set(&d->durable.object[key], NULL);
    blob_set(&d->flushed[key], NULL);
    new_identity(s, &d->vnode[s->key[key].partition]);
}

unsigned disk_hints(const struct sim *s, unsigned node)
{
    unsigned count = 0;

    for (unsigned n = 0; n < s->nodes; n++)
        for (unsigned k = 0; k < s->keys; k++)
            count += n != node && s->node[node].disk.live.hint[n][k];
    return count;
}
