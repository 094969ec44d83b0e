#!/usr/bin/env python3
"""Versions over a real cluster: concurrent writes stay beside each other until somebody has seen both;
contexts are checked; quorums are what was asked for."""
import base64
import os

from lib import Cluster, Error, Redis, case, equal, eventually, finish

cluster = Cluster(nodes=3, workers=2, options=(
    'prefix "any:".r=1', 'prefix "any:".w=1', 'prefix "all:".w=3', 'prefix "all:".r=1', 'prefix "all:twice:".w=2'))


def client(k):
    r = cluster.redis(k)
    r("HELLO", "3")
    return r


one, two, three = client(1), client(2), client(3)


def values(r, key, *options):
    return sorted(r("CW.GET", key, *options)[b"values"])


def context(r, key):
    return r("CW.GET", key)[b"context"]


def refused(start, r, *words):
    try:
        got = r(*words)
    except Error as error:
        if not str(error).startswith(start):
            raise AssertionError(f"{words[0]}: {error}, want {start}") from None
        return str(error)
    raise AssertionError(f"{words}: answered {got}, want {start}")


@case
def two_writes_with_one_old_context_leave_two_siblings_and_the_joined_context_leaves_one():
    for n in range(20):
        key = f"k{n}"
        old = one("CW.PUT", key, "a")[b"context"]
        one("CW.PUT", key, "b", "CTX", old)
        three("CW.PUT", key, "c", "CTX", old)
        for r in (one, two, three):
            equal(values(r, key), [b"b", b"c"], key)
        two("CW.PUT", key, "d", "CTX", context(two, key))
        for r in (one, two, three):
            equal(values(r, key), [b"d"], key)


def cart(key, first, second):
    """Client 1 puts milk; client 2, having seen nothing, puts eggs and is shown both; client 1 with its
    first context puts milk+flour and is shown that and eggs; client 2 with what it was shown puts
    eggs+milk+ham; client 1 with what it was shown puts milk+flour+eggs+bacon."""
    seen1 = first("CW.PUT", key, "milk")[b"context"]
    second("CW.PUT", key, "eggs")
    seen2 = context(second, key)
    equal(values(second, key), [b"eggs", b"milk"], key)
    first("CW.PUT", key, "milk+flour", "CTX", seen1)
    seen1 = context(first, key)
    equal(values(first, key), [b"eggs", b"milk+flour"], key)
    second("CW.PUT", key, "eggs+milk+ham", "CTX", seen2)
    equal(values(second, key), [b"eggs+milk+ham", b"milk+flour"], key)
    first("CW.PUT", key, "milk+flour+eggs+bacon", "CTX", seen1)
    for r in (one, two, three):
        equal(values(r, key), [b"eggs+milk+ham", b"milk+flour+eggs+bacon"], key)


@case
def the_grocery_cart_ends_with_two_siblings_through_one_node():
    for n in range(10):
        cart(f"cart:one:{n}", two, two)


@case
def the_grocery_cart_ends_with_two_siblings_through_two_nodes():
    for n in range(10):
        cart(f"cart:two:{n}", one, three)
    for n in range(10):
        cart(f"cart:owt:{n}", three, two)


@case
def contexts_that_are_not_of_this_key_are_refused_and_cost_nothing():
    mine = one("CW.PUT", "ctx", "kept")[b"context"]
    other = one("CW.PUT", "ctx2", "x")[b"context"]
    bad = [mine[:n] for n in range(1, len(mine))] + [other, b"!", b"A" * 5000, b"\xff\x00", mine + b"A", mine + mine]
    for at in range(len(mine)):
        for flip in (1, 2, 32):
            damaged = bytearray(mine)
            damaged[at] ^= flip
            bad.append(bytes(damaged))
    raw = bytearray(base64.urlsafe_b64decode(mine + b"=" * (-len(mine) % 4)))
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0x80
        bad.append(base64.urlsafe_b64encode(bytes(changed)).rstrip(b"="))
    bad += [base64.urlsafe_b64encode(os.urandom(n)).rstrip(b"=") for n in range(1, 200, 7)]
    for k, text in enumerate(bad):
        if text == mine:
            continue
        r = (one, two, three)[k % 3]
        refused("BADCTX", r, "CW.PUT", "ctx", "lost", "CTX", text)
        refused("BADCTX", r, "CW.DEL", "ctx", "CTX", text)
        refused("BADCTX", r, "SET", "ctx", "lost", "CTX", text)
    for r in (one, two, three):
        equal(values(r, "ctx"), [b"kept"])
    one("CW.PUT", "ctx", "after", "CTX", mine)
    equal(values(two, "ctx"), [b"after"])


