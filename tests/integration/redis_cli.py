#!/usr/bin/env python3
"""What people do with redis-cli, against the front port of a cluster: every mode that it has."""
import re
import shutil
import subprocess

from lib import Cluster, Redis, case, equal, finish, skip

KEYS = 1000


def cli(*words, data=None, seconds=30):
    done = subprocess.run(["redis-cli", "-p", str(cluster.port(1)), *map(str, words)], input=data,
                          capture_output=True, text=True, timeout=seconds)
    return done.stdout + done.stderr


def has(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError(f"{part!r} is not in {text[-2000:]!r}")


def watch(*words, until, seconds=30):
    """Output of a mode that never ends, up to a line that has this in it."""
    process = subprocess.Popen(["redis-cli", "-p", str(cluster.port(1)), *words], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(200):
            line = process.stdout.readline()
            if until in line or line == "":
                return line
    finally:
        process.kill()
        process.wait()
    raise AssertionError(f"{until!r} never came")


def run():
    @case
    def pipe_loads_many_keys():
        load = b"".join(Redis.encode(["SET", f"cli:{i}", "v" * (i % 50 + 1)]) for i in range(KEYS)).decode()
        has(cli("--pipe", data=load), f"errors: 0, replies: {KEYS}")

    @case
    def scan_tells_every_key():
        equal(set(cli("--scan", "--pattern", "cli:*").split()), {f"cli:{i}" for i in range(KEYS)})

    @case
    def bigkeys_and_memkeys_sample_every_key():
        has(cli("--bigkeys"), "Biggest string found", "has 50 bytes", f"{KEYS} strings with")
        has(cli("--memkeys"), f"{KEYS} strings with", "Biggest string found")

    @case
    def both_protocols_and_cluster_mode_read_and_write():
        for options in ([], ["-3"], ["-c"], ["-c", "-3"]):
            equal(cli(*options, "SET", "one", "1"), "OK\n")
            equal(cli(*options, "GET", "one"), "1\n" if options in ([], ["-3"]) else "1\n")
        has(cli("-3", "HELLO"), "proto", "cluster")
        equal(cli("-p", cluster.port(2) + 1, "-c", "GET", "one"), "1\n")

    @case
    def cluster_check_finds_every_slot_covered():
        text = cli("--cluster", "check", f"127.0.0.1:{cluster.port(1)}")
        has(text, "[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered.")
        has(cli("--cluster", "info", f"127.0.0.1:{cluster.port(1) + 1}"), f"[OK] {KEYS + 1} keys in 4 masters.")

    @case
    def stat_and_latency_go_on():
        has(watch("--stat", "-i", "0.1", until="requests"), "requests")
        line = watch("--stat", "-i", "0.1", until="(+")
        has(line, "(+")

    @case
    def info_has_what_tools_read():
        text = cli("INFO", "everything")
        has(text, "cluster_enabled:1", "loading:0", "redis_version:7.2", "# Commandstats", "# Errorstats",
            "used_memory:", "maxmemory_policy:", "mem_fragmentation_ratio:", "instantaneous_ops_per_sec:",
            "total_commands_processed:", "connected_slaves:0", "used_cpu_sys:", "rdb_last_save_time:", "db0:keys=",
            "allocator_frag_ratio:", "sync_full:0", "latest_fork_usec:0", "connected_clients:", "uptime_in_seconds:")

    @case
    def monitor_shows_what_clients_of_all_workers_of_the_node_run():
        process = subprocess.Popen(["redis-cli", "-p", str(cluster.port(1)), "monitor"], stdout=subprocess.PIPE, text=True)
        try:
            equal(process.stdout.readline(), "OK\n")
            for port in (cluster.port(1) + 1, cluster.port(1) + 2):
                with Redis(port) as r:
                    r("ECHO", f"hello {port}")
                    r.send("AUTH", "default", "secret")
                    r.read_inner()
            text = ""
            while not all(f'"ECHO" "hello {cluster.port(1) + i}"' in text for i in (1, 2)):
                text += process.stdout.readline()
            equal("secret" in text, False)
        finally:
            process.kill()
            process.wait()

    @case
    def each_key_is_counted_once_through_any_port():
        with Redis(cluster.port(1)) as r:
            total = r("DBSIZE")
            equal(total > 0, True)
        for port in (cluster.port(1), cluster.port(1) + 1, cluster.port(2), cluster.port(2) + 2):
            text = cli("--cluster", "info", f"127.0.0.1:{port}")
            equal(re.search(r"(\d+) keys in (\d+) masters", text).groups(), (str(total), "4"))
        with Redis(cluster.port(1)) as r:
            r("CLUSTER", "NODES")
            equal(r("DBSIZE") < total, True)  # of the worker that is `myself`, as in Redis Cluster
            r("RESET")
            equal(r("DBSIZE"), total)

    @case
    def help_and_docs_are_read_from_the_server():
        has(cli("COMMAND", "DOCS", "get"), "summary", "string")
        has(cli("CLIENT", "HELP"), "CLIENT <subcommand>", "KILL")


if shutil.which("redis-cli") is None:
    skip("redis-cli in all its modes", "redis-cli is not installed")
else:
    cluster = Cluster(nodes=2, workers=2, options=["n=2"])
    run()
finish()
