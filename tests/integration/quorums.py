#!/usr/bin/env python3
"""What a request may ask of its quorum, with nodes that are dead or frozen: primaries alone (PR, PW), durable
copies (DW), an answer in time (TIMEOUT). And many writers of one key that have seen nothing: versions and
memory stay bounded. WRITERS changes their number."""
import os
import threading
import time

from lib import Cluster, Error, case, equal, eventually, finish

WRITERS = int(os.environ.get("WRITERS", "2000"))
LIMIT_SIBLINGS = 64  # core/limits.h
cluster = Cluster(nodes=4, workers=1, options=("n=3", "r=2", "w=2", "request_timeout=4s"))


def client(k):
    r = cluster.redis(k)
    r("HELLO", "3")
    return r


one = client(1)


def owners(key):
    return [int(p[b"name"][4:]) for p in one("CW.EXPLAIN", key)[b"preference"] if p[b"role"] == b"primary"]


def refused(start, *words):
    try:
        got = one(*words)
    except Error as error:
        if not str(error).startswith(start):
            raise AssertionError(f"{words}: {error}, want {start}") from None
        return
    raise AssertionError(f"{words}: answered {got}, want {start}")


# Of these node 1 and node 4 are not both primaries, so that a fallback is left when one of them dies.
KEY = next(f"key{i}" for i in range(1000) if sorted(owners(f"key{i}")) == [1, 2, 3])


@case
def with_all_nodes_there_every_quorum_is_met():
    for words, most in (((), 2), (("W", 3), 3), (("PW", 3), 3), (("DW", 3), 3), (("W", 1, "DW", 2, "PW", 3), 3)):
        acks = one("CW.PUT", KEY, "x", "CTX", one("CW.GET", KEY)[b"context"], *words)[b"acks"]
        equal(acks >= most, True, str((words, acks)))
    for words in (("R", 3), ("PR", 3), ("R", 1, "PR", 2)):
        equal(one("CW.GET", KEY, *words)[b"values"], [b"x"], str(words))
    refused("ERR", "CW.GET", KEY, "PR", 0)
    refused("ERR", "CW.PUT", KEY, "x", "DW", 9)
    refused("NOQUORUM need W=4", "CW.PUT", KEY, "x", "PW", 4, "TIMEOUT", 300)


@case
def fallbacks_count_for_w_and_dw_but_not_for_pw_and_pr():
    cluster.run("kill", 3)
    seen = one("CW.GET", KEY)[b"context"]
    equal(one("CW.PUT", KEY, "y", "CTX", seen, "W", 3)[b"acks"], 3)
    seen = one("CW.GET", KEY)[b"context"]
    equal(one("CW.PUT", KEY, "z", "CTX", seen, "DW", 3)[b"acks"], 3)
    refused("NOQUORUM need W=3 got 2", "CW.PUT", KEY, "z", "CTX", seen, "ID", "1", "PW", 3, "TIMEOUT", 500)
    equal(one("CW.GET", KEY, "R", 3)[b"values"][-1:], [b"z"])
    refused("NOQUORUM need R=3 got 2", "CW.GET", KEY, "PR", 3, "TIMEOUT", 500)
    equal(one("CW.GET", KEY, "PR", 2)[b"values"][-1:], [b"z"])
    cluster.run("start", 3)
    eventually("node 3 counts again", lambda: not isinstance(one.pipeline([("CW.GET", KEY, "PR", 3)])[0], Error))


@case
def a_request_is_answered_within_the_timeout_that_it_gives():
    cluster.run("pause", 2)
    cluster.run("pause", 3)
    try:
        ends = {}

        def ask(name, *words):
            with client(1) as r:
                answer = r.pipeline([words])[0]
                ends[name] = (time.monotonic(), str(answer))
        # Node 1 lives, so that it coordinates; nodes 2 and 3 say nothing, and PW lets nobody stand in.
        threads = [threading.Thread(target=ask, args=(f"{verb} {ms}", *words, "TIMEOUT", ms))
                   for ms in (300, 3500)
                   for verb, words in (("put", ("CW.PUT", KEY, "late", "PW", 3)), ("get", ("CW.GET", KEY, "PR", 3)))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for verb, letter in (("put", "W"), ("get", "R")):
            equal(ends[f"{verb} 300"][1].startswith(f"NOQUORUM need {letter}=3 got "), True, str(ends))
            equal(ends[f"{verb} 300"][0] <= ends[f"{verb} 3500"][0], True, str(ends))
    finally:
        cluster.run("resume", 2)
        cluster.run("resume", 3)
    eventually("all count again", lambda: not isinstance(one.pipeline([("CW.GET", KEY, "PR", 3)])[0], Error))


def memory():
    """Resident bytes of all workers."""
    total = 0
    for k in range(1, 5):
        for name, pid in cluster.children(k).items():
            if name.startswith("worker"):
                with open(f"/proc/{pid}/statm") as f:
                    total += int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


@case
def many_writers_that_have_seen_nothing_leave_bounded_versions_and_memory():
    clients = [client(k % 4 + 1) for k in range(100)]
    for r in clients:  # what connections cost is not counted
        r("CW.PUT", "warm", "x", "CTX", r("CW.GET", "warm")[b"context"])
    before = memory()
    each = WRITERS // len(clients)
    for i, r in enumerate(clients):
        r.sock.sendall(b"".join(r.encode(("CW.PUT", "crowd", f"{i}:{n}:" + 100 * "v")) for n in range(each)))
    taken, capped = [], 0
    for i, r in enumerate(clients):
        for n in range(each):
            reply = r.read_inner()
            if isinstance(reply, Error):
                equal(str(reply).startswith("SIBLINGS "), True, str(reply))
                capped += 1
            else:
                taken.append((f"{i}:{n}:" + 100 * "v").encode())
    grown = memory() - before
    found = one("CW.GET", "crowd", "R", 3)
    print(f"# {WRITERS} writers: {len(taken)} taken, {capped} refused, {len(found[b'values'])} versions, workers grew by "
          f"{grown / 1e6:.1f} MB")
    # Coordinators that have not heard of one another fill up to the limit each, fallbacks included.
    equal(sorted(found[b"values"]), sorted(taken), "no version that was acknowledged is lost")
    equal(LIMIT_SIBLINGS <= len(found[b"values"]) <= 4 * LIMIT_SIBLINGS, True, str(len(found[b"values"])))
    equal(capped > 0 and grown < 100e6, True, str(grown))
    one("CW.PUT", "crowd", "merged", "CTX", found[b"context"])
    equal(one("CW.GET", "crowd", "R", 3)[b"values"], [b"merged"])


finish()
