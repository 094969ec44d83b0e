#!/usr/bin/env python3
"""Clients that people have, unmodified, against three nodes of two workers: redis-cli, redis-benchmark,
Debian's python3-redis (plain and cluster-aware)."""
import logging
import shutil
import subprocess
import sys

from lib import Cluster, case, equal, eventually, finish, skip

sys.path.append("/usr/lib/python3/dist-packages")  # python3-redis, also for another python3
try:
    import redis
    import redis.cluster
except ImportError:
    redis = None

logging.disable(logging.CRITICAL)  # the library writes a trace for each connection that it retries
cluster = Cluster(nodes=3, workers=2)
KEYS = 10000


def run(*words, data=None):
    done = subprocess.run([str(w) for w in words], input=data, capture_output=True, timeout=120)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"{words[0]} exits {done.returncode}: {text[-500:]}")
    return text


def cli(k, *words, data=None):
    return run("redis-cli", "-p", cluster.port(k), *words, data=data).strip()


def info(k, section="clockwise"):
    with cluster.redis(k) as r:
        text = r("INFO", section).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@case
def redis_cli_reads_through_one_node_what_it_wrote_through_another():
    equal(cli(1, "set", "cli", "v"), "OK")
    equal(cli(2, "get", "cli"), "v")
    equal(cli(3, "-3", "get", "cli"), "v")
    equal(cli(3, "-c", "get", "cli"), "v")
    equal(cli(2, "del", "cli"), "1")
    equal(cli(1, "exists", "cli"), "0")


@case
def redis_cli_follows_redirections_from_worker_ports():
    for i in range(20):
        port = cluster.port(1 + i % 3) + 1 + i % 2
        equal(run("redis-cli", "-c", "-p", port, "set", f"moved{i}", i).strip(), "OK")
        equal(cli(1, "get", f"moved{i}"), str(i))


@case
def redis_cli_accepts_the_cluster():
    text = cli(1, "--cluster", "check", f"127.0.0.1:{cluster.port(1)}")
    equal("[OK] All nodes agree about slots configuration." in text, True, text)
    equal("[OK] All 16384 slots covered." in text, True, text)


@case
def redis_cli_pipes_ten_thousand_writes():
    data = b"".join(b"SET pipe%d v%d\r\n" % (i, i) for i in range(KEYS))
    text = cli(2, "--pipe", data=data)
    equal(f"errors: 0, replies: {KEYS}" in text, True, text)
    with cluster.redis(3) as r:
        replies = r.pipeline([("GET", f"pipe{i}") for i in range(KEYS)])
    equal(sum(reply != b"v%d" % i for i, reply in enumerate(replies)), 0, "keys missing")


@case
def redis_benchmark_runs_plain_and_as_a_cluster_client():
    for extra in ([], ["-P", "16"], ["--cluster"]):
        text = run("redis-benchmark", "-p", cluster.port(1), "-t", "ping,set,get,mset", "-n", "5000",
                   "-c", "20", "-r", "1000", "-d", "100", "-q", *extra)
        equal("requests per second" in text, True, text)
        equal("rror" in text.replace("Error: Server", ""), False, text)


def with_redis(function):
    if redis is None:
        skip(function.__name__.replace("_", " "), "python3-redis is not installed")
    else:
        case(function)
    return function


@with_redis
def redis_py_uses_a_node_as_a_redis():
    r = redis.Redis(port=cluster.port(1))
    equal(r.set("py", b"\x00\r\n\xff", px=100000), True)
    equal(redis.Redis(port=cluster.port(2)).get("py"), b"\x00\r\n\xff")
    equal(0 < r.pttl("py") <= 100000, True)
    equal(r.getdel("py"), b"\x00\r\n\xff")
    equal(r.mset({f"m{i}": i for i in range(100)}), True)
    equal(r.mget([f"m{i}" for i in range(100)]), [b"%d" % i for i in range(100)])
    pipe = r.pipeline(transaction=False)
    for i in range(KEYS):
        pipe.set(f"py{i}", i).get(f"py{i}")
    replies = pipe.execute()
    equal(replies[0::2], [True] * KEYS)
    equal(replies[1::2], [b"%d" % i for i in range(KEYS)])
    equal(r.info()["redis_mode"], "cluster")
    equal("get" in r.command(), True)


