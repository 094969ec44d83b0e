/* Nodes and workers of the simulator: the host of the request logic and of hinted handoff, and what
 * crashes, freezes and restarts do to them. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"

#include <stdlib.h>

#define WALL_START_MS 1700000000000ull
#define RUBBISH       (256u << 10) /* bytes */

enum { HANDOFFS = 8 };

unsigned worker_of_key(const struct sim *s, unsigned node, unsigned key)
{
    (void)node;
    return ring_worker_of(s->key[key].partition, (uint16_t)s->workers);
}

uint64_t node_wall_ms(const struct sim *s, unsigned node)
{
    return WALL_START_MS + s->now / 1000 + (uint64_t)s->node[node].wall_offset_ms;
}

bool node_frozen(const struct sim *s, unsigned node)
{
    return s->node[node].frozen_until > s->now;
}

bool node_well_since(const struct sim *s, unsigned node, uint64_t since)
{
    const struct node *n = &s->node[node];

    for (unsigned w = 0; w < s->workers; w++)
        if (!n->worker[w].up)
            return false;
    return n->up && n->slow_us == 0 && n->trouble_at < since && !node_frozen(s, node);
}

bool node_defer(struct sim *s, unsigned node, const struct event *e)
{
    if (!node_frozen(s, node))
        return false;
    sim_after(s, s->node[node].frozen_until - s->now, e->fn, e->p, e->a, e->b);
    return true;
}

static unsigned key_at(const struct sim *s, const struct position *pos)
{
    for (unsigned k = 0; k < s->keys; k++)
        if (position_compare(&s->key[k].position, pos) == 0)
            return k;
    UNREACHABLE();
}

static unsigned node_of_id(const struct sim *s, const struct node_id *id)
{
    uint16_t member = ring_find(&s->node[0].view, id);

    ASSERT(member < s->nodes);
    return member;
}

static int host_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    return net_send(arg, member, worker, m);
}

static bool host_reachable(void *arg, uint16_t member, uint16_t worker)
{
    return net_reachable(arg, member, worker);
}

static int host_load(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                     struct slice *object)
{
    struct worker *w = arg;
    unsigned k = key_at(w->sim, pos);

    ASSERT(partition == w->sim->key[k].partition && slice_equal(key, w->sim->key[k].slice));
    return disk_load(w, k, object);
}

static int host_store(void *arg, uint32_t partition, const struct position *pos,
                      struct slice object, bool shrinks, uint64_t *lsn)
{
    struct worker *w = arg;
    unsigned k = key_at(w->sim, pos);

    (void)shrinks;
    ASSERT(partition == w->sim->key[k].partition);
    return disk_store(w, k, object, lsn);
}

static int host_load_at(void *arg, uint32_t partition, const struct position *pos,
                        struct slice *object)
{
    struct worker *w = arg;

    (void)partition;
    for (unsigned k = 0; k < w->sim->keys; k++)
        if (position_compare(&w->sim->key[k].position, pos) == 0)
            return disk_load(w, k, object);
    return -ERR_NOTFOUND;
}

static int host_drop(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                     struct slice kept, uint64_t *lsn)
{
    struct worker *w = arg;

    (void)partition;
    (void)key;
    (void)kept;
    check_drop(w->sim, w->node, key_at(w->sim, pos));
    return disk_drop(w, key_at(w->sim, pos), lsn);
}

static void host_late(void *arg, uint32_t partition)
{
    struct worker *w = arg;
    struct vnode *v = &w->sim->node[w->node].disk.vnode[partition];

    v->late_ms = node_wall_ms(w->sim, w->node);
    v->purges = false;
}

static int host_standing(void *arg, uint32_t partition, uint64_t *horizon_ms)
{
    return repair_standing(arg, partition, horizon_ms);
}

static int host_next_dot(void *arg, uint32_t partition, struct dot *out)
{
    return disk_next_dot(arg, partition, out);
}

static int host_witness_dot(void *arg, uint32_t partition, struct dot seen)
{
    return disk_witness(arg, partition, seen);
}

