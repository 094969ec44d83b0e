/* Looks at a runtime directory for clockwise-shmdump. Maps read-only, asks nobody, changes nothing.
 */
#include "tools/lib_dump.h"

#include "base/clock.h"
#include "base/err.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *stem;
    enum segment_kind kind;
    bool numbered;
} known[] = {{"node", SEGMENT_NODE, false},     {"ring", SEGMENT_RING, false},
             {"gossip", SEGMENT_GOSSIP, false}, {"repair", SEGMENT_REPAIR, false},
             {"worker-", SEGMENT_WORKER, true}, {"mail-", SEGMENT_MAIL, true}};

/* Which segment does a file name stand for? */
static void judge_name(struct dump_file *f)
{
    size_t len = strlen(f->name) - strlen(".seg");

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t stem = strlen(known[i].stem);
        char *end = NULL;

        if (len < stem || strncmp(f->name, known[i].stem, stem) != 0)
            continue;
        unsigned long n = known[i].numbered ? strtoul(f->name + stem, &end, 10) : 0;
        if (known[i].numbered ? len == stem || end != f->name + len || n >= LIMIT_WORKERS
                              : len != stem)
            continue;
        f->kind = (uint32_t)known[i].kind;
        f->index = (uint32_t)n;
    }
}

static void end_member_texts(struct ring_view *v)
{
    v->cluster[LIMIT_NAME - 1] = 0;
    for (uint32_t i = 0; i < LIMIT_MEMBERS; i++) {
        v->members[i].name[LIMIT_NAME - 1] = 0;
        v->members[i].zone[LIMIT_NAME - 1] = 0;
        v->members[i].address[LIMIT_ADDR - 1] = 0;
    }
}

/* What the segment has published. Nothing yet is no fault of the segment's. */
static int read_published(struct dump *d, struct dump_file *f)
{
    int err = 0;

    switch (f->kind) {
    case SEGMENT_NODE:
        err = d->node_err = node_seg_read(&d->node, &d->node_view);
        break;
    case SEGMENT_RING:
        err = d->ring_err = ring_seg_read(&d->ring, &d->ring_view);
        end_member_texts(&d->ring_view);
        break;
    case SEGMENT_GOSSIP:
        err = d->gossip_err = gossip_seg_read(&d->gossip, &d->gossip_view);
        break;
    }
    if (err == -ERR_CORRUPT)
        snprintf(f->why, sizeof f->why, "neither of its two slots holds a whole value");
    return err == -ERR_NOTFOUND ? 0 : err;
}

static int attach_known(struct dump *d, struct dump_file *f, struct segment **seg)
{
    switch (f->kind) {
    case SEGMENT_NODE:
        *seg = &d->node.segment;
        return node_seg_attach(&d->node, d->dir);
    case SEGMENT_RING:
        *seg = &d->ring.segment;
        return ring_seg_attach(&d->ring, d->dir);
    case SEGMENT_GOSSIP:
        *seg = &d->gossip.segment;
        return gossip_seg_attach(&d->gossip, d->dir);
    case SEGMENT_REPAIR:
        *seg = &d->repair.segment;
        return repair_seg_attach(&d->repair, d->dir);
    case SEGMENT_WORKER:
        *seg = &d->workers[f->index].segment;
        return worker_seg_attach(&d->workers[f->index], d->dir, f->index);
    default:
        *seg = &d->mail[f->index];
        return mailbox_view_attach(&d->mail[f->index], d->dir, f->index);
    }
}

/* Its layout is another build's, but its header and its counters say what they are. */
static void attach_other(struct dump *d, struct dump_file *f)
{
    struct segment_spec spec = {.kind = (enum segment_kind)f->kind, .index = f->index};

    if (segment_attach(&f->other, d->dir, f->name, &spec) == 0)
        f->seg = &f->other;
}

static void load_file(struct dump *d, struct dump_file *f)
{
    struct segment *seg = NULL;

    if (f->kind == 0) {
        f->err = -ERR_FORMAT;
        snprintf(f->why, sizeof f->why, "no segment of Clockwise has this name");
        return;
    }
    f->err = attach_known(d, f, &seg);
    if (f->err < 0)
        snprintf(f->why, sizeof f->why, "%s", seg->why);
    if (f->err == -ERR_VERSION)
        attach_other(d, f);
    if (f->err == 0) {
        f->seg = seg;
        f->layout_known = true;
        f->err = read_published(d, f);
    }
    f->alive = f->seg != NULL && segment_writer_alive(f->seg);
    if (f->kind == SEGMENT_WORKER)
        d->worker_alive[f->index] = f->alive;
}

static bool wished(const struct dump_wish *wish, const char *file)
{
    size_t len = strlen(file) - strlen(".seg");

    for (uint32_t i = 0; i < wish->name_count; i++) {
        const char *name = wish->names[i];

        if (strcmp(name, file) == 0 || (strlen(name) == len && strncmp(name, file, len) == 0))
            return true;
    }
    /* A key is found by means of the ring. */
    return wish->name_count == 0 || (wish->key != NULL && strcmp(file, "ring.seg") == 0);
}

