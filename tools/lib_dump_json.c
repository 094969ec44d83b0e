/* Prints what clockwise-shmdump has found, as one JSON object. Changes nothing. */
#include "base/json.h"
#include "tools/lib_dump.h"

#include "base/err.h"

#include <string.h>

static void id_text(struct json *j, const char *name, const struct node_id *id)
{
    char text[2 * NODE_ID_BYTES + 1];

    node_id_format(id, text);
    json_text(j, name, text);
}

static void files(struct json *j, const struct dump *d)
{
    json_array(j, "segments");
    for (uint32_t i = 0; i < d->file_count; i++) {
        const struct dump_file *f = &d->files[i];

        json_object(j, NULL);
        json_text(j, "name", f->name);
        json_bool(j, "ok", f->err == 0);
        if (f->err < 0) {
            json_text(j, "error", err_name(f->err));
            json_text(j, "reason", f->why);
        }
        if (f->seg != NULL) {
            const struct segment_header *h = f->seg->header;
            char build[sizeof h->build + 1] = {0};

            memcpy(build, h->build, sizeof h->build);
            json_text(j, "kind", segment_kind_name(h->kind));
            json_number(j, "index", h->index);
            json_number(j, "bytes", f->seg->length);
            json_hex(j, "fingerprint", h->fingerprint);
            json_hex(j, "incarnation", h->incarnation);
            json_number(j, "generation", h->generation);
            json_number(j, "created_ms", h->created_ms);
            json_number(j, "pid", h->pid);
            json_bool(j, "writer_running", f->alive);
            json_bool(j, "ended_in_good_order", atomic_load(&h->ended) != 0);
            json_text(j, "build", build);
        }
        json_end(j);
    }
    json_end(j);
}