static int host_hint_add(void *arg, uint32_t partition, const struct node_id *target,
                         const struct position *pos, uint64_t *lsn)
{
    struct worker *w = arg;

    ASSERT(partition == w->sim->key[key_at(w->sim, pos)].partition);
    handoff_wake(w->handoff);
    return disk_hint(w, OP_HINT_ADD, key_at(w->sim, pos), node_of_id(w->sim, target), lsn);
}

static void host_reply(void *arg, uint64_t token, const struct coord_reply *reply)
{
    struct worker *w = arg;
    struct sim *s = w->sim;

    if (token >= s->request_count)
        sim_fail(s, "a reply to a request that was never made: token %llu",
                 (unsigned long long)token);
    struct request *r = s->request[token];

    if (!r->accepted || r->node != w->node || r->worker != w->index ||
        r->incarnation != w->incarnation)
        sim_fail(s, "a reply to a request that this worker has not accepted");
    if (r->replied)
        sim_fail(s, "a second reply to one request");
    r->replied = true;
    sim_trace(s, "reply", token, (uint64_t)(int64_t)reply->status,
              hash64(reply->object.data, reply->object.len));
    client_reply(s, r, reply);
}

static bool handoff_away(void *arg, uint32_t partition)
{
    uint64_t horizon_ms;

    return repair_standing(arg, partition, &horizon_ms) == STANDING_AWAY;
}

static int handoff_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct worker *w = arg;
    struct slice name;

    ASSERT(object_peek_key(m->u.MERGE.object, &name) == 0);
    struct position pos = position_of(name);
    unsigned k = key_at(w->sim, &pos);

    if (handoff_away(w, w->sim->key[k].partition))
        sim_fail(w->sim, "node %u delivers %s although its vnode is away", w->node,
                 w->sim->key[k].name);
    return net_send(w, member, worker, m);
}

static bool handoff_owes(void *arg, uint32_t partition, const struct node_id *target)
{
    struct worker *w = arg;
    unsigned node = node_of_id(w->sim, target);

    for (unsigned k = 0; k < w->sim->keys; k++)
        if (w->sim->key[k].partition == partition &&
            w->sim->node[w->node].disk.live.hint[node][k] &&
            !repair_hint_expired(w->sim, w->node, node, k))
            return true;
    return false;
}

static void step_behind(struct position *cursor, const struct position *pos)
{
    *cursor = *pos;
    for (int i = POSITION_BYTES - 1; i >= 0 && ++cursor->b[i] == 0; i--)
        ;
}

static int handoff_scan(void *arg, uint32_t partition, const struct node_id *target,
                        struct position *cursor, uint32_t max, struct position *out)
{
    struct worker *w = arg;
    unsigned node = node_of_id(w->sim, target);
    uint32_t count = 0;

    while (count < max) {
        const struct position *best = NULL;

        for (unsigned k = 0; k < w->sim->keys; k++) {
            const struct key *key = &w->sim->key[k];

            if (key->partition == partition && w->sim->node[w->node].disk.live.hint[node][k] &&
                !repair_hint_expired(w->sim, w->node, node, k) &&
                position_compare(&key->position, cursor) >= 0 &&
                (best == NULL || position_compare(&key->position, best) < 0))
                best = &key->position;
        }
        if (best == NULL)
            break;
        out[count++] = *best;
        step_behind(cursor, best);
    }
    return (int)count;
}

static int handoff_load(void *arg, uint32_t partition, const struct position *pos,
                        struct slice *object, uint64_t *digest)
{
    static struct object o;
    struct worker *w = arg;
    int rc = disk_load(w, key_at(w->sim, pos), object);

    (void)partition;
    if (rc == 0)
        rc = object_open(&o, *object);
    if (rc == 0)
        *digest = object_digest(&o);
    return rc;
}

static void handoff_remove(void *arg, uint32_t partition, const struct node_id *target,
                           const struct position *pos)
{
    struct worker *w = arg;
    uint64_t lsn;

    (void)partition;
    oracle_hint_gone(w->sim, w->node, node_of_id(w->sim, target), key_at(w->sim, pos));
    sim_trace(w->sim, "hint gone", w->node, node_of_id(w->sim, target), key_at(w->sim, pos));
    disk_hint(w, OP_HINT_REMOVE, key_at(w->sim, pos), node_of_id(w->sim, target), &lsn);
}

