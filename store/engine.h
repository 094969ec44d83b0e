/* Inside of struct store, shared by store.c, records.c, writeback.c, repair.c, recover.c and scan.c alone. */
#ifndef CLOCKWISE_STORE_ENGINE_H
#define CLOCKWISE_STORE_ENGINE_H

#include "store/boot.h"
#include "store/bucket.h"
#include "store/flusher.h"
#include "store/journal.h"
#include "store/journal_read.h"
#include "store/store.h"
#include "store/vnode.h"

#include <stdatomic.h>

enum {
    ENGINE_MAGIC = 0x53544f52,
    ENGINE_FLUSHING = 4,     /* vnodes with a frozen buffer at a time */
    ENGINE_PRESSURE_AT = 90, /* percent of the bound of buffers at which clients are slowed down */
};

struct store {
    uint32_t magic;
    struct store_conf conf;
    char data_dir[512], journal_dir[768];
    char boot_id[BOOT_ID];
    struct vnode_conf vnode_conf;
    struct flush_conf flush_conf;
    struct vnode **vnodes; /* by partition */
    uint32_t partitions, open_count;
    struct wbuf_pool pool;
    struct journal *journal; /* NULL while recovering */
    uint64_t least_lsn;      /* that the journal to be recovered had reached for certain */
    struct flusher *flusher;
    int event_fd;
    _Atomic bool armed; /* the loop wants the event descriptor written */

    struct vnode *oldest, *newest; /* vnodes with live writes */
    struct vnode *flushing[ENGINE_FLUSHING];
    uint32_t flushing_count;
    uint64_t flushing_bytes;
    struct vnode *readers; /* vnodes whose reader holds a snapshot */
    uint32_t expiry_at;    /* partition to look at next */
    uint64_t now_us, now_ms;
    /* The disk was too full for new ids: the next start must see that they are due. */
    bool unrenewed;
    bool away;    /* vnodes that are opened have been out of touch */
    bool pressed; /* pressure at the newest turn */
    bool filling; /* the buffers, faster than they are flushed */
    bool sparing; /* the CPU is short */
    struct store_stats stats;
    struct bucket_reader reader; /* scratch */
    struct buf nothing;          /* scratch: a row to be removed */
};

/* The open vnode of a partition, or NULL. */
static inline struct vnode *engine_vnode(const struct store *s, uint32_t partition)
{
    return partition < s->partitions ? s->vnodes[partition] : NULL;
}

/* Everything of a store but its threads: folders, tables. recover.c fills it. */
int engine_init(struct store *s, const struct store_conf *conf);
/* Close all vnodes and free what engine_init() made. */
void engine_fini(struct store *s);

/* Put a vnode into the table, opening it. As store_vnode_open(). */
int engine_open_vnode(struct store *s, uint32_t partition, bool create);

/* Insert into the live buffer of a vnode and note that it stands for this LSN. */
int engine_buffer_object(struct store *s, struct vnode *v, const struct position *pos,
                         struct slice object);
int engine_buffer_hint(struct store *s, struct vnode *v, const uint8_t target[16],
                       const struct position *pos, uint64_t time_ms, bool add);
void engine_note_write(struct store *s, struct vnode *v, uint64_t lsn);
/* Forget the live writes of a vnode. */
void engine_drop_live(struct store *s, struct vnode *v);

/* Give a vnode to the flush thread, or note what is wanted until it comes back. */
void engine_submit(struct store *s, struct vnode *v, unsigned todo);

/* Freeze the live buffers of a vnode that is neither busy nor frozen. */
void engine_freeze(struct store *s, struct vnode *v);
/* Are there buffers that cannot be flushed because the disk is full? */
bool engine_flush_is_stuck(const struct store *s);
/* Take over what a flush has brought. */
void engine_collect(struct store *s, struct vnode *v);

/* Replay this worker's journal into live buffers, flushing when they are full; r describes the
 * journal afterwards and is the caller's to free. Used before the threads exist. */
int recover_journal(struct store *s, const char *dir, uint32_t worker, struct journal_replay *r);

/* Let go of the snapshots of vnodes that the flush thread has. */
void engine_reset_readers(struct store *s);
/* Note that a snapshot of v is held. */
void engine_note_reader(struct store *s, struct vnode *v);

/* Reading v's file has failed with err, which is returned. If the file is damaged, v gets an empty one
 * and a new id, and is not read until then. What reading has shown is void after this. */
int engine_read_failed(struct store *s, struct vnode *v, int err);

/* A row of v is damaged: have it removed and a new id taken. Lets go of the snapshot. */
void engine_damaged(struct store *s, struct vnode *v, const struct position *pos);

#endif
