/* node.seg: written by the supervisor, read by tools and INFO. */
#include "shm/node_seg.h"

#include "base/err.h"

#include <string.h>

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct node_view, id),
    SEGMENT_FIELD(struct node_view, name),
    SEGMENT_FIELD(struct node_view, cluster),
    SEGMENT_FIELD(struct node_view, zone),
    SEGMENT_FIELD(struct node_view, address),
    SEGMENT_FIELD(struct node_view, port),
    SEGMENT_FIELD(struct node_view, worker_port),
    SEGMENT_FIELD(struct node_view, peer_port),
    SEGMENT_FIELD(struct node_view, gossip_port),
    SEGMENT_FIELD(struct node_view, workers),
    SEGMENT_FIELD(struct node_view, q_bits),
    SEGMENT_FIELD(struct node_view, n),
    SEGMENT_FIELD(struct node_view, r),
    SEGMENT_FIELD(struct node_view, w),
    SEGMENT_FIELD(struct node_view, durability),
    SEGMENT_FIELD(struct node_view, data_dir),
    SEGMENT_FIELD(struct node_view, runtime_dir),
    SEGMENT_FIELD(struct node_view, config_file),
    SEGMENT_FIELD(struct node_view, status),
    SEGMENT_FIELD(struct node_view, supervisor_pid),
    SEGMENT_FIELD(struct node_view, child_count),
    SEGMENT_FIELD(struct node_view, started_ms),
    SEGMENT_FIELD(struct node_view, children),
    SEGMENT_FIELD(struct node_child, role),
    SEGMENT_FIELD(struct node_child, index),
    SEGMENT_FIELD(struct node_child, pid),
    SEGMENT_FIELD(struct node_child, state),
    SEGMENT_FIELD(struct node_child, restarts),
    SEGMENT_FIELD(struct node_child, incarnation),
    SEGMENT_FIELD(struct node_child, since_ms),
    SEGMENT_FIELD(struct node_child, status),
    SEGMENT_FIELD(struct node_child, last_exit),
};

#define VIEW_BYTES  SLOT_BYTES(sizeof(struct node_view))
#define COUNTERS_AT (sizeof(struct segment_header) + VIEW_BYTES)

static struct segment_spec spec(void)
{
    return (struct segment_spec){
        .kind = SEGMENT_NODE,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct node_view), counter_fingerprint()),
        .length = COUNTERS_AT + sizeof(struct counter_block),
        .counters_at = COUNTERS_AT,
    };
}

static struct slot_pair *slots(const struct node_seg *n)
{
    return segment_body(&n->segment);
}

struct counter_block *node_seg_counters(const struct node_seg *n)
{
    return (struct counter_block *)((uint8_t *)segment_body(&n->segment) + VIEW_BYTES);
}

int node_seg_create(struct node_seg *n, const char *dir, uint64_t incarnation,
                    const struct node_view *first)
{
    struct segment_spec s = spec();
    int err = segment_create(&n->segment, dir, "node.seg", &s, incarnation);

    if (err < 0)
        return err;
    counter_init(node_seg_counters(n));
    node_seg_publish(n, first);
    err = segment_publish(&n->segment);
    if (err < 0)
        node_seg_close(n);
    return err;
}

void node_seg_publish(struct node_seg *n, const struct node_view *v)
{
    slot_publish(slots(n), sizeof *v, v, sizeof *v);
}

int node_seg_attach(struct node_seg *n, const char *dir)
{
    struct segment_spec s = spec();

    return segment_attach(&n->segment, dir, "node.seg", &s);
}

int node_seg_refresh(struct node_seg *n)
{
    return segment_reattach_if_replaced(&n->segment);
}

#define END_TEXT(a) ((a)[sizeof(a) - 1] = 0)

static void end_texts(struct node_view *v)
{
    END_TEXT(v->name);
    END_TEXT(v->cluster);
    END_TEXT(v->zone);
    END_TEXT(v->address);
    END_TEXT(v->durability);
    END_TEXT(v->data_dir);
    END_TEXT(v->runtime_dir);
    END_TEXT(v->config_file);
    END_TEXT(v->status);
    for (uint32_t i = 0; i < NODE_SEG_CHILDREN; i++) {
        END_TEXT(v->children[i].role);
        END_TEXT(v->children[i].status);
        END_TEXT(v->children[i].last_exit);
    }
}

int node_seg_read(const struct node_seg *n, struct node_view *out)
{
    uint64_t generation;
    size_t len;

    if (!segment_mapped(&n->segment))
        return -ERR_NOTFOUND;
    int err = slot_read(slots(n), sizeof *out, out, &len, &generation);
    if (err < 0)
        return err;
    end_texts(out);
    return len == sizeof *out && out->child_count <= NODE_SEG_CHILDREN ? 0 : -ERR_CORRUPT;
}

void node_seg_close(struct node_seg *n)
{
    segment_close(&n->segment);
}

const char *node_seg_child_state_name(uint32_t state)
{
    static const char *const names[] = {"none",    "starting", "ready",  "stopping",
                                        "waiting", "failed",   "stopped"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
