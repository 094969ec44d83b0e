#!/usr/bin/env python3
"""Garbage and odd behaviour at the client port of a real node: Redis's error where Redis has one, the
connection closed where Redis closes it, and the node serves on with bounded memory."""
import random
import socket
import struct
import threading
import time

from lib import Cluster, Redis, case, equal, eventually, finish

cluster = Cluster(nodes=1, workers=1, options=["n=1", "r=1", "w=1", "limits.client_output=4mb"])
PORT = cluster.port(1)


def connect():
    s = socket.create_connection(("127.0.0.1", PORT), timeout=20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def say(data):
    """What comes back until the connection is closed, for requests that end it."""
    with connect() as s:
        try:
            s.sendall(data)
        except OSError:
            pass
        got = b""
        try:
            while True:
                part = s.recv(65536)
                if not part:
                    return got
                got += part
        except ConnectionResetError:
            return got


def then_ping(data):
    """What comes back before the answer to a PING sent behind the data."""
    with connect() as s:
        s.sendall(data + b"PING\r\n")
        got = b""
        while not got.endswith(b"+PONG\r\n"):
            part = s.recv(65536)
            if not part:
                raise AssertionError(f"closed after {got!r}")
            got += part
        return got[:-len(b"+PONG\r\n")]


def serves():
    with cluster.redis(1) as r:
        equal(r("SET", "still", "here"), "OK")
        equal(r("GET", "still"), b"here")


def resident_kib():
    with open(f"/proc/{cluster.children(1)['worker-0']}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


def protocol_error(text):
    return b"-ERR Protocol error: " + text + b"\r\n"


@case
def garbage_gets_the_error_of_redis_and_a_closed_connection():
    for data, text in (
            (b"*3000000000\r\n", b"invalid multibulk length"),
            (b"*abc\r\n", b"invalid multibulk length"),
            (b"*1\r\n$-10\r\n", b"invalid bulk length"),
            (b"*1\r\n$2000000000\r\n", b"invalid bulk length"),
            (b"*1\r\n$blabla\r\n", b"invalid bulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", b"expected '$', got 'f'"),
            (b'set """test-key""" test-value\r\n', b"unbalanced quotes in request"),
            (b"x" * 70000, b"too big inline request"),
            (b"*" + b"1" * 70000, b"too big mbulk count string"),
            (b"*1\r\n$" + b"1" * 70000, b"too big bulk count string")):
        equal(say(data), protocol_error(text), data[:40])
    equal(say(b"PING\r\n*1\r\n$x\r\nPING\r\n"), b"+PONG\r\n" + protocol_error(b"invalid bulk length"))
    serves()


@case
def odd_but_legal_input_is_taken():
    equal(then_ping(b"*-10\r\n"), b"")
    equal(then_ping(b"*0\r\n\r\n\n   \r\n"), b"")
    equal(then_ping(b'echo "\\x41\\n"\r\n'), b"$2\r\nA\n\r\n")
    equal(then_ping(b"*1\r\n$4\r\nPINGxx"), b"+PONG\r\n")


@case
def wrong_commands_leave_the_connection_open():
    equal(then_ping(b"get\r\n"), b"-ERR wrong number of arguments for 'get' command\r\n")
    equal(then_ping(b"nosuch x\r\n"),
          b"-ERR unknown command 'nosuch', with args beginning with: 'x' \r\n")
    equal(then_ping(Redis.encode(["GET"] + ["k"] * 10000)),
          b"-ERR wrong number of arguments for 'get' command\r\n")


@case
def http_requests_are_cut_off():
    equal(say(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET stolen 1\r\n"), b"")
    with cluster.redis(1) as r:
        equal(r("GET", "stolen"), None)


@case
def ten_thousand_keys_in_one_command_work():
    keys = [f"many:{i}" for i in range(10000)]
    with cluster.redis(1) as r:
        equal(r("MSET", *[word for k in keys for word in (k, k)]), "OK")
        equal(r("MGET", *keys), [k.encode() for k in keys])
        equal(r("EXISTS", *keys), 10000)
        equal(r("DEL", *keys), 10000)
        equal(r("EXISTS", *keys), 0)


@case
def a_command_byte_by_byte_is_understood():
    with connect() as s:
        for byte in b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$3\r\nval\r\n":
            s.sendall(bytes([byte]))
        equal(s.recv(100), b"+OK\r\n")
        for byte in b"get slow\r\n":
            s.sendall(bytes([byte]))
        equal(s.recv(100), b"$3\r\nval\r\n")


@case
def binary_values_of_all_sizes_come_back():
    dice = random.Random(3)
    with cluster.redis(1) as r:
        for size in (0, 1, 255, 4096, 16383, 65535, 65536, 65537, 1 << 20, 8 << 20):
            value = dice.randbytes(size)
            equal(r("SET", b"bin\r\n\0%d" % size, value), "OK", size)
            if r("GET", b"bin\r\n\0%d" % size) != value:
                raise AssertionError(f"{size} bytes came back changed")


@case
def a_value_over_the_limit_is_refused_and_the_connection_lives():
    with cluster.redis(1) as r:
        before = resident_kib()
        for size in ((8 << 20) + 1, 100 << 20):
            try:
                r("SET", "big", b"x" * size)
                raise AssertionError("accepted")
            except Exception as error:
                equal("string exceeds maximum allowed size" in str(error), True, error)
        equal(r("GET", "big"), None)
        if resident_kib() > before + (64 << 10):
            raise AssertionError(f"memory grew from {before} to {resident_kib()} KiB")


@case
def promised_bytes_that_never_come_cost_nothing():
    before = resident_kib()
    held = []
    for _ in range(200):
        s = connect()
        s.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\nabc")
        held.append(s)
    for _ in range(200):
        s = connect()
        s.sendall(b"*1048576\r\n$3\r\nDEL\r\n")
        held.append(s)
    serves()
    if resident_kib() > before + (32 << 10):
        raise AssertionError(f"memory grew from {before} to {resident_kib()} KiB")
    for s in held:
        s.close()


@case
def resets_in_the_middle_of_everything_harm_nobody():
    for cut in range(1, 60):
        s = connect()
        data = (Redis.encode(["SET", "reset", "value"]) + Redis.encode(["GET", "reset"])) * 3
        s.sendall(data[:cut])
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    serves()


@case
def random_bytes_harm_nobody():
    dice = random.Random(11)
    for _ in range(300):
        s = connect()
        try:
            head = dice.choice([b"", b"*", b"*3\r\n$", b"*1\r\n", b"\"", b"*2\r\n$3\r\nGET\r\n$"])
            s.sendall(head + dice.randbytes(dice.randrange(1, 3000)))
        except OSError:
            pass
        s.close()
    serves()


@case
def half_closed_clients_get_their_replies():
    with connect() as s:
        s.sendall(b"SET half 1\r\nGET half\r\nPING\r\n")
        s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            part = s.recv(4096)
            if not part:
                break
            got += part
        equal(got, b"+OK\r\n$1\r\n1\r\n+PONG\r\n")


@case
def a_client_that_never_reads_is_slowed_down_and_bounded():
    with cluster.redis(1) as r:
        equal(r("SET", "fat", b"x" * 100000), "OK")
        before = resident_kib()
        s = connect()
        s.setblocking(False)
        sent = 0
        request = b"GET fat\r\n" * 1000
        idle_since = None
        while sent < 10 << 20:
            try:
                sent += s.send(request)
                idle_since = None
            except BlockingIOError:
                idle_since = idle_since or time.monotonic()
                if time.monotonic() - idle_since > 1:
                    break
                time.sleep(0.01)
            except OSError:
                break
        grown = resident_kib() - before
        if grown > 40 << 10:
            raise AssertionError(f"memory grew by {grown} KiB")
        s.close()
    serves()


@case
def a_deep_pipeline_is_answered_in_order():
    with cluster.redis(1) as r:
        count = 20000
        requests = b"".join(
            Redis.encode(["SET", f"p{i % 50}", i]) + Redis.encode(["GET", f"p{i % 50}"])
            for i in range(count))
        failures = []

        def write():
            try:
                r.sock.sendall(requests)
            except OSError as error:
                failures.append(error)
        writer = threading.Thread(target=write)
        writer.start()
        for i in range(count):
            equal(r.read(), "OK", i)
            equal(r.read(), b"%d" % i, i)
        writer.join()
        equal(failures, [])


@case
def too_many_clients_are_told_so():
    with cluster.redis(1) as r:
        limit = int(r("CONFIG", "GET", "maxclients")[1])
        equal(limit, 10000)
    serves()


@case
def thousands_of_idle_connections_are_cheap():
    before = resident_kib()
    held = [connect() for _ in range(500)]
    for s in held:
        s.sendall(b"PING\r\n")
    for s in held:
        equal(s.recv(100), b"+PONG\r\n")
    with cluster.redis(1) as r:
        eventually("idle connections give their buffers back", lambda: int(dict(
            line.split(":") for line in r("INFO", "memory").decode().split("\r\n")
            if ":" in line)["mem_clients_normal"]) < 500 * 1024)
    each = (resident_kib() - before) * 1024 / 500
    if each > 8192:
        raise AssertionError(f"{each:.0f} bytes each")
    for s in held:
        s.close()
    serves()


finish()
