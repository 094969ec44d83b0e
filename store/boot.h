/* Which boot of the machine a journal belongs to. What a process had handed to the kernel survives its
 * death, but not that of the kernel: a journal without a clean end that was written under another boot
 * may have lost records, and others may have heard of those.
 *
 * DATA_DIR/journal/<worker>/boot: one line of text, "clockwise-boot ID". */
#ifndef CLOCKWISE_STORE_BOOT_H
#define CLOCKWISE_STORE_BOOT_H

#include <stdbool.h>

#define BOOT_ID 64 /* room for an id as text, with the final 0 */

/* The id of the running kernel's boot; empty, with a warning in the log, if it does not tell: then every
 * start counts as another boot. */
void boot_read_id(char out[BOOT_ID]);

/* Was the journal in this folder last opened under this very boot? Blocks for a read. */
bool boot_is_same(const char *journal_dir, const char *id);

/* Note durably that the journal is open under this boot. Only after whatever a change of boot calls for
 * is durable. Does nothing if that is what the file says. Blocks for syncs. -ERR_IO, -ERR_DISKFULL. */
int boot_note(const char *journal_dir, const char *id);

#endif