@with_redis
def redis_py_as_a_cluster_client_goes_straight_to_the_owners():
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port(2))
    equal(len(client.get_nodes()), 6)
    before = [info(k, "stats") for k in (1, 2, 3)]
    forwarded = [int(info(k)["forwarded"]) for k in (1, 2, 3)]
    for i in range(0, KEYS, 500):
        pipe = client.pipeline()
        for j in range(i, i + 500):
            pipe.set(f"rc{j}", j)
        equal(pipe.execute(), [True] * 500)
    for i in range(0, KEYS, 500):
        pipe = client.pipeline()
        for j in range(i, i + 500):
            pipe.get(f"rc{j}")
        equal(pipe.execute(), [b"%d" % j for j in range(i, i + 500)])
    after = [info(k, "stats") for k in (1, 2, 3)]
    moved = sum(int(b["moved"]) - int(a["moved"]) for a, b in zip(before, after))
    hops = sum(int(info(k)["forwarded"]) - f for k, f in zip((1, 2, 3), forwarded))
    equal(moved, 0, "MOVED answers")
    if hops > 2 * KEYS // 100:
        raise AssertionError(f"{hops} of {2 * KEYS} requests were forwarded")
    client.close()


@with_redis
def replicas_that_are_advertised_serve_reads_without_a_detour():
    for k in (1, 2, 3):
        with cluster.redis(k) as r:
            equal(r("CONFIG", "SET", "advertise_replicas", "yes"), "OK")
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port(1), read_from_replicas=True)
    moved = [int(info(k, "stats")["moved"]) for k in (1, 2, 3)]
    reads = [int(info(k)["coordinated_gets"]) for k in (1, 2, 3)]
    for i in range(300):
        equal(client.set(f"ar{i}", i), True)
        equal([client.get(f"ar{i}") for _ in range(3)], [b"%d" % i] * 3)
    equal([int(info(k, "stats")["moved"]) for k in (1, 2, 3)], moved, "MOVED answers")
    shares = [int(info(k)["coordinated_gets"]) - before for k, before in zip((1, 2, 3), reads)]
    if min(shares) < 200:
        raise AssertionError(f"the nodes have served {shares} of 900 reads")
    text = cli(1, "--cluster", "check", f"127.0.0.1:{cluster.port(1)}")
    equal("[OK] All nodes agree about slots configuration." in text, True, text)
    client.close()
    for k in (1, 2, 3):
        with cluster.redis(k) as r:
            equal(r("CONFIG", "SET", "advertise_replicas", "no"), "OK")


@with_redis
def redis_py_goes_on_when_a_node_is_killed():
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port(1))
    acknowledged = {}
    for i in range(2000):
        if i == 500:
            cluster.run("kill", 3)
        try:
            if client.set(f"kill{i}", i):
                acknowledged[f"kill{i}"] = b"%d" % i
        except (redis.exceptions.RedisError, OSError):
            pass
    with cluster.redis(1) as r:
        keys = list(acknowledged)
        got = r.pipeline([("GET", k) for k in keys])
    equal([k for k, v in zip(keys, got) if v != acknowledged[k]], [], "acknowledged writes lost")
    if len(acknowledged) < 1500:
        raise AssertionError(f"only {len(acknowledged)} of 2000 writes were acknowledged")
    client.close()
    cluster.run("start", 3)
    eventually("node 3 is back", lambda: cluster.ready(3))


if shutil.which("redis-cli") is None:
    skip("everything", "redis-tools is not installed")
finish()
