/* Membership: where rows are found by id, name, place and state, the hashes over them, and the queue
 * of news. Everything here takes the same time however many members there are. */
#include "base/check.h"
#include "base/hash.h"
#include "core/member_impl.h"
#include "core/planted.h"

#include <string.h>

enum { BY_ID, BY_NAME, BY_PLACE };

static uint32_t buckets_for(uint32_t rows)
{
    uint32_t buckets = 16;

    while (buckets < rows)
        buckets *= 2;
    return buckets;
}

size_t member_memory(uint32_t rows)
{
    return rows * sizeof(struct member_row) +
           (3 * (size_t)rows + 3 * (size_t)buckets_for(rows)) * sizeof(uint16_t);
}

void member_index_init(struct membership *m, void *memory, uint32_t rows)
{
    ASSERT(rows >= 1 && rows <= MEMBER_MOST);
    uint32_t buckets = buckets_for(rows);
    uint16_t *small = (uint16_t *)((struct member_row *)memory + rows);

    m->row = memory;
    m->capacity = (uint16_t)rows;
    m->order = small;
    m->suspect = small + rows;
    m->faulty = small + 2 * rows;
    m->bucket_mask = buckets - 1;
    for (int i = 0; i < 3; i++) {
        m->bucket[i] = small + 3 * rows + (size_t)i * buckets;
        memset(m->bucket[i], 0xff, buckets * sizeof(uint16_t));
    }
    memset(m->news_first, 0xff, sizeof m->news_first);
    memset(m->news_last, 0xff, sizeof m->news_last);
}

/* ---- rows by id, name, place ---- */

static uint64_t hash_id(const struct node_id *id)
{
    return hash64(id->b, NODE_ID_BYTES);
}

static uint64_t hash_place(const char *address, uint16_t port)
{
    return hash64(address, strlen(address)) + port;
}

static uint16_t *chain_of(struct membership *m, const struct member *a, int by)
{
    uint64_t hash = by == BY_ID     ? hash_id(&a->id)
                    : by == BY_NAME ? hash64(a->name, strlen(a->name))
                                    : hash_place(a->address, a->gossip_port);

    return &m->bucket[by][hash & m->bucket_mask];
}

struct member_row *member_find(const struct membership *m, const struct node_id *id)
{
    uint16_t i = m->bucket[BY_ID][hash_id(id) & m->bucket_mask];

    for (; i != MEMBER_NO_ROW; i = m->row[i].chain[BY_ID])
        if (node_id_equal(&m->row[i].m.id, id))
            return &m->row[i];
    return NULL;
}

struct member_row *member_find_name(const struct membership *m, const char *name)
{
    uint16_t i = m->bucket[BY_NAME][hash64(name, strlen(name)) & m->bucket_mask];

    for (; i != MEMBER_NO_ROW; i = m->row[i].chain[BY_NAME])
        if (strcmp(m->row[i].m.name, name) == 0)
            return &m->row[i];
    return NULL;
}

struct member_row *member_find_place(const struct membership *m, const char *address, uint16_t port)
{
    uint16_t i = m->bucket[BY_PLACE][hash_place(address, port) & m->bucket_mask];

    for (; i != MEMBER_NO_ROW; i = m->row[i].chain[BY_PLACE]) {
        const struct member *a = &m->row[i].m;

        if (a->state != MEMBER_LEFT && a->gossip_port == port && strcmp(a->address, address) == 0)
            return &m->row[i];
    }
    return NULL;
}

/* ---- rows by state ---- */

static uint16_t *list_of(struct membership *m, uint8_t state, uint16_t **count)
{
    *count = state == MEMBER_SUSPECT ? &m->suspect_count : &m->faulty_count;
    return state == MEMBER_SUSPECT ? m->suspect : state == MEMBER_FAULTY ? m->faulty : NULL;
}

static void unlist(struct membership *m, const struct member_row *row)
{
    uint16_t *count, *list = list_of(m, row->indexed_state, &count);

    m->alive_count -= row->indexed_state == MEMBER_ALIVE;
    if (list == NULL)
        return;
    uint16_t last = list[--*count];
    list[row->listed] = last;
    m->row[last].listed = row->listed;
}

static void enlist(struct membership *m, struct member_row *row)
{
    uint16_t *count, *list = list_of(m, row->m.state, &count);

    row->indexed_state = row->m.state;
    m->alive_count += row->m.state == MEMBER_ALIVE;
    if (list == NULL)
        return;
    row->listed = (*count)++;
    list[row->listed] = member_number(m, row);
}

/* ---- hashes ---- */

