#!/usr/bin/env python3
"""kill -9 in every phase of a join and of a leave: a worker, gossipd, antientropyd, a supervisor, a whole
node, the node at which the administrator committed. The change is completed, and no acknowledged write is lost.

MEMBERSHIP_KILL_ROUNDS=N makes N rounds; MEMBERSHIP_KILL_SEED=S repeats the choices of a run."""
import json
import os
import random
import threading
import time

from lib import Cluster, Error, Redis, alive, case, equal, eventually, finish, kill

ROUNDS = int(os.environ.get("MEMBERSHIP_KILL_ROUNDS", "1"))
SEED = int(os.environ.get("MEMBERSHIP_KILL_SEED", random.randrange(1000000)))
PHASES = ["moving", "joint", "guarded", "fenced", "switched", "closed"]
KEYS = 1500
chance = random.Random(SEED)
cluster = Cluster(nodes=3, workers=1, spare=ROUNDS, options=[
    "suspicion_timeout=1s", "probe_interval=200ms", "probe_timeout=100ms", "storage.flush_age=200ms",
    "limits.repair_interval=2s", "limits.surplus_after=1s"])
print(f"# MEMBERSHIP_KILL_SEED={SEED}", flush=True)


class Load:
    """Writes keys of its own, each once, through any node that answers; what was acknowledged is kept."""

    def __init__(self, name):
        self.name, self.acked, self.tried, self.stop = name, [], 0, False
        self.chance = random.Random(name)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop:
            try:
                with Redis(cluster.port(self.chance.choice((1, 2, 3))), timeout=3) as r:
                    while not self.stop:
                        self.tried += 1
                        key = f"{self.name}:{self.tried}"
                        if r("SET", key, key) == "OK":
                            self.acked.append(key)
            except (OSError, Error):
                time.sleep(0.01)

    def end(self):
        self.stop = True
        self.thread.join(60)
        assert len(self.acked) > 50, len(self.acked)
        return self.acked


def status(k):
    """At a node that may be dying; None if it does not answer."""
    try:
        with cluster.redis(k, timeout=3) as r:
            return json.loads(r("CW.CLUSTER", "status", "JSON"))
    except (OSError, Error):
        return None


def members_alive(who):
    def ready():
        seen = [status(k) for k in who]
        return all(s and all(m["state"] in ("alive", "left") for m in s["members"]) for s in seen)
    eventually("all members are alive", ready)


def kill_one(what, k, who):
    """Kill a process of node k, or all of it, and have it start again."""
    children = cluster.children(k)
    if what in children:
        kill(children[what])
        return
    if what == "node":
        cluster.run("kill", k)
    elif what == "supervisor":
        kill(cluster.supervisor(k))
        eventually("its processes have ended, too", lambda: not any(alive(pid) for pid in children.values()))
    cluster.run("start", k)
    members_alive(who)


def disturb(change, administrator, who, phases):
    """Kill something whenever a phase that is still to be disturbed is seen; `phases`: phase -> (what, k). Until
    the change is complete. Returns the phases that were."""
    done = []
    watch = [k for k in who if k != administrator] + [administrator]
    deadline = time.monotonic() + 150
    while True:
        seen = [s for s in (status(k) for k in watch) if s]
        now = {p for s in seen for p in PHASES if s["phases"][p] > 0}
        due = [p for p in PHASES if p in now and p in phases]
        if due:
            what, k = phases.pop(due[-1])
            print(f"# {change}: {due[-1]}: {what} of node {k}", flush=True)
            kill_one(what, k, who)
            done.append(due[-1])
        elif seen and not any(s["changing"] for s in seen) and len({s["epoch"] for s in seen}) == 1:
            return done
        if time.monotonic() > deadline:
            raise AssertionError(f"{change} is not completed: {[s['phases'] for s in seen]}, {now}")


def victims(administrator, joiner):
    """For each phase a process and a node; every kind, the administrator's node and the one that comes or
    goes are among them."""
    kinds = ["worker-0", "gossipd", "antientropyd", "supervisor", "node", "gossipd"]
    chance.shuffle(kinds)
    nodes = [administrator, joiner, chance.choice((1, 2, 3)), joiner, administrator, chance.choice((1, 2, 3))]
    chance.shuffle(nodes)
    return dict(zip(PHASES, zip(kinds, nodes)))


def commit(k):
    plan = cluster.admin(k, "plan")["plan"]
    equal(cluster.clockwise(k, "commit", plan)[0], 0)


def nothing_is_lost(keys, who):
    for k in who:
        with cluster.redis(k, timeout=60) as r:
            got = r.pipeline([("GET", key) for key in keys])
        lost = [key for key, value in zip(keys, got) if value != key.encode()]
        equal(lost[:5], [], f"{len(lost)} of {len(keys)} are lost at node {k}:")


written = []
with cluster.redis(1) as first:
    written += [f"key:{i}" for i in range(KEYS)]
    equal(set(first.pipeline([("SET", key, key) for key in written])), {"OK"})

for number in range(ROUNDS):
    new = 4 + number

    @case
    def a_node_joins_while_a_process_is_killed_in_every_phase():
        administrator = chance.choice((1, 2, 3))
        place = cluster.run("add").strip()
        cluster.admin(administrator, "join", place)
        load = Load(f"join{number}")
        commit(administrator)
        done = disturb("join", administrator, (1, 2, 3, new), victims(administrator, new))
        written.extend(load.end())
        assert len(done) >= 3, f"phases seen: {done}"
        members_alive((1, 2, 3, new))
        nothing_is_lost(written, (1, 2, 3, new))

    @case
    def a_node_leaves_while_a_process_is_killed_in_every_phase_and_ends_by_itself():
        administrator = chance.choice((1, 2, 3))
        members_alive((1, 2, 3, new))
        cluster.admin(administrator, "leave", f"node{new}")
        load = Load(f"leave{number}")
        commit(administrator)
        done = disturb("leave", administrator, (1, 2, 3), victims(administrator, new))
        written.extend(load.end())
        assert len(done) >= 3, f"phases seen: {done}"
        eventually("it has ended", lambda: cluster.run("status").splitlines()[new - 1].split()[2] == "down", 90)
        left = os.listdir(os.path.join(cluster.data_dir(new), "vnodes"))
        equal([name for name in left if not name.endswith(".old")], [])  # .old: given up, to be deleted
        nothing_is_lost(written, (1, 2, 3))


finish()
