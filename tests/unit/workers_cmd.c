/* Commands and connections over an engine that is a map: what a client sends, what it gets. */
#include "cmd_kit.h"

static void strings_are_written_and_read(void **state)
{
    (void)state;
    EXPECT("GET k", "$-1\r\n");
    EXPECT("SET k v1", "+OK\r\n");
    EXPECT("get k", "$2\r\nv1\r\n");
    EXPECT("SET k v2 GET", "$2\r\nv1\r\n");
    EXPECT("STRLEN k", ":2\r\n");
    EXPECT("STRLEN none", ":0\r\n");
    EXPECT("TYPE k", "+string\r\n");
    EXPECT("TYPE none", "+none\r\n");
    EXPECT("MSET a 1 b 2 c 3", "+OK\r\n");
    EXPECT("MGET a none c", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n3\r\n");
    EXPECT("EXISTS a a none", ":2\r\n");
    EXPECT("TOUCH a b", ":2\r\n");
    EXPECT("DEL a none b", ":2\r\n");
    EXPECT("UNLINK c", ":1\r\n");
    EXPECT("EXISTS a b c", ":0\r\n");
    EXPECT("GETDEL k", "$2\r\nv2\r\n");
    EXPECT("GETDEL k", "$-1\r\n");
    EXPECT("SET e \"\"", "+OK\r\n");
    EXPECT("GET e", "$0\r\n\r\n");
}

static void ranges_are_cut_as_redis_cuts_them(void **state)
{
    (void)state;
    EXPECT("SET k \"Hello World\"", "+OK\r\n");
    EXPECT("GETRANGE k 0 3", "$4\r\nHell\r\n");
    EXPECT("GETRANGE k 0 -1", "$11\r\nHello World\r\n");
    EXPECT("GETRANGE k -4 -1", "$4\r\norld\r\n");
    EXPECT("GETRANGE k 5 3", "$0\r\n\r\n");
    EXPECT("GETRANGE k -1 -5", "$0\r\n\r\n");
    EXPECT("GETRANGE k 5 5000", "$6\r\n World\r\n");
    EXPECT("GETRANGE k -5000 10000", "$11\r\nHello World\r\n");
    EXPECT("SUBSTR k 0 0", "$1\r\nH\r\n");
    EXPECT("GETRANGE none 0 -1", "$0\r\n\r\n");
    EXPECT("GETRANGE k x 1", "-ERR value is not an integer or out of range\r\n");
}

static void expiry_commands_answer_as_redis_does(void **state)
{
    (void)state;
    EXPECT("SET k v EX 100", "+OK\r\n");
    EXPECT("TTL k", ":100\r\n");
    EXPECT("PTTL k", ":100000\r\n");
    EXPECT("EXPIRETIME k", ":1700000100\r\n");
    EXPECT("PEXPIRETIME k", ":1700000100000\r\n");
    EXPECT("SET rounded v PXAT 4000000000500", "+OK\r\n");
    EXPECT("EXPIRETIME rounded", ":4000000001\r\n");
    EXPECT("SET rounded v PXAT 9223372036854775807", "+OK\r\n");
    EXPECT("EXPIRETIME rounded", ":9223372036854776\r\n");
    EXPECT("SET k w KEEPTTL", "+OK\r\n");
    EXPECT("TTL k", ":100\r\n");
    EXPECT("PERSIST k", ":1\r\n");
    EXPECT("PERSIST k", ":0\r\n");
    EXPECT("TTL k", ":-1\r\n");
    EXPECT("TTL none", ":-2\r\n");
    EXPECT("EXPIRE k 10 XX", ":0\r\n");
    EXPECT("EXPIRE k 10 NX", ":1\r\n");
    EXPECT("EXPIRE k 5 GT", ":0\r\n");
    EXPECT("EXPIRE k 5 LT", ":1\r\n");
    EXPECT("PEXPIRE k 2500", ":1\r\n");
    EXPECT("TTL k", ":3\r\n");
    EXPECT("EXPIRE none 10", ":0\r\n");
    EXPECT("GETEX k PERSIST", "$1\r\nw\r\n");
    EXPECT("TTL k", ":-1\r\n");
    EXPECT("GETEX k EXAT 1700000050", "$1\r\nw\r\n");
    EXPECT("TTL k", ":50\r\n");
    EXPECT("SETEX s 10 v", "+OK\r\n");
    EXPECT("PSETEX p 1500 v", "+OK\r\n");
    EXPECT("PTTL p", ":1500\r\n");
    EXPECT("EXPIRE k -1", ":1\r\n");
    EXPECT("GET k", "$-1\r\n");
    fake->engine.wall_ms += 1500;
    EXPECT("GET p", "$-1\r\n");
    EXPECT("TTL p", ":-2\r\n");
    EXPECT("SET k v EX 0", "-ERR invalid expire time in 'set' command\r\n");
    EXPECT("SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n");
    EXPECT("SET k v EX x", "-ERR value is not an integer or out of range\r\n");
    EXPECT("SET k v EX 1 PX 1", "-ERR syntax error\r\n");
    EXPECT("SETEX k 0 v", "-ERR invalid expire time in 'setex' command\r\n");
    EXPECT("EXPIRE k 1 NX GT",
           "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n");
    EXPECT("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n");
    EXPECT("EXPIRE k 1 foo", "-ERR Unsupported option foo\r\n");
}

static void unknown_and_malformed_commands_get_the_errors_of_redis(void **state)
{
    (void)state;
    EXPECT("incr",
           "-ERR incr is not supported: it writes what depends on what it has read, and two "
           "sides of a broken network would both do it; CW.GET and CW.PUT with a context do "
           "it safely\r\n");
    EXPECT("Swapdb 5", "-ERR Swapdb is not supported: there is only database 0\r\n");
    EXPECT("foo x", "-ERR unknown command 'foo', with args beginning with: 'x' \r\n");
    EXPECT("foo", "-ERR unknown command 'foo', with args beginning with: \r\n");
    EXPECT("get", "-ERR wrong number of arguments for 'get' command\r\n");
    EXPECT("GeT a b", "-ERR wrong number of arguments for 'get' command\r\n");
    EXPECT("mset a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n");
    EXPECT("client", "-ERR wrong number of arguments for 'client' command\r\n");
    EXPECT("client foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n");
    EXPECT("client id x", "-ERR wrong number of arguments for 'client|id' command\r\n");
    EXPECT("select 1", "-ERR DB index is out of range\r\n");
    EXPECT("select x", "-ERR value is not an integer or out of range\r\n");
    EXPECT("set k v nx", "-ERR SET with NX or XX is not supported: replicas that cannot reach "
                         "each other could both obey it\r\n");
    EXPECT("hello 4", "-NOPROTO unsupported protocol version\r\n");
    EXPECT("*-10", "");
    EXPECT("*3000000000", "-ERR Protocol error: invalid multibulk length\r\nclosed");
}

static void a_protocol_error_is_answered_after_earlier_commands(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "GET k\r\nPING\r\nGET \"\r\nPING\r\n");
    assert_string_equal(got(fd), "");
    fake_deliver(fake, 0);
    assert_string_equal(
        got(fd), "$-1\r\n+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\nclosed");
}

