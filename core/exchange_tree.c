/* The tree as an exchange sees it: which positions a node stands for, and what its children add up to.
 * See exchange.h. */
#include "core/exchange_impl.h"

/* The top 64 bits of a position are all that nodes are about. */
static void set_high(struct position *pos, uint64_t high, uint8_t low)
{
    for (int i = 0; i < 8; i++)
        pos->b[i] = (uint8_t)(high >> (56 - 8 * i));
    memset(pos->b + 8, low, POSITION_BYTES - 8);
}

static uint64_t high_of(const struct position *pos)
{
    uint64_t high = 0;

    for (int i = 0; i < 8; i++)
        high = high << 8 | pos->b[i];
    return high;
}

bool exchange_node_valid(uint32_t index, unsigned bits)
{
    return bits <= EXCHANGE_BITS && bits % EXCHANGE_FAN == 0 && (uint64_t)index >> bits == 0;
}

void exchange_node_range(const struct exchange *x, const struct node *n, struct position *first,
                         struct position *last)
{
    unsigned deep = x->mine.q_bits + n->bits;
    uint64_t prefix = (uint64_t)x->mine.partition << n->bits | n->index;
    uint64_t low = deep == 0 ? 0 : prefix << (64 - deep);

    ASSERT(exchange_node_valid(n->index, n->bits) && deep < 64);
    set_high(first, low, 0);
    set_high(last, low | (UINT64_MAX >> deep), 0xff);
}

/* The child of a node that a position in it belongs to. */
static unsigned child_of(const struct exchange *x, const struct node *n, const struct position *pos)
{
    unsigned shift = 64 - (x->mine.q_bits + n->bits + EXCHANGE_FAN);

    return (unsigned)(high_of(pos) >> shift) & (EXCHANGE_CHILDREN - 1);
}

int exchange_leaf_bits(struct exchange *x, unsigned *leaf_bits)
{
    const uint64_t *leaves;
    int rc = x->host.leaves(x->host.arg, x->mine.partition, &leaves, leaf_bits);

    return rc == 0 ? 0 : exchange_fail(x, rc);
}

int exchange_rows(struct exchange *x, const struct node *n, uint32_t max,
                  struct exchange_entry *out)
{
    struct position first, last;

    exchange_node_range(x, n, &first, &last);
    int got = x->host.rows(x->host.arg, x->mine.partition, &first, &last, max, out);

    return got >= 0 ? got : exchange_fail(x, got);
}

/* One past a position; false if there is none. */
static bool step(struct position *pos)
{
    for (int i = POSITION_BYTES - 1; i >= 0; i--)
        if (++pos->b[i] != 0)
            return true;
    return false;
}

static int sum_rows(struct exchange *x, const struct node *n, uint64_t sums[EXCHANGE_CHILDREN])
{
    struct position first, last;
    int got;

    exchange_node_range(x, n, &first, &last);
    do {
        got = x->host.rows(x->host.arg, x->mine.partition, &first, &last, EXCHANGE_CHUNK, x->chunk);
        if (got < 0)
            return exchange_fail(x, got);
        for (int i = 0; i < got; i++)
            sums[child_of(x, n, &x->chunk[i].pos)] += x->chunk[i].sum;
        if (got > 0)
            first = x->chunk[got - 1].pos;
    } while (got == EXCHANGE_CHUNK && step(&first) && position_compare(&first, &last) <= 0);
    return 0;
}

int exchange_children(struct exchange *x, const struct node *n, uint64_t sums[EXCHANGE_CHILDREN])
{
    const uint64_t *leaves;
    unsigned leaf_bits, below;
    int rc = x->host.leaves(x->host.arg, x->mine.partition, &leaves, &leaf_bits);

    memset(sums, 0, EXCHANGE_CHILDREN * sizeof sums[0]);
    if (rc != 0)
        return exchange_fail(x, rc);
    if ((unsigned)n->bits + EXCHANGE_FAN > leaf_bits)
        return sum_rows(x, n, sums);
    below = leaf_bits - n->bits - EXCHANGE_FAN; /* bits from a child down to the leaves */
    uint64_t at = (uint64_t)n->index << (leaf_bits - n->bits);

    for (unsigned child = 0; child < EXCHANGE_CHILDREN; child++) {
        uint64_t end = at + (1ull << below);

        if (COORD_BUG(FOLD_DROPS_LEAF) && below > 0) {
            at++;
        }
        for (; at < end; at++)
            sums[child] += leaves[at];
    }
    return 0;
}