static void tick(struct sim *s, const struct event *e)
{
    struct worker *w = e->p;

    if (node_defer(s, w->node, e))
        return;
    if (!w->up || w->incarnation != e->b || w->tick_at != e->a)
        return;
    w->tick_at = UINT64_MAX;
    worker_turn(w);
}

void worker_turn(struct worker *w)
{
    struct sim *s = w->sim;
    uint64_t next = coord_tick(w->coord, s->now, node_wall_ms(s, w->node));

    if (next <= s->now)
        sim_fail(s, "coord_tick() wants to be called at %llu, which is past",
                 (unsigned long long)next);
    if (s->handoff_always || !s->chaos) {
        uint64_t handoff = handoff_tick(w->handoff, s->now);

        if (handoff <= s->now)
            sim_fail(s, "handoff_tick() wants to be called in the past");
        if (handoff < next)
            next = handoff;
    }
    repair_turn(w);
    disk_kick(w);
    if (next < w->tick_at) {
        w->tick_at = next;
        sim_after(s, next - s->now, tick, w, next, w->incarnation);
    }
}

void worker_message(struct worker *w, unsigned from_node, unsigned from_worker, const struct msg *m)
{
    struct sim *s = w->sim;

    s->coordinating = m->kind == MSG_PUT;
    if (m->kind == MSG_PUT && m->u.PUT.request_id != 0)
        s->current_write = m->u.PUT.request_id - 1;
    if (m->kind == MSG_READ_DONE)
        oracle_read_done(s, w, from_node, &m->u.READ_DONE);
    if (m->kind == MSG_MERGED && handoff_owns(m->u.MERGED.request))
        handoff_receive(w->handoff, &m->u.MERGED, s->now);
    else
        coord_receive(w->coord, (uint16_t)from_node, (uint16_t)from_worker, m, s->now,
                      node_wall_ms(s, w->node));
    s->current_write = UINT64_MAX;
    s->coordinating = false;
    worker_turn(w);
}

void worker_link_down(struct worker *w, unsigned node, unsigned worker)
{
    struct sim *s = w->sim;

    coord_link_down(w->coord, (uint16_t)node, (uint16_t)worker, s->now, node_wall_ms(s, w->node));
    handoff_link_down(w->handoff, (uint16_t)node, (uint16_t)worker, s->now);
    worker_turn(w);
}

static int request_put(struct worker *w, const struct request *r, uint64_t token)
{
    struct sim *s = w->sim;
    const struct write *write = &s->write[r->write];
    struct msg_PUT put = {.key = s->key[r->key].slice,
                          .value = oracle_value(s, r->write),
                          .context = r->context,
                          .request_id = write->request_id,
                          .op = write->kind == WRITE_DELETE ? PUT_DELETE : PUT_SET,
                          .w = r->w,
                          .pw = r->pw,
                          .timeout_ms = (uint32_t)(r->timeout_us / 1000)};

    if (write->kind == WRITE_DELETE)
        put.value = slice_of(NULL, 0);
    if (write->has_context)
        put.flags |= PUT_HAS_CONTEXT;
    if (write->conditional)
        put.flags |= PUT_IF_EXISTS;
    if (r->want_all)
        put.flags |= PUT_WANT_CONTEXT;
    s->current_write = r->write;
    s->coordinating = true;
    int rc = coord_put(w->coord, token, &put, s->now, node_wall_ms(s, w->node));

    s->current_write = UINT64_MAX;
    s->coordinating = false;
    return rc;
}

static int request_get(struct worker *w, const struct request *r, uint64_t token)
{
    struct sim *s = w->sim;
    struct msg_GET get = {.key = s->key[r->key].slice,
                          .flags = r->want_all ? GET_ALL : 0,
                          .r = r->r,
                          .timeout_ms = (uint32_t)(r->timeout_us / 1000)};

    return coord_get(w->coord, token, &get, s->now, node_wall_ms(s, w->node));
}

static void log_write(struct sim *s, uint32_t number)
{
    const struct write *w = &s->write[number];

    if (s->options.log)
        printf("           write %u of %s:%s%s%s%s\n", number, s->key[w->key].name,
               w->kind == WRITE_DELETE ? " delete" : "", w->has_context ? " context" : "",
               w->conditional ? " conditional" : "", w->request_id != 0 ? " id" : "");
}

