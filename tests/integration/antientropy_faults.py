#!/usr/bin/env python3
"""Anti-entropy under faults: processes on both sides of a refill are killed at any point of it, and a member
that has the cluster's secret breaks the rules of the exchange."""
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import signal
import socket
import struct

from lib import Cluster, Error, case, equal, eventually, finish, kill, skip

KEYS = 20000
SECRET = b"a secret of some length"
NAME = b"local"
cluster = Cluster(nodes=3, workers=2, options=(
    f"cluster.secret={SECRET.decode()}", "limits.repair_bandwidth=2mb", "limits.repair_interval=1s",
    "storage.flush_age=200ms", "limits.hint_bytes=0"))


def repair(k):
    return cluster.dump(k, "repair")["repair"]["counters"]


def sum_of(k, name):
    return sum(w["counters"][name] for w in cluster.dump(k, "worker-0", "worker-1")["workers"])


def whole(k):
    return sum_of(k, "store_not_whole") == 0 and sum_of(k, "store_keys") == KEYS


def replaced(k, role, pid):
    return cluster.children(k).get(role, pid) != pid and cluster.ready(k)


def kill_child(k, role):
    pid = cluster.children(k)[role]
    kill(pid)
    eventually(f"another {role} of node {k}", lambda: replaced(k, role, pid))


@case
def a_refill_goes_on_where_it_was_whoever_is_killed():
    with cluster.redis(1) as r:
        bad = [x for x in r.pipeline([("SET", f"key:{i}", f"value:{i}".ljust(100)) for i in range(KEYS)])
               if isinstance(x, Error)]
    equal(bad[:3], [], "errors")
    eventually("everything on disk", lambda: all(whole(k) for k in (1, 2, 3)))
    cluster.run("kill", 2)
    cluster.run("wipe", 2)
    cluster.run("start", 2)
    eventually("something to have come", lambda: sum_of(2, "store_keys") > KEYS // 20)
    # While nothing is brought, what has come stays.
    pid = cluster.children(2)["antientropyd"]
    os.kill(pid, signal.SIGSTOP)
    before = sum_of(2, "store_keys")
    equal(before < KEYS, True, "the refill was under way")
    kill_child(2, "worker-0")
    kill_child(2, "worker-1")
    eventually("all that had come to be there again", lambda: sum_of(2, "store_keys") >= before)
    os.kill(pid, signal.SIGCONT)
    kill_child(1, "worker-0")
    kill_child(3, "worker-1")
    kill_child(2, "antientropyd")
    kill_child(3, "antientropyd")
    cluster.run("kill", 1)
    cluster.run("start", 1)
    eventually("a node that is whole", lambda: whole(2))
    with cluster.redis(2) as r:
        wrong = [i for i, v in enumerate(r.pipeline([("GET", f"key:{i}") for i in range(KEYS)]))
                 if v != b"value:%d".ljust(100) % i and v != f"value:{i}".ljust(100).encode()]
    equal(wrong[:3], [], "keys")


# --- a member that breaks the rules ---

def pack(value):
    """msgpack of numbers, bytes and one list."""
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(pack, value))
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    return b"\xcf" + struct.pack(">Q", value)


def unpack(data):
    """The fields of a message, as far as tests look at them."""
    count, at, out = data[0] & 15, 1, []
    sizes = {0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}
    bins = {0xc4: 1, 0xc5: 2, 0xc6: 4}
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind < 0x80:
            out.append(kind)
            continue
        n = sizes.get(kind) or bins[kind]
        number = int.from_bytes(data[at:at + n], "big")
        at += n
        if kind in bins:
            out.append(data[at:at + number])
            at += number
        else:
            out.append(number)
    return out


HELLO, OPEN, OPENED, COMPARE, LIST, PULL, PUSH, DEAD = 1, 2, 3, 4, 6, 8, 10, 12
_library = ctypes.util.find_library("xxhash")
xxhash = ctypes.CDLL(_library) if _library else None
if xxhash:
    xxhash.XXH3_64bits.restype = ctypes.c_uint64
    xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


