#!/usr/bin/env python3
"""The administrators' tool through TLS and as users who may and may not; members that are removed when they
have been away for long enough, and those that are not."""
import os
import subprocess
import tempfile

from lib import BUILD, ROOT, Cluster, case, equal, eventually, finish

CERTS = tempfile.mkdtemp(prefix="cw-admin-")
subprocess.run([os.path.join(ROOT, "tests", "certificates"), CERTS], check=True)


def path(name):
    return os.path.join(CERTS, name)


def clockwise(*words, port=None, **environment):
    done = subprocess.run([os.path.join(BUILD, "clockwise"), "-p", str(port or cluster.port(1)), *words, "cluster",
                           "status"], capture_output=True, text=True, timeout=60, env=dict(os.environ, **environment))
    return done.returncode, done.stdout + done.stderr


def says(status, text, *words, **environment):
    got = clockwise(*words, **environment)
    equal(got[0], status, got[1])
    assert text in got[1], got[1]


cluster = Cluster(nodes=1, workers=2, options=[
    "tls=yes", f"tls_cert={path('node.crt')}", f"tls_key={path('node.key')}", f"tls_ca={path('ca.crt')}",
    "requirepass=open sesame"])
TLS = ["--tls", "--cacert", path("ca.crt")]


@case
def the_tool_speaks_tls_and_logs_in():
    says(0, "nothing moves", *TLS, CLOCKWISE_PASSWORD="open sesame")
    says(0, "nothing moves", *TLS, "-a", "open sesame")
    says(0, '"changing"', *TLS, "-a", "open sesame", "--json")
    says(0, "nothing moves", "--tls", "-a", "open sesame")  # whoever it is that it speaks to
    says(0, "nothing moves", *TLS, "--cert", path("node.crt"), "--key", path("node.key"), "-a", "open sesame")


@case
def whoever_has_the_wrong_password_or_none_hears_why():
    says(2, "WRONGPASS", *TLS, "-a", "guess")
    says(1, "NOAUTH", *TLS)


@case
def who_may_use_the_tool_is_a_matter_of_acl():
    says(2, "WRONGPASS", *TLS, "--user", "clerk", "-a", "pw")
    admin = ["redis-cli", "--tls", "--cacert", path("ca.crt"), "-p", str(cluster.port(1)), "-a", "open sesame",
             "--no-auth-warning", "ACL", "SETUSER"]
    for user, rules in (("clerk", ["+@all", "-@admin"]), ("keeper", ["-@all", "+cw.cluster"])):
        subprocess.run([*admin, user, "on", ">pw", "~*", *rules], check=True, capture_output=True, timeout=30)
    says(1, "NOPERM", *TLS, "--user", "clerk", "-a", "pw")
    says(0, "nothing moves", *TLS, "--user", "keeper", "-a", "pw")


@case
def a_node_that_cannot_be_asked_is_said_to_be_so():
    says(2, "certificate verify failed", "--tls", "--cacert", path("other.crt"), "-a", "open sesame")
    says(2, "other.missing", "--tls", "--cacert", path("other.missing"), "-a", "open sesame")
    says(2, "needs --tls", "-a", "open sesame")
    says(2, "refused", *TLS, port=1)


cluster.destroy()
cluster = Cluster(nodes=4, workers=1, options=[
    "auto_remove_after=4s", "suspicion_timeout=2s", "probe_interval=300ms",
    "storage.flush_age=200ms", "limits.repair_interval=2s", "limits.surplus_after=1s"])


def members(k):
    return {m["name"]: m for m in cluster.admin(k, "status")["members"]}


def in_ring(k):
    return sorted(name for name, m in members(k).items() if m["in_ring"])


KEYS = [f"key:{i}" for i in range(1000)]


def all_read(k):
    with cluster.redis(k) as r:
        equal([x for x in r.pipeline([("GET", key) for key in KEYS])], [key.encode() for key in KEYS])


@case
def a_member_that_stays_away_is_removed_and_its_share_filled_elsewhere():
    eventually("all have met", lambda: all(
        m["state"] == "alive" for k in (1, 2, 3, 4) for m in members(k).values()))
    with cluster.redis(1) as r:
        for key in KEYS:  # one after the other: the machine may have other things to do
            eventually(key, lambda: r.pipeline([("SET", key, key)]) == ["OK"])
    cluster.run("kill", 4)
    for k in (1, 2, 3):
        eventually("node 4 is out", lambda: in_ring(k) == ["node1", "node2", "node3"])
        eventually("all is filled", lambda: not cluster.admin(k, "status")["changing"])
        equal([m["replicas"] for m in members(k).values() if m["in_ring"]], [128, 128, 128])
    for k in (1, 2, 3):
        all_read(k)
    said = [k for k in (1, 2, 3) if "node4 has been faulty for more than auto_remove_after" in cluster.log(k)]
    equal(len(said), 1)  # one does it


@case
def nobody_is_removed_whom_the_replicas_need():
    cluster.run("kill", 3)
    eventually("it is said once", lambda: any(
        "auto_remove_after cannot remove node3" in cluster.log(k) for k in (1, 2)))
    equal((in_ring(1), in_ring(2)), (["node1", "node2", "node3"],) * 2)
    cluster.run("kill", 2)  # nor does the last one think that it is the cluster
    eventually("node 2 is faulty", lambda: members(1)["node2"]["state"] == "faulty")
    equal(in_ring(1), ["node1", "node2", "node3"])
    cluster.run("start", 2)
    cluster.run("start", 3)
    eventually("all are back", lambda: all(members(1)[n]["state"] == "alive" for n in ("node1", "node2", "node3")))
    all_read(3)


finish()