bool worker_request(struct worker *w, struct request *r)
{
    struct sim *s = w->sim;
    uint64_t token = r->token;

    r->incarnation = w->incarnation;
    r->accepted = true;
    r->accepted_at = s->now;
    sim_trace(s, r->is_write ? "put" : "get", token, w->node * 10u + w->index, r->key);
    if (r->is_write)
        log_write(s, r->write);
    int rc = r->is_write ? request_put(w, r, token) : request_get(w, r, token);

    if (rc != 0 && rc != -ERR_BUSY)
        sim_fail(s, "a request was refused with %s", err_name(rc));
    if (rc != 0 && r->replied)
        sim_fail(s, "a request was both answered and refused");
    r->accepted = rc == 0;
    worker_turn(w);
    return rc == 0;
}

/* Memory for a worker's life, kept for the next one, full of rubbish where it is likely to matter. */
static void *memory_for(void **memory, size_t size)
{
    if (*memory == NULL)
        *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    ASSERT(*memory != NULL);
    memset(*memory, 0xa5, size < RUBBISH ? size : RUBBISH);
    return *memory;
}

void worker_start(struct sim *s, unsigned node, unsigned worker)
{
    struct worker *w = &s->node[node].worker[worker];
    struct coord_host host = {.arg = w,
                              .send = host_send,
                              .reachable = host_reachable,
                              .load = host_load,
                              .store = host_store,
                              .next_dot = host_next_dot,
                              .witness_dot = host_witness_dot,
                              .hint_add = host_hint_add,
                              .load_at = host_load_at,
                              .standing = host_standing,
                              .drop = host_drop,
                              .late = host_late,
                              .reply = host_reply};
    struct handoff_host handoff_host = {.arg = w,
                                        .send = handoff_send,
                                        .reachable = host_reachable,
                                        .away = handoff_away,
                                        .owes = handoff_owes,
                                        .scan = handoff_scan,
                                        .load = handoff_load,
                                        .remove = handoff_remove};
    struct handoff_conf handoff_conf = {.worker = (uint16_t)worker,
                                        .workers = (uint16_t)s->workers,
                                        .in_flight = HANDOFFS,
                                        .per_second = 1000,
                                        .timeout_ms = 500,
                                        .idle_ms = 200};

    size_t handoff_bytes = handoff_size(&handoff_conf);

    if (w->up || !s->node[node].up)
        return;
    sim_trace(s, "start", node, worker, 0);
    s->node[node].trouble_at = s->now;
    w->up = true;
    w->incarnation++;
    w->tick_at = UINT64_MAX;
    w->durable = w->journal.first_lsn - 1;
    disk_started(w);
    w->coord = coord_init(memory_for(&w->memory, coord_size(&s->conf)), &s->conf, &host,
                          &w->scratch_a, &w->scratch_b, (uint16_t)worker, rand_next(&s->rand));
    handoff_conf.in_flight = (uint32_t)sim_range(s, 1, HANDOFFS);
    handoff_conf.seed =
        (uint32_t)rand_next(&s->rand); /* late answers to its last life are none to it */
    w->handoff =
        handoff_init(memory_for(&w->handoff_memory, handoff_bytes), &handoff_conf, &handoff_host);
    coord_set_view(w->coord, &s->node[node].view, &s->node[node].index);
    handoff_set_view(w->handoff, &s->node[node].view, &s->node[node].index);
    net_worker_back(s, node, worker);
    worker_turn(w);
}

static void stop(struct sim *s, unsigned node, unsigned worker, bool silent, bool power)
{
    struct worker *w = &s->node[node].worker[worker];

    if (!w->up)
        return;
    sim_trace(s, "crash", node, worker, 0);
    w->up = false;
    s->node[node].trouble_at = s->now;
    oracle_worker_gone(s, w);
    disk_crashed(w, power);
    if (power)
        oracle_tail_lost(s, w);
    net_worker_gone(s, node, worker, silent);
    repair_worker_gone(w);
    buf_free(&w->scratch_a);
    buf_free(&w->scratch_b);
    w->coord = NULL;
    w->handoff = NULL;
    client_worker_gone(s, w);
}

