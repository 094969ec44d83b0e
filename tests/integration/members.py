#!/usr/bin/env python3
"""Membership of real nodes: death, freezing, loss of the disk, impostors."""
import json
import os
import re
import shutil
import socket
import subprocess

from lib import BUILD, Cluster, Error, case, equal, eventually, finish

cluster = Cluster(nodes=3, workers=2, spare=1, options=["suspicion_timeout=2s", "probe_interval=500ms", "secret=shared"])


def ring(k):
    return cluster.dump(k, "ring")["ring"]


def states(k):
    return {m["name"]: m["state"] for m in ring(k)["members"]}


def everyone_says(about, state, who=(1, 2, 3)):
    eventually(f"node{about} is {state} for {who}",
               lambda: all(states(k).get(f"node{about}") == state for k in who if k != about))


def impostor(name, change):
    """A fourth node from node 3's configuration, changed; its exit status and what it said."""
    home = os.path.join(cluster.dir, name)
    os.makedirs(os.path.join(home, "run"))
    os.makedirs(os.path.join(home, "data"))
    with open(os.path.join(cluster.dir, "3", "node.conf")) as f:
        text = f.read()
    base, mine = cluster.base + 300, cluster.base + 400
    text = text.replace(os.path.join(cluster.dir, "3"), home)
    for key, offset in (("port", 0), ("worker_port", 1), ("peer_port", 10001), ("gossip_port", 10000),
                        ("repair_port", 9999)):
        text = re.sub(rf"(?m)^{key} = {base + offset}$", f"{key} = {mine + offset}", text)
    text = change(text)
    path = os.path.join(home, "node.conf")
    with open(path, "w") as f:
        f.write(text)
    done = subprocess.run([os.path.join(BUILD, "clockwised"), "-c", path], capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout + done.stderr


@case
def all_nodes_hold_the_same_ring():
    rings = [ring(k) for k in (1, 2, 3)]
    equal([r["epoch"] for r in rings], [1, 1, 1])
    equal([[m["id"] for m in r["members"]] for r in rings], [[m["id"] for m in rings[0]["members"]]] * 3)
    equal(sum(m["partitions_owned"] for m in rings[0]["members"]), rings[0]["partitions"])


@case
def a_killed_node_is_faulty_for_the_others_and_alive_when_it_is_back():
    cluster.run("kill", 3)
    everyone_says(3, "faulty")
    with cluster.redis(1) as one:
        equal([one("SET", f"a:{i}", i) for i in range(200)], ["OK"] * 200)
    cluster.run("start", 3)
    everyone_says(3, "alive")
    equal(ring(1)["epoch"], 1)


@case
def a_frozen_node_is_skipped_and_comes_back_without_blaming_the_others():
    cluster.run("pause", 2)
    everyone_says(2, "faulty")
    with cluster.redis(1) as one:
        equal([one("SET", f"b:{i}", i) for i in range(200)], ["OK"] * 200)
    cluster.run("resume", 2)
    everyone_says(2, "alive")
    eventually("node 2 believes in the others", lambda: set(states(2).values()) == {"alive"})
    with cluster.redis(2) as two:
        eventually("and answers", lambda: two("GET", "b:7") == b"7")


@case
def a_node_that_lost_its_disk_takes_its_own_place_with_a_new_id():
    before = {m["name"]: m["id"] for m in ring(1)["members"]}
    cluster.run("kill", 3)
    cluster.run("wipe", 3)
    cluster.run("start", 3)
    for k in (1, 2, 3):
        eventually(f"node {k} has the new ring", lambda: ring(k)["epoch"] == 2)
        after = {m["name"]: m["id"] for m in ring(k)["members"]}
        equal({n for n in before if before[n] != after[n]}, {"node3"})
        equal(len(ring(k)["members"]), 3)
    everyone_says(3, "alive")
    with cluster.redis(3) as three:
        equal([three("GET", f"a:{i}") for i in range(200)], [b"%d" % i for i in range(200)])


@case
def a_node_with_a_living_members_name_stops_and_says_why():
    status, text = impostor("named", lambda t: t.replace("name = node3", "name = node2"))
    equal(status, 78, text[-500:])
    if "another member has this node's name" not in text:
        raise AssertionError(text[-500:])
    eventually("all members alive", lambda: all(set(states(k).values()) == {"alive"} for k in (1, 2, 3)))


@case
def a_copied_data_directory_does_not_harm_the_original():
    def copy(text):
        here = os.path.join(cluster.dir, "copied", "data")
        shutil.copy(os.path.join(cluster.data_dir(2), "node-id"), here)
        return text.replace("name = node3", "name = copy")
    status, text = impostor("copied", copy)
    equal(status, 78, text[-500:])
    if "another living member has this node's id" not in text:
        raise AssertionError(text[-500:])
    eventually("all members alive", lambda: all(set(states(k).values()) == {"alive"} for k in (1, 2, 3)))
    equal(ring(1)["members"][1]["gossip_port"], cluster.port(2) + 10000)


@case
def a_node_that_has_founded_a_ring_of_its_own_is_not_joined_and_takes_nothing_over():
    def ignored(where, k):
        return where.dump(k, "gossip")["gossip"]["counters"]["gossip_foreign_rings"]

    before = [m["id"] for m in ring(1)["members"]]
    apart = Cluster(nodes=1, workers=1, options=["secret=shared", "node.name=apart"])
    status, text = cluster.clockwise(1, "join", f"127.0.0.1:{apart.port(1) + 10000}")
    equal(status, 1, text)
    if "is in a ring of its own" not in text:
        raise AssertionError(text)
    eventually("one of them has ignored the other's ring",
               lambda: ignored(apart, 1) + sum(ignored(cluster, k) for k in (1, 2, 3)) > 0)
    for k in (1, 2, 3):
        equal([m["id"] for m in ring(k)["members"]], before)
    equal(len(apart.dump(1, "ring")["ring"]["members"]), 1)
    apart.destroy()


@case
def datagrams_of_others_are_dropped_and_counted():
    def counted():
        return cluster.dump(1, "gossip")["gossip"]["counters"]

    before, address = counted(), ("127.0.0.1", cluster.base + 100 + 10000)
    header = b"CWG1" + bytes(8) + os.urandom(56)  # of a cluster that does not exist
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for i in range(50):
            s.sendto(os.urandom(i), address)  # no packet
            s.sendto(header + os.urandom(i), address)  # foreign
            s.sendto(header + os.urandom(1400 + i * 1000), address)  # huge
    eventually("all of them are counted", lambda: counted()["gossip_bad"] >= before["gossip_bad"] + 100 and
               counted()["gossip_denied"] >= before["gossip_denied"] + 50)
    equal(set(states(1).values()), {"alive"})
    equal(set(states(2).values()), {"alive"})


def set_secret(value):
    """For the nodes that are started from now on."""
    path = os.path.join(cluster.dir, "cluster.json")
    with open(path) as f:
        info = json.load(f)
    info["options"] = [f"secret={value}" if o.startswith("secret=") else o for o in info["options"]]
    with open(path, "w") as f:
        json.dump(info, f)


@case
def a_node_with_another_secret_is_not_heard():
    cluster.run("kill", 3)
    everyone_says(3, "faulty")
    set_secret("guess")
    cluster.run("start", 3)
    with cluster.redis(1) as one:
        equal([one("SET", f"c:{i}", i) for i in range(200)], ["OK"] * 200)
    eventually("node 3 finds itself alone", lambda: states(3) == {"node1": "faulty", "node2": "faulty", "node3": "alive"})
    equal((states(1)["node3"], states(2)["node3"]), ("faulty", "faulty"))
    cluster.run("kill", 3)
    set_secret("shared")
    cluster.run("start", 3)
    everyone_says(3, "alive")


@case
def a_node_that_starts_alone_knows_its_ring_and_says_what_it_lacks():
    for k in (1, 2, 3):
        cluster.run("kill", k)
    cluster.run("start", 2)
    equal((ring(2)["epoch"], len(ring(2)["members"])), (2, 3))
    with cluster.redis(2) as two:
        def refused():
            try:
                two("SET", "alone", "x")
            except Error as error:
                return "NOQUORUM" in str(error)
        eventually("no quorum alone", refused)
        cluster.run("start", 1)
        eventually("a quorum of two", lambda: two("SET", "together", "x") == "OK")
    cluster.run("start", 3)
    eventually("all members alive", lambda: all(set(states(k).values()) == {"alive"} for k in (1, 2, 3)))


finish()