/* Kinds in the order of their numbers, then by index; files that are not ours come last. */
static int compare_files(const void *a, const void *b)
{
    const struct dump_file *x = a, *y = b;
    uint32_t kind_x = x->kind - 1, kind_y = y->kind - 1;

    if (kind_x != kind_y)
        return kind_x < kind_y ? -1 : 1;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int list_files(struct dump *d, const struct dump_wish *wish)
{
    DIR *dir = opendir(d->dir);
    struct dirent *e;

    if (dir == NULL)
        return -ERR_NOTFOUND;
    while ((e = readdir(dir)) != NULL && d->file_count < DUMP_FILES) {
        size_t len = strlen(e->d_name);
        struct dump_file *f = &d->files[d->file_count];

        if (len <= 4 || len >= sizeof f->name || strcmp(e->d_name + len - 4, ".seg") != 0 ||
            !wished(wish, e->d_name))
            continue;
        memcpy(f->name, e->d_name, len + 1);
        judge_name(f);
        d->file_count++;
    }
    closedir(dir);
    return 0;
}

/* A segment that was asked for by name and is not there is reported like a refused one. */
static void add_missing(struct dump *d, const struct dump_wish *wish)
{
    for (uint32_t i = 0; i < wish->name_count; i++) {
        const struct dump_wish one = {.names = &wish->names[i], .name_count = 1};
        bool found = false;

        for (uint32_t k = 0; k < d->file_count; k++)
            found = found || wished(&one, d->files[k].name);
        if (found || d->file_count == DUMP_FILES)
            continue;
        struct dump_file *f = &d->files[d->file_count++];
        snprintf(f->name, sizeof f->name, "%.56s", wish->names[i]);
        f->err = -ERR_NOTFOUND;
        snprintf(f->why, sizeof f->why, "no such segment in this directory");
    }
}

int dump_load(struct dump *d, const char *dir, const struct dump_wish *wish)
{
    memset(d, 0, sizeof *d);
    snprintf(d->dir, sizeof d->dir, "%s", dir);
    d->now_ms = clock_wall_ms();
    d->now_mono_us = clock_mono_us();
    d->node_err = d->ring_err = d->gossip_err = -ERR_NOTFOUND;
    int err = list_files(d, wish);
    if (err < 0)
        return err;
    qsort(d->files, d->file_count, sizeof d->files[0], compare_files);
    for (uint32_t i = 0; i < d->file_count; i++)
        load_file(d, &d->files[i]);
    add_missing(d, wish);
    for (uint32_t i = 0; i < d->file_count; i++)
        d->refused += d->files[i].err < 0;
    return 0;
}

void dump_close(struct dump *d)
{
    node_seg_close(&d->node);
    ring_seg_close(&d->ring);
    gossip_seg_close(&d->gossip);
    repair_seg_close(&d->repair);
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        worker_seg_close(&d->workers[i]);
        segment_close(&d->mail[i]);
    }
    for (uint32_t i = 0; i < d->file_count; i++)
        segment_close(&d->files[i].other);
}

void dump_latency(const struct dump *d, enum worker_hist h, struct hist *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < LIMIT_WORKERS; i++) {
        if (d->workers[i].body != NULL)
            hist_merge(out, &d->workers[i].body->hists[h].hist);
    }
}

const struct counter_block *dump_counters(const struct dump_file *f)
{
    if (f->seg == NULL)
        return NULL;
    uint32_t at = f->seg->header->counters_at;
    if (at < sizeof(struct segment_header) || at % 8 != 0 || at >= f->seg->length)
        return NULL;
    const struct counter_block *b = (const void *)((const uint8_t *)f->seg->header + at);
    return counter_check(b, f->seg->length - at) == NULL ? b : NULL;
}

bool dump_mail(const struct dump *d, uint32_t from, uint32_t to, struct dump_ring *out)
{
    uint32_t workers;
    size_t bytes;

    if (from == to || !segment_mapped(&d->mail[from]))
        return false;
    mailbox_view_shape(&d->mail[from], &workers, &bytes);
    if (to >= workers)
        return false;
    mailbox_view_row(&d->mail[from], to, &out->row);
    out->ring_bytes = bytes;
    out->head = out->row.base;
    out->begun = false;
    const struct worker_seg *c = &d->workers[to];
    if (c->body != NULL && segment_incarnation(&c->segment) == out->row.consumer &&
        atomic_load(&c->body->inbox[from].producer_incarnation) ==
            segment_incarnation(&d->mail[from])) {
        out->begun = true;
        out->head = atomic_load(&c->body->inbox[from].head);
    }
    /* Both sides move on while they are looked at: the head was read after the tail. */
    out->unread = out->head > out->row.tail ? 0 : out->row.tail - out->head;
    return true;
}

const char *dump_member_state(uint32_t state)
{
    static const char *const names[] = {"alive", "suspect", "faulty", "left"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
