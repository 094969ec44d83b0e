#!/usr/bin/env python3
"""Three nodes: what is written through one is read through another, with a node dead, and after it is
back."""
from lib import Cluster, Error, case, equal, eventually, finish

KEYS = 10000
cluster = Cluster(nodes=3, workers=2)


@case
def a_key_written_through_one_node_is_read_through_the_others():
    with cluster.redis(1) as one, cluster.redis(2) as two, cluster.redis(3) as three:
        equal(one("SET", "k", "v"), "OK")
        equal(two("GET", "k"), b"v")
        equal(three("GET", "k"), b"v")


@case
def commands_with_many_keys_work_across_workers_and_nodes():
    with cluster.redis(1) as one, cluster.redis(2) as two:
        pairs = [w for i in range(100) for w in (f"many:{i}", f"value:{i}")]
        equal(one("MSET", *pairs), "OK")
        keys = pairs[::2]
        equal(two("MGET", *keys, "many:none"), [v.encode() for v in pairs[1::2]] + [None])
        equal(two("EXISTS", *keys, "many:none"), 100)
        equal(one("DEL", *keys[:50], "many:none"), 50)
        equal(two("EXISTS", *keys), 50)


@case
def values_are_binary_safe_and_large_ones_pass_through_mailboxes_and_links():
    with cluster.redis(1) as one, cluster.redis(3) as three:
        for i, size in enumerate((0, 1, 1000, 100000, 3000000, 8 << 20)):
            value = bytes((i * 7 + j) & 255 for j in range(256)) * (size // 256 + 1)
            for key in (f"big:{i}:a", f"big:{i}:b", f"big:{i}:c", f"big:{i}:d"):
                equal(one("SET", key, value[:size]), "OK")
                if three("GET", key) != value[:size]:
                    raise AssertionError(f"{key} of {size} bytes came back otherwise")


@case
def ten_thousand_keys_survive_the_death_of_a_node():
    with cluster.redis(1) as one:
        replies = one.pipeline([("SET", f"key:{i}", f"value:{i}") for i in range(KEYS)])
        equal(replies.count("OK"), KEYS, str([r for r in replies if r != "OK"][:3]))
    cluster.run("kill", 1)
    for k in (2, 3):
        with cluster.redis(k) as r:
            replies = r.pipeline([("GET", f"key:{i}") for i in range(KEYS)])
            wrong = [i for i in range(KEYS) if replies[i] != b"value:%d" % i]
            equal(wrong[:5], [], f"node {k}: {len(wrong)} missing, first reply {replies[wrong[0]] if wrong else ''}:")


@case
def writes_go_on_while_a_node_is_dead():
    with cluster.redis(3) as three, cluster.redis(2) as two:
        replies = three.pipeline([("SET", f"late:{i}", i) for i in range(1000)])
        equal(replies.count("OK"), 1000, str([r for r in replies if r != "OK"][:3]))
        equal(two.pipeline([("GET", f"late:{i}") for i in range(1000)]), [b"%d" % i for i in range(1000)])


@case
def a_node_that_comes_back_answers_with_what_was_written_meanwhile():
    cluster.run("start", 1)
    with cluster.redis(1) as one:
        eventually("all keys through the node that came back", lambda: one.pipeline(
            [("GET", f"late:{i}") for i in range(1000)]) == [b"%d" % i for i in range(1000)])
        equal(one("SET", "back", "again"), "OK")


@case
def the_dump_tool_shows_ring_and_processes_of_every_node():
    for k in (1, 2, 3):
        text = str(cluster.dump(k))
        for word in ("node1", "node2", "node3"):
            if word not in text:
                raise AssertionError(f"{word} is not in the dump of node {k}")


@case
def two_dead_nodes_of_three_make_writes_fail_with_the_reason():
    cluster.run("kill", 1)
    cluster.run("kill", 2)
    with cluster.redis(3) as three:
        try:
            three("SET", "lonely", "1")
        except Error as error:
            if not str(error).startswith("NOQUORUM need W=2 got 1"):
                raise AssertionError(str(error)) from None
        else:
            raise AssertionError("was acknowledged")


finish()
