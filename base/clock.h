/* The only file that reads a clock. Everything else is told the time. */
#ifndef CLOCKWISE_BASE_CLOCK_H
#define CLOCKWISE_BASE_CLOCK_H

#include <stdint.h>

/* Microseconds of the monotonic clock: for timers and latencies; meaningless across machines. */
uint64_t clock_mono_us(void);

/* Milliseconds since 1970 of the wall clock: for expiry and for people; may jump. */
uint64_t clock_wall_ms(void);

/* Microseconds since 1970 of the wall clock. */
uint64_t clock_wall_us(void);

#endif