static void replies_leave_in_the_order_of_the_commands(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "SET a 1\r\nGET c\r\nPING\r\nMGET d b\r\nECHO x\r\nGET b\r\n");
    assert_string_equal(got(fd), "");
    assert_int_equal(fake->queued, 5);
    while (fake->queued > 1)
        fake_deliver(fake, fake->queued - 1);
    assert_string_equal(got(fd), "");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "+OK\r\n$-1\r\n+PONG\r\n*2\r\n$-1\r\n$-1\r\n$1\r\nx\r\n$-1\r\n");
}

static void reads_and_writes_of_one_key_in_one_pipeline_wait_for_each_other(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "SET a 1\r\nSET a 2\r\nGET b\r\nGET a\r\nSET a 3\r\nGET a\r\n");
    assert_string_equal(got(fd), "");
    assert_int_equal(fake->queued, 3); /* GET a waits for the writes */
    while (fake->queued > 0)
        fake_deliver(fake, 0);
    assert_string_equal(got(fd), "+OK\r\n+OK\r\n$-1\r\n");
    assert_int_equal(fake->queued, 1); /* SET a waits for the read */
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "$1\r\n2\r\n");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "+OK\r\n");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "$1\r\n3\r\n");
}

static void answers_after_the_connection_has_gone_are_dropped(void **state)
{
    (void)state;
    fake->defer = true;
    int other = client();
    put_text(other, "GET a\r\nPING\r\nMGET a b c\r\nGET b\r\n");
    turn();
    assert_int_equal(fake->queued, 5);
    close(other);
    turn();
    put_text(fd, "CLIENT ID\r\n");
    got(fd);
    while (fake->queued > 0)
        fake_deliver(fake, fake->queued / 2);
    turn();
    assert_int_equal(fake->clients->pending.taken_requests, 0);
    assert_int_equal(fake->clients->pending.taken_slots, 0);
}