void worker_crash(struct sim *s, unsigned node, unsigned worker)
{
    stop(s, node, worker, false, false);
}

void node_crash(struct sim *s, unsigned node)
{
    bool power = sim_percent(s, 70), silent = power && sim_percent(s, 70);

    for (unsigned w = 0; w < s->workers; w++)
        stop(s, node, w, silent, power);
    repair_stop(s, node);
    ring_node_gone(s, node);
    s->node[node].up = false;
}

/* Others show the node what they have, before anybody writes at it. A vnode that has issued dots which
 * it does not remember must notice those that are shown to it. Of those that nobody can show it learns
 * from outside. */
static void catch_up(struct sim *s, unsigned node)
{
    static struct object o;
    uint64_t shown[SIM_PARTITIONS] = {0}, id[SIM_PARTITIONS];
    struct vnode *vnode = s->node[node].disk.vnode;

    for (unsigned p = 0; p < SIM_PARTITIONS; p++)
        id[p] = vnode[p].id;
    for (unsigned k = 0; k < s->keys; k++) {
        unsigned p = s->key[k].partition;

        for (unsigned n = 0; n < s->nodes; n++) {
            const struct blob *b = s->node[n].disk.live.object[k];
            struct msg m = {.kind = MSG_MERGE, .u.MERGE = {.epoch = 1, .flags = MERGE_REPAIR}};

            if (n == node || b == NULL || object_open(&o, slice_of(b->bytes, b->len)) != 0)
                continue;
            uint64_t highest = causal_highest(&o.causal, id[p]);

            shown[p] = highest > shown[p] ? highest : shown[p];
            m.u.MERGE.object = slice_of(b->bytes, b->len);
            worker_message(&s->node[node].worker[worker_of_key(s, node, k)], n, 0, &m);
        }
    }
    for (unsigned p = 0; p < SIM_PARTITIONS; p++) {
        /* A vnode that is away takes and issues nothing until anti-entropy has shown it everything. */
        if (id[p] != 0 && vnode[p].id == id[p] && shown[p] >= vnode[p].next &&
            !(s->repair && vnode[p].standing == STANDING_AWAY))
            sim_fail(s, "node %u does not notice that its vnode of partition %u has been restored",
                     node, p);
        disk_renew(s, node, p, id[p]);
    }
}

void node_start(struct sim *s, unsigned node)
{
    if (s->node[node].up || (s->removed >> node & 1) != 0)
        return;
    s->node[node].up = true;
    for (unsigned w = 0; w < s->workers; w++)
        worker_start(s, node, w);
    if (s->node[node].unnoticed)
        catch_up(s, node);
    s->node[node].unnoticed = false;
    repair_start(s, node);
}

void node_freeze(struct sim *s, unsigned node, uint64_t duration)
{
    sim_trace(s, "freeze", node, duration, 0);
    s->node[node].frozen_until = s->now + duration;
    s->node[node].thawed_at = s->node[node].trouble_at = s->node[node].frozen_until;
    for (unsigned n = 0; n < s->nodes; n++)
        if (n != node)
            net_suspect(s, n, node);
}

void node_gossip(struct sim *s, unsigned about, enum member_state state)
{
    sim_trace(s, "gossip", about, state, 0);
    for (unsigned n = 0; n < s->nodes; n++) {
        struct node *node = &s->node[n];

        uint8_t known = node->view.members[about].state;

        if (n == about || known == state || known == MEMBER_LEFT)
            continue;
        node->view.members[about].state = (uint8_t)state;
        node->view.version++;
        for (unsigned w = 0; w < s->workers; w++) {
            if (!node->worker[w].up)
                continue;
            coord_set_view(node->worker[w].coord, &node->view, &node->index);
            handoff_set_view(node->worker[w].handoff, &node->view, &node->index);
            worker_turn(&node->worker[w]);
        }
    }
}

void node_init(struct sim *s, unsigned node)
{
    for (unsigned w = 0; w < s->workers; w++) {
        struct worker *worker = &s->node[node].worker[w];

        worker->sim = s;
        worker->node = (uint16_t)node;
        worker->index = (uint16_t)w;
        worker->journal.first_lsn = 1;
    }
}
