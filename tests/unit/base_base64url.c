/* base64url: the RFC's examples, round trips, refusal of everything else. */
#include "base/base64url.h"
#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *plain, const char *text)
{
    char out[64];
    uint8_t back[64];
    size_t len = base64url_encode(plain, strlen(plain), out);

    assert_int_equal(len, strlen(text));
    assert_int_equal(len, base64url_encoded_size(strlen(plain)));
    assert_memory_equal(out, text, len);
    assert_int_equal(base64url_decode(text, strlen(text), back), strlen(plain));
    assert_int_equal(base64url_decoded_size(strlen(text)), strlen(plain));
    assert_memory_equal(back, plain, strlen(plain));
}

static void examples_of_the_rfc(void **state)
{
    (void)state;
    expect("", "");
    expect("f", "Zg");
    expect("fo", "Zm8");
    expect("foo", "Zm9v");
    expect("foob", "Zm9vYg");
    expect("fooba", "Zm9vYmE");
    expect("foobar", "Zm9vYmFy");
    expect("\xfb\xff\xbf", "-_-_");
}

static void random_bytes_survive_the_round_trip(void **state)
{
    struct rand r;
    uint8_t data[100], back[100];
    char text[140];

    (void)state;
    rand_seed(&r, 1);
    for (int round = 0; round < 5000; round++) {
        size_t len = rand_below(&r, sizeof data + 1);

        for (size_t i = 0; i < len; i++)
            data[i] = (uint8_t)rand_next(&r);
        size_t chars = base64url_encode(data, len, text);

        assert_int_equal(base64url_decode(text, chars, back), len);
        assert_memory_equal(back, data, len);
    }
}

/* Whatever decodes must encode to the same characters: no two texts for one string of bytes. */
static void only_canonical_text_is_accepted(void **state)
{
    uint8_t out[8];
    char again[8], text[4] = "";
    int accepted = 0;

    (void)state;
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            text[0] = (char)a;
            text[1] = (char)b;
            long len = base64url_decode(text, 2, out);

            if (len < 0)
                continue;
            accepted++;
            assert_int_equal(base64url_encode(out, (size_t)len, again), 2);
            assert_memory_equal(again, text, 2);
        }
    assert_int_equal(accepted, 256);
    assert_int_equal(base64url_decode("A", 1, out), -1);
    assert_int_equal(base64url_decode("AAAAA", 5, out), -1);
    assert_int_equal(base64url_decode("Zg==", 4, out), -1);
    assert_int_equal(base64url_decode("Zm9+", 4, out), -1);
    assert_int_equal(base64url_decode("Zm9/", 4, out), -1);
    assert_int_equal(base64url_decode("Zm 9v", 5, out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_rfc),
        cmocka_unit_test(random_bytes_survive_the_round_trip),
        cmocka_unit_test(only_canonical_text_is_accepted),
    };

    return cmocka_run_group_tests_name("base64url has one text for each string of bytes", tests,
                                       NULL, NULL);
}