static void a_full_pipeline_stops_reading_and_goes_on_later(void **state)
{
    (void)state;
    static char text[3000 * 9 + 1];

    EXPECT("SET first 1", "+OK\r\n"); /* so that it is known how large replies are */
    fake->defer = true;
    for (int i = 0; i < 3000; i++)
        strcpy(text + i * 9, "SET a 1\r\n");
    put_text(fd, text);
    turn();
    assert_int_equal(fake->queued, LIMIT_PIPELINE);
    size_t replies = 0;
    while (fake->queued > 0) {
        fake_deliver(fake, 0);
        replies += strlen(got(fd)) / 5;
    }
    assert_int_equal(replies, 3000);
    assert_int_equal(fake->puts, 3001);
    assert_int_equal(fake->clients->stats.paused, 0);
}

static void a_client_whose_replies_are_unknown_is_asked_for_few_at_first(void **state)
{
    (void)state;
    fake->defer = true;
    for (int i = 0; i < 30; i++)
        put_text(fd, "GET a\r\n");
    turn();
    assert_in_range(fake->queued, 16, 18);
    fake_deliver(fake, 0);
    turn();
    assert_int_equal(fake->queued, 29);
    while (fake->queued > 0)
        fake_deliver(fake, 0);
    assert_int_equal(strlen(got(fd)), 30 * 5);
}

static void a_busy_engine_stops_the_connection_until_it_has_room(void **state)
{
    (void)state;
    fake->room = 2;
    put_text(fd, "SET a 1\r\nSET b 2\r\nSET c 3\r\nGET c\r\n");
    assert_string_equal(got(fd), "+OK\r\n+OK\r\n");
    assert_int_equal(fake->clients->stats.paused, 1);
    put_text(fd, "PING\r\n");
    assert_string_equal(got(fd), "");
    fake->room = UINT32_MAX;
    usleep(3000);
    assert_string_equal(got(fd), "+OK\r\n$1\r\n3\r\n+PONG\r\n");
    assert_int_equal(fake->clients->stats.paused, 0);
}

