/* Users and their rules: what is allowed, how it is shown, copied, written and read again. */
#include "base/err.h"
#include "workers/acl.h"
#include "workers/acl_log.h"
#include "workers/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct acl_user *user;

static int setup(void **state)
{
    (void)state;
    command_setup();
    user = acl_user_new(slice_str("u"), 7);
    return user == NULL;
}

static int teardown(void **state)
{
    (void)state;
    acl_user_unref(user);
    return 0;
}

static void apply(const char *rules)
{
    char text[512], *rest = text, *rule;

    snprintf(text, sizeof text, "%s", rules);
    while ((rule = strsep(&rest, " ")) != NULL)
        assert_null(acl_user_apply(user, slice_str(rule)));
}

static void shows(const char *expected)
{
    struct buf text = {0};

    assert_int_equal(acl_user_describe(user, &text), 0);
    assert_int_equal(buf_append(&text, "", 1), 0);
    assert_string_equal((const char *)buf_head(&text), expected);
    buf_free(&text);
}

/* May the user run this line of words? */
static enum acl_verdict verdict(const char *line)
{
    char text[256], *rest = text, *word;
    struct slice argv[16];
    uint32_t argc = 0, bad;

    snprintf(text, sizeof text, "%s", line);
    while ((word = strsep(&rest, " ")) != NULL)
        argv[argc++] = slice_str(word);
    const struct command *c = command_lookup(argc, argv);
    assert_non_null(c);
    return acl_check(user, c, argc, argv, &bad);
}

static void a_new_user_may_do_nothing(void **state)
{
    (void)state;
    shows("user u off resetchannels -@all");
    assert_int_equal(verdict("get k"), ACL_NO_COMMAND);
    assert_int_equal(verdict("auth x"), ACL_ALLOWED);
    assert_false(acl_user_password_ok(user, slice_str("")));
}

static void later_rules_win(void **state)
{
    (void)state;
    apply("~* +@all -@write +set");
    assert_int_equal(verdict("get k"), ACL_ALLOWED);
    assert_int_equal(verdict("del k"), ACL_NO_COMMAND);
    assert_int_equal(verdict("set k v"), ACL_ALLOWED);
    apply("-@all");
    assert_int_equal(verdict("set k v"), ACL_NO_COMMAND);
    shows("user u off ~* resetchannels -@all");
}

static void rules_about_commands_replace_older_ones_about_the_same(void **state)
{
    (void)state;
    apply("+client|list +client|list +config|get +config +acl|list -acl");
    shows("user u off resetchannels -@all +client|list +config -acl");
    apply("nocommands +config +config|get -config|help +CONFIG");
    shows("user u off resetchannels -@all +config");
    apply("-@all +@hash +@slow +@set +@HASH");
    shows("user u off resetchannels -@all +@slow +@set +@hash");
    apply("-@all +select|0 +select|1 +incr");
    shows("user u off resetchannels -@all +select|0 +select|1 +incr");
    assert_int_equal(verdict("select 1"), ACL_ALLOWED);
    assert_int_equal(verdict("select 2"), ACL_NO_COMMAND);
    apply("-select");
    assert_int_equal(verdict("select 1"), ACL_NO_COMMAND);
}

static void keys_are_allowed_for_what_a_command_does_to_them(void **state)
{
    (void)state;
    apply("+@all %R~r* %W~w* ~b*");
    assert_int_equal(verdict("get r"), ACL_ALLOWED);
    assert_int_equal(verdict("get w"), ACL_NO_KEY);
    assert_int_equal(verdict("set w v"), ACL_ALLOWED);
    assert_int_equal(verdict("set w v get"), ACL_NO_KEY);
    assert_int_equal(verdict("set b v get"), ACL_ALLOWED);
    assert_int_equal(verdict("exists w r b"), ACL_ALLOWED);
    assert_int_equal(verdict("exists w x"), ACL_NO_KEY);
    assert_int_equal(verdict("mset w 1 r 2"), ACL_NO_KEY);
    assert_int_equal(verdict("mset w r b w"), ACL_ALLOWED); /* values are no keys */
    assert_int_equal(verdict("cw.explain x"), ACL_NO_KEY);
    assert_int_equal(verdict("getset w v"), ACL_NO_KEY);
    assert_int_equal(verdict("getset b v"), ACL_ALLOWED);
    apply("%W~r*");
    assert_int_equal(verdict("set r v get"), ACL_ALLOWED);
    shows("user u off ~r* %W~w* ~b* resetchannels +@all");
    apply("resetkeys %RW"); /* no pattern is that of the empty key alone */
    assert_int_equal(verdict("get b"), ACL_NO_KEY);
    shows("user u off ~ resetchannels +@all");
}

static void a_copy_is_whole_and_the_original_stays_as_it_was(void **state)
{
    (void)state;
    apply("on >one >two ~a %R~b &c +@read -get +select|0");
    struct acl_user *original = user;
    user = acl_user_copy(original);
    apply("<one ~more &d +get -select reset");
    shows("user u off resetchannels -@all");
    acl_user_unref(user);
    user = original;
    assert_true(acl_user_password_ok(user, slice_str("one")));
    assert_int_equal(verdict("get a"), ACL_NO_COMMAND);
    assert_int_equal(verdict("strlen b"), ACL_ALLOWED);
    assert_int_equal(verdict("select 0"), ACL_ALLOWED);
    assert_int_equal(user->birth, 7);
}

