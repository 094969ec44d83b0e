#!/usr/bin/env python3
"""Anti-entropy with real processes: an empty disk is filled, damage is found and mended, and what was
deleted while a node was away stays deleted and is forgotten in the end."""
import glob
import os
import random
import re
import signal
import socket
import time

from lib import Cluster, Error, case, equal, eventually, finish, kill

KEYS = int(os.environ.get("ANTIENTROPY_KEYS", "8000"))
cluster = Cluster(nodes=3, workers=2, options=(
    "cluster.partitions=32", "limits.hint_age=1s", "limits.repair_interval=500ms", "storage.flush_age=200ms", "limits.hint_bytes=0"))


def repair(k):
    return cluster.dump(k, "repair")["repair"]["counters"]


def sum_of(k, name):
    return sum(w["counters"][name] for w in cluster.dump(k, "worker-0", "worker-1")["workers"])


def write(k, words):
    with cluster.redis(k) as r:
        replies = r.pipeline(words)
    bad = [x for x in replies if isinstance(x, Error)]
    equal(bad[:3], [], "errors")


def alone(k, keys):
    """What the node has of keys without asking others."""
    with cluster.redis(k) as r:
        r("HELLO", "3")
        replies = r.pipeline([("CW.GET", f"key:{i}", "R", 1) for i in keys])
    return [x if isinstance(x, Error) else x.get(b"values") for x in replies]


def settled(*nodes):
    return all(sum_of(k, "store_not_whole") == 0 for k in nodes)


def child(k, role):
    return eventually(f"{role} of node {k}", lambda: cluster.children(k).get(role))


@case
def a_wiped_node_is_filled_although_antientropyd_is_killed_again_and_again():
    write(1, [("SET", f"key:{i}", f"value:{i}") for i in range(KEYS)])
    cluster.run("kill", 2)
    cluster.run("wipe", 2)
    cluster.run("start", 2)
    for _ in range(3):
        time.sleep(0.2)
        kill(child(2, "antientropyd"))
        kill(child(random.choice((1, 3)), "antientropyd"))
    eventually("a node that is whole", lambda: settled(2))


@case
def it_has_everything_when_the_others_are_gone():
    cluster.run("kill", 1)
    cluster.run("kill", 3)
    have = alone(2, range(KEYS))
    wrong = [i for i, v in enumerate(have) if v != [b"value:%d" % i]]
    equal(wrong[:5], [], f"{len(wrong)} of {KEYS} keys missing or wrong: {have[wrong[0]] if wrong else ''}")
    cluster.run("start", 1)
    cluster.run("start", 3)


def spoil(k, count):
    """Flip a bit in values of some records on disk; which keys."""
    spoilt = []
    for path in sorted(glob.glob(os.path.join(cluster.data_dir(k), "vnodes", "*", "data.mdb"))):
        with open(path, "r+b") as f:
            data = f.read()
            first = re.search(rb"key:(\d+)[^:]{1,80}value:\1", data, re.S)
            if first is None:
                continue
            spoilt.append(int(first[1]))
            # Older pages may hold copies of it that nobody reads.
            for copy in re.finditer(rb"key:%s[^:]{1,80}value:%s" % (first[1], first[1]), data, re.S):
                f.seek(copy.end() - 1)
                f.write(bytes([data[copy.end() - 1] ^ 1]))
        if len(spoilt) == count:
            break
    return spoilt


@case
def flipped_bits_are_found_and_mended_and_never_served():
    eventually("everything on disk", lambda: sum_of(3, "store_keys") >= KEYS)
    cluster.run("stop", 3)
    spoilt = spoil(3, 5)
    equal(len(spoilt), 5)
    cluster.run("start", 3)
    seen = set()

    def mended():
        seen.update(repr(v) for v in alone(3, spoilt) if not isinstance(v, Error))
        return repair(3)["verify_passes"] >= 1 and settled(3) and all(
            v == [b"value:%d" % i] for i, v in zip(spoilt, alone(3, spoilt)))

    eventually("what is damaged to be mended", mended)
    allowed = {repr([b"value:%d" % i]) for i in spoilt}
    equal(seen - allowed, set(), "wrong answers")
    equal(sum_of(3, "store_new_vnode_ids") + repair(3)["verify_damaged"] >= 1, True, "damage was noticed")


@case
def what_was_deleted_while_a_node_was_away_stays_deleted_and_is_forgotten():
    cluster.run("kill", 2)
    write(1, [("DEL", f"key:{i}") for i in range(KEYS // 2)])
    time.sleep(2.5)  # hints are not kept for so long
    cluster.run("start", 2)
    eventually("no tombstones anywhere",
               lambda: all(sum_of(k, "store_tombstones") == 0 and sum_of(k, "store_keys") == KEYS - KEYS // 2
                           for k in (1, 2, 3)))
    time.sleep(1.2)  # two more rounds
    for k in (1, 2, 3):
        back = [v for v in alone(k, range(KEYS // 2)) if v != []]
        equal(back[:3], [], f"{len(back)} deleted keys have come back at node {k}")
        lost = [v for i, v in zip(range(KEYS // 2, KEYS), alone(k, range(KEYS // 2, KEYS))) if v != [b"value:%d" % i]]
        equal(lost[:3], [], f"keys of node {k} that were not deleted")


@case
def replicas_that_are_the_same_repair_nothing():
    before = [repair(k) for k in (1, 2, 3)]
    time.sleep(1.8)
    after = [repair(k) for k in (1, 2, 3)]
    for b, a in zip(before, after):
        equal(a["repair_keys_mended"] - b["repair_keys_mended"], 0, "repairs while idle")
        equal(a["repair_agreements"] > b["repair_agreements"], True, "rounds go on")


@case
def a_stopped_antientropyd_keeps_no_pages_from_being_used_again():
    files = glob.glob(os.path.join(cluster.data_dir(1), "vnodes", "*", "data.mdb"))
    pid = child(1, "antientropyd")

    def overwrite():
        write(1, [("SET", f"key:{i}", f"other:{i}") for i in range(KEYS)])
        time.sleep(0.3)
        return sum(os.path.getsize(f) for f in files)

    for _ in range(3):
        before = overwrite()
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(8):
            after = overwrite()
    finally:
        os.kill(pid, signal.SIGCONT)
    equal(after <= 1.5 * before, True, f"files grew from {before} to {after} bytes:")


@case
def garbage_on_the_repair_port_is_dropped_and_counted():
    before = repair(1)
    for n in range(5):
        with socket.create_connection(("127.0.0.1", cluster.port(1) + 9999), timeout=10) as s:
            s.sendall(os.urandom(64 + 1000 * n))
            try:
                equal(s.recv(1), b"", "an answer to garbage")
            except ConnectionResetError:
                pass
    eventually("counters", lambda: repair(1)["repair_bad"] + repair(1)["repair_denied"] >=
               before["repair_bad"] + before["repair_denied"] + 5)


finish()
