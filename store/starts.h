/* Start numbers: each start of a store on a data directory takes one, never taken before. A vnode's
 * dots of one start begin at the start number times STARTS_DOTS, so that opening a vnode after a
 * crash needs no sync of its own: one sync of one small file serves for all of them.
 *
 * DATA_DIR/starts: 8 bytes start number last taken, 8 bytes hash64 of them; little-endian. */
#ifndef CLOCKWISE_STORE_STARTS_H
#define CLOCKWISE_STORE_STARTS_H

#include <stdint.h>

#define STARTS_DOTS (1ull << 24) /* dot numbers that a start brings to each vnode */

/* Take the next start number, durably. A file that is damaged, or missing beside vnodes, is replaced
 * by one that starts from the wall clock: later than anything a counter can have reached. Blocks for
 * a sync and for other workers that do the same. -ERR_IO, -ERR_DISKFULL. */
int starts_take(const char *data_dir, uint64_t *out);

#endif