@case
def a_retried_write_with_its_id_makes_no_second_sibling():
    for n in range(20):
        key = f"retry:{n}"
        old = one("CW.PUT", key, "base")[b"context"]
        one("CW.PUT", key, "w", "CTX", old, "ID", f"id-{n}")
        for r in (one, two, three, two):
            r("CW.PUT", key, "w", "CTX", old, "ID", f"id-{n}")
        equal(values(three, key), [b"w"], key)
        two("CW.PUT", key, "w", "CTX", old, "ID", f"other-{n}")
        equal(values(three, key), [b"w", b"w"], key)


@case
def a_delete_covers_what_its_context_covers():
    old = one("CW.PUT", "del", "a")[b"context"]
    two("CW.PUT", "del", "b")
    one("CW.DEL", "del", "CTX", old)
    equal(values(three, "del"), [b"b"])
    three("CW.DEL", "del")
    answer = two("CW.GET", "del")
    equal(answer[b"values"], [])
    equal(len(answer[b"context"]) > 0, True, "a tombstone has a context")
    equal(two("CW.GET", "never")[b"context"], b"")


@case
def plain_set_takes_context_and_quorum_too():
    old = one("CW.PUT", "set", "a")[b"context"]
    equal(one("SET", "set", "b", "CTX", old), "OK")
    equal(two("SET", "set", "c", "CTX", old, "W", 3), "OK")
    equal(values(three, "set"), [b"b", b"c"])
    equal(three("GET", "set") in (b"b", b"c"), True)
    equal(three("GET", "set"), one("GET", "set"))
    equal(three("SET", "set", "d"), "OK")
    equal(values(one, "set"), [b"d"])


def explain(r, key):
    """The entries of the preference list by the number of their node."""
    found = r("CW.EXPLAIN", key)[b"preference"]
    return {int(p[b"name"][4:]): p for p in found}


@case
def explain_shows_every_replica_with_the_version_that_it_holds():
    one("CW.PUT", "why", "x", "W", 3)
    two("CW.PUT", "why", "y", "W", 3)
    for port in [cluster.port(k) + i for k in (1, 2, 3) for i in (0, 1, 2)]:
        with Redis(port) as r:
            r("HELLO", "3")
            found = explain(r, "why")
            equal(sorted(found), [1, 2, 3])
            for p in found.values():
                equal((p[b"state"], p[b"answer"], p[b"role"], p[b"hinted"]), (b"alive", b"ok", b"primary", 0))
                equal(p[b"version"][b"context"], context(one, "why"))
                equal((p[b"version"][b"siblings"], p[b"version"][b"standing"]), (2, b"whole"))
            equal(len({p[b"version"][b"digest"] for p in found.values()}), 1)
            equal(len({p[b"version"][b"vnode"] for p in found.values()}), 3)
    with Redis(cluster.port(1)) as r:  # RESP2
        found = r("CW.EXPLAIN", "why")
        equal((found[0], found[6], len(found[7])), (b"slot", b"preference", 3))
    equal([p[b"version"][b"siblings"] for p in explain(one, "nothing").values()], [0, 0, 0])


@case
def explain_shows_who_is_away_who_holds_hints_and_who_is_stale():
    one("SET", "owed", "before", "W", 3)
    cluster.run("kill", 3)
    one("SET", "owed", "after")
    eventually("a hint is held for node 3", lambda: explain(two, "owed")[3][b"hinted"] >= 1)
    found = explain(two, "owed")
    equal((found[3][b"answer"], found[3][b"version"]), (b"unreachable", None))
    equal(set(found[3][b"hinted_at"]) <= {b"node1", b"node2"}, True)
    equal([found[k][b"hinted"] for k in (1, 2)], [0, 0])
    equal(found[1][b"version"][b"digest"], found[2][b"version"][b"digest"])
    cluster.run("start", 3)
    eventually("the hint is delivered", lambda: explain(two, "owed")[3][b"hinted"] == 0 and
               explain(two, "owed")[3][b"answer"] == b"ok")
    found = explain(two, "owed")
    equal(len({p[b"version"][b"digest"] for p in found.values()}), 1)
    cluster.run("pause", 3)
    try:
        equal(explain(one, "owed")[3][b"answer"] in (b"silent", b"unreachable"), True)
    finally:
        cluster.run("resume", 3)


