/* Prints what clockwise-shmdump has found, for people. Changes nothing. */
#include "base/table.h"
#include "tools/lib_dump.h"

#include "base/err.h"

#include <string.h>

static uint64_t since(const struct dump *d, uint64_t wall_ms)
{
    return d->now_ms > wall_ms ? d->now_ms - wall_ms : 0;
}

static void title(FILE *out, const char *text)
{
    fprintf(out, "\n%s\n", text);
}

static void files(const struct dump *d, FILE *out)
{
    struct table t;

    fprintf(out, "SEGMENTS in %s\n", d->dir);
    table_begin(&t, "segment|writer||>age|>size|>generation|incarnation|build");
    for (uint32_t i = 0; i < d->file_count; i++) {
        const struct dump_file *f = &d->files[i];
        char age[TABLE_NUMBER], size[TABLE_NUMBER];

        if (f->seg == NULL)
            continue;
        const struct segment_header *h = f->seg->header;
        table_add(&t, "%s", f->name);
        table_add(&t, "pid %u", h->pid);
        table_add(&t, "%s", f->alive ? "running" : atomic_load(&h->ended) ? "ended" : "DEAD");
        table_add(&t, "%s", number_duration(age, since(d, h->created_ms)));
        table_add(&t, "%s", number_bytes(size, f->seg->length));
        table_add(&t, "%llu", (unsigned long long)h->generation);
        table_add(&t, "%016llx", (unsigned long long)h->incarnation);
        table_add(&t, "%.*s%s", (int)sizeof h->build, h->build,
                  f->layout_known ? "" : " (other layout)");
    }
    table_print(&t, out, NULL);
    for (uint32_t i = 0; i < d->file_count; i++) {
        if (d->files[i].err < 0)
            fprintf(out, "  %s: refused: %s\n", d->files[i].name, d->files[i].why);
    }
}

static void children(const struct dump *d, FILE *out)
{
    const struct node_view *v = &d->node_view;
    struct table t;

    table_begin(&t, "process|>pid|state|>for|>restarts|status|last exit");
    for (uint32_t i = 0; i < v->child_count; i++) {
        const struct node_child *c = &v->children[i];
        char age[TABLE_NUMBER];

        if (strcmp(c->role, "worker") == 0)
            table_add(&t, "%s %u", c->role, c->index);
        else
            table_add(&t, "%s", c->role);
        table_add(&t, "%d", c->pid);
        table_add(&t, "%s", node_seg_child_state_name(c->state));
        table_add(&t, "%s", number_duration(age, since(d, c->since_ms)));
        table_add(&t, "%u", c->restarts);
        table_add(&t, "%s", c->status[0] == 0 ? "-" : c->status);
        table_add(&t, "%s", c->last_exit[0] == 0 ? "-" : c->last_exit);
    }
    table_print(&t, out, "PROCESSES");
}

static void node(const struct dump *d, FILE *out)
{
    const struct node_view *v = &d->node_view;
    char id[2 * NODE_ID_BYTES + 1], age[TABLE_NUMBER];

    if (d->node_err < 0)
        return;
    node_id_format(&v->id, id);
    title(out, "NODE");
    fprintf(out, "  name        %s (%s)%s%s\n", v->name, id, v->zone[0] ? " in zone " : "",
            v->zone);
    fprintf(out, "  cluster     %s: %u partitions, N=%u R=%u W=%u\n", v->cluster,
            1u << (v->q_bits & 31), v->n, v->r, v->w);
    fprintf(out, "  address     %s: front %u, workers %u.., peers %u.., gossip %u\n", v->address,
            v->port, v->worker_port, v->peer_port, v->gossip_port);
    fprintf(out, "  supervisor  pid %d for %s, %u workers, durability %s\n", v->supervisor_pid,
            number_duration(age, since(d, v->started_ms)), v->workers, v->durability);
    fprintf(out, "  data        %s\n", v->data_dir);
    fprintf(out, "  config      %s\n", v->config_file[0] ? v->config_file : "(defaults)");
    fprintf(out, "  status      %s\n", v->status[0] ? v->status : "-");
    children(d, out);
}