static void a_command_of_many_keys_survives_a_busy_engine(void **state)
{
    (void)state;
    EXPECT("MSET a 1 b 2 c 3", "+OK\r\n");
    for (uint32_t room = 0; room < 4; room++) {
        fake->room = room;
        put_text(fd, "MGET \"a\" b c\r\n");
        assert_string_equal(got(fd), room < 3 ? "" : "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
        if (room == 3)
            break;
        fake->room = UINT32_MAX;
        usleep(3000);
        assert_string_equal(got(fd), "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
    }
}

static void more_keys_than_the_pipeline_holds_are_served(void **state)
{
    static char text[1 << 17];
    size_t len = (size_t)sprintf(text, "*5001\r\n$3\r\nDEL\r\n");

    (void)state;
    for (int i = 0; i < 5000; i++)
        len += (size_t)sprintf(text + len, "$5\r\nk%04d\r\n", i);
    EXPECT("GET first", "$-1\r\n");
    fake->defer = true;
    put_text(fd, text);
    turn();
    assert_int_equal(fake->queued, LIMIT_PIPELINE);
    while (fake->queued > 0) {
        fake_deliver(fake, fake->queued - 1);
        if (fake->queued == 0)
            turn();
    }
    assert_string_equal(got(fd), ":0\r\n");
    assert_int_equal(fake->puts, 5000);
}

static void store_pressure_stops_reading(void **state)
{
    (void)state;
    fake->pressure = true;
    turn();
    put_text(fd, "PING\r\n");
    assert_string_equal(got(fd), "");
    fake->pressure = false;
    usleep(3000);
    assert_string_equal(got(fd), "+PONG\r\n");
}

static void errors_of_the_engine_have_words(void **state)
{
    (void)state;
    fake->status = -ERR_NOQUORUM;
    EXPECT("GET k", "-NOQUORUM need R=2 got 1\r\n");
    EXPECT("MGET k l", "-NOQUORUM need R=2 got 1\r\n");
    EXPECT("SET k v", "-NOQUORUM need W=0 got 0, the write may still take effect\r\n");
    fake->status = -ERR_UNKNOWN;
    EXPECT("SET k v", "-UNKNOWN outcome unknown: the write may have taken effect\r\n");
    EXPECT("MSET k v l v", "-UNKNOWN outcome unknown: the write may have taken effect\r\n");
    fake->status = -ERR_TIMEOUT;
    EXPECT("GET k", "-TIMEOUT not enough replicas answered in time\r\n");
    EXPECT("EXISTS k l", "-TIMEOUT not enough replicas answered in time\r\n");
}

static void resp3_is_spoken_after_hello(void **state)
{
    (void)state;
    put_text(fd, "HELLO 3 SETNAME me\r\n");
    assert_memory_equal(got(fd), "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n", 27);
    EXPECT("GET none", "_\r\n");
    EXPECT("CLIENT GETNAME", "$2\r\nme\r\n");
    EXPECT("CONFIG GET port", "%1\r\n$4\r\nport\r\n$4\r\n7379\r\n");
    EXPECT("RESET", "+RESET\r\n");
    EXPECT("GET none", "$-1\r\n");
    EXPECT("CONFIG GET p?rt x", "*2\r\n$4\r\nport\r\n$4\r\n7379\r\n");
}

static void replies_can_be_switched_off(void **state)
{
    (void)state;
    EXPECT("CLIENT REPLY SKIP\r\nPING\r\nPING", "+PONG\r\n");
    EXPECT("CLIENT REPLY SKIP\r\nSET a 1\r\nGET a", "$1\r\n1\r\n");
    EXPECT("CLIENT REPLY OFF\r\nPING\r\nGET a\r\nMGET a b\r\nfoo\r\nCLIENT REPLY ON", "+OK\r\n");
    fake->defer = true;
    EXPECT("CLIENT REPLY SKIP\r\nGET a\r\nPING", "");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "+PONG\r\n");
}

static void a_password_keeps_strangers_out(void **state)
{
    (void)state;
    int rc;
    assert_true(acl_require(&fake->clients->acl, "secret", &rc));
    int other = client();
    const char *steps[][2] = {
        {"GET k\r\n", "-NOAUTH Authentication required.\r\n"},
        {"AUTH wrong\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
        {"AUTH secre\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
        {"AUTH secretx\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
        {"AUTH me secret\r\n",
         "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
        {"AUTH default secret\r\n", "+OK\r\n"},
        {"GET k\r\n", "$-1\r\n"},
        {"RESET\r\n", "+RESET\r\n"},
        {"GET k\r\n", "-NOAUTH Authentication required.\r\n"},
        {"*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\nclosed"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        put_text(other, steps[i][0]);
        assert_string_equal(got(other), steps[i][1]);
    }
    close(other);
    other = client();
    put_text(other, "*1\r\n$16385\r\n");
    assert_string_equal(got(other), "-ERR Protocol error: unauthenticated bulk length\r\nclosed");
    close(other);
    assert_int_equal(fake->clients->stats.auth_failures, 4);
}

static void clients_are_listed_and_killed(void **state)
{
    char text[128];

    (void)state;
    int other = client();
    put_text(other, "CLIENT SETNAME other\r\n");
    assert_string_equal(got(other), "+OK\r\n");
    put_text(fd, "CLIENT INFO\r\n");
    assert_non_null(strstr(got(fd), " qbuf=13 "));
    put_text(fd, "CLIENT LIST\r\n");
    const char *list = got(fd);
    assert_non_null(strstr(list, "name=other"));
    assert_non_null(strstr(list, " qbuf=13 "));
    assert_null(strstr(list, " oll=1 ")); /* the list itself is no reply that waits */
    EXPECT("CLIENT LIST ID 0 -1 77777", "$0\r\n\r\n");
    EXPECT("CLIENT LIST ID x", "-ERR Invalid client ID\r\n");
    EXPECT("CLIENT KILL ID 77777", ":0\r\n");
    EXPECT("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    EXPECT("CLIENT KILL ID 99999999999999999999", "-ERR client-id should be greater than 0\r\n");
    EXPECT("CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n");
    put_text(other, "CLIENT ID\r\n");
    unsigned long id = strtoul(got(other) + 1, NULL, 10);
    for (int zeros = 1; zeros < 25; zeros++) { /* no beginning of it is taken for an id */
        snprintf(text, sizeof text, "CLIENT KILL ID %0*d%lu0\r\n", zeros, 0, id);
        put_text(fd, text);
        assert_string_equal(got(fd), "-ERR client-id should be greater than 0\r\n");
    }
    snprintf(text, sizeof text, "CLIENT KILL ID %lu\r\n", id);
    put_text(fd, text);
    assert_string_equal(got(fd), ":1\r\n");
    assert_string_equal(got(other), "closed");
    close(other);
    EXPECT("CLIENT KILL TYPE normal SKIPME no", ":1\r\nclosed");
}

static void half_closed_clients_still_get_their_replies(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "GET a\r\nPING\r\n");
    shutdown(fd, SHUT_WR);
    assert_string_equal(got(fd), "");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "$-1\r\n+PONG\r\nclosed");
}

static void quit_ends_the_connection_after_its_replies(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "GET a\r\nQUIT\r\nPING\r\n");
    assert_string_equal(got(fd), "");
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "$-1\r\n+OK\r\nclosed");
}

static void the_largest_unread_output_goes_first(void **state)
{
    static char value[200001];

    (void)state;
    memset(value, 'x', sizeof value - 1);
    put_text(fd, "PING\r\n");
    assert_string_equal(got(fd), "+PONG\r\n");
    fake->defer = true;
    int other = client();
    for (int i = 0; i < 20; i++)
        put_text(other, "GET k\r\n");
    turn();
    fake->engine.conf.output_total = 1 << 20; /* so much has been asked for before */
    struct fake_entry *e = fake_find(fake, slice_str("k"));
    struct object_write w = {.dot = {1, 1},
                             .time = 1,
                             .value = slice_of(value, sizeof value - 1),
                             .sibling_limit = LIMIT_SIBLINGS};
    object_empty(&fake->view, slice_str("k"));
    assert_int_equal(object_put(&fake->view, &w, &e->object, NULL), 0);
    struct coord_reply reply = {.object = slice_of(buf_head(&e->object), buf_len(&e->object))};
    while (fake->queued > 0) {
        uint64_t token = fake->queue[0].token;
        clients_reply(fake->clients, token, &reply);
        fake_deliver(fake, 0);
    }
    turn();
    assert_int_equal(fake->clients->stats.slow_readers, 1);
    assert_int_equal(fake->clients->stats.connected, 1);
    assert_true(fake->clients->stats.buffer_bytes < 1 << 20);
    put_text(fd, "PING\r\n");
    assert_string_equal(got(fd), "+PONG\r\n");
    close(other);
}

static void give_a_ring(struct ring_view *view, struct ring_index *index)
{
    memset(view, 0, sizeof *view);
    view->epoch = 5;
    view->q_bits = 7;
    view->n = 2;
    view->member_count = 2;
    for (uint16_t i = 0; i < 2; i++) {
        struct member *m = &view->members[i];
        m->id.b[0] = (uint8_t)(i + 1);
        snprintf(m->address, sizeof m->address, "127.0.0.%u", i + 1);
        m->worker_port = 7001;
        m->peer_port = 17001;
        m->workers = 2;
    }
    for (uint32_t p = 0; p < 128; p++)
        view->owner[p] = p < 64 ? 0 : 1;
    ring_index_build(view, 2, index);
    fake->engine.view = view;
    fake->engine.index = index;
}

static void worker_ports_redirect_ten_times_and_then_serve(void **state)
{
    static struct ring_view view;
    static struct ring_index index;
    int pair[2];

    (void)state;
    give_a_ring(&view, &index);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_non_null(clients_adopt(fake->clients, pair[1], CLIENTS_WORKER));
    /* "foo" is in slot 12182: partition 95, of the second node. */
    for (int i = 0; i < 10; i++) {
        put_text(pair[0], "GET foo\r\n");
        assert_memory_equal(got(pair[0]), "-MOVED 12182 127.0.0.2:700", 26);
    }
    put_text(pair[0], "GET foo\r\n");
    assert_string_equal(got(pair[0]), "$-1\r\n");
    view.epoch++;
    put_text(pair[0], "SET foo 1\r\n");
    assert_memory_equal(got(pair[0]), "-MOVED", 6);
    /* The front port serves every key. */
    EXPECT("GET foo", "$-1\r\n");
    close(pair[0]);
}

static void the_ring_is_told_as_a_redis_cluster(void **state)
{
    static struct ring_view view;
    static struct ring_index index;

    (void)state;
    EXPECT("CLUSTER SLOTS", "*0\r\n");
    EXPECT("CLUSTER MYID", "-CLUSTERDOWN there is no ring yet\r\n");
    give_a_ring(&view, &index);
    EXPECT("CLUSTER MYID", "$40\r\n0100000000000000000000000000000000000000\r\n");
    EXPECT("CLUSTER KEYSLOT foo", ":12182\r\n");
    EXPECT("CLUSTER KEYSLOT {foo}bar", ":12182\r\n");
    EXPECT("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n");
    put_text(fd, "CLUSTER NODES\r\n");
    const char *nodes = got(fd);
    const char *myself = strstr(nodes, "myself,master");
    assert_non_null(myself);
    assert_null(strstr(myself + 1, "myself"));
    unsigned long slots = 0;
    int lines = 0;
    for (const char *at = strstr(nodes, "connected"); at != NULL; at = strstr(at + 1, "connected"))
        lines++;
    for (const char *at = strchr(nodes, '\n'); at != NULL; at = strchr(at + 1, ' ')) {
        unsigned long from, to;
        if (sscanf(at, " %lu-%lu", &from, &to) == 2)
            slots += to - from + 1;
    }
    assert_int_equal(lines, 4);
    assert_int_equal(slots, LIMIT_SLOTS);
    put_text(fd, "CLUSTER INFO\r\n");
    assert_non_null(strstr(got(fd), "cluster_state:ok\r\n"));
    /* A node that is down is left out, its slots go to the next. */
    view.members[1].state = MEMBER_FAULTY;
    put_text(fd, "CLUSTER SLOTS\r\n");
    assert_null(strstr(got(fd), "127.0.0.2"));
    put_text(fd, "CLUSTER SHARDS\r\n");
    assert_memory_equal(got(fd), "*2\r\n", 4);
    put_text(fd, "CW.EXPLAIN foo\r\n");
    assert_non_null(strstr(got(fd), "faulty"));
}

static int count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

static void replicas_are_told_of_and_serve_reads_where_that_is_wanted(void **state)
{
    static struct ring_view view;
    static struct ring_index index;
    int pair[2];

    (void)state;
    give_a_ring(&view, &index);
    EXPECT("CLUSTER REPLICAS 0200000000000000000000000000000000000001", "*0\r\n");
    fake->engine.conf.advertise_replicas = true;
    put_text(fd, "CLUSTER REPLICAS 0200000000000000000000000000000000000001\r\n");
    const char *text = got(fd);
    assert_memory_equal(text, "*1\r\n$", 5);
    assert_non_null(
        strstr(text, " 127.0.0.1:7002@17002 slave 0200000000000000000000000000000000000001 "));
    put_text(fd, "CLUSTER NODES\r\n");
    text = got(fd);
    assert_int_equal(count_of(text, "master - "), 4);
    assert_int_equal(count_of(text, "slave 0"), 4);
    assert_int_equal(count_of(text, "myself"), 1);
    put_text(fd, "CLUSTER SLOTS\r\n");
    text = got(fd);
    assert_memory_equal(text, "*128\r\n*4\r\n:0\r\n:127\r\n", 20);
    assert_int_equal(count_of(text, "127.0.0.1"), 128);
    assert_int_equal(count_of(text, "127.0.0.2"), 128);
    put_text(fd, "CLUSTER SHARDS\r\n");
    text = got(fd);
    assert_memory_equal(text, "*128\r\n", 6);
    int replicas = 0;
    for (; *text != '\0'; text = got(fd)) /* it is more than fits into the text at once */
        replicas += count_of(text, "replica\r\n");
    assert_in_range(replicas, 127, 128);
    put_text(fd, "CLUSTER INFO\r\n");
    assert_non_null(strstr(got(fd), "cluster_known_nodes:8\r\ncluster_size:4\r\n"));
    /* Of both keys the master is on the other node; of one its replica is this worker. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_non_null(clients_adopt(fake->clients, pair[1], CLIENTS_WORKER));
    uint16_t foo = ring_worker_of(95, 2), other = 0;
    char key[16] = "";
    for (int i = 0; other == 0; i++) {
        snprintf(key, sizeof key, "k%d", i);
        uint16_t slot = position_slot_of_key(slice_str(key));
        other = slot >= 8192 && ring_worker_of(slot >> 7, 2) != foo ? slot : 0;
    }
    fake->engine.worker = foo;
    put_text(pair[0], "GET foo\r\n");
    assert_string_equal(got(pair[0]), "$-1\r\n");
    put_text(pair[0], "SET foo 1\r\n");
    assert_memory_equal(got(pair[0]), "-MOVED 12182 127.0.0.2:700", 26);
    put_text(pair[0], "GET ");
    put_text(pair[0], key);
    put_text(pair[0], "\r\n");
    assert_memory_equal(got(pair[0]), "-MOVED ", 7);
    fake->engine.conf.advertise_replicas = false;
    put_text(pair[0], "GET foo\r\n");
    assert_memory_equal(got(pair[0]), "-MOVED 12182 127.0.0.2:700", 26);
    close(pair[0]);
}

static void versions_are_shown_and_merged(void **state)
{
    char text[512], context[256];

    (void)state;
    EXPECT("CW.GET cart", "*4\r\n$7\r\ncontext\r\n$0\r\n\r\n$6\r\nvalues\r\n*0\r\n");
    put_text(fd, "CW.PUT cart milk\r\n");
    assert_memory_equal(got(fd), "*4\r\n$7\r\ncontext\r\n", 17);
    put_text(fd, "CW.PUT cart eggs W 1 EX 100\r\n");
    got(fd);
    put_text(fd, "CW.GET cart\r\n");
    const char *both = got(fd);
    assert_non_null(strstr(both, "values\r\n*2\r\n$4\r\nmilk\r\n$4\r\neggs\r\n"));
    assert_int_equal(sscanf(both + 17, "$%*d\r\n%255s", context), 1);
    snprintf(text, sizeof text, "CW.PUT cart both CTX %s\r\n", context);
    put_text(fd, text);
    assert_non_null(strstr(got(fd), "acks"));
    put_text(fd, "CW.GET cart R 1 TIMEOUT 100\r\n");
    assert_non_null(strstr(got(fd), "values\r\n*1\r\n$4\r\nboth\r\n"));
    assert_int_equal(fake->last_get.r, 1);
    assert_int_equal(fake->last_get.timeout_ms, 100);
    EXPECT("CW.PUT other v CTX !!", "-BADCTX the context is damaged, or is of another key\r\n");
    EXPECT("CW.PUT cart v W 9", "-ERR W must be a number from 1 to 8\r\n");
    EXPECT("CW.PUT cart v FOO 9", "-ERR syntax error\r\n");
    EXPECT("CW.GET cart R", "-ERR R must be a number from 1 to 8\r\n");
    put_text(fd, "CW.DEL cart\r\n");
    got(fd);
    put_text(fd, "CW.GET cart\r\n");
    const char *gone = got(fd);
    assert_non_null(strstr(gone, "values\r\n*0\r\n"));
    assert_null(strstr(gone, "$0\r\n"));
    put_text(fd, "CW.PUT cart v ID abc\r\nCW.PUT cart v ID abc\r\n");
    assert_non_null(got(fd));
    put_text(fd, "CW.GET cart\r\n");
    assert_non_null(strstr(got(fd), "*1\r\n$1\r\nv\r\n"));
}

static void a_drain_ends_everything(void **state)
{
    (void)state;
    fake->defer = true;
    put_text(fd, "GET a\r\n");
    turn();
    clients_drain(fake->clients);
    turn();
    assert_false(clients_drained(fake->clients));
    fake_deliver(fake, 0);
    assert_string_equal(got(fd), "$-1\r\nclosed");
    assert_true(clients_drained(fake->clients));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(strings_are_written_and_read),
        T(ranges_are_cut_as_redis_cuts_them),
        T(expiry_commands_answer_as_redis_does),
        T(unknown_and_malformed_commands_get_the_errors_of_redis),
        T(a_protocol_error_is_answered_after_earlier_commands),
        T(replies_leave_in_the_order_of_the_commands),
        T(reads_and_writes_of_one_key_in_one_pipeline_wait_for_each_other),
        T(answers_after_the_connection_has_gone_are_dropped),
        T(a_full_pipeline_stops_reading_and_goes_on_later),
        T(a_client_whose_replies_are_unknown_is_asked_for_few_at_first),
        T(a_busy_engine_stops_the_connection_until_it_has_room),
        T(a_command_of_many_keys_survives_a_busy_engine),
        T(more_keys_than_the_pipeline_holds_are_served),
        T(store_pressure_stops_reading),
        T(errors_of_the_engine_have_words),
        T(resp3_is_spoken_after_hello),
        T(replies_can_be_switched_off),
        T(a_password_keeps_strangers_out),
        T(clients_are_listed_and_killed),
        T(half_closed_clients_still_get_their_replies),
        T(quit_ends_the_connection_after_its_replies),
        T(the_largest_unread_output_goes_first),
        T(worker_ports_redirect_ten_times_and_then_serve),
        T(the_ring_is_told_as_a_redis_cluster),
        T(replicas_are_told_of_and_serve_reads_where_that_is_wanted),
        T(versions_are_shown_and_merged),
        T(a_drain_ends_everything),
    };
    return cmocka_run_group_tests_name("a client of a worker gets what Redis would give", tests,
                                       NULL, NULL);
}
