/* Versions of what nodes say to each other: one number for gossip, the links of workers and those of
 * antientropyds. Every node announces the oldest and the newest version that it speaks, in NEWS of
 * itself and in each HELLO; two speak the newest that both know, and what concerns the whole cluster
 * waits until all know it. So nodes are replaced by a newer build one at a time. Pure. */
#ifndef CLOCKWISE_CORE_PROTOCOL_H
#define CLOCKWISE_CORE_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_OLDEST 1 /* that this build speaks */
#define PROTOCOL_NEWEST 2

#define PROTOCOL_CHANGES 2 /* the first version that knows how a ring is changed: STEPS, STAGED */
#define PROTOCOL_SHOW    2 /* the first version that knows SHOW and SHOWN */

struct protocol_range {
    uint8_t oldest, newest;
};

/* What two speak with each other; 0: they have no version in common. */
static inline uint8_t protocol_common(struct protocol_range a, struct protocol_range b)
{
    uint8_t newest = a.newest < b.newest ? a.newest : b.newest;

    return newest < a.oldest || newest < b.oldest ? 0 : newest;
}

/* A range as HELLO has it: the newest, and the oldest above its 16 bits. A build of version 1 says its
 * newest alone. */
static inline uint32_t protocol_pack(struct protocol_range r)
{
    return (uint32_t)r.oldest << 16 | r.newest;
}

/* Numbers that do not fit end as a range with which nobody has anything in common. */
static inline struct protocol_range protocol_unpack(uint32_t packed)
{
    uint32_t newest = packed & 0xffff, oldest = packed >> 16;

    return (struct protocol_range){
        .oldest = (uint8_t)(oldest > UINT8_MAX ? UINT8_MAX
                            : oldest > 0       ? oldest
                                               : 1),
        .newest = (uint8_t)(oldest > UINT8_MAX   ? 0
                            : newest > UINT8_MAX ? UINT8_MAX
                                                 : newest),
    };
}

#endif