class Member:
    """A connection to the repair port of node 1, as node 3, which is down."""

    def __init__(self, node, secret=SECRET):
        self.sock = socket.create_connection(("127.0.0.1", cluster.port(1) + 9999), timeout=10)
        nonce = os.urandom(16)
        self.send([HELLO, 1, NAME, node, 7, b"", nonce])
        theirs = self.receive()[6]
        text = b"c" + nonce + theirs + node + struct.pack("<IQ", 1, 7) + NAME
        self.send([HELLO, 1, NAME, node, 7, hmac.new(secret, text, hashlib.sha256).digest(), nonce])

    def frame(self, payload):
        self.sock.sendall(struct.pack("<II", len(payload), xxhash.XXH3_64bits(payload, len(payload)) & 0xffffffff) + payload)

    def send(self, fields):
        self.frame(pack(fields))

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def receive(self):
        return unpack(self.exactly(struct.unpack("<II", self.exactly(8))[0]))

    def closed(self):
        """Has node 1 hung up? Answers on the way are none."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        self.sock.close()
        return True

    def open(self, number=1):
        """Begin an exchange of some partition whose roots differ; its number."""
        for partition in range(128):
            self.send([OPEN, number, partition, 1, 0, 12345, 0, 0])
            if self.receive()[2] == 0:
                return partition
        raise AssertionError("every partition is busy")


def position(partition, low):
    """A position in a partition of 128."""
    return ((partition << 121) | low).to_bytes(16, "big")


def entry(partition, low):
    return position(partition, low) + struct.pack("<QQB", 99, 1, 0)


def node_at(index):
    return struct.pack("<I", index) + bytes(96)


def misdeeds():
    """Name, and what is said after an exchange of partition p has been opened."""
    elsewhere = lambda p: (p + 1) % 128
    yield "a depth that no tree has", lambda p: [[COMPARE, 1, 200, node_at(0)]]
    yield "a depth between two levels", lambda p: [[COMPARE, 1, 3, node_at(0)]]
    yield "nodes that are not sorted", lambda p: [[COMPARE, 1, 4, node_at(2) + node_at(1)]]
    yield "a node beyond its level", lambda p: [[COMPARE, 1, 4, node_at(16)]]
    yield "half a node", lambda p: [[COMPARE, 1, 0, node_at(0)[:50]]]
    yield "more nodes than allowed", lambda p: [[COMPARE, 1, 8, b"".join(map(node_at, range(65)))]]
    yield "a list of another partition", lambda p: [[LIST, 1, 0, struct.pack("<I", 0), entry(elsewhere(p), 5)]]
    yield "a list that is not sorted", lambda p: [[LIST, 1, 0, struct.pack("<I", 0), entry(p, 9) + entry(p, 5)]]
    yield "a list longer than allowed", lambda p: [[LIST, 1, 0, struct.pack("<I", 0), b"".join(entry(p, i) for i in range(9))]]
    yield "a range of another partition", lambda p: [
        [PULL, 1, position(elsewhere(p), 0), position(elsewhere(p), 9), b"", 1000]]
    yield "a range that ends before it begins", lambda p: [[PULL, 1, position(p, 9), position(p, 1), b"", 1000]]
    yield "positions that are not sorted", lambda p: [[PULL, 1, b"", b"", position(p, 9) + position(p, 9), 1000]]
    yield "objects that are none", lambda p: [[PUSH, 1, 0, os.urandom(500)]]
    yield "an object that says that it is longer than it is", lambda p: [[PUSH, 1, 0, b"\1\0\0\0\xff\xff\xff\x7f" + bytes(100)]]
    yield "deaths in another partition", lambda p: [[DEAD, 1, position(elsewhere(p), 1) + bytes(8)]]
    yield "no deaths at all", lambda p: [[DEAD, 1, b""]]
    yield "an exchange begun twice", lambda p: [[OPEN, 1, elsewhere(p), 1, 0, 1, 0, 0]]
    yield "a partition that there is not", lambda p: [[OPEN, 2, 128, 1, 0, 1, 0, 0]]
    yield "a second HELLO", lambda p: [[HELLO, 1, NAME, bytes(16), 7, b"", bytes(16)]]
    yield "a message for workers", lambda p: [[63, 1, p, 0]]
    yield "a message that there is not", lambda p: [[49, 1]]


def raw_misdeeds():
    yield "an array of four billion", b"\xdd\xff\xff\xff\xff"
    yield "bytes that are not there", b"\x92\x06\xc6\x7f\xff\xff\xff"
    yield "arrays in arrays", b"\x91" * 2000
    yield "no array", b"\xc0"


def a_member_that_breaks_the_rules_is_dropped_and_counted():
    pid = cluster.children(1)["antientropyd"]
    node = bytes.fromhex(next(m["id"] for m in cluster.dump(1, "ring")["ring"]["members"] if m["name"] == "node3"))
    cluster.run("kill", 3)

    before, done = repair(1)["repair_bad"], 0

    def expect(name, misdeed):
        nonlocal done
        member = Member(node)
        misdeed(member, member.open())
        equal(member.closed(), True, name)
        done += 1

    for name, say in misdeeds():
        expect(name, lambda m, p, say=say: [m.send(x) for x in say(p)])
    for name, payload in raw_misdeeds():
        expect(name, lambda m, p, payload=payload: m.frame(payload))
    expect("a frame of two gigabytes", lambda m, p: m.sock.sendall(struct.pack("<II", 0x7fffffff, 1) + bytes(1000)))
    expect("a checksum that is wrong", lambda m, p: m.sock.sendall(struct.pack("<II", 4, 1) + b"\x91\x01ab"))
    eventually(f"{done} misdeeds to be counted", lambda: repair(1)["repair_bad"] >= before + done, 10)
    denied = repair(1)["repair_denied"]
    equal(Member(node, b"another secret").closed(), True, "a wrong proof")
    eventually("a wrong proof to be counted", lambda: repair(1)["repair_denied"] > denied, 10)
    equal(cluster.children(1)["antientropyd"], pid, "antientropyd lives:")
    cluster.run("start", 3)
    rounds = repair(1)["repair_agreements"]
    eventually("rounds to go on", lambda: repair(1)["repair_agreements"] > rounds + 10 and whole(1))


if xxhash is None:
    skip("a member that breaks the rules", "no libxxhash to make frames with")
else:
    case(a_member_that_breaks_the_rules_is_dropped_and_counted)
finish()
