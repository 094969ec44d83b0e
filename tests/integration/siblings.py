#!/usr/bin/env python3
"""Versions over a real cluster: concurrent writes stay beside each other until somebody has seen both;
contexts are checked; quorums are what was asked for."""
import base64
import os

from lib import Cluster, Error, Redis, case, equal, finish

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


@case
def explain_shows_where_a_key_lives_and_its_version_at_its_owner():
    one("CW.PUT", "why", "x")
    found = one("CW.EXPLAIN", "why")
    equal(len(found[b"preference"]), 3)
    equal([p[b"state"] for p in found[b"preference"]], [b"alive"] * 3)
    for entry in found[b"preference"]:
        with Redis(int(entry[b"address"].rsplit(b":", 1)[1])) as r:
            r("HELLO", "3")
            mine = [p for p in r("CW.EXPLAIN", "why")[b"preference"] if p[b"version"] is not None]
            equal([p[b"node"] for p in mine], [entry[b"node"]])
            equal(mine[0][b"version"][b"context"], context(one, "why"))
            equal(mine[0][b"version"][b"siblings"], 1)


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
