/* Vnodes of which a process has died. LMDB trusts its files: a damaged page can make it touch what is not
 * there. So whoever dies while writing a vnode, or of a bad memory access inside the map of any, leaves
 * a note, and the next start sets that vnode aside instead of dying of it again. A damaged page may lead
 * out of its own map into a neighbour's: so to blame is the vnode that was being written or that was read
 * last, whosever map it was.
 *
 * DATA_DIR/journal/<worker>/suspects: partitions, 4 bytes each, little-endian. */
#ifndef CLOCKWISE_STORE_SUSPECT_H
#define CLOCKWISE_STORE_SUSPECT_H

#include <stdint.h>

#define SUSPECT_NONE UINT32_MAX

/* Move the vnodes noted in this journal folder to quarantine, adding their number to *count, forget the
 * notes, and take notes there from now on (the process must have called check_install_handlers()).
 * Before any vnode is opened. Blocks. -ERR_IO, -ERR_DISKFULL. */
int suspect_take(const char *journal_dir, const char *data_dir, uint64_t *count);

/* This thread begins to write or to open the vnode of this partition; SUSPECT_NONE: it has ended. Returns
 * what it was at before. */
uint32_t suspect_working(uint32_t partition);
/* This thread reads the vnode of this partition, and what it was given may lie there until it reads another. */
void suspect_reading(uint32_t partition);

/* Note a partition. Async-signal-safe. */
void suspect_note(uint32_t partition);

#endif
