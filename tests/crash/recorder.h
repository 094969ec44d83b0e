/* A disk that forgets. While recording, every system call that changes files below one folder is
 * noted (the recorder defines pwrite, fdatasync, rename, ... itself, so LMDB's calls are noted as
 * well). From the notes, any state that a power cut at any moment could leave can be made:
 *
 *   - of the writes to a file since its last sync, any subset is there; of each of them all, nothing
 *     or any set of its 512-byte sectors;
 *   - of the changes of names (create, rename, unlink, mkdir), all up to the last sync of a folder
 *     that concerns them, and then any number of the following ones, in order. */
#ifndef CLOCKWISE_TESTS_CRASH_RECORDER_H
#define CLOCKWISE_TESTS_CRASH_RECORDER_H

#include "base/rand.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Forget all notes, take the files that are below `dir` now as durable, note what happens. */
void recorder_begin(const char *dir);
void recorder_end(void);

/* How many notes there are; an index into them is a moment. Thread-safe. */
size_t recorder_now(void);

/* Make the folder `out` (must not exist) as a power cut at the moment `at` could have left it. */
void recorder_make(const char *out, size_t at, struct rand *r);

/* Remove a folder and all below it. */
void recorder_remove(const char *path);

#endif