static const char *member_name(const struct ring_view *v, uint16_t m)
{
    return m == RING_NO_OWNER || m >= v->member_count ? "nobody" : v->members[m].name;
}

static void members(const struct dump *d, FILE *out)
{
    static uint32_t owned[LIMIT_MEMBERS];
    const struct ring_view *v = &d->ring_view;
    struct table t;

    ring_count_owned(v, owned);
    table_begin(&t, ">#|member|state|>owns|>share|>workers|>weight|address|zone|id|>incarnation");
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];
        char id[2 * NODE_ID_BYTES + 1];

        node_id_format(&m->id, id);
        table_add(&t, "%u", i);
        table_add(&t, "%s%s", m->name, i == v->self ? " (self)" : "");
        table_add(&t, "%s", dump_member_state(m->state));
        table_add(&t, "%u", owned[i]);
        table_add(&t, "%.1f %%", 100.0 * owned[i] / (1u << v->q_bits));
        table_add(&t, "%u", m->workers);
        table_add(&t, "%u", m->weight);
        table_add(&t, "%s:%u", m->address, m->port);
        table_add(&t, "%s", m->zone[0] ? m->zone : "-");
        table_add(&t, "%.12s", id);
        table_add(&t, "%llu", (unsigned long long)m->incarnation);
    }
    table_print(&t, out, NULL);
}

/* One character per partition while there are few members, else a number in brackets. */
static void owners(const struct ring_view *v, FILE *out)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint32_t q = 1u << v->q_bits;
    bool few = v->member_count <= sizeof digits - 1;
    uint32_t per_line = few ? 64 : 16;

    fprintf(out, "  owner of each partition%s\n",
            few ? " (0-9, a-z, A-Z: the # above; '.': nobody)" : " (the # above)");
    for (uint32_t p = 0; p < q; p++) {
        uint16_t owner = v->owner[p];

        if (p % per_line == 0)
            fprintf(out, "  %6u  ", p);
        if (few)
            fputc(owner < v->member_count ? digits[owner] : '.', out);
        else if (owner < v->member_count)
            fprintf(out, "%4u", owner);
        else
            fputs("   .", out);
        if (p % per_line == per_line - 1 || p == q - 1)
            fputc('\n', out);
        else if (few && p % 8 == 7)
            fputc(' ', out);
    }
}

static void ring(const struct dump *d, FILE *out)
{
    const struct ring_view *v = &d->ring_view;
    char proposer[2 * NODE_ID_BYTES + 1];

    if (d->ring_err < 0)
        return;
    node_id_format(&v->proposer, proposer);
    title(out, "RING");
    fprintf(out,
            "  cluster %s, epoch %llu by %.12s, version %llu, %u partitions, N=%u, %u member%s\n",
            v->cluster, (unsigned long long)v->epoch, proposer, (unsigned long long)v->version,
            1u << v->q_bits, v->n, v->member_count, v->member_count == 1 ? "" : "s");
    members(d, out);
    if (v->epoch != 0)
        owners(v, out);
}

static void key(const struct dump *d, const char *text, FILE *out)
{
    const struct ring_view *v = &d->ring_view;
    struct position pos = position_of(slice_str(text));
    struct ring_walk walk;
    struct table t;

    title(out, "KEY");
    fprintf(out, "  key         %s\n  slot        %u\n  position    ", text, position_slot(&pos));
    for (int i = 0; i < POSITION_BYTES; i++)
        fprintf(out, "%02x", pos.b[i]);
    if (d->ring_err < 0 || v->epoch == 0) {
        fprintf(out, "\n  no ring has been published yet\n");
        return;
    }
    uint32_t partition = position_partition(&pos, v->q_bits);
    ring_walk_partition(v, partition, v->n, &walk);
    fprintf(out, "\n  partition   %u of %u, owned by %s\n", partition, 1u << v->q_bits,
            member_name(v, v->owner[partition]));
    table_begin(&t, ">#|node|role|state|>worker|client port|peer port");
    for (uint32_t i = 0; i < walk.count; i++) {
        const struct member *m = &v->members[walk.member[i]];
        uint16_t worker = ring_worker_of(partition, m->workers);

        table_add(&t, "%u", i + 1);
        table_add(&t, "%s", m->name);
        table_add(&t, "%s", i < walk.primaries ? "primary" : "fallback");
        table_add(&t, "%s", dump_member_state(m->state));
        table_add(&t, "%u", worker);
        table_add(&t, "%s:%u", m->address, m->worker_port + worker);
        table_add(&t, "%s:%u", m->address, m->peer_port + worker);
    }
    table_print(&t, out, NULL);
}