@case
def quorums_that_cannot_be_met_say_what_was_missing():
    cluster.run("kill", 3)
    equal(values(one, "k1", "R", 2), [b"d"])
    # What cannot succeed is not waited for, so that a late acknowledgement may be missing in "got".
    text = refused("NOQUORUM need W=3 got ", one, "CW.PUT", "q", "x", "W", 3, "TIMEOUT", 1000)
    if "may still" not in text:
        raise AssertionError(f"does not say that it may take effect: {text}")
    refused("NOQUORUM need R=3 got ", two, "CW.GET", "q", "R", 3, "TIMEOUT", 1000)
    refused("NOQUORUM need W=3 got ", two, "SET", "q", "x", "W", 3)
    equal(one("CW.PUT", "q2", "x", "W", 2)[b"acks"], 2)
    # Quorums by prefix; the longest one holds.
    refused("NOQUORUM need W=3 got ", one, "CW.PUT", "all:q", "x")
    equal(one("CW.PUT", "all:twice:q", "x")[b"acks"], 2)
    cluster.run("kill", 2)
    equal(one("SET", "any:q", "x"), "OK")
    equal(one("GET", "any:q"), b"x")
    equal(values(one, "all:twice:q", "R", 1), [b"x"])
    refused("NOQUORUM need W=2 got 1", one, "SET", "all:twice:q", "y")
    refused("NOQUORUM need W=2 got 1", one, "CW.PUT", "q", "y", "TIMEOUT", 1000)
    refused("NOQUORUM need R=2 got 1", one, "CW.GET", "q", "TIMEOUT", 1000)
    equal(one("CW.PUT", "q1", "x", "W", 1)[b"acks"], 1)
    equal(values(one, "q1", "R", 1), [b"x"])
    for k in (2, 3):
        cluster.run("start", k)


def owners(r, key):
    return [int(p[b"name"][4:]) for p in r("CW.EXPLAIN", key)[b"preference"] if p[b"role"] == b"primary"]


def four_nodes(sloppy):
    """A cluster of four, and a key with two of its three primaries dead: the number of a node that lives."""
    c = Cluster(nodes=4, workers=1, options=(f"sloppy={sloppy}", "n=3", "r=2", "w=2"))
    with c.redis(1) as r:
        r("HELLO", "3")
        k = next(f"key{i}" for i in range(1000) if 1 not in owners(r, f"key{i}")[1:])
        r("SET", k, "before")
        dead = [n for n in owners(r, k) if n != 1][:2]
    for n in dead:
        c.run("kill", n)
    return c, k


@case
def a_sloppy_quorum_writes_and_reads_with_two_of_three_primaries_dead():
    c, key = four_nodes("yes")
    with c.redis(1) as r:
        equal(r("SET", key, "after"), "OK")
        equal(r("GET", key), b"after")
        r("HELLO", "3")
        refused("NOQUORUM need W=2 got 1", r, "CW.PUT", key, "x", "W", 2, "PW", 2, "TIMEOUT", 1000)
    c.destroy()


@case
def a_strict_quorum_refuses_what_its_primaries_cannot_give():
    c, key = four_nodes("no")
    with c.redis(1) as r:
        refused("NOQUORUM need W=2 got 1", r, "SET", key, "after")
        refused("NOQUORUM need R=2 got 1", r, "GET", key)
    c.destroy()


@case
def a_strict_quorum_reads_its_own_writes_while_nodes_die_and_come_back():
    c = Cluster(nodes=3, workers=2, options=("sloppy=no",))
    keys = [f"own:{i}" for i in range(50)]
    for turn in range(6):
        dead = turn % 3 + 1
        c.run("kill", dead)
        living = [k for k in (1, 2, 3) if k != dead]
        with c.redis(living[0]) as a, c.redis(living[1]) as b:
            for n, key in enumerate(keys):
                value = f"{turn}:{n}".encode()
                equal(a("SET", key, value), "OK", key)
                equal(b("GET", key), value, key)
        c.run("start", dead)
        with c.redis(dead) as r:
            for n, key in enumerate(keys):
                equal(r("GET", key), f"{turn}:{n}".encode(), f"{key} through the node that came back")
    c.destroy()


finish()
