#!/usr/bin/env python3
"""Garbage on the ports where other nodes speak: peer links (TCP) and gossip (UDP, TCP). The node drops
the connection or the datagram, counts it, and serves on."""
import os
import random
import socket
import struct

from lib import Cluster, case, equal, eventually, finish

cluster = Cluster(nodes=2, workers=1, options=["n=2", "r=1", "w=1"])
dice = random.Random(int(os.environ.get("SEED", "7")))


def counters(k):
    """All counters of a node's dump, flattened to {name: sum}."""
    sums = {}

    def walk(value):
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, int) and not isinstance(inner, bool):
                    sums[name] = sums.get(name, 0) + inner
                else:
                    walk(inner)
            if isinstance(value.get("name"), str) and isinstance(value.get("value"), int):
                sums[value["name"]] = sums.get(value["name"], 0) + value["value"]
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
    walk(cluster.dump(k))
    return sums


def throw(port, data):
    """Send bytes and wait until the other side closes (or says nothing more)."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        except OSError:
            pass


def still_serves():
    with cluster.redis(1) as one, cluster.redis(2) as two:
        equal(one("SET", "still", "here"), "OK")
        eventually("replication goes on", lambda: two("GET", "still") == b"here")


@case
def garbage_on_the_peer_port_is_dropped_and_counted():
    before = counters(1)
    bad = lambda sums: sums.get("peer_frames_bad", 0) + sums.get("peer_denied", 0)
    for _ in range(50):
        throw(cluster.port(1) + 10001, dice.randbytes(dice.randrange(1, 2000)))
    throw(cluster.port(1) + 10001, struct.pack("<II", 0xffffffff, 0) + b"x" * 100)
    throw(cluster.port(1) + 10001, struct.pack("<II", 5, 12345) + b"\xdd\xff\xff\xff\xff")
    eventually("counted", lambda: bad(counters(1)) >= bad(before) + 20)
    still_serves()


@case
def garbage_on_the_gossip_ports_is_dropped_and_counted():
    before = counters(1)
    bad = lambda sums: sums.get("gossip_bad", 0) + sums.get("gossip_denied", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _ in range(200):
            s.sendto(dice.randbytes(dice.randrange(0, 1400)), ("127.0.0.1", cluster.port(1) + 10000))
    for _ in range(20):
        throw(cluster.port(1) + 10000, dice.randbytes(dice.randrange(1, 3000)))
    eventually("counted", lambda: bad(counters(1)) >= bad(before) + 100)
    still_serves()


@case
def no_process_was_restarted_by_it():
    if "PANIC" in cluster.log(1) or "PANIC" in cluster.log(2):
        raise AssertionError("a process died")


finish()
