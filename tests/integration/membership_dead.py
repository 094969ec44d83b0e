#!/usr/bin/env python3
"""A node leaves the ring while another one, which should take over from it, is dead: it ends by itself, nothing
is missing, and the dead one is filled when it comes back."""
from lib import Cluster, alive, case, equal, eventually, finish

KEYS = 1500
cluster = Cluster(nodes=3, workers=1, spare=1, options=[
    "suspicion_timeout=2s", "probe_interval=300ms", "storage.flush_age=200ms", "limits.repair_interval=2s",
    "limits.surplus_after=1s"])


def status(k):
    return cluster.admin(k, "status")


def member(k, name):
    return next(m for m in status(k)["members"] if m["name"] == name)


def write(k, value, count=KEYS):
    cluster.write(k, value, range(count))


def nothing_is_missing(k, newest):
    """newest: how many of the first keys have been written once more."""
    with cluster.redis(k, timeout=60) as r:
        got = r.pipeline([("GET", f"key:{i}") for i in range(KEYS)])
    wrong = [i for i in range(KEYS) if got[i] != (b"newer" if i < newest else b"first") + b":%d" % i]
    equal(len(wrong), 0, f"missing at node {k}: {wrong[:5]} {[got[i] for i in wrong[:2]]}")


def carry_out(k):
    equal(cluster.clockwise(k, "commit", cluster.admin(k, "plan")["plan"])[0], 0)


@case
def a_node_leaves_and_ends_although_one_that_should_take_over_is_dead():
    write(1, "first")
    place = cluster.run("add").strip()
    cluster.admin(2, "join", place)
    carry_out(2)
    eventually("the fourth has joined", lambda: not any(status(k)["changing"] for k in (1, 2, 3, 4)), 60)
    leaver = cluster.supervisor(2)
    cluster.run("kill", 1)
    eventually("node 1 is faulty", lambda: all(member(k, "node1")["state"] == "faulty" for k in (2, 3, 4)))
    # Some of it is now owed to node 1 by the node that leaves.
    write(2, "newer", 300)
    cluster.admin(3, "leave", "node2")
    carry_out(3)
    seen = []
    eventually("node 2 ends", lambda: seen.append(cluster.clockwise(3, "status")[1]) or not alive(leaver), 60)
    assert any("goes on without node1" in text for text in seen), seen[-1]
    eventually("the change is complete", lambda: not any(status(k)["changing"] for k in (3, 4)))
    assert "left the ring" in cluster.log(2), cluster.log(2)[-500:]
    node1 = member(4, "node1")
    equal((node1["state"], node1["in_ring"]), ("faulty", True))
    assert not member(4, "node2")["in_ring"]
    for k in (3, 4):
        nothing_is_missing(k, 300)


@case
def the_dead_one_is_filled_when_it_comes_back():
    cluster.run("start", 1)
    eventually("node 1 is back", lambda: all(member(k, "node1")["state"] == "alive" for k in (1, 3, 4)))
    nothing_is_missing(1, 300)

    def whole():
        with cluster.redis(1) as r:
            return b"vnodes_not_whole:0\r\n" in r("INFO", "antientropy")

    eventually("all of its replicas are whole", whole, 60)
    # Now it can stand in for another.
    cluster.run("kill", 3)
    eventually("node 3 is faulty", lambda: member(1, "node3")["state"] == "faulty")
    for k in (1, 4):
        nothing_is_missing(k, 300)


finish()
