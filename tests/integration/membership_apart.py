#!/usr/bin/env python3
"""Two administrators change the ring, each on one side of a real partition: when the sides meet there is one
ring, the side that lost says so and can plan again, and no write is lost. Needs root, for the namespaces."""
import json

from lib import case, equal, eventually, finish, skip
from lib_net import possible, start, together

why_not = possible()
if why_not:
    skip("two administrators on two sides of a partition end with one ring", why_not)
    finish()

net, nodes = start("suspicion_timeout = 1s\nprobe_interval = 200ms\nprobe_timeout = 100ms\n"
                   "[storage]\nflush_age = 200ms\n[limits]\nrepair_interval = 2s\n")
connections = {k: node.connect() for k, node in nodes.items()}
KEYS = [f"key:{i}" for i in range(500)]
SIDES = {1: 3, 3: 1}  # the administrators' nodes, and the other one's


def admin(k, *words):
    return json.loads(connections[k]("CW.CLUSTER", *words, "JSON").removeprefix(b"txt:"))


def status(k):
    return admin(k, "status")


def weights(k):
    return {m["name"]: m["weight"] for m in status(k)["members"]}


def settled():
    seen = [status(k) for k in nodes]
    return not any(s["changing"] for s in seen) and len({s["epoch"] for s in seen}) == 1


@case
def each_side_commits_a_change_of_its_own():
    equal(set(connections[1].pipeline([("SET", key, key) for key in KEYS])), {"OK"})
    net.link("down")
    for k, other in SIDES.items():
        eventually("the other side is faulty", lambda: all(
            m["state"] == "faulty" for m in status(k)["members"] if m["name"] in (f"node{other}", f"node{other + 1}")))
    for k in SIDES:
        admin(k, "weight", f"node{k}", "200")
        admin(k, "commit", admin(k, "plan")["plan"])
    for k in nodes:
        side = 1 if k < 3 else 3
        eventually(f"node {k} has heard of it", lambda: weights(k)[f"node{side}"] == 200)
        equal(weights(k)[f"node{SIDES[side]}"], 100)


@case
def when_they_meet_there_is_one_ring_and_the_loser_says_so():
    net.link("up")
    eventually("all alive again", lambda: together(nodes))
    eventually("one change is carried out", settled, 120)
    equal([weights(k) for k in nodes], [weights(1)] * 4)
    winner = 1 if weights(1)["node1"] == 200 else 3
    loser = SIDES[winner]
    equal((weights(1)[f"node{winner}"], weights(1)[f"node{loser}"]), (200, 100))
    for k in (winner, winner + 1):
        equal(status(k)["lost"], [], f"node {k}")
    for k in (loser, loser + 1):
        equal([lost["changes"] for lost in status(k)["lost"]], [[f"weight of node{loser}: 200"]], f"node {k}")


@case
def what_was_lost_can_be_done_again():
    loser = 1 if weights(1)["node1"] == 100 else 3
    admin(loser, "weight", f"node{loser}", "200")
    admin(loser, "commit", admin(loser, "plan")["plan"])
    eventually("both are heavier", lambda: settled() and weights(2)["node1"] == weights(2)["node3"] == 200, 120)
    for k, r in connections.items():
        equal(r.pipeline([("GET", key) for key in KEYS]), [key.encode() for key in KEYS], f"node {k}")


finish()
