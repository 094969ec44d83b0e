/* Patterns of keys: what Redis's documentation of KEYS says, and the bounds. */
#include "workers/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static bool match(const char *pattern, const char *text)
{
    return glob_match(slice_str(pattern), slice_str(text), false);
}

static void stars_questions_classes_and_backslashes_match_as_in_redis(void **state)
{
    (void)state;
    assert_true(match("h?llo", "hallo") && match("h*llo", "hllo") && match("h*llo", "heeello"));
    assert_true(match("h[ae]llo", "hello") && !match("h[ae]llo", "hillo"));
    assert_true(match("h[^e]llo", "hallo") && !match("h[^e]llo", "hello"));
    assert_true(match("h[a-c]llo", "hbllo") && match("h[c-a]llo", "hbllo"));
    assert_true(match("\\*", "*") && !match("\\*", "x") && match("[\\]]", "]"));
    assert_true(match("*", "") && match("**", "x") && !match("", "x") && match("", ""));
    assert_true(match("a*b*c", "a-b-b-c") && !match("a*b*c", "a-b-b-d") && match("[ab", "b"));
    assert_true(!match("?", "") && !match("a*?", "a") && match("a**?*", "ab"));
}

/* The pattern, count times over. */
static char *repeat(const char *part, size_t count)
{
    size_t len = strlen(part);
    char *text = malloc(len * count + 1);

    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, part, len);
    text[len * count] = '\0';
    return text;
}

static void a_pattern_has_only_so_many_stars(void **state)
{
    (void)state;
    char *text = repeat("a", 50000), *most = repeat("*?", GLOB_STARS), *more = repeat("*?", 50000),
         *many = repeat("*", 50000);

    assert_true(match(most, text));
    assert_false(match(more, text));
    assert_true(match(many, text));
    free(text);
    free(most);
    free(more);
    free(many);
}

static void a_pattern_made_to_be_slow_is_given_up(void **state)
{
    (void)state;
    char *text = repeat("a", 60000), *half = repeat("a", 30000);
    char *pattern = malloc(30004), *class = malloc(30005);

    assert_true(pattern != NULL && class != NULL);
    sprintf(pattern, "*%sb*", half); /* 900 million steps, were they all taken */
    sprintf(class, "*[%s]b", half);
    assert_false(match(pattern, text));
    assert_false(match(class, text));
    sprintf(pattern, "*%s*", half);
    assert_true(match(pattern, text));
    free(class);
    free(pattern);
    free(half);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stars_questions_classes_and_backslashes_match_as_in_redis),
        cmocka_unit_test(a_pattern_has_only_so_many_stars),
        cmocka_unit_test(a_pattern_made_to_be_slow_is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