static void workers(const struct dump *d, FILE *out)
{
    struct table t;

    table_begin(&t, ">worker|state|>heartbeat|>cpu|>vnodes|>keys|>clients|>commands|>in flight|"
                    ">buffers|>journal|sleeping");
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        const struct worker_body *b = d->workers[i].body;
        uint64_t vnodes = 0, keys = 0;
        char text[6][TABLE_NUMBER];

        if (b == NULL)
            continue;
        for (uint32_t p = 0; p < b->partitions; p++) {
            if (atomic_load(&b->vnodes[p].state) == WORKER_VNODE_NONE)
                continue;
            vnodes++;
            keys += atomic_load(&b->vnodes[p].keys);
        }
        uint64_t beat = atomic_load(&b->heartbeat_us);
        const struct counter_block *c = &b->counters;
        table_add(&t, "%u", i);
        table_add(&t, "%s",
                  d->worker_alive[i] ? worker_seg_state_name(atomic_load(&b->state)) : "DEAD");
        if (!d->worker_alive[i] || beat == 0 || beat > d->now_mono_us)
            table_add(&t, "-");
        else
            table_add(&t, "%s ago", number_us(text[0], d->now_mono_us - beat));
        table_add(&t, "%u", b->cpu);
        table_add(&t, "%llu", (unsigned long long)vnodes);
        table_add(&t, "%s", number_count(text[1], keys));
        table_add(&t, "%s", number_count(text[2], counter_get(c, CTR_clients_current)));
        table_add(&t, "%s", number_count(text[3], counter_get(c, CTR_commands)));
        table_add(&t, "%s", number_count(text[4], counter_get(c, CTR_requests_in_flight)));
        table_add(&t, "%s", number_bytes(text[5], counter_get(c, CTR_store_buffer_bytes)));
        table_add(&t, "%s", number_bytes(text[0], counter_get(c, CTR_store_journal_bytes)));
        table_add(&t, "%s", atomic_load(&b->sleeping) ? "yes" : "no");
    }
    table_print(&t, out, "WORKERS");
}

/* The vnodes of the workers that were asked for by name. */
static void vnodes(const struct dump *d, const struct dump_wish *wish, FILE *out)
{
    struct table t;

    if (wish->name_count == 0)
        return;
    table_begin(&t, ">partition|>worker|state|>keys|>hints|>last dot|vnode id|merkle root");
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        const struct worker_body *b = d->workers[i].body;

        for (uint32_t p = 0; b != NULL && p < b->partitions; p++) {
            const struct worker_vnode *row = &b->vnodes[p];
            uint32_t state = atomic_load(&row->state);
            char text[3][TABLE_NUMBER];

            if (state == WORKER_VNODE_NONE)
                continue;
            table_add(&t, "%u", p);
            table_add(&t, "%u", i);
            table_add(&t, "%s", worker_seg_vnode_state_name(state));
            table_add(&t, "%s", number_count(text[0], atomic_load(&row->keys)));
            table_add(&t, "%s", number_count(text[1], atomic_load(&row->hints)));
            table_add(&t, "%s", number_count(text[2], atomic_load(&row->dot)));
            table_add(&t, "%016llx", (unsigned long long)atomic_load(&row->id));
            table_add(&t, "%016llx", (unsigned long long)atomic_load(&row->merkle_root));
        }
    }
    table_print(&t, out, "VNODES");
}

