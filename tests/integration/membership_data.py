#!/usr/bin/env python3
"""A ring that changes under load: nothing is refused and nothing is lost while a node joins, processes
die in the middle of it, a node leaves, and one is replaced."""
import os
import random
import subprocess
import threading

from lib import BUILD, Cluster, Error, case, equal, eventually, finish, kill

KEYS = int(os.environ.get("MEMBERSHIP_KEYS", "4000"))
cluster = Cluster(nodes=3, workers=1, spare=2, options=[
    "suspicion_timeout=2s", "probe_interval=300ms", "storage.flush_age=200ms", "limits.repair_interval=2s",
    "limits.surplus_after=1s"])


class Load:
    """Writes and reads through one node; remembers what was acknowledged and what was refused."""

    def __init__(self, k):
        self.k, self.acked, self.bad, self.stop = k, {}, [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        n = 0
        with cluster.redis(self.k, timeout=60) as r:
            while not self.stop:
                key, value = f"load:{n % 500}", f"{n}"
                try:
                    r("SET", key, value)
                    self.acked[key] = value
                    got = r("GET", key)
                    if got != value.encode():
                        self.bad.append(f"{key}: {got!r}, not {value}")
                except Error as error:
                    self.bad.append(f"{key}: {error}")
                n += 1

    def end(self):
        self.stop = True
        self.thread.join(120)
        equal(self.bad[:3], [], f"{len(self.bad)} of {len(self.acked)} went wrong;")
        assert len(self.acked) > 10


def status(k):
    return cluster.admin(k, "status")


def carry_out(k):
    equal(cluster.clockwise(k, "commit", cluster.admin(k, "plan")["plan"])[0], 0)


def complete(*who):
    eventually("the change is complete", lambda: not any(status(k)["changing"] for k in who), 120)


def nothing_is_missing(k, load=None):
    with cluster.redis(k, timeout=60) as r:
        got = r.pipeline([("GET", f"key:{i}") for i in range(KEYS)])
        wrong = [i for i in range(KEYS) if got[i] != f"value:{i}".encode()]
        equal(len(wrong), 0, f"missing at node {k}: {wrong[:5]} {[got[i] for i in wrong[:2]]}")
        for key, value in (load.acked if load else {}).items():
            equal(r("GET", key), value.encode(), key)


def vnodes_of(k):
    return sorted(os.listdir(os.path.join(cluster.data_dir(k), "vnodes")))


def supervise(k):
    """Restart an added node as a child of this process, so that its exit status is known."""
    cluster.run("stop", k)
    return subprocess.Popen([os.path.join(BUILD, "clockwised"), "-c", os.path.join(cluster.dir, str(k), "node.conf")],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@case
def a_fourth_node_joins_under_load_while_processes_are_killed():
    with cluster.redis(1) as r:
        equal([x for x in r.pipeline([("SET", f"key:{i}", f"value:{i}") for i in range(KEYS)]) if x != "OK"], [])
    place = cluster.run("add").strip()
    load = Load(3)
    cluster.admin(2, "join", place)
    carry_out(2)
    for k, role in ((4, "antientropyd"), (1, "gossipd"), (4, "gossipd"), (2, "antientropyd")):
        kill(cluster.children(k)[role])
    complete(1, 2, 3, 4)
    load.end()
    nothing_is_missing(4, load)
    owned = {m["name"]: m["partitions"] for m in status(4)["members"]}
    equal(sorted(owned.values()), [32, 32, 32, 32])


@case
def without_the_first_node_every_key_is_read():
    cluster.run("kill", 1)
    for k in (2, 3, 4):
        nothing_is_missing(k)
    cluster.run("start", 1)
    eventually("node 1 is back", lambda: {m["state"] for m in status(2)["members"]} == {"alive"})


@case
def the_fourth_node_leaves_under_load_and_ends_by_itself():
    child = supervise(4)
    eventually("it is back", lambda: cluster.ready(4))
    eventually("for all", lambda: {m["state"] for m in status(2)["members"]} == {"alive"})
    load = Load(1)
    cluster.admin(4, "leave")
    carry_out(4)
    text = child.communicate(timeout=150)[0]
    equal(child.returncode, 0, text[-1500:])
    equal(vnodes_of(4), [])  # it ended because nothing was left that it could give
    complete(1, 2, 3)
    load.end()
    for k in (1, 3):
        nothing_is_missing(k, load)


@case
def a_dead_node_is_replaced_and_its_data_copied_from_the_others():
    place = cluster.run("add").strip()
    cluster.run("kill", 2)
    eventually("it is faulty", lambda: any(m["state"] == "faulty" for m in status(1)["members"]))
    cluster.admin(3, "replace", "node2", place)
    carry_out(3)
    kill(cluster.children(5)[random.choice(("worker-0", "antientropyd"))])
    complete(1, 3, 5)
    equal({m["name"] for m in status(5)["members"] if m["in_ring"]}, {"node1", "node3", "node5"})
    nothing_is_missing(5)
    cluster.run("kill", 1)
    nothing_is_missing(3)


finish()
