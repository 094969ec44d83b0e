#!/usr/bin/env python3
"""Commands over all keys of a cluster, and over all clients of a node: SCAN, KEYS, RANDOMKEY, FLUSHALL,
CLIENT LIST, KILL and PAUSE, whichever worker of whichever node is asked."""
import time

from lib import Cluster, Error, Redis, case, equal, eventually, finish, kill

KEYS = 3000
cluster = Cluster(nodes=3, workers=2, options=["allow_flush=yes"])
WANTED = {b"key:%d" % i for i in range(KEYS)}


def fill():
    with cluster.redis(1) as r:
        replies = r.pipeline([["SET", key, "v"] for key in sorted(WANTED)])
        equal(set(replies), {"OK"})


def scan(connections, *options):
    """A full SCAN, each step on the next of these connections."""
    found, cursor, step = [], b"0", 0
    while True:
        cursor, keys = connections[step % len(connections)]("SCAN", cursor, *options)
        found += keys
        step += 1
        if cursor == b"0":
            return found
        if step > 20 * KEYS:
            raise AssertionError(f"no end: at {cursor}")


def refused(r, *words):
    try:
        r(*words)
    except Error as error:
        return str(error)
    raise AssertionError(f"{words} was not refused")


def worker_ports():
    with cluster.redis(1) as r:
        return sorted({node[1] for run in r("CLUSTER", "SLOTS") for node in run[2:]})


def reconnect(k):
    try:
        r = cluster.redis(k)
        return r if r("PING") == "PONG" else None
    except (OSError, Error):
        return None


def on_both_workers(k, count):
    """Connections to a node, half of them to each worker."""
    return [Redis(cluster.port(k) + 1 + i % 2) for i in range(count)]


fill()


@case
def a_scan_finds_every_key_wherever_each_step_is_asked():
    connections = [cluster.redis(k) for k in (1, 2, 3) for _ in range(3)]
    for count in ("1", "7", "100", "100000"):
        found = scan(connections, "COUNT", count)
        equal(set(found), WANTED, f"COUNT {count}")
        if len(found) > len(WANTED) * 1.01:
            raise AssertionError(f"{len(found) - len(WANTED)} keys were told twice")
    equal(set(scan(connections, "MATCH", "key:1?")), {b"key:%d" % i for i in range(10, 20)})
    equal(set(scan(connections, "TYPE", "string", "COUNT", "500")), WANTED)
    equal(scan(connections, "TYPE", "list", "COUNT", "500"), [])
    for r in connections:
        r.close()


@case
def the_worker_ports_together_tell_each_key_once():
    found = []
    for port in worker_ports():
        with Redis(port) as r:
            mine = scan([r], "COUNT", "50")
            equal(sorted(r("KEYS", "*")), sorted(mine), "KEYS and SCAN of one worker port")
            found += mine
    equal(sorted(found), sorted(WANTED))


@case
def keys_and_randomkey_see_the_whole_cluster():
    with cluster.redis(2) as r:
        equal(set(r("KEYS", "*")), WANTED)
        equal(r("KEYS", "key:77"), [b"key:77"])
        equal(r("KEYS", ""), [])
        equal(len({r("RANDOMKEY") for _ in range(50)} - WANTED), 0)
        if len({r("RANDOMKEY") for _ in range(50)}) < 20:
            raise AssertionError("RANDOMKEY is not random")
        slot = r("CLUSTER", "KEYSLOT", "key:5")
        there = {k for k in WANTED if r("CLUSTER", "KEYSLOT", k) == slot}
        equal(r("CLUSTER", "COUNTKEYSINSLOT", slot), len(there))
        equal(set(r("CLUSTER", "GETKEYSINSLOT", slot, 1000)), there)
        equal(len(r("CLUSTER", "GETKEYSINSLOT", slot, 1)), 1)


@case
def what_redis_refuses_of_scan_is_refused_in_its_words():
    with cluster.redis(1) as r:
        equal(refused(r, "SCAN", "x"), "ERR invalid cursor")
        equal(refused(r, "SCAN", "0", "COUNT", "0"), "ERR syntax error")
        equal(refused(r, "SCAN", "0", "COUNT", "x"), "ERR value is not an integer or out of range")
        equal(refused(r, "SCAN", "0", "COUNT"), "ERR syntax error")
        equal(refused(r, "SCAN", "0", "FOO", "1"), "ERR syntax error")
        equal(r("SCAN", "18446744073709551600"), [b"0", []])
        equal(refused(r, "KEYS", "?" * 131073), "ERR pattern exceeds maximum allowed size (131072 bytes)")
        equal(r("KEYS", "?" * 131072), [])


@case
def expired_and_deleted_keys_are_not_found():
    with cluster.redis(1) as r:
        r("SET", "brief", "v", "PX", "1")
        r("SET", "gone", "v")
        r("DEL", "gone")
        eventually("it expires", lambda: r("EXISTS", "brief") == 0)
        equal(r("KEYS", "brief"), [])
        equal(r("KEYS", "gone"), [])


