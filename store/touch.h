/* The note of when this node was last in touch with others of its ring: the file in-touch in the data
 * directory. Written by antientropyd, read by workers when they start. Blocks. */
#ifndef CLOCKWISE_STORE_TOUCH_H
#define CLOCKWISE_STORE_TOUCH_H

#include <stdint.h>

/* Wall time in ms, and the ring's epoch then. -ERR_NOTFOUND, -ERR_CORRUPT, or what the system says. */
int store_touch_load(const char *data_dir, uint64_t *epoch, uint64_t *ms);
int store_touch_save(const char *data_dir, uint64_t epoch, uint64_t ms);

#endif
