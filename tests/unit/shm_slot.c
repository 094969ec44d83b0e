/* Tests of shm/slot: what readers see of a writer that is fast, dead or damaged. */
#include "shm_kit.h"

#include "base/err.h"
#include "shm/segment.h"
#include "shm/slot.h"

#include <pthread.h>

#define CAPACITY 40000
#define ROUNDS   400

static struct segment_spec spec(void)
{
    return (struct segment_spec){.kind = SEGMENT_RING,
                                 .fingerprint = 42,
                                 .length = sizeof(struct segment_header) + SLOT_BYTES(CAPACITY)};
}

/* A value that proves itself: its first word is a number from which everything else follows. */
static size_t make_value(uint64_t n, uint64_t *out)
{
    size_t words = 2 + n * 7919 % (CAPACITY / 8 - 2);

    for (size_t i = 0; i < words; i++)
        out[i] = n * 2654435761u + i;
    out[0] = n;
    return words * 8;
}

static int value_whole(const uint64_t *value, size_t len)
{
    static uint64_t expected[CAPACITY / 8];

    return len >= 16 && len == make_value(value[0], expected) && memcmp(value, expected, len) == 0;
}

static _Alignas(64) uint8_t memory[SLOT_BYTES(CAPACITY)];
static struct slot_pair *const local = (struct slot_pair *)memory;
static uint64_t value[CAPACITY / 8], got[CAPACITY / 8];

static int clear(void **state)
{
    (void)state;
    memset(memory, 0, sizeof memory);
    return 0;
}

static void nothing_is_there_before_the_first_publication(void **state)
{
    uint64_t generation;
    size_t len;

    (void)state;
    assert_int_equal(slot_generation(local), 0);
    assert_int_equal(slot_read(local, CAPACITY, got, &len, &generation), -ERR_NOTFOUND);
}

static void the_newest_value_is_read_whatever_its_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n++) {
        uint8_t bytes[200], back[CAPACITY];
        uint64_t generation;
        size_t len;

        memset(bytes, (int)n, sizeof bytes);
        slot_publish(local, CAPACITY, bytes, n);
        assert_int_equal(slot_read(local, CAPACITY, back, &len, &generation), 0);
        assert_int_equal(len, n);
        assert_int_equal(generation, n + 1);
        assert_memory_equal(back, bytes, n);
    }
}

static void a_half_filled_idle_slot_disturbs_nobody(void **state)
{
    uint64_t generation;
    size_t len;

    (void)state;
    for (uint64_t n = 1; n < 10; n++) {
        slot_publish(local, CAPACITY, value, make_value(n, value));
        /* A writer that died in the middle of generation n + 1. */
        struct slot_head *idle = &local->head[(n + 1) & 1];
        atomic_store(&idle->generation, n % 3 == 0 ? 0 : n + 1);
        atomic_store(&idle->length, ~0ull);
        memset(memory + sizeof *local + ((n + 1) & 1) * SLOT_ROUND(CAPACITY), 0xee, CAPACITY / 2);
        assert_int_equal(slot_read(local, CAPACITY, got, &len, &generation), 0);
        assert_int_equal(generation, n);
        assert_true(value_whole(got, len));
    }
}

static void a_damaged_value_gives_way_to_the_one_before(void **state)
{
    uint64_t generation;
    size_t len;

    (void)state;
    for (uint64_t n = 1; n <= 2; n++)
        slot_publish(local, CAPACITY, value, make_value(n, value));
    memory[sizeof *local + 5] ^= 1; /* generation 2 is in slot 0 */
    assert_int_equal(slot_read(local, CAPACITY, got, &len, &generation), 0);
    assert_int_equal(generation, 1);
    assert_true(value_whole(got, len));
    memory[sizeof *local + SLOT_ROUND(CAPACITY) + 5] ^= 1;
    assert_int_equal(slot_read(local, CAPACITY, got, &len, &generation), -ERR_CORRUPT);
}

static atomic_int stop;

static void *publish_for_ever(void *arg)
{
    static uint64_t mine[CAPACITY / 8];

    (void)arg;
    for (uint64_t n = 1; !atomic_load(&stop); n++)
        slot_publish(local, CAPACITY, mine, make_value(n, mine));
    return NULL;
}

static void a_reader_beside_a_busy_writer_never_sees_a_torn_value(void **state)
{
    uint64_t generation, last = 0;
    pthread_t thread;
    int whole = 0;
    size_t len;

    (void)state;
    atomic_store(&stop, 0);
    slot_publish(local, CAPACITY, value, make_value(0, value));
    assert_int_equal(pthread_create(&thread, NULL, publish_for_ever, NULL), 0);
    for (int i = 0; i < 20000; i++) {
        if (slot_read(local, CAPACITY, got, &len, &generation) < 0)
            continue;
        assert_true(value_whole(got, len));
        assert_true(generation >= last);
        last = generation;
        whole++;
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    assert_true(whole > 1000);
}

static pid_t start_writer(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    struct segment s = {0};
    struct segment_spec want = spec();
    KIT_CHECK(segment_create(&s, kit_dir, "ring.seg", &want, 7) == 0);
    slot_publish(segment_body(&s), CAPACITY, value, make_value(1, value));
    KIT_CHECK(segment_publish(&s) == 0);
    for (uint64_t n = 2;; n++)
        slot_publish(segment_body(&s), CAPACITY, value, make_value(n, value));
}

/* Is there an idle slot that someone left half filled? */
static int half_filled(const struct slot_pair *s)
{
    uint64_t current = slot_generation(s);

    return atomic_load(&s->head[(current + 1) & 1].generation) != current - 1;
}

static void readers_outlive_a_writer_killed_in_mid_publication(void **state)
{
    struct segment_spec want = spec();
    struct segment s = {0};
    int caught = 0;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t writer = start_writer();
        uint64_t generation;
        size_t len;
        int replaced;

        do
            replaced = segment_mapped(&s) ? segment_reattach_if_replaced(&s)
                                          : segment_attach(&s, kit_dir, "ring.seg", &want);
        while (replaced < 0 || s.header->pid != (uint32_t)writer);
        usleep((useconds_t)(round * 37 % 1500));
        kit_kill(writer);
        caught += half_filled(segment_body(&s));
        assert_int_equal(slot_read(segment_body(&s), CAPACITY, got, &len, &generation), 0);
        assert_true(value_whole(got, len));
        assert_int_equal(generation, slot_generation(segment_body(&s)));
        assert_false(segment_writer_alive(&s));
    }
    segment_close(&s);
    print_message("%d of %d writers died in the middle of a publication\n", caught, ROUNDS);
    assert_true(caught > 0);
}

int main(void)
{
    const struct CMUnitTest slots[] = {
        cmocka_unit_test_setup(nothing_is_there_before_the_first_publication, clear),
        cmocka_unit_test_setup(the_newest_value_is_read_whatever_its_length, clear),
        cmocka_unit_test_setup(a_half_filled_idle_slot_disturbs_nobody, clear),
        cmocka_unit_test_setup(a_damaged_value_gives_way_to_the_one_before, clear),
        cmocka_unit_test_setup(a_reader_beside_a_busy_writer_never_sees_a_torn_value, clear),
        cmocka_unit_test_setup_teardown(readers_outlive_a_writer_killed_in_mid_publication,
                                        kit_setup, kit_teardown),
    };
    return cmocka_run_group_tests_name("two slots: readers always find a whole value", slots, NULL,
                                       NULL);
}
