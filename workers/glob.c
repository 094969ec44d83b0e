/* Glob patterns as Redis has them. Runs in workers; pure. */
#include "workers/glob.h"

static uint8_t fold(uint8_t c, bool any_case)
{
    return any_case && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* "[a-z]" or "[^x]" at the start of *p; *p moves behind it. A missing ']' is taken as given. */
static bool match_class(struct slice *p, uint8_t c, bool any_case)
{
    size_t i = 1;
    bool negate = i < p->len && p->data[i] == '^', match = false;

    i += negate;
    for (; i < p->len && p->data[i] != ']'; i++) {
        uint8_t low, high;

        if (p->data[i] == '\\' && i + 1 < p->len)
            i++;
        low = high = fold(p->data[i], any_case);
        if (i + 2 < p->len && p->data[i + 1] == '-') {
            high = fold(p->data[i + 2], any_case);
            i += 2;
        }
        if (low > high) {
            uint8_t swap = low;
            low = high;
            high = swap;
        }
        match |= c >= low && c <= high;
    }
    if (i < p->len)
        i++;
    *p = slice_of(p->data + i, p->len - i);
    return match != negate;
}

/* One element of the pattern that is not a star against one byte; *p moves behind it. */
static bool match_one(struct slice *p, uint8_t byte, bool any_case)
{
    uint8_t c = fold(byte, any_case);
    size_t used = 1;

    if (p->data[0] == '[')
        return match_class(p, c, any_case);
    if (p->data[0] == '\\' && p->len > 1)
        used = 2;
    bool match = (used == 1 && p->data[0] == '?') || fold(p->data[used - 1], any_case) == c;
    *p = slice_of(p->data + used, p->len - used);
    return match;
}

bool glob_match(struct slice p, struct slice t, bool any_case)
{
    struct slice star_p = {NULL, 0}, star_t = {NULL, 0};
    size_t stars = 0, steps = 0; /* bytes of the pattern that were looked at, again and again */

    while (steps < GLOB_STEPS) {
        struct slice rest = p;
        bool match = false;

        if (p.len > 0 && p.data[0] == '*') {
            while (p.len > 0 && p.data[0] == '*')
                p = slice_of(p.data + 1, p.len - 1);
            if (p.len == 0)
                return true;
            if (++stars > GLOB_STARS)
                return false;
            star_p = p;
            star_t = t;
            continue;
        }
        if (t.len == 0 && p.len == 0)
            return true;
        if (t.len > 0 && p.len > 0)
            match = match_one(&rest, t.data[0], any_case);
        steps += p.len - rest.len + 1;
        if (match) {
            p = rest;
            t = slice_of(t.data + 1, t.len - 1);
        } else if (star_p.data != NULL && star_t.len > 0) {
            /* Let the last star take one byte more: linear memory, at most pattern times text. */
            star_t = slice_of(star_t.data + 1, star_t.len - 1);
            t = star_t;
            p = star_p;
        } else {
            return false;
        }
    }
    return false;
}