@case
def a_scan_goes_on_while_a_node_is_down_and_a_worker_restarts():
    connections = [cluster.redis(1), cluster.redis(2)]
    cursor, found = b"0", []
    for step in range(4 * KEYS):
        if step == 5:
            cluster.run("kill", 3)
        if step == 40:
            kill(cluster.children(2)["worker-1"])
        try:
            cursor, keys = connections[step % 2]("SCAN", cursor, "COUNT", "20")
        except (OSError, Error):  # the connection was of the worker that has gone: the cursor is still good
            time.sleep(0.02)
            connections[step % 2].close()
            connections[step % 2] = eventually("it answers", lambda: reconnect(step % 2 + 1))
            continue
        found += keys
        if cursor == b"0":
            break
    equal(set(found), WANTED)
    for r in connections:
        r.close()
    cluster.run("start", 3)
    eventually("node 3 is back", lambda: all(cluster.ready(k) for k in (1, 2, 3)))


@case
def clients_of_all_workers_are_listed_and_killed():
    connections = on_both_workers(1, 12)
    for i, r in enumerate(connections):
        r("CLIENT", "SETNAME", f"c{i}")
    text = connections[0]("CLIENT", "LIST").decode()
    rows = [dict(word.partition("=")[::2] for word in line.split(" ")) for line in text.splitlines()]
    equal({row["name"] for row in rows} >= {f"c{i}" for i in range(12)}, True)
    equal(len({int(row["id"]) % 64 for row in rows}), 2, "workers that have connections")
    wanted = [int(row["id"]) for row in rows if row["name"] in ("c3", "c4")]
    text = connections[0]("CLIENT", "LIST", "ID", *wanted).decode()
    equal(len(text.splitlines()), 2)
    for row in rows:
        if row["name"] in ("c5", "c6", "c7", "c8"):
            equal(connections[1]("CLIENT", "KILL", "ID", row["id"]), 1)
    for i in (5, 6, 7, 8):
        try:
            connections[i]("PING")
        except (OSError, ConnectionError):
            continue
        raise AssertionError(f"c{i} lives")
    address = next(row["addr"] for row in rows if row["name"] == "c9")
    equal(connections[2]("CLIENT", "KILL", address), "OK")
    equal(refused(connections[2], "CLIENT", "KILL", address), "ERR No such client")
    equal(connections[0]("CLIENT", "KILL", "TYPE", "pubsub"), 0)
    for r in connections:
        r.close()


def settled(r):
    """A connection to a worker port that has been redirected as often as it will be."""
    for i in range(200):
        r.send("GET", f"key:{i}")
        r.read_inner()
    return r


@case
def a_pause_holds_writes_of_all_workers_until_it_ends():
    admin, connections = cluster.redis(1), [settled(r) for r in on_both_workers(1, 8)]
    equal(admin("CLIENT", "PAUSE", "60000", "WRITE"), "OK")
    for i, r in enumerate(connections):
        r.send("SET", f"paused:{i}", "v")
    for _ in range(50):
        for i in range(8):
            equal(admin("GET", f"paused:{i}"), None)
    equal(admin("CLIENT", "UNPAUSE"), "OK")
    equal([r.read() for r in connections], ["OK"] * 8)
    equal(admin("CLIENT", "PAUSE", "1"), "OK")
    equal(admin("GET", "paused:1"), b"v")
    equal(refused(admin, "CLIENT", "PAUSE", "x"), "ERR timeout is not an integer or out of range")
    equal(refused(admin, "CLIENT", "PAUSE", "-1"), "ERR timeout is negative")
    for r in connections + [admin]:
        r.close()


@case
def counters_of_all_workers_are_put_together_and_reset():
    connections = [cluster.redis(2) for _ in range(6)]
    equal(connections[0]("CONFIG", "RESETSTAT"), "OK")
    for r in connections:
        for _ in range(5):
            r("GET", "key:1")
    stats = connections[0]("INFO", "commandstats").decode()
    equal("cmdstat_get:calls=30," in stats, True, stats)
    histogram = connections[1]("LATENCY", "HISTOGRAM", "get")
    equal(histogram[:1] + histogram[1][:2], [b"get", b"calls", 30])
    for r in connections:
        r.close()


@case
def flushall_deletes_everything_on_all_nodes():
    with cluster.redis(3) as r:
        equal(refused(r, "FLUSHALL", "FOO"), "ERR syntax error")
        equal(r("FLUSHALL"), "OK")
    for k in (1, 2, 3):
        with cluster.redis(k) as r:
            equal(r("KEYS", "*"), [])
            equal(r("SCAN", "0", "COUNT", "1000")[1], [])
            equal(r("RANDOMKEY"), None)


finish()
