/* Commands about the node, about how values are kept, and about commands: what a client sends, what it
 * gets. */
#include "cmd_kit.h"

static void a_bad_time_for_getex_matters_only_if_there_is_the_key(void **state)
{
    (void)state;
    EXPECT("GETEX none PX 0", "$-1\r\n");
    EXPECT("GETEX none PX x", "$-1\r\n");
    EXPECT("SET k v", "+OK\r\n");
    EXPECT("GETEX k PX 0", "-ERR invalid expire time in 'getex' command\r\n");
    EXPECT("GETEX k EX x", "-ERR value is not an integer or out of range\r\n");
    EXPECT("GETEX k FOO", "-ERR syntax error\r\n");
}

static void values_are_described_as_redis_would_keep_them(void **state)
{
    (void)state;
    EXPECT("MSET n 12 f 012 m -9223372036854775808 s hello", "+OK\r\n");
    EXPECT("SET l 123456789012345678901234567890123456789012345", "+OK\r\n");
    EXPECT("OBJECT ENCODING n", "$3\r\nint\r\n");
    EXPECT("OBJECT ENCODING f", "$6\r\nembstr\r\n");
    EXPECT("OBJECT ENCODING m", "$3\r\nint\r\n");
    EXPECT("OBJECT ENCODING s", "$6\r\nembstr\r\n");
    EXPECT("OBJECT ENCODING l", "$3\r\nraw\r\n");
    EXPECT("OBJECT ENCODING none", "$-1\r\n");
    EXPECT("OBJECT REFCOUNT n", ":1\r\n");
    EXPECT("OBJECT IDLETIME n", "-ERR idle times are not tracked: reads change nothing\r\n");
    EXPECT("MEMORY USAGE none", "$-1\r\n");
    EXPECT("MEMORY MALLOC-STATS", "$45\r\nStats not supported for the current allocator\r\n");
    put_text(fd, "MEMORY USAGE s\r\n");
    assert_true(atoi(got(fd) + 1) > 96);
}

static void a_dumped_value_is_restored(void **state)
{
    (void)state;
    EXPECT("SET k 12", "+OK\r\n");
    /* As redis-server 7.0 dumps "12". */
    EXPECT(
        "RESTORE i 0 \"\\x00\\xc0\\x0c\\x0a\\x00\\x3c\\x2a\\xf8\\x51\\x5c\\x04\\xbc\\xd5\" REPLACE",
        "+OK\r\n");
    EXPECT("GET i", "$2\r\n12\r\n");
    EXPECT("RESTORE i 0 x REPLACE", "-ERR DUMP payload version or checksum are wrong\r\n");
    EXPECT("RESTORE i -1 x REPLACE", "-ERR Invalid TTL value, must be >= 0\r\n");
    EXPECT("DUMP none", "$-1\r\n");
}

static void settings_of_redis_are_set_and_shown(void **state)
{
    (void)state;
    EXPECT("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 2", "+OK\r\n");
    EXPECT("CONFIG GET slowlog-max-len", "*2\r\n$15\r\nslowlog-max-len\r\n$1\r\n2\r\n");
    EXPECT("PING", "+PONG\r\n");
    EXPECT("PING", "+PONG\r\n");
    EXPECT("PING", "+PONG\r\n");
    EXPECT("SLOWLOG LEN", ":2\r\n");
    EXPECT("CONFIG SET slowlog-max-len x",
           "-ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - argument "
           "couldn't be parsed into an integer\r\n");
    EXPECT("CONFIG SET save '' appendonly YES slowlog-max-len 2", "+OK\r\n");
    EXPECT("CONFIG SET appendonly no",
           "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - can't set "
           "immutable config\r\n");
    put_text(fd, "*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$3\r\na");
    assert_int_equal(write(fd, "\0b\r\n", 4), 4);
    assert_string_equal(got(fd),
                        "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - "
                        "the value has a zero byte in it\r\n");
    EXPECT("CONFIG SET nosuch 1",
           "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n");
    EXPECT("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n");
    EXPECT("SLOWLOG RESET", "+OK\r\n");
    EXPECT("SLOWLOG GET", "*0\r\n");
    EXPECT("CONFIG SET latency-monitor-threshold 5", "+OK\r\n");
    EXPECT("LATENCY LATEST", "*0\r\n");
    EXPECT("LATENCY GRAPH command", "-ERR No samples available for event 'command'\r\n");
    EXPECT("LATENCY GRAPH nosuch", "-ERR No samples available for event 'nosuch'\r\n");
    EXPECT("LATENCY RESET", ":0\r\n");
    EXPECT("LOLWUT VERSION x", "-ERR value is not an integer or out of range\r\n");
    put_text(fd, "LOLWUT\r\n");
    assert_non_null(strstr(got(fd), "Clockwise ver. "));
}

