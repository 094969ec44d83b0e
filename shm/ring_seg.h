/* ring.seg: the ring view as gossipd publishes it. Written by gossipd alone; read by workers,
 * antientropyd, tools.
 *
 *   offset field   who changes it; why a stale read is harmless
 *   0      slots   gossipd, through slot_publish(): one struct ring_view of core/ring.h. A reader
 *                  with an old view sends to an old owner, who answers with its newer epoch
 *
 * Offset from the start of the body. */
#ifndef CLOCKWISE_SHM_RING_SEG_H
#define CLOCKWISE_SHM_RING_SEG_H

#include "core/ring.h"
#include "shm/segment.h"
#include "shm/slot.h"

struct ring_seg {
    struct segment segment;
    uint64_t seen; /* reader: generation of the last view that was read */
};

/* Writer: make and publish ring.seg, with a first view unless it is NULL. Errors as of
 * segment_create(). */
int ring_seg_create(struct ring_seg *r, const char *dir, uint64_t incarnation,
                    const struct ring_view *first);
/* Writer: make v the current view. */
void ring_seg_publish(struct ring_seg *r, const struct ring_view *v);

/* Reader: errors as of segment_attach(). */
int ring_seg_attach(struct ring_seg *r, const char *dir);
/* Reader: follow a restarted gossipd to its new file. As segment_reattach_if_replaced(); after a 1,
 * ring_seg_changed() is true as soon as the new one has published. */
int ring_seg_refresh(struct ring_seg *r);
/* Reader: is there a view that ring_seg_read() has not returned yet? One atomic load. */
static inline bool ring_seg_changed(const struct ring_seg *r)
{
    return segment_mapped(&r->segment) &&
           slot_generation((const struct slot_pair *)segment_body(&r->segment)) != r->seen;
}
/* Reader: copy the current view. 0, and ring_seg_changed() is false until the next publication;
 * -ERR_NOTFOUND if there is none yet; -ERR_CORRUPT if it is damaged or not ring_view_valid(). */
int ring_seg_read(struct ring_seg *r, struct ring_view *out);

void ring_seg_close(struct ring_seg *r);

#endif
