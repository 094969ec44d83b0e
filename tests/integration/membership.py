#!/usr/bin/env python3
"""Changes of the ring as administrators make them: staged, planned, committed, through any node; nodes
that leave, are removed, or do not belong. With as many members as replicas another share moves nothing,
and a member of little weight among fewer replicas owns nothing: what is tested here does not wait for
data to be copied."""
import os
import subprocess

from lib import BUILD, Cluster, Error, alive, case, equal, eventually, finish, kill

QUICK = ["suspicion_timeout=1s", "probe_interval=200ms", "probe_timeout=100ms", "secret=shared"]

cluster = Cluster(nodes=3, workers=1, options=QUICK)


def status(k=1):
    return cluster.admin(k, "status")


def plan(k=1):
    return cluster.admin(k, "plan")


def refused(k, *words):
    code, text = cluster.clockwise(k, *words)
    equal(code, 1, text)
    return text


def member(name, k=1):
    return next((m for m in status(k)["members"] if m["name"] == name), None)


def settled(epoch=0, who=(1, 2, 3)):
    def ready():
        seen = [status(k) for k in who]
        return (all(not s["changing"] and s["epoch"] > epoch for s in seen)
                and len({s["epoch"] for s in seen}) == 1 and seen[0])
    return eventually("the change is complete everywhere", ready)


def add(weight, *options):
    words = [w for option in (f"weight={weight}", *options) for w in ("-o", option)]
    return cluster.run("add", *words).strip()