static void mailboxes(const struct dump *d, FILE *out)
{
    struct table t;

    table_begin(&t, "mailbox|>unread|>ring|>sent|>epochs|state");
    for (uint32_t from = 0; from < LIMIT_WORKERS; from++) {
        for (uint32_t to = 0; to < LIMIT_WORKERS; to++) {
            char text[3][TABLE_NUMBER];
            struct dump_ring r;

            if (!dump_mail(d, from, to, &r))
                continue;
            table_add(&t, "%u -> %u", from, to);
            table_add(&t, "%s", number_bytes(text[0], r.unread));
            table_add(&t, "%s", number_bytes(text[1], r.ring_bytes));
            table_add(&t, "%s", number_bytes(text[2], r.row.bytes));
            table_add(&t, "%llu", (unsigned long long)r.row.epochs);
            table_add(&t, "%s%s",
                      r.row.consumer == 0           ? "no reader yet"
                      : r.begun                     ? "read"
                      : d->workers[to].body == NULL ? "-" /* it was not asked for, or refused */
                                                    : "not read yet",
                      r.row.waiting ? ", writer waits for room" : "");
        }
    }
    table_print(&t, out, "MAILBOXES");
}

static void latency(const struct dump *d, FILE *out)
{
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    static struct hist h;
    struct table t;

    table_begin(&t, "latency|>count|>mean|>p50|>p90|>p99|>p99.9|>max");
    for (int i = 0; i < WORKER_HIST_COUNT; i++) {
        char text[TABLE_NUMBER];

        dump_latency(d, (enum worker_hist)i, &h);
        if (h.count == 0)
            continue;
        table_add(&t, "%s", worker_seg_hist_name((enum worker_hist)i));
        table_add(&t, "%s", number_count(text, h.count));
        table_add(&t, "%s", number_us(text, hist_mean_us(&h)));
        for (size_t k = 0; k < sizeof shares / sizeof shares[0]; k++)
            table_add(&t, "%s", number_us(text, hist_percentile_us(&h, shares[k])));
        table_add(&t, "%s", number_us(text, h.max_us));
    }
    table_print(&t, out, "LATENCY (all workers)");
}

static const char *value_text(char *out, const char *unit, uint64_t n)
{
    size_t len = strlen(unit);

    if (len >= 5 && strcmp(unit + len - 5, "bytes") == 0)
        return number_bytes(out, n);
    if (len >= 2 && strcmp(unit + len - 2, "us") == 0)
        return number_us(out, n);
    return number_count(out, n);
}

/* The counters of all workers side by side, those that are zero everywhere left out. */
static void worker_counters(const struct dump *d, FILE *out)
{
    enum { SIDE_BY_SIDE = 8 };
    uint64_t sums[COUNTER_COUNT] = {0};
    char heading[32 + SIDE_BY_SIDE * 16], text[TABLE_NUMBER];
    uint32_t shown[SIDE_BY_SIDE], count = 0, all = 0;
    struct table t;

    int at = snprintf(heading, sizeof heading, "counter|>all workers");
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        if (d->workers[i].body == NULL)
            continue;
        counter_sum(&d->workers[i].body->counters, sums);
        if (all++ < SIDE_BY_SIDE)
            shown[count++] = i;
    }
    if (all != count)
        count = 0; /* too many columns to read */
    for (uint32_t i = 0; i < count; i++)
        at += snprintf(heading + at, sizeof heading - (size_t)at, "|>worker %u", shown[i]);
    table_begin(&t, heading);
    for (uint32_t c = 0; c < COUNTER_COUNT; c++) {
        if (sums[c] == 0)
            continue;
        const char *unit = counter_unit((enum counter)c);
        table_add(&t, "%s", counter_name((enum counter)c));
        table_add(&t, "%s", value_text(text, unit, sums[c]));
        for (uint32_t i = 0; i < count; i++)
            table_add(
                &t, "%s",
                value_text(text, unit,
                           counter_get(&d->workers[shown[i]].body->counters, (enum counter)c)));
    }
    table_print(&t, out, "COUNTERS of the workers (zeros left out)");
}

