/* Vnodes of which a process has died. LMDB trusts its files: a damaged page can make it touch what is not
 * there. So whoever dies of a bad memory access inside the map of a vnode, or while writing one, leaves
 * a note of it, and the next start sets that vnode aside instead of dying of it again.
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

/* This thread begins to write the vnode of this partition; SUSPECT_NONE: it has ended. */
void suspect_working(uint32_t partition);

/* Note a partition. Async-signal-safe. */
void suspect_note(uint32_t partition);

#endif