static void a_command_that_is_too_long_as_a_whole_is_told_so(void **state)
{
    (void)state;
    fake->engine.conf.input_limit = 100000;
    turn();
    char *half = malloc(60001);
    memset(half, 'x', 60000);
    half[60000] = '\0';
    put_text(fd, "*5\r\n$4\r\nMSET\r\n");
    for (int i = 0; i < 2; i++) {
        put_text(fd, "$1\r\na\r\n$60000\r\n");
        put_text(fd, half);
        put_text(fd, "\r\n");
        turn();
    }
    free(half);
    assert_string_equal(got(fd), "-ERR command exceeds maximum allowed size (100000 bytes, "
                                 "limits.client_input): send its keys in several commands\r\n");
    EXPECT("PING", "+PONG\r\n");
}

static void there_are_no_functions_to_flush(void **state)
{
    (void)state;
    EXPECT("FUNCTION FLUSH SYNC", "+OK\r\n");
    put_text(fd, "FUNCTION LIST\r\n");
    assert_memory_equal(got(fd), "-ERR FUNCTION is not supported: ", 32);
}

static void commands_describe_themselves(void **state)
{
    (void)state;
    EXPECT("COMMAND INFO get none",
           "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
           "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n"
           "+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n"
           "*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n"
           "$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0"
           "\r\n*0\r\n$-1\r\n");
    EXPECT("COMMAND GETKEYSANDFLAGS del a", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RM\r\n+delete\r\n");
    EXPECT("COMMAND GETKEYSANDFLAGS set a v EX 1",
           "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n");
    EXPECT("COMMAND GETKEYSANDFLAGS set a v get",
           "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n");
    EXPECT("COMMAND GETKEYS object encoding k", "*1\r\n$1\r\nk\r\n");
    EXPECT("COMMAND GETKEYS mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    EXPECT("COMMAND GETKEYS ping", "-ERR The command has no key arguments\r\n");
    EXPECT("COMMAND LIST FILTERBY PATTERN pset*", "*1\r\n$6\r\npsetex\r\n");
    EXPECT("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n");
    put_text(fd, "COMMAND\r\n");
    assert_memory_equal(got(fd), "*", 1);
    EXPECT("COMMAND DOCS command|list",
           "*2\r\n$12\r\ncommand|list\r\n*8\r\n$7\r\nsummary\r\n$17\r\nNames of commands\r\n"
           "$5\r\nsince\r\n$5\r\n7.0.0\r\n$5\r\ngroup\r\n$6\r\nserver\r\n$9\r\narguments\r\n*1\r\n"
           "*10\r\n$4\r\nname\r\n$8\r\nfilterby\r\n$4\r\ntype\r\n$5\r\noneof\r\n"
           "$5\r\ntoken\r\n$8\r\nFILTERBY\r\n$5\r\nflags\r\n*1\r\n+optional\r\n"
           "$9\r\narguments\r\n*3\r\n"
           "*6\r\n$4\r\nname\r\n$11\r\nmodule-name\r\n$4\r\ntype\r\n$6\r\nstring\r\n"
           "$5\r\ntoken\r\n$6\r\nMODULE\r\n"
           "*6\r\n$4\r\nname\r\n$8\r\ncategory\r\n$4\r\ntype\r\n$6\r\nstring\r\n"
           "$5\r\ntoken\r\n$6\r\nACLCAT\r\n"
           "*6\r\n$4\r\nname\r\n$7\r\npattern\r\n$4\r\ntype\r\n$7\r\npattern\r\n"
           "$5\r\ntoken\r\n$7\r\nPATTERN\r\n");
    /* The notation of each of them is read. */
    put_text(fd, "COMMAND DOCS\r\n");
    assert_memory_equal(got(fd), "*", 1);
    put_text(fd, "INFO\r\n");
    assert_non_null(strstr(got(fd), "redis_version:7.2.0"));
    EXPECT("INFO nosuch", "$0\r\n\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_bad_time_for_getex_matters_only_if_there_is_the_key),
        T(values_are_described_as_redis_would_keep_them),
        T(a_dumped_value_is_restored),
        T(settings_of_redis_are_set_and_shown),
        T(a_command_that_is_too_long_as_a_whole_is_told_so),
        T(there_are_no_functions_to_flush),
        T(commands_describe_themselves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