/* The counters of one file as it describes them itself: works for every build. */
static void file_counters(const struct dump_file *f, FILE *out)
{
    const struct counter_block *b = dump_counters(f);
    char heading[DUMP_NAME + 64], text[TABLE_NUMBER];
    struct table t;

    if (b == NULL || (f->kind == SEGMENT_WORKER && f->layout_known))
        return;
    table_begin(&t, "counter|>value");
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t n = counter_value_at(b, i);
        const struct counter_desc *desc = counter_desc_at(b, i);

        if (n == 0)
            continue;
        table_add(&t, "%s", desc->name);
        table_add(&t, "%s", value_text(text, desc->unit, n));
    }
    snprintf(heading, sizeof heading, "COUNTERS of %s (zeros left out)", f->name);
    table_print(&t, out, heading);
}

static void gossip(const struct dump *d, FILE *out)
{
    const struct gossip_view *v = &d->gossip_view;
    struct table t;

    if (d->gossip_err < 0)
        return;
    table_begin(&t, "health|state|>for|>last answer|>round trip|>suspected|>workers say down|"
                    ">incarnation|gossip address");
    for (uint32_t i = 0; i < v->member_count; i++) {
        const struct gossip_member *m = &v->members[i];
        char text[3][TABLE_NUMBER];

        table_add(&t, "%s", m->name);
        table_add(&t, "%s", dump_member_state(m->state));
        table_add(&t, "%s",
                  m->since_ms == 0 ? "-" : number_duration(text[0], since(d, m->since_ms)));
        if (m->last_heard_ms == 0)
            table_add(&t, "-");
        else
            table_add(&t, "%s ago", number_duration(text[1], since(d, m->last_heard_ms)));
        table_add(&t, "%s", m->rtt_us == 0 ? "-" : number_us(text[2], m->rtt_us));
        table_add(&t, "%u", m->suspicions);
        table_add(&t, "%u", m->verdicts_down);
        table_add(&t, "%llu", (unsigned long long)m->incarnation);
        table_add(&t, "%s:%u", m->address, m->gossip_port);
    }
    table_print(&t, out, "GOSSIP");
    if (v->health > 0)
        fprintf(out, "  this node's own health is %u (0 is good): it doubts its verdicts\n",
                v->health);
}

static void repair(const struct dump *d, FILE *out)
{
    const struct repair_body *b = d->repair.body;
    struct table t;

    table_begin(&t, ">partition|peer|state|>rounds|>repaired|>newest round|>sent|last agreement");
    for (uint32_t i = 0; b != NULL && i < b->partitions * b->replicas; i++) {
        const struct repair_row *row = &b->rows[i];
        uint32_t state = atomic_load(&row->state);
        char text[3][TABLE_NUMBER];

        if (state == REPAIR_ROW_NONE)
            continue;
        table_add(&t, "%u", i / b->replicas);
        table_add(&t, "%012llx", (unsigned long long)atomic_load(&row->peer_high) >> 16);
        table_add(&t, "%s", repair_seg_row_state_name(state));
        table_add(&t, "%s", number_count(text[0], atomic_load(&row->rounds)));
        table_add(&t, "%s", number_count(text[1], atomic_load(&row->keys_repaired)));
        table_add(&t, "%u", atomic_load(&row->differences));
        table_add(&t, "%s", number_bytes(text[2], atomic_load(&row->bytes)));
        table_add(&t, "%s", number_time(text[0], atomic_load(&row->last_agreement_ms)));
    }
    table_print(&t, out, "REPAIR");
}

void dump_text(const struct dump *d, const struct dump_wish *wish, FILE *out)
{
    files(d, out);
    node(d, out);
    ring(d, out);
    if (wish->key != NULL)
        key(d, wish->key, out);
    gossip(d, out);
    workers(d, out);
    vnodes(d, wish, out);
    mailboxes(d, out);
    latency(d, out);
    worker_counters(d, out);
    for (uint32_t i = 0; i < d->file_count; i++)
        file_counters(&d->files[i], out);
    repair(d, out);
}
