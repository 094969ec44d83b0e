/* Random numbers. rand_bytes and rand_id are the only ones that make a system call. */
#include "base/rand.h"

#include "base/check.h"

#include <errno.h>
#include <sys/random.h>

void rand_bytes(void *buf, size_t len)
{
    uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            check_panic("getrandom failed: errno %d", errno);
        p += n;
        len -= (size_t)n;
    }
}

uint64_t rand_id(void)
{
    uint64_t id = 0;

    while (id == 0)
        rand_bytes(&id, sizeof id);
    return id;
}

void rand_seed(struct rand *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64 spreads a small seed over the whole state */
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rand_next(struct rand *r)
{
    uint64_t result = rotl(r->s[1] * 5, 7) * 9;
    uint64_t t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotl(r->s[3], 45);
    return result;
}

uint64_t rand_below(struct rand *r, uint64_t bound)
{
    ASSERT(bound > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    uint64_t x;

    do
        x = rand_next(r);
    while (x >= limit);
    return x % bound;
}

int rand_chance(struct rand *r, uint32_t per_million)
{
    return rand_below(r, 1000000) < per_million;
}
