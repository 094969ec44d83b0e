#!/usr/bin/env python3
"""Hinted handoff with real processes: what a dead node misses is kept for it, and it has all of it
after it is back, even alone."""
import os
import time

from lib import Cluster, Error, case, equal, eventually, finish

KEYS = int(os.environ.get("HANDOFF_KEYS", "20000"))
cluster = Cluster(nodes=3, workers=2)


def info(k):
    with cluster.redis(k) as r:
        text = r("INFO", "clockwise").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def pending(*nodes):
    return sum(int(info(k)["hints_pending"]) for k in nodes)


def write(first, count):
    """Half of the keys through node 1, half through node 3."""
    for at, k in ((0, 1), (1, 3)):
        with cluster.redis(k) as r:
            replies = r.pipeline([("SET", f"key:{i}", f"value:{i}") for i in range(first + at, first + count, 2)])
            equal(replies.count("OK"), len(replies), str([x for x in replies if x != "OK"][:3]))


def missing(k, first, count):
    """Keys that the node has not got by itself."""
    with cluster.redis(k) as r:
        r("HELLO", "3")
        replies = r.pipeline([("CW.GET", f"key:{i}", "R", 1) for i in range(first, first + count)])
    return [i for i, x in enumerate(replies, first)
            if isinstance(x, Error) or x.get(b"values") != [b"value:%d" % i]], replies


@case
def hints_are_kept_for_a_dead_node_and_seen_in_counters_and_dump():
    cluster.run("kill", 2)
    write(0, KEYS)
    eventually("a hint for every key", lambda: pending(1, 3) >= KEYS)
    equal(pending(1, 3), KEYS, "hints")
    one = info(1)
    if int(one["hints_bytes"]) < 20 * int(one["hints_pending"]):
        raise AssertionError(f"bytes of hints: {one}")
    dump = cluster.dump(1, "worker-0", "worker-1")
    rows = [v for w in dump["workers"] for v in w.get("vnodes", [])]
    eventually("rows of vnodes that add up", lambda: sum(
        v["hints"] for w in cluster.dump(1, "worker-0", "worker-1")["workers"] for v in w["vnodes"]) == pending(1))
    equal(len(rows) > 0, True)


@case
def hints_are_counted_anew_after_a_crash_of_their_holder():
    before = pending(1)
    cluster.run("kill", 1)
    cluster.run("start", 1)
    eventually("the same count", lambda: pending(1) == before)


@case
def hints_drain_when_their_target_is_back():
    began = time.monotonic()
    cluster.run("start", 2)
    started = time.monotonic()
    eventually("no hints", lambda: pending(1, 3) == 0)
    print(f"# {KEYS} hints: node ready after {started - began:.2f} s, drained {time.monotonic() - started:.2f} s later")
    equal(sum(int(info(k)["hints_expired"]) + int(info(k)["hints_overflowed"]) for k in (1, 3)), 0)


@case
def the_node_alone_has_every_key():
    cluster.run("kill", 1)
    cluster.run("kill", 3)
    lost, replies = missing(2, 0, KEYS)
    equal(lost[:5], [], f"{len(lost)} missing, first reply {replies[lost[0]] if lost else ''}:")


@case
def hints_for_a_node_that_crashes_in_the_middle_of_delivery_arrive_later():
    cluster.run("start", 1)
    cluster.run("start", 3)
    cluster.run("kill", 2)
    write(KEYS, KEYS)
    eventually("a hint for every key", lambda: pending(1, 3) >= KEYS)
    cluster.run("start", 2)
    eventually("some hints delivered", lambda: pending(1, 3) < KEYS)
    cluster.run("kill", 2)
    cluster.run("kill", 3)
    cluster.run("start", 3)
    cluster.run("start", 2)
    eventually("no hints", lambda: pending(1, 3) == 0)
    cluster.run("kill", 1)
    cluster.run("kill", 3)
    lost, replies = missing(2, KEYS, KEYS)
    equal(lost[:5], [], f"{len(lost)} missing, first reply {replies[lost[0]] if lost else ''}:")


def small(*options):
    """A cluster with a dead node 2 and 2000 keys that it misses."""
    c = Cluster(nodes=3, workers=2, options=options)
    c.run("kill", 2)
    with c.redis(1) as r:
        replies = r.pipeline([("SET", f"key:{i}", "x" * 100) for i in range(2000)])
        equal(replies.count("OK"), 2000, str([x for x in replies if x != "OK"][:3]))
    return c


def total(c, name):
    found = 0
    for k in (1, 3):
        with c.redis(k) as r:
            text = r("INFO", "clockwise").decode()
        found += sum(int(x.split(":")[1]) for x in text.splitlines() if x.startswith(name + ":"))
    return found


@case
def hints_beyond_the_cap_of_bytes_are_counted_and_writes_go_on():
    c = small("hint_bytes=50kb")
    eventually("hints and overflows", lambda: total(c, "hints_pending") + total(c, "hints_overflowed") == 2000)
    equal(total(c, "hints_overflowed") > 500, True, "overflows")
    equal(total(c, "hints_bytes") <= 2 * 50 * 1024, True, "bytes")
    c.run("start", 2)
    eventually("no hints", lambda: total(c, "hints_pending") == 0)
    c.destroy()


@case
def hints_that_are_too_old_are_dropped_and_counted():
    c = small("hint_age=1s")
    eventually("all expired", lambda: total(c, "hints_expired") == 2000 and total(c, "hints_pending") == 0)
    equal(total(c, "hints_delivered"), 0)
    c.destroy()


@case
def hints_are_delivered_no_faster_than_the_configured_rate():
    c = small("hint_rate=1000")
    began = time.monotonic()
    c.run("start", 2)
    eventually("no hints", lambda: total(c, "hints_pending") == 0)
    print(f"# 2000 hints at most 1000 a second to a node: {time.monotonic() - began:.2f} s with the start")
    c.destroy()


finish()
