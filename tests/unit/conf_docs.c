/* docs/configuration.md and the example file list every key as conf.def has it. Run with
 * CLOCKWISE_WRITE_DOCS=1 in the root of the repository to write them anew. */
#include "conf/conf.h"

#include "base/buf.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char doc_path[] = "docs/configuration.md";
static const char example_path[] = "packaging/clockwise.conf.example";
static const char start_mark[] = "<!-- keys: written by build/tests/conf_docs -->\n";
static const char end_mark[] = "<!-- end of keys -->\n";

static const char *const section_texts[][2] = {
#define SECTION(name, text) {#name, text},
#define X(section, key, type, def, min, max, reloadable, text)
#define END(name)
#include "conf/conf.def"
#undef SECTION
#undef X
#undef END
};

static const char *section_text(const char *section)
{
    for (size_t i = 0; i < sizeof section_texts / sizeof section_texts[0]; i++)
        if (strcmp(section_texts[i][0], section) == 0)
            return section_texts[i][1];
    return "";
}

static int64_t scaled(int64_t value, const int64_t *factors, const char *const *names,
                      const char **name)
{
    while (*factors > 1 && (value == 0 || value % *factors != 0)) {
        factors++;
        names++;
    }
    *name = *names;
    return value / *factors;
}

static void print_range(struct buf *out, const struct conf_key *k)
{
    static const int64_t sizes[] = {1ll << 40, 1 << 30, 1 << 20, 1 << 10, 1};
    static const char *const size_names[] = {"tb", "gb", "mb", "kb", "b"};
    static const int64_t times[] = {86400000, 3600000, 60000, 1000, 1};
    static const char *const time_names[] = {"d", "h", "m", "s", "ms"};
    const char *low, *high;

    if (k->choices != NULL) {
        for (const char *p = k->choices; *p != 0; p++)
            buf_printf(out, *p == '|' ? ", " : "%c", *p);
    } else if (strcmp(k->type, "INT") == 0 || strcmp(k->type, "AUTO") == 0) {
        buf_printf(out, "%" PRId64 " to %" PRId64 "%s", k->min, k->max,
                   k->type[0] == 'A' ? ", auto" : "");
    } else if (strcmp(k->type, "SIZE") == 0 || strcmp(k->type, "DURATION") == 0) {
        bool size = k->type[0] == 'S';
        int64_t min = scaled(k->min, size ? sizes : times, size ? size_names : time_names, &low);
        int64_t max = scaled(k->max, size ? sizes : times, size ? size_names : time_names, &high);

        buf_printf(out, "%" PRId64 "%s to %" PRId64 "%s", min, low, max, high);
    } else if (strcmp(k->type, "BOOL") == 0) {
        buf_printf(out, "yes, no");
    } else if (strcmp(k->type, "ENDPOINTS") == 0) {
        buf_printf(out, "at most %" PRId64 " address:port", k->max);
    } else if (strcmp(k->type, "ADDRESS") == 0) {
        buf_printf(out, "numeric address");
    } else {
        buf_printf(out, "%s, at most %" PRId64 " bytes",
                   strcmp(k->type, "PATH") == 0   ? "absolute path"
                   : strcmp(k->type, "NAME") == 0 ? "letters, digits, . _ -"
                                                  : "text",
                   k->max - 1);
    }
}

static void print_table(struct buf *out)
{
    const char *section = "";

    buf_printf(out, "%s", start_mark);
    for (unsigned i = 0; i < CONF_KEYS; i++) {
        const struct conf_key *k = conf_key_at(i);

        if (strcmp(section, k->section) != 0) {
            section = k->section;
            buf_printf(out,
                       "\n## [%s]: %s\n\n| key | default | values | reload | meaning |\n"
                       "| --- | --- | --- | --- | --- |\n",
                       section, section_text(section));
        }
        buf_printf(out, "| `%s` | %s%s%s | ", k->key, k->def[0] != 0 ? "`" : "", k->def,
                   k->def[0] != 0 ? "`" : "");
        print_range(out, k);
        buf_printf(out, " | %s | %s |\n", k->reloadable ? "yes" : "no", k->text);
    }
    buf_printf(out, "\n%s", end_mark);
}

static void print_example(struct buf *out)
{
    const char *section = "";

    buf_printf(out, "# A Clockwise node: every key with its default. See docs/configuration.md.\n"
                    "# Secrets are in here: keep the file readable for the node's user alone.\n");
    for (unsigned i = 0; i < CONF_KEYS; i++) {
        const struct conf_key *k = conf_key_at(i);

        if (strcmp(section, k->section) != 0)
            buf_printf(out, "\n# %s\n[%s]\n", section_text(k->section), section = k->section);
        buf_printf(out, "# %s\n;%s =%s%s\n", k->text, k->key, k->def[0] != 0 ? " " : "", k->def);
    }
    buf_printf(
        out, "\n# quorums of the keys that begin with cart:\n;[prefix \"cart:\"]\n;n = 3\n;r = 1\n"
             ";w = 1\n");
    buf_append(out, "", 1);
}

static char *read_all(const char *path)
{
    static char text[1 << 17];
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return NULL;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    return text;
}

static void write_all(const char *path, const char *a, size_t a_len, const char *b, const char *c)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fwrite(a, 1, a_len, file);
    fputs(b, file);
    fputs(c, file);
    fclose(file);
}

static void the_manual_lists_every_key(void **state)
{
    struct buf table = {0};
    char *text = read_all(doc_path);

    (void)state;
    if (text == NULL)
        skip(); /* not started in the root of the repository */
    print_table(&table);
    buf_append(&table, "", 1);
    char *start = strstr(text, start_mark), *end = strstr(text, end_mark);
    assert_non_null(start);
    assert_non_null(end);
    end += strlen(end_mark);
    if (getenv("CLOCKWISE_WRITE_DOCS") != NULL) {
        char *rest = strdup(end);

        write_all(doc_path, text, (size_t)(start - text), (char *)buf_head(&table), rest);
        free(rest);
    } else {
        *end = 0;
        assert_string_equal(start, (char *)buf_head(&table));
    }
    buf_free(&table);
}

static void the_example_file_lists_every_key_and_loads(void **state)
{
    struct buf example = {0};
    static struct conf conf;
    char error[CONF_ERROR] = "";

    (void)state;
    if (read_all(doc_path) == NULL)
        skip();
    print_example(&example);
    if (getenv("CLOCKWISE_WRITE_DOCS") != NULL)
        write_all(example_path, "", 0, (char *)buf_head(&example), "");
    char *text = read_all(example_path);
    assert_non_null(text);
    assert_string_equal(text, (char *)buf_head(&example));
    conf_load(&conf, example_path, error);
    assert_string_equal(error, "");
    buf_free(&example);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manual_lists_every_key),
        cmocka_unit_test(the_example_file_lists_every_key_and_loads),
    };

    return cmocka_run_group_tests_name("the manual of the configuration", tests, NULL, NULL);
}
