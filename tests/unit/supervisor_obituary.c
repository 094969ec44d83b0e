/* Obituaries of children. */
#include "supervisor/obituary.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DIED(signal_number) (signal_number)
#define EXITED(status)      ((status) << 8)

static void write_one(int status, const char *words, char *out, size_t size)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    assert_int_equal(write(fds[1], words, strlen(words)), strlen(words));
    close(fds[1]);
    obituary_write(status, 3210000, fds[0], out, size);
    close(fds[0]);
}

static void the_signal_or_the_status_is_named(void **state)
{
    char text[160];

    (void)state;
    obituary_write(DIED(9), 3210000, -1, text, sizeof text);
    assert_string_equal(text, "died of signal 9 after 3.2 s");
    obituary_write(EXITED(3), 49000, -1, text, sizeof text);
    assert_string_equal(text, "exited with 3 after 0.0 s");
}

static void the_first_line_of_the_panic_is_quoted(void **state)
{
    char text[160];

    (void)state;
    write_one(DIED(6), "worker-1: PANIC: no more\nand more\n", text, sizeof text);
    assert_string_equal(text, "died of signal 6 after 3.2 s: worker-1: PANIC: no more");
    write_one(DIED(6), "", text, sizeof text);
    assert_string_equal(text, "died of signal 6 after 3.2 s");
    write_one(DIED(6), "\033[31mred\x7f", text, sizeof text);
    assert_string_equal(text, "died of signal 6 after 3.2 s: ?[31mred?");
}

static void long_last_words_are_cut(void **state)
{
    char words[3000], text[40];

    (void)state;
    memset(words, 'x', sizeof words - 1);
    words[sizeof words - 1] = 0;
    write_one(DIED(11), words, text, sizeof text);
    assert_int_equal(strlen(text), sizeof text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_signal_or_the_status_is_named),
        cmocka_unit_test(the_first_line_of_the_panic_is_quoted),
        cmocka_unit_test(long_last_words_are_cut),
    };

    return cmocka_run_group_tests_name("the obituary of a child", tests, NULL, NULL);
}
