#!/usr/bin/env python3
"""What clients notice while a node joins: SCAN tells of every key that was there all the time, and cluster
clients of several libraries write and read on without an error."""
import json
import logging
import subprocess
import sys
import threading

from lib_npm import LIBRARIES, install, start, usable
from lib import Cluster, case, equal, eventually, finish, skip

sys.path.append("/usr/lib/python3/dist-packages")  # python3-redis, also for another python3
try:
    import redis.cluster
except ImportError:
    redis = None

logging.disable(logging.CRITICAL)  # the library writes a trace for each MOVED
KEYS = 3000
WANTED = {b"key:%d" % i for i in range(KEYS)}
cluster = Cluster(nodes=3, workers=2, spare=2, options=[
    "storage.flush_age=200ms", "limits.repair_interval=2s", "limits.surplus_after=1s"])


def changing():
    return any(cluster.admin(k, "status")["changing"] for k in (1, 2, 3))


def join():
    place = cluster.run("add").strip()
    cluster.admin(2, "join", place)
    plan = cluster.admin(2, "plan")["plan"]
    return lambda: equal(cluster.clockwise(2, "commit", plan)[0], 0)


class Scans(threading.Thread):
    """Full scans through one node, one after the other, until told to stop."""

    def __init__(self, k, *options):
        super().__init__(daemon=True)
        self.k, self.options, self.stop, self.bad, self.scans = k, options, False, [], 0
        self.start()

    def run(self):
        with cluster.redis(self.k, timeout=60) as r:
            while not self.stop:
                found, cursor = set(), b"0"
                while True:
                    cursor, keys = r("SCAN", cursor, *self.options)
                    found.update(keys)
                    if cursor == b"0":
                        break
                self.scans += 1
                if WANTED - found:
                    self.bad.append(sorted(WANTED - found)[:3])

    def end(self):
        self.stop = True
        self.join(120)
        equal(self.bad, [], f"keys missed in {len(self.bad)} of {self.scans} scans:")
        assert self.scans > 1, self.scans


class Python(threading.Thread):
    """redis-py's cluster client: writes and reads until told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port(1))
        self.stop, self.bad, self.count = False, [], 0
        self.start()

    def run(self):
        while not self.stop:
            key, value = f"py:{self.count}", b"%d" % self.count
            self.count += 1
            try:
                self.client.set(key, value)
                got = self.client.get(key)
                if got != value:
                    self.bad.append(f"{key} is {got}")
            except Exception as error:  # whatever a caller would see
                self.bad.append(f"{key}: {type(error).__name__} {error}")

    def end(self):
        self.stop = True
        self.join(60)
        self.client.close()
        equal(self.bad[:3], [], f"{len(self.bad)} of {self.count} went wrong;")
        assert self.count > 10, self.count


with cluster.redis(1) as one:
    equal(set(one.pipeline([["SET", key, "v"] for key in sorted(WANTED)])), {"OK"})


@case
def scans_tell_of_every_key_while_partitions_move():
    commit = join()
    scans = [Scans(1, "COUNT", "100"), Scans(2, "COUNT", "10", "MATCH", "key:*"),
             Scans(3, "COUNT", "1000", "TYPE", "string")]
    with cluster.redis(3, timeout=60) as r:
        # One more begins before the change and ends after it.
        cursor, keys = r("SCAN", "0", "COUNT", "30")
        found = set(keys)
        commit()
        while changing() and cursor != b"0":
            cursor, keys = r("SCAN", cursor, "COUNT", "30")
            found.update(keys)
        eventually("the change is complete", lambda: not changing(), 120)
        while cursor != b"0":
            cursor, keys = r("SCAN", cursor, "COUNT", "30")
            found.update(keys)
    for s in scans:
        s.end()
    print("# scans during the join:", *[s.scans for s in scans])
    equal(sorted(WANTED - found)[:5], [], "the long scan has missed")
    with cluster.redis(4) as r:
        equal(set(r("KEYS", "key:*")), WANTED)


@case
def cluster_clients_do_not_notice_that_a_node_joins():
    folder = install()
    libraries = [name for name in LIBRARIES if folder is not None and usable(folder, name)]
    commit = join()
    if redis is None:
        skip("redis-py in a join", "python3-redis is not installed")
    python = Python() if redis is not None else None
    children = {name: start(folder, name, "steady", cluster.port(1 + i % 3), stdin=subprocess.PIPE)
                for i, name in enumerate(libraries)}
    try:
        for name, child in children.items():
            equal(child.stdout.readline().strip(), "going", name)
        commit()
        eventually("the change is complete", lambda: not changing(), 120)
        for name, child in children.items():
            out, err = child.communicate("", timeout=60)
            equal(child.returncode, 0, err[-500:])
            counts = json.loads(out.strip().splitlines()[-1])
            print(f"# {name}: {counts}")
            equal((counts["failed"], counts["wrong"]), (0, 0), f"{name} {counts['reasons']}")
            assert counts["acknowledged"] > 100, counts
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    if python is not None:
        python.end()
        print(f"# redis-py: {python.count}")


finish()
