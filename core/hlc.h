/* Hybrid logical clock: time stamps that follow the wall clock and never run backwards, not even
 * when it jumps (Kulkarni et al., "Logical Physical Clocks", 2014). Pure: the wall clock is told.
 *
 * A stamp is milliseconds since 1970 << 16 | a logical part that counts events within and beyond
 * the millisecond; it overflows into the milliseconds, which is harmless. Stamps choose the
 * winner of a plain GET, and of a write that was carried out twice the execution that counts; causality
 * is the business of dots. */
#ifndef CLOCKWISE_CORE_HLC_H
#define CLOCKWISE_CORE_HLC_H

#include <stdbool.h>
#include <stdint.h>

/* A remote stamp further ahead of the wall clock than this is not adopted: one node with a clock in
 * the next century must not drag every other along. */
#define HLC_MAX_AHEAD_MS 60000u

/* All zero is a valid clock that has seen nothing. */
struct hlc {
    uint64_t last; /* the highest stamp issued or adopted */
};

/* A stamp above every one issued or adopted before. */
uint64_t hlc_now(struct hlc *h, uint64_t wall_ms);

/* Take note of another node's stamp: later stamps of this clock will be above it. false if it lies
 * more than HLC_MAX_AHEAD_MS ahead of the wall clock; the clock is then unchanged. */
bool hlc_observe(struct hlc *h, uint64_t remote, uint64_t wall_ms);

/* Milliseconds since 1970 of a stamp. */
static inline uint64_t hlc_ms(uint64_t stamp)
{
    return stamp >> 16;
}

#endif