/* Suspicions come and go: they travel as news, and nobody exchanges anything because of one. */
static uint64_t hash_how(const struct member_row *row)
{
    uint8_t state = row->m.state == MEMBER_SUSPECT ? MEMBER_ALIVE : row->m.state;
    uint64_t how[2] = {row->m.incarnation, state};

    return hash64_seed(how, sizeof how, row->who_sum);
}

unsigned member_group(const struct member_row *row)
{
    return hash_id(&row->m.id) >> 32 & (MEMBER_GROUPS - 1);
}

static void add_state(struct membership *m, struct member_row *row)
{
    row->how_sum = hash_how(row);
    m->group_hash[member_group(row)] += row->how_sum;
    enlist(m, row);
}

static void remove_state(struct membership *m, struct member_row *row)
{
    m->group_hash[member_group(row)] -= row->how_sum;
    unlist(m, row);
}

void member_index_update(struct membership *m, struct member_row *row)
{
    remove_state(m, row);
    add_state(m, row);
}

/* ---- news ---- */

static void news_unlink(struct membership *m, struct member_row *row)
{
    uint8_t level = row->transmissions;

    if (level == 0)
        return;
    if (row->news_previous == MEMBER_NO_ROW)
        m->news_first[level] = row->news_next;
    else
        m->row[row->news_previous].news_next = row->news_next;
    if (row->news_next == MEMBER_NO_ROW)
        m->news_last[level] = row->news_previous;
    else
        m->row[row->news_next].news_previous = row->news_previous;
    if (m->news_first[level] == MEMBER_NO_ROW)
        m->news_levels &= ~(1ull << level);
    row->transmissions = 0;
}

static void news_link(struct membership *m, struct member_row *row, uint8_t level)
{
    uint16_t number = member_number(m, row), last = m->news_last[level];

    row->transmissions = level;
    if (level == 0)
        return;
    row->news_next = MEMBER_NO_ROW;
    row->news_previous = last;
    if (last == MEMBER_NO_ROW)
        m->news_first[level] = number;
    else
        m->row[last].news_next = number;
    m->news_last[level] = number;
    m->news_levels |= 1ull << level;
}

/* News is passed on about 3 log2(n) times by each member (SWIM §4.1, lambda log n). What this node has
 * to say of itself is in every packet anyhow. */
void member_spread(struct membership *m, struct member_row *row)
{
    uint8_t log = 1;

    if (row == &m->row[0] || COORD_BUG(NEWS_NOT_SPREAD))
        return;
    while ((1u << log) < m->count + 1u)
        log++;
    ASSERT(3 * log < MEMBER_NEWS);
    news_unlink(m, row);
    news_link(m, row, (uint8_t)(3 * log));
}

void member_spread_less(struct membership *m, struct member_row *row)
{
    uint8_t level = row->transmissions;

    news_unlink(m, row);
    news_link(m, row, level > 0 ? (uint8_t)(level - 1) : 0);
}

void member_spread_no_more(struct membership *m, struct member_row *row)
{
    news_unlink(m, row);
}

unsigned member_news_list(struct membership *m, struct member_row **out, unsigned size)
{
    unsigned count = 0;

    for (uint64_t levels = m->news_levels; levels != 0 && count < size;) {
        int level = 63 - __builtin_clzll(levels);

        for (uint16_t i = m->news_first[level]; i != MEMBER_NO_ROW && count < size;
             i = m->row[i].news_next)
            out[count++] = &m->row[i];
        levels &= ~(1ull << level);
    }
    return count;
}

/* ---- in and out ---- */

/* Sums do not depend on the order of rows. */
void member_index_add(struct membership *m, struct member_row *row)
{
    for (int by = 0; by < 3; by++) {
        uint16_t *head = chain_of(m, &row->m, by);

        row->chain[by] = *head;
        *head = member_number(m, row);
    }
    row->who_sum =
        hash64_seed(row->m.id.b, NODE_ID_BYTES, hash_place(row->m.address, row->m.gossip_port));
    m->who_hash += row->who_sum;
    add_state(m, row);
}

void member_index_remove(struct membership *m, struct member_row *row)
{
    uint16_t number = member_number(m, row);

    remove_state(m, row);
    news_unlink(m, row);
    m->who_hash -= row->who_sum;
    for (int by = 0; by < 3; by++) {
        uint16_t *at = chain_of(m, &row->m, by);

        while (*at != number) {
            ASSERT(*at != MEMBER_NO_ROW);
            at = &m->row[*at].chain[by];
        }
        *at = row->chain[by];
    }
}
