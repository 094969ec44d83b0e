/* A walk over msgpack bytes from outside, before any decoder allocates for them: five bytes can
 * declare an array of four thousand million elements. Pure. */
#ifndef CLOCKWISE_IPC_MSG_CHECK_H
#define CLOCKWISE_IPC_MSG_CHECK_H

#include "base/slice.h"

/* Length of the first msgpack value in `in` (> 0), or 0 if it is malformed: cut off, nested deeper
 * than LIMIT_MSG_DEPTH, declaring more elements or bytes than remain, or more than
 * MSG_CHECK_ELEMENTS elements altogether, or using the reserved byte 0xc1. */
size_t msg_check_value(struct slice in);

/* Elements of all arrays and maps of one message; bounds the decoder's memory. */
#define MSG_CHECK_ELEMENTS 4096

#endif