def supervise(k):
    """Start a node that was added as a child of this process, so that its exit status is known."""
    return subprocess.Popen([os.path.join(BUILD, "clockwised"), "-c", os.path.join(cluster.dir, str(k), "node.conf")],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def commit(k=1, **more):
    before = status(k)["epoch"]
    equal(cluster.clockwise(k, "commit", plan(k)["plan"])[0], 0)
    return settled(before, **more)


@case
def the_status_shows_the_members_at_any_node():
    for k in (1, 2, 3):
        s = status(k)
        equal([m["name"] for m in s["members"]], ["node1", "node2", "node3"])
        equal((s["changing"], s["protocol"], s["staged"], s["lost"]), (False, 2, [], []))
    code, text = cluster.clockwise(2, "status")
    equal(code, 0)
    assert "node2 (this node)" in text and "nothing moves" in text, text


@case
def requests_that_make_no_sense_are_refused_with_the_reason():
    for words, reason in ((["join", "nobody"], "there is no node"), (["leave", "nobody"], "there is no member"),
                          (["weight", "node1", "0"], "1 to 65535"), (["weight", "node1", "1x"], "1 to 65535"),
                          (["plan"], "no changes are staged"), (["commit", "zzz"], "not the id of a plan"),
                          (["commit", "12"], "no changes are staged"), (["dance"], "unknown verb"),
                          (["replace", "node1"], "wrong number of words"),
                          (["join", "node2"], "is a member of the ring already"),
                          (["join", "127.0.0.1:1"], "nobody is known at")):
        text = refused(1, *words)
        assert reason in text, (words, text)
    equal(status()["staged"], [])
    with cluster.redis(1) as one:
        for words in (["CW.CLUSTER"], ["CW.CLUSTER", "x" * 5000], ["CW.CLUSTER", b"a\0b"],
                      ["CW.CLUSTER", *["status"] * 20]):
            try:
                raise AssertionError(f"{words}: {one(*words)}")
            except Error:
                pass
        equal(one("PING"), "PONG")


@case
def only_administrators_may_ask():
    with cluster.redis(1) as one:
        one("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "+@all", "-@admin")
        one("AUTH", "clerk", "pw")
        try:
            raise AssertionError(one("CW.CLUSTER", "STATUS"))
        except Error as error:
            assert "NOPERM" in str(error), error


@case
def a_plan_of_another_ring_or_another_list_cannot_be_committed():
    cluster.admin(1, "weight", "node1", 120)
    first = plan()["plan"]
    cluster.admin(1, "weight", "node2", 130)
    assert "plan again" in refused(1, "commit", first)
    second = plan()["plan"]
    equal(cluster.clockwise(1, "commit", second)[0], 0)
    text = refused(1, "commit", second)
    assert "no changes are staged" in text, text
    settled(who=(1, 2, 3))
    equal(member("node2")["weight"], 130)


@case
def what_is_staged_survives_gossipd_and_its_restart():
    cluster.admin(1, "weight", "node3", 140)
    eventually("all have heard of it", lambda: all(status(k)["staged"] for k in (1, 2, 3)))
    for k in (1, 2, 3):
        kill(cluster.children(k)["gossipd"])

    def same():
        return all(cluster.clockwise(k, "status")[0] == 0 and status(k)["staged"] == ["weight of node3: 140"]
                   for k in (1, 2, 3))
    eventually("it is staged still", same)
    commit(2, who=(1, 2, 3))


@case
def two_administrators_at_once_end_with_one_ring():
    before = status()["epoch"]
    ids = []
    for k in (1, 2):
        cluster.admin(k, "weight", f"node{k}", 150 + k)
        ids.append(plan(k)["plan"])
    codes = [cluster.clockwise(k, "commit", ids[k - 1])[0] for k in (1, 2)]
    assert 0 in codes, codes
    s = settled(before, who=(1, 2, 3))
    equal(len({tuple((m["name"], m["weight"]) for m in status(k)["members"]) for k in (1, 2, 3)}), 1)
    assert s["epoch"] > before


@case
def a_plan_that_would_leave_too_few_replicas_is_refused():
    cluster.admin(1, "leave", "node1")
    shown = plan()
    equal((shown["sound"], shown["proof"]["fewer_replicas_than_before"]), (False, True))
    assert "refused" in refused(1, "commit", shown["plan"])
    equal(cluster.admin(1, "clear")["staged"], 0)


cluster.destroy()
cluster = Cluster(nodes=3, workers=1, spare=3, options=[*QUICK, "n=2"])


@case
def what_is_staged_at_one_node_is_planned_and_committed_at_another():
    place = add(1)
    equal(cluster.admin(2, "join", place)["staged"], 1)
    equal(status(3)["staged"], ["join node4"])  # the answer came when others knew
    here, there = plan(2), plan(3)
    equal(here["plan"], there["plan"])
    equal(here["sound"], True)
    equal(here["proof"]["distinct_nodes_least"], 2)
    equal({n["name"]: n["partitions_after"] for n in here["nodes"]}["node4"], 0)
    commit(3, who=(1, 2, 3, 4))
    equal(member("node4")["in_ring"], True)
    equal(status(1)["staged"], [])
    equal(status(4)["last_change"], ["join node4"])


@case
def a_node_that_leaves_ends_by_itself_and_its_id_is_spent():
    cluster.run("stop", 4)
    child = supervise(4)
    eventually("it is back", lambda: cluster.ready(4))
    equal(cluster.clockwise(4, "leave")[0], 0)
    equal(status(4)["staged"], ["leave node4"])
    commit(4)
    text = child.communicate(timeout=60)[0]
    equal(child.returncode, 0, text[-2000:])
    assert "has left the ring" in text
    equal(member("node4")["state"], "left")
    again = supervise(4)
    text = again.communicate(timeout=60)[0]
    equal(again.returncode, 78)
    assert "cannot come back" in text and "empty data directory" in text, text[-2000:]
    equal(status()["changing"], False)


@case
def a_node_that_was_removed_cannot_come_back_under_its_id():
    place = add(1)
    cluster.admin(1, "join", place)
    commit(who=(1, 2, 3, 5))
    cluster.run("kill", 5)
    eventually("it is faulty", lambda: member("node5")["state"] == "faulty")
    cluster.admin(2, "force-remove", "node5")
    commit(2)
    again = supervise(5)
    text = again.communicate(timeout=60)[0]
    equal(again.returncode, 78)
    assert "removed from the ring" in text, text[-2000:]
    assert "there is no" in refused(1, "join", "node5") or "left the ring" in refused(1, "join", "node5")


@case
def a_node_of_another_cluster_or_of_other_partitions_does_not_get_in():
    path = os.path.join(cluster.dir, "5", "node.conf")
    with open(path) as f:
        text = f.read().replace("node5", "node6")
    cluster.run("wipe", 5)
    with open(path, "w") as f:
        f.write(text.replace("[cluster]", "[cluster]\npartitions = 64"))
    stranger = supervise(5)
    said = stranger.communicate(timeout=60)[0]
    equal(stranger.returncode, 78)
    assert "another number of partitions" in said, said[-2000:]
    cluster.run("wipe", 5)
    with open(path, "w") as f:
        f.write(text.replace("name = local", "name = elsewhere"))
    stranger = supervise(5)
    try:
        place = f"127.0.0.1:{cluster.base + 500 + 10000}"
        eventually("who was refused is gone", lambda: (member("node6") or {}).get("state") in (None, "faulty"))
        text = refused(1, "join", place)
        assert "it must run to join" in text or "nobody is known" in text, text
        equal(status()["staged"], [])
    finally:
        stranger.terminate()
        stranger.communicate(timeout=30)


@case
def the_nodes_that_stay_have_served_all_the_while():
    for k in (1, 2, 3):
        assert alive(cluster.supervisor(k))
    with cluster.redis(1) as one, cluster.redis(3) as three:
        equal(one("SET", "after", "all"), "OK")
        eventually("it is read elsewhere", lambda: three("GET", "after") == b"all")


finish()
