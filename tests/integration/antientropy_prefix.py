#!/usr/bin/env python3
"""A prefix with more replicas than other keys: the nodes beyond the cluster's n keep what they have of it,
and get back what they have lost."""
import time

from lib import Cluster, Error, case, equal, eventually, finish

KEYS = 200
cluster = Cluster(nodes=5, workers=1, options=(
    'prefix "many:".n=5', "cluster.partitions=16", "limits.repair_interval=1s", "limits.surplus_after=500ms",
    "storage.flush_age=200ms", "limits.hint_bytes=0"))


def repair(k):
    return cluster.dump(k, "repair")["repair"]["counters"]


def worker(k, name):
    return cluster.dump(k, "worker-0")["workers"][0]["counters"][name]


def write(words):
    with cluster.redis(1) as r:
        bad = [x for x in r.pipeline(words) if isinstance(x, Error)]
    equal(bad[:3], [], "errors")


def complete(k):
    return worker(k, "store_keys") >= 2 * KEYS and worker(k, "store_not_whole") == 0


@case
def five_replicas_of_a_prefix_stay_five_although_other_keys_have_three():
    write([("SET", f"many:{i}", i) for i in range(KEYS)] + [("SET", f"few:{i}", i) for i in range(KEYS)])
    eventually("all that is kept to be on disk everywhere", lambda: all(complete(k) for k in range(1, 6)))
    time.sleep(1.5)  # longer than surplus_after
    for k in range(1, 6):
        equal(repair(k)["repair_vnodes_dropped"], 0, f"vnodes that node {k} has given up")


@case
def what_one_of_five_has_lost_is_brought_back_and_read_there_when_it_is_alone():
    cluster.run("kill", 4)
    cluster.run("wipe", 4)
    cluster.run("start", 4)
    eventually("node 4 to be whole", lambda: complete(4))
    for k in (1, 2, 3, 5):
        cluster.run("kill", k)
    with cluster.redis(4) as r:
        replies = r.pipeline([("HELLO", 3)] + [("CW.GET", f"many:{i}", "R", 1) for i in range(KEYS)])[1:]
    lost = [i for i, x in enumerate(replies) if isinstance(x, Error) or x.get(b"values") != [b"%d" % i]]
    equal(lost[:5], [], f"keys missing at the last of five replicas: {replies[lost[0]] if lost else ''}")


finish()
