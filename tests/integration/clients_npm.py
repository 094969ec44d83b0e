#!/usr/bin/env python3
"""Node.js client libraries, unmodified, against three nodes of two workers: several major versions of
ioredis and redis (node-redis), plain and as cluster clients, also while a node is killed. The versions
are pinned in tests/clients/package-lock.json; they are fetched from the npm registry into the build
tree once."""
import json

from lib_npm import LIBRARIES, install, start, usable
from lib import Cluster, case, equal, eventually, finish

# These learn a new map only from a MOVED answer of a node that is there: requests for a dead node wait in
# the library until it is back, as they do with a Redis Cluster.
WAIT_FOR_THE_DEAD = ("redis4", "redis5")
KEYS = 10000


def result(child):
    out, err = child.communicate(timeout=60)
    if child.returncode != 0:
        raise AssertionError(err.strip()[-600:])
    return json.loads(out.strip().splitlines()[-1])


def counted():
    """(MOVED answers, forwarded requests) of all nodes so far."""
    moved = forwarded = 0
    for k in (1, 2, 3):
        with cluster.redis(k) as r:
            text = r("INFO", "everything").decode()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        moved += int(fields["moved"])
        forwarded += int(fields["forwarded"])
    return moved, forwarded


def check_library(library):
    def plain():
        equal(result(start(folder, library, "plain", cluster.port(1)))["keys"], KEYS)

    def routed():
        before = counted()
        equal(result(start(folder, library, "cluster", cluster.port(2)))["keys"], KEYS)
        after = counted()
        astray = after[0] - before[0] + after[1] - before[1]
        print(f"# {library}: {100 - 100 * astray / (2 * KEYS):.2f} % of requests reached the owning worker directly")
        if astray > 2 * KEYS // 100:
            raise AssertionError(f"{astray} of {2 * KEYS} requests went astray")

    def killed():
        child = start(folder, library, "interrupt", cluster.port(1))
        try:
            equal(child.stdout.readline().strip(), "halfway")
            cluster.run("kill", 3)
            if library in WAIT_FOR_THE_DEAD:
                cluster.run("start", 3)
            counts = result(child)
        finally:
            child.kill()
            if not cluster.ready(3):
                cluster.run("start", 3)
            eventually("node 3 is back", lambda: cluster.ready(3))
        print(f"# {library}: {counts}")
        equal(counts["lost"], 0, "acknowledged writes lost")
        if counts["acknowledged"] < KEYS * 9 // 10:
            raise AssertionError(f"only {counts['acknowledged']} of {KEYS} writes were acknowledged")

    plain.__name__ = f"{library}_uses_a_node_as_a_redis"
    routed.__name__ = f"{library}_as_a_cluster_client_goes_straight_to_the_owners"
    killed.__name__ = f"{library}_goes_on_when_a_node_is_killed"
    for function in (plain, routed, killed):
        case(function)


folder = install()
if folder is not None:
    cluster = Cluster(nodes=3, workers=2)
    for name in LIBRARIES:
        if usable(folder, name):
            check_library(name)
finish()