static void one_user_has_only_so_many_rules(void **state)
{
    char rule[64];
    int taken[3] = {0};

    (void)state;
    for (int i = 0; i < 400; i++) {
        snprintf(rule, sizeof rule, "~key%d", i);
        taken[0] += acl_user_apply(user, slice_str(rule)) == NULL;
        snprintf(rule, sizeof rule, ">password%d", i);
        taken[1] += acl_user_apply(user, slice_str(rule)) == NULL;
        snprintf(rule, sizeof rule, "+get|%d", i);
        taken[2] += acl_user_apply(user, slice_str(rule)) == NULL;
    }
    assert_int_equal(taken[0], LIMIT_ACL_PATTERNS);
    assert_int_equal(taken[1], LIMIT_ACL_PASSWORDS);
    assert_int_equal(taken[2], LIMIT_ACL_RULES);
}

static void users_are_read_whole_or_not_at_all_and_keep_their_births(void **state)
{
    struct acl a;
    char why[ACL_WHY];
    struct slice two = slice_str("user x on +get\n# comment\n\nuser y on +set\n");

    (void)state;
    assert_int_equal(acl_open(&a, "secret"), 0);
    assert_true(acl_closed(&a));
    assert_int_equal(acl_parse(&a, two, "f", false, why), 0);
    assert_int_equal(a.count, 3);
    uint64_t x = acl_find(&a, slice_str("x"))->birth, y = acl_find(&a, slice_str("y"))->birth;
    assert_int_equal(acl_parse(&a, slice_str("user x on +get\nuser z +nonsense"), "f", false, why),
                     -ERR_INVAL);
    assert_string_equal(why, "f:2: Unknown command or category name in ACL");
    assert_int_equal(a.count, 3);
    assert_int_equal(acl_parse(&a, slice_str("user x on +get\nuser y off +set"), "f", false, why),
                     0);
    assert_int_equal(acl_find(&a, slice_str("x"))->birth, x);
    assert_int_not_equal(acl_find(&a, slice_str("y"))->birth, y);
    assert_non_null(acl_login(&a, slice_str("default"), slice_str("secret")));
    assert_null(acl_login(&a, slice_str("default"), slice_str("other")));
    assert_null(acl_login(&a, slice_str("nobody"), slice_str("secret")));
    acl_close(&a);
}

static void there_are_only_so_many_users(void **state)
{
    struct acl a;
    int rc = 0;
    uint32_t count = 1;

    (void)state;
    assert_int_equal(acl_open(&a, NULL), 0);
    for (; rc == 0; count++) {
        char name[16];

        snprintf(name, sizeof name, "u%u", count);
        rc = acl_put(&a, acl_user_new(slice_str(name), count + 1));
    }
    assert_int_equal(rc, -ERR_LIMIT);
    assert_int_equal(a.count, LIMIT_ACL_USERS);
    assert_true(acl_remove(&a, slice_str("u500")));
    assert_null(acl_find(&a, slice_str("u500")));
    assert_non_null(acl_find(&a, slice_str("u501")));
    assert_false(acl_remove(&a, slice_str("u500")));
    acl_close(&a);
}

static void the_log_keeps_the_newest_and_counts_what_is_alike(void **state)
{
    struct acl_log log = {.most = 3};
    struct slice who = slice_str("who"), client = slice_str("client");

    (void)state;
    for (int i = 0; i < 5; i++)
        acl_log_note(&log, 1000, ACL_REFUSED_AUTH, slice_str("AUTH"), who, client);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.entries[0]->count, 5);
    acl_log_note(&log, 61000, ACL_REFUSED_AUTH, slice_str("AUTH"), who,
                 client); /* a minute later */
    assert_int_equal(log.count, 2);
    acl_log_note(&log, 61000, ACL_REFUSED_KEY, slice_str("k"), who, client);
    acl_log_note(&log, 61000, ACL_REFUSED_KEY, slice_str("l"), who, client);
    assert_int_equal(log.count, 3);
    assert_string_equal(log.entries[0]->object, "l");
    assert_int_equal(log.entries[2]->created_ms, 61000);
    log.most = 1;
    acl_log_note(&log, 61000, ACL_REFUSED_KEY, slice_str("l"), who, client);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.entries[0]->count, 2);
    log.most = 0;
    acl_log_note(&log, 61000, ACL_REFUSED_KEY, slice_str("m"), who, client);
    assert_int_equal(log.count, 1);
    acl_log_clear(&log);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_user_may_do_nothing),
        T(later_rules_win),
        T(rules_about_commands_replace_older_ones_about_the_same),
        T(keys_are_allowed_for_what_a_command_does_to_them),
        T(a_copy_is_whole_and_the_original_stays_as_it_was),
        T(one_user_has_only_so_many_rules),
        T(users_are_read_whole_or_not_at_all_and_keep_their_births),
        T(there_are_only_so_many_users),
        T(the_log_keeps_the_newest_and_counts_what_is_alike),
    };

    return cmocka_run_group_tests_name("users", tests, NULL, NULL);
}