static void node(struct json *j, const struct dump *d)
{
    const struct node_view *v = &d->node_view;

    if (d->node_err < 0)
        return;
    json_object(j, "node");
    id_text(j, "id", &v->id);
    json_text(j, "name", v->name);
    json_text(j, "cluster", v->cluster);
    json_text(j, "zone", v->zone);
    json_text(j, "address", v->address);
    json_number(j, "port", v->port);
    json_number(j, "worker_port", v->worker_port);
    json_number(j, "peer_port", v->peer_port);
    json_number(j, "gossip_port", v->gossip_port);
    json_number(j, "workers", v->workers);
    json_number(j, "partitions", 1ull << (v->q_bits & 31));
    json_number(j, "n", v->n);
    json_number(j, "r", v->r);
    json_number(j, "w", v->w);
    json_text(j, "durability", v->durability);
    json_text(j, "data_dir", v->data_dir);
    json_text(j, "runtime_dir", v->runtime_dir);
    json_text(j, "config_file", v->config_file);
    json_text(j, "status", v->status);
    json_number(j, "supervisor_pid", (uint64_t)v->supervisor_pid);
    json_number(j, "started_ms", v->started_ms);
    json_array(j, "processes");
    for (uint32_t i = 0; i < v->child_count; i++) {
        const struct node_child *c = &v->children[i];

        json_object(j, NULL);
        json_text(j, "role", c->role);
        json_number(j, "index", c->index);
        json_number(j, "pid", (uint64_t)c->pid);
        json_text(j, "state", node_seg_child_state_name(c->state));
        json_number(j, "restarts", c->restarts);
        json_hex(j, "incarnation", c->incarnation);
        json_number(j, "since_ms", c->since_ms);
        json_text(j, "status", c->status);
        json_text(j, "last_exit", c->last_exit);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

static void ring(struct json *j, const struct dump *d)
{
    static uint32_t owned[LIMIT_MEMBERS];
    const struct ring_view *v = &d->ring_view;

    if (d->ring_err < 0)
        return;
    ring_count_owned(v, owned);
    json_object(j, "ring");
    json_text(j, "cluster", v->cluster);
    json_number(j, "epoch", v->epoch);
    id_text(j, "proposer", &v->proposer);
    json_number(j, "version", v->version);
    json_number(j, "partitions", 1ull << v->q_bits);
    json_number(j, "n", v->n);
    if (v->self != RING_NO_OWNER)
        json_number(j, "self", v->self);
    json_array(j, "members");
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        json_object(j, NULL);
        json_number(j, "index", i);
        id_text(j, "id", &m->id);
        json_text(j, "name", m->name);
        json_text(j, "zone", m->zone);
        json_text(j, "address", m->address);
        json_number(j, "port", m->port);
        json_number(j, "worker_port", m->worker_port);
        json_number(j, "peer_port", m->peer_port);
        json_number(j, "gossip_port", m->gossip_port);
        json_number(j, "workers", m->workers);
        json_number(j, "weight", m->weight);
        json_text(j, "state", dump_member_state(m->state));
        json_number(j, "incarnation", m->incarnation);
        json_number(j, "partitions_owned", owned[i]);
        json_end(j);
    }
    json_end(j);
    /* By name, in the order of partitions; nobody is the empty text. */
    json_array(j, "owner");
    for (uint32_t p = 0; p < 1u << v->q_bits; p++)
        json_text(j, NULL, v->owner[p] < v->member_count ? v->members[v->owner[p]].name : "");
    json_end(j);
    json_end(j);
}

static void key(struct json *j, const struct dump *d, const char *text)
{
    const struct ring_view *v = &d->ring_view;
    struct position pos = position_of(slice_str(text));
    char hex[2 * POSITION_BYTES + 1];
    struct ring_walk walk;

    for (int i = 0; i < POSITION_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", pos.b[i]);
    json_object(j, "key");
    json_text(j, "key", text);
    json_number(j, "slot", position_slot(&pos));
    json_text(j, "position", hex);
    if (d->ring_err == 0 && v->epoch != 0) {
        uint32_t partition = position_partition(&pos, v->q_bits);

        ring_walk_partition(v, partition, v->n, &walk);
        json_number(j, "partition", partition);
        json_array(j, "walk");
        for (uint32_t i = 0; i < walk.count; i++) {
            const struct member *m = &v->members[walk.member[i]];

            json_object(j, NULL);
            json_text(j, "node", m->name);
            json_bool(j, "primary", i < walk.primaries);
            json_text(j, "state", dump_member_state(m->state));
            json_number(j, "worker", ring_worker_of(partition, m->workers));
            json_end(j);
        }
        json_end(j);
    }
    json_end(j);
}

static void counters(struct json *j, const struct counter_block *b, const char *owner)
{
    if (b == NULL)
        return;
    json_object(j, "counters");
    for (uint32_t i = 0; i < b->count; i++) {
        const struct counter_desc *desc = counter_desc_at(b, i);

        if (owner == NULL || strcmp(desc->owner, owner) == 0)
            json_number(j, desc->name, counter_value_at(b, i));
    }
    json_end(j);
}

static void latency(struct json *j, const char *name, const struct hist *h)
{
    json_object(j, name);
    json_number(j, "count", h->count);
    json_number(j, "mean_us", hist_mean_us(h));
    json_number(j, "p50_us", hist_percentile_us(h, 0.5));
    json_number(j, "p90_us", hist_percentile_us(h, 0.9));
    json_number(j, "p99_us", hist_percentile_us(h, 0.99));
    json_number(j, "p999_us", hist_percentile_us(h, 0.999));
    json_number(j, "max_us", h->max_us);
    json_end(j);
}

static void vnodes(struct json *j, const struct worker_body *b)
{
    json_array(j, "vnodes");
    for (uint32_t p = 0; p < b->partitions; p++) {
        const struct worker_vnode *row = &b->vnodes[p];
        uint32_t state = atomic_load(&row->state);

        if (state == WORKER_VNODE_NONE)
            continue;
        json_object(j, NULL);
        json_number(j, "partition", p);
        json_text(j, "state", worker_seg_vnode_state_name(state));
        json_hex(j, "id", atomic_load(&row->id));
        json_number(j, "keys", atomic_load(&row->keys));
        json_number(j, "hints", atomic_load(&row->hints));
        json_number(j, "dot", atomic_load(&row->dot));
        json_number(j, "merkle_generation", atomic_load(&row->merkle_generation));
        json_hex(j, "merkle_root", atomic_load(&row->merkle_root));
        json_end(j);
    }
    json_end(j);
}

static void workers(struct json *j, const struct dump *d)
{
    json_array(j, "workers");
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        const struct worker_body *b = d->workers[i].body;

        if (b == NULL)
            continue;
        json_object(j, NULL);
        json_number(j, "index", i);
        json_number(j, "pid", d->workers[i].segment.header->pid);
        json_bool(j, "running", d->worker_alive[i]);
        json_text(j, "state", worker_seg_state_name(atomic_load(&b->state)));
        json_number(j, "heartbeat_mono_us", atomic_load(&b->heartbeat_us));
        json_number(j, "now_mono_us", d->now_mono_us);
        json_number(j, "cpu", b->cpu);
        json_bool(j, "sleeping", atomic_load(&b->sleeping) != 0);
        counters(j, &b->counters, "WORKER");
        json_object(j, "latency");
        for (int h = 0; h < WORKER_HIST_COUNT; h++)
            latency(j, worker_seg_hist_name((enum worker_hist)h), &b->hists[h].hist);
        json_end(j);
        vnodes(j, b);
        json_end(j);
    }
    json_end(j);
}

static void mailboxes(struct json *j, const struct dump *d)
{
    json_array(j, "mailboxes");
    for (uint32_t from = 0; from < LIMIT_WORKERS; from++) {
        for (uint32_t to = 0; to < LIMIT_WORKERS; to++) {
            struct dump_ring r;

            if (!dump_mail(d, from, to, &r))
                continue;
            json_object(j, NULL);
            json_number(j, "from", from);
            json_number(j, "to", to);
            json_hex(j, "consumer", r.row.consumer);
            json_bool(j, "begun", r.begun);
            json_number(j, "ring_bytes", r.ring_bytes);
            json_number(j, "base", r.row.base);
            json_number(j, "head", r.head);
            json_number(j, "tail", r.row.tail);
            json_number(j, "unread_bytes", r.unread);
            json_number(j, "sent_bytes", r.row.bytes);
            json_number(j, "epochs", r.row.epochs);
            json_bool(j, "writer_waits", r.row.waiting != 0);
            json_end(j);
        }
    }
    json_end(j);
}

static void gossip(struct json *j, const struct dump *d, const struct counter_block *b)
{
    const struct gossip_view *v = &d->gossip_view;

    json_object(j, "gossip");
    counters(j, b, "GOSSIPD");
    if (d->gossip_err == 0) {
        json_number(j, "health", v->health);
        json_number(j, "updated_ms", v->updated_ms);
        json_array(j, "members");
        for (uint32_t i = 0; i < v->member_count; i++) {
            const struct gossip_member *m = &v->members[i];

            json_object(j, NULL);
            id_text(j, "id", &m->id);
            json_text(j, "name", m->name);
            json_text(j, "address", m->address);
            json_number(j, "gossip_port", m->gossip_port);
            json_text(j, "state", dump_member_state(m->state));
            json_number(j, "incarnation", m->incarnation);
            json_number(j, "since_ms", m->since_ms);
            json_number(j, "last_heard_ms", m->last_heard_ms);
            json_number(j, "rtt_us", m->rtt_us);
            json_number(j, "suspicions", m->suspicions);
            json_number(j, "verdicts_down", m->verdicts_down);
            json_end(j);
        }
        json_end(j);
    }
    json_end(j);
}

static void repair(struct json *j, const struct dump *d, const struct counter_block *block)
{
    const struct repair_body *b = d->repair.body;

    json_object(j, "repair");
    counters(j, block, "ANTIENTROPYD");
    json_array(j, "rows");
    for (uint32_t i = 0; b != NULL && i < b->partitions * b->replicas; i++) {
        const struct repair_row *row = &b->rows[i];
        uint32_t state = atomic_load(&row->state);
        char peer[33];

        if (state == REPAIR_ROW_NONE)
            continue;
        snprintf(peer, sizeof peer, "%016llx%016llx",
                 (unsigned long long)atomic_load(&row->peer_high),
                 (unsigned long long)atomic_load(&row->peer_low));
        json_object(j, NULL);
        json_number(j, "partition", i / b->replicas);
        json_text(j, "peer", peer);
        json_text(j, "state", repair_seg_row_state_name(state));
        json_number(j, "rounds", atomic_load(&row->rounds));
        json_number(j, "keys_repaired", atomic_load(&row->keys_repaired));
        json_number(j, "differences", atomic_load(&row->differences));
        json_number(j, "bytes", atomic_load(&row->bytes));
        json_number(j, "last_agreement_ms", atomic_load(&row->last_agreement_ms));
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

static const struct counter_block *block_of(const struct dump *d, uint32_t kind)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (d->files[i].kind == kind)
            return dump_counters(&d->files[i]);
    }
    return NULL;
}

static void totals(struct json *j, const struct dump *d)
{
    uint64_t sums[COUNTER_COUNT] = {0};
    static struct hist h;

    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        if (d->workers[i].body != NULL)
            counter_sum(&d->workers[i].body->counters, sums);
    }
    json_object(j, "all_workers");
    json_object(j, "counters");
    for (uint32_t c = 0; c < COUNTER_COUNT; c++) {
        if (strcmp(counter_owner((enum counter)c), "WORKER") == 0)
            json_number(j, counter_name((enum counter)c), sums[c]);
    }
    json_end(j);
    json_object(j, "latency");
    for (int i = 0; i < WORKER_HIST_COUNT; i++) {
        dump_latency(d, (enum worker_hist)i, &h);
        latency(j, worker_seg_hist_name((enum worker_hist)i), &h);
    }
    json_end(j);
    json_end(j);
}

void dump_json(const struct dump *d, const struct dump_wish *wish, FILE *out)
{
    const struct counter_block *b;
    struct json j;

    json_begin(&j, out);
    json_object(&j, NULL);
    json_text(&j, "directory", d->dir);
    json_number(&j, "now_ms", d->now_ms);
    json_number(&j, "refused", d->refused);
    files(&j, d);
    node(&j, d);
    ring(&j, d);
    if (wish->key != NULL)
        key(&j, d, wish->key);
    workers(&j, d);
    totals(&j, d);
    mailboxes(&j, d);
    b = block_of(d, SEGMENT_GOSSIP);
    if (b != NULL)
        gossip(&j, d, b);
    b = block_of(d, SEGMENT_REPAIR);
    if (b != NULL)
        repair(&j, d, b);
    b = block_of(d, SEGMENT_NODE);
    if (b != NULL) {
        json_object(&j, "supervisor");
        counters(&j, b, "SUPERVISOR");
        json_end(&j);
    }
    json_end(&j);
}
