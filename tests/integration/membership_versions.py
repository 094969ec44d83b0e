#!/usr/bin/env python3
"""A rolling upgrade: nodes of different protocol versions serve, repair each other and move up together; one
that has no version in common with them is refused."""
import contextlib
import json
import os

from lib import Cluster, Error, alive, case, equal, eventually, finish

KEYS = 300
OLD, NODES = 2, (1, 2, 3)
cluster = Cluster(nodes=3, workers=1, spare=1, options=[
    "suspicion_timeout=1s", "probe_interval=200ms", "storage.flush_age=200ms", "limits.repair_interval=1s"])


def set_options(k, *options):
    """Of one node, from its next start on."""
    path = os.path.join(cluster.dir, "cluster.json")
    with open(path) as f:
        info = json.load(f)
    info.setdefault("added", {})[str(k)] = list(options)
    with open(path, "w") as f:
        json.dump(info, f)


def restart(k, *options):
    cluster.run("stop", k)
    set_options(k, *options)
    cluster.run("start", k)


def gossip(k, name):
    return cluster.dump(k, "gossip")["gossip"]["counters"][name]


def older_peers(k):
    return cluster.dump(k, "repair")["repair"]["counters"]["repair_peers_older"]


def counter(k, name):
    return sum(w["counters"][name] for w in cluster.dump(k, "worker-0")["workers"])


def announced(k):
    status = cluster.admin(k, "status")
    return status["protocol"], {m["name"]: m["protocol"] for m in status["members"]}


def write(k, value, keys=range(KEYS)):
    cluster.write(k, value, keys)


def everything_is(k, value, keys=range(KEYS)):
    with cluster.redis(k) as r:
        got = r.pipeline([("GET", f"key:{i}") for i in keys])
    wrong = [(i, x) for i, x in zip(keys, got) if x != f"{value}:{i}".encode()]
    equal(wrong[:3], [], f"{len(wrong)} wrong at node {k}")


def held_by(k, value, keys):
    """Does node k have these itself?"""
    with cluster.redis(k) as r:
        r("HELLO", "3")
        got = r.pipeline([("CW.GET", f"key:{i}", "R", 1) for i in keys])
    return all(not isinstance(x, Error) and x.get(b"values") == [f"{value}:{i}".encode()] for i, x in zip(keys, got))


def ends_refused(k):
    eventually(f"node {k} ends", lambda: not alive(cluster.supervisor(k)))
    said = cluster.log(k)
    if "this node and the cluster have no protocol version in common" not in said:
        raise AssertionError(said[-1500:])


@case
def mixed_nodes_speak_the_lowest_common_version():
    restart(OLD, "protocol_max=1")
    for k in NODES:
        eventually(f"node {k} knows what all speak",
                   lambda: announced(k) == (1, {"node1": 2, "node2": 1, "node3": 2}))
        eventually(f"links of node {k}", lambda: counter(k, "peer_links_up") == 2)
        # The older one finds nobody older than itself.
        equal(counter(k, "peer_links_older"), 0 if k == OLD else 1, f"links of node {k}")
    write(1, "first")
    for k in NODES:
        everything_is(k, "first")
    write(OLD, "second")
    for k in NODES:
        everything_is(k, "second")


@case
def hints_reach_the_older_node():
    cluster.run("kill", OLD)
    write(1, "third")
    eventually("hints are kept for it", lambda: counter(1, "hints_pending") + counter(3, "hints_pending") > 0)
    cluster.run("start", OLD)
    eventually("and delivered", lambda: counter(1, "hints_pending") + counter(3, "hints_pending") == 0)
    eventually("it has them", lambda: held_by(OLD, "third", range(KEYS)))


@case
def repair_fills_the_older_node():
    cluster.run("kill", OLD)
    cluster.run("wipe", OLD)
    cluster.run("start", OLD)
    eventually("others repair it in its version", lambda: older_peers(1) + older_peers(3) > 0)
    equal(older_peers(OLD), 0)
    eventually("it is whole", lambda: counter(OLD, "store_not_whole") == 0 and held_by(OLD, "third", range(KEYS)))


@case
def the_ring_waits_for_the_older_node():
    cluster.admin(3, "weight", "node1", 150)
    plan = cluster.admin(3, "plan")["plan"]
    status, said = cluster.clockwise(3, "commit", plan)
    equal(status, 1, said)
    if "speaks protocol version 1" not in said:
        raise AssertionError(said)


@case
def a_newcomer_that_does_not_speak_the_common_version_is_refused():
    before = [gossip(k, "gossip_incompatible") for k in NODES]
    cluster.run("add", "-o", "protocol_min=2")
    ends_refused(4)
    for k, n in zip(NODES, before):
        if gossip(k, "gossip_incompatible") <= n:
            raise AssertionError(f"node {k} has not counted it")
        equal(set(announced(k)[1]), {"node1", "node2", "node3"})
    eventually("a log that says so", lambda: "no protocol version in common" in cluster.log(1))


@case
def the_cluster_moves_up_when_the_older_node_is_upgraded():
    restart(OLD)
    for k in NODES:
        eventually(f"node {k} knows what all speak", lambda: announced(k) == (2, dict.fromkeys(("node1", "node2", "node3"), 2)))
        eventually(f"links of node {k}", lambda: counter(k, "peer_links_up") == 2 and counter(k, "peer_links_older") == 0)
        eventually(f"repair of node {k}", lambda: older_peers(k) == 0)
    eventually("what was staged is known to it", lambda: cluster.admin(OLD, "status")["staged"])
    equal(cluster.clockwise(OLD, "commit", cluster.admin(OLD, "plan")["plan"])[0], 0)
    for k in NODES:
        eventually(f"node {k} has changed the ring", lambda: not cluster.admin(k, "status")["changing"])
        everything_is(k, "third")


@case
def a_member_that_goes_back_beyond_what_all_speak_is_refused():
    restart(3, "protocol_min=2")
    write(1, "fourth")
    cluster.run("stop", OLD)
    set_options(OLD, "protocol_max=1")
    with contextlib.suppress(AssertionError):  # it may never be ready
        cluster.run("start", OLD)
    ends_refused(OLD)
    write(1, "fifth")
    everything_is(3, "fifth")


finish()
