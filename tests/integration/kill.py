#!/usr/bin/env python3
"""kill -9 of each process of a node: it is replaced, the rest serves on, nothing acknowledged is lost;
nothing survives its supervisor."""
import os
import statistics
import threading
import time

from lib import Cluster, Error, Redis, alive, case, equal, eventually, finish, kill

ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
cluster = Cluster(nodes=1, workers=2)


def replaced(role):
    """Kill a process, wait for its successor. Milliseconds until a new worker has answered on its own
    port (connections wait in the supervisor's socket meanwhile), or until the new process is there."""
    old = cluster.children(1)[role]
    started = time.monotonic()
    kill(old)
    if role.startswith("worker"):
        with Redis(cluster.port(1) + 1 + int(role[-1])) as r:
            equal(r("PING"), "PONG")
    else:
        eventually(f"a new {role}", lambda: cluster.children(1).get(role, old) != old)
    took = (time.monotonic() - started) * 1000
    eventually(f"a new {role}", lambda: cluster.children(1).get(role, old) != old)
    eventually("the node is whole", lambda: cluster.ready(1))
    return took


class Writer(threading.Thread):
    """Writes numbered keys until told to stop; notes which were acknowledged."""

    def __init__(self, prefix):
        super().__init__(daemon=True)
        self.prefix = prefix
        self.acknowledged = []
        self.stopping = False
        self.start()

    def run(self):
        i = 0
        while not self.stopping:
            try:
                with cluster.redis(1, timeout=5) as r:
                    while not self.stopping:
                        if r("SET", f"{self.prefix}:{i}", i) == "OK":
                            self.acknowledged.append(i)
                        i += 1
            except (OSError, Error):
                i += 1

    def check(self):
        self.stopping = True
        self.join(10)
        with cluster.redis(1) as r:
            replies = r.pipeline([("GET", f"{self.prefix}:{i}") for i in self.acknowledged])
        wrong = [i for i, reply in zip(self.acknowledged, replies) if reply != b"%d" % i]
        equal(wrong[:5], [], f"{len(wrong)} of {len(self.acknowledged)} acknowledged writes are lost:")
        if not self.acknowledged:
            raise AssertionError("nothing was acknowledged")


def kill_under_load(role):
    writer = Writer(role)
    times = []
    for _ in range(ROUNDS):
        eventually("some writes", lambda n=len(writer.acknowledged): len(writer.acknowledged) > n + 20)
        times.append(replaced(role))
    writer.check()
    print(f"# {role}: back after {statistics.median(times):.0f} ms (median of {len(times)})")


@case
def a_killed_worker_comes_back_and_no_acknowledged_write_is_lost():
    kill_under_load("worker-0")
    kill_under_load("worker-1")


@case
def a_killed_gossipd_comes_back_while_the_node_serves():
    kill_under_load("gossipd")


@case
def a_killed_antientropyd_comes_back_while_the_node_serves():
    kill_under_load("antientropyd")


@case
def the_other_worker_serves_while_one_is_dead():
    ports = [cluster.port(1) + 1, cluster.port(1) + 2]
    dead = cluster.children(1)["worker-0"]
    with Redis(ports[1]) as other:
        kill(dead)
        equal(other("PING"), "PONG")
    # Not by their number alone: for a moment the dead one is still counted.
    eventually("a new worker", lambda: cluster.children(1).get("worker-0", dead) != dead)
    eventually("the node is whole again", lambda: cluster.ready(1) and len(cluster.children(1)) == 4)


@case
def nothing_survives_the_supervisor_and_a_new_start_finds_all_data():
    with cluster.redis(1) as r:
        equal(r.pipeline([("SET", f"s:{i}", i) for i in range(2000)]).count("OK"), 2000)
    children = cluster.children(1)
    equal(len(children), 4, "children")
    kill(cluster.supervisor(1))
    eventually("all children are gone", lambda: not any(map(alive, children.values())), seconds=10)
    cluster.run("start", 1)
    with cluster.redis(1) as r:
        replies = r.pipeline([("GET", f"s:{i}") for i in range(2000)])
        equal(sum(replies[i] == b"%d" % i for i in range(2000)), 2000)


@case
def another_number_of_workers_finds_all_data():
    cluster.run("kill", 1)
    for workers in (1, 4, 2):
        cluster.up(1, workers)
        with cluster.redis(1) as r:
            replies = r.pipeline([("GET", f"s:{i}") for i in range(2000)])
            equal(sum(replies[i] == b"%d" % i for i in range(2000)), 2000, f"{workers} workers:")
            equal(r("SET", f"w{workers}", "1"), "OK")
        cluster.run("kill", 1)
    cluster.up(1, 2)
    with cluster.redis(1) as r:
        equal(r("MGET", "w1", "w4", "w2"), [b"1", b"1", b"1"])


finish()
