#!/usr/bin/env python3
"""The bounds of the front door, each just below, at and just beyond: connections of the node, strangers,
arguments, bytes of a command, unread replies, silence."""
import os
import re
import signal
import socket
import subprocess

from lib import Cluster, Error, Redis, case, equal, eventually, finish, kill, skip

MAX = 12
cluster = Cluster(nodes=1, workers=2, options=[
    "n=1", "r=1", "w=1", f"max_clients={MAX}", "client_input=1mb", "client_output=1mb", "total_input=4mb",
    "total_output=3mb", "tcp_keepalive=77s"])
FRONT, W0, W1 = cluster.port(1), cluster.port(1) + 1, cluster.port(1) + 2


def connected():
    with Redis(W0) as r:
        return int(re.search(rb"connected_clients:(\d+)", r("INFO", "clients"))[1])


def say(port, data):
    """What comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got = b""
        try:
            while part := s.recv(65536):
                got += part
        except ConnectionError:
            pass
        return got


def r_inner(r, *words):
    r.send(*words)
    return r.read_inner()


def setting(name):
    with Redis(W0) as r:
        return r("CONFIG", "GET", name)[1]


def reload(changes):
    conf = os.path.join(cluster.dir, "1", "node.conf")
    with open(conf) as f:
        text = f.read()
    for section, line in changes:
        text = text.replace(f"[{section}]\n", f"[{section}]\n{line}\n") if f"[{section}]" in text else (
            text + f"[{section}]\n{line}\n")
    with open(conf, "w") as f:
        f.write(text)
    kill(cluster.supervisor(1), signal.SIGHUP)


@case
def max_clients_counts_the_connections_of_all_workers():
    eventually("nobody is connected", lambda: connected() == 1)
    held = [Redis((W0, W1)[i % 2]) for i in range(MAX - 1)]
    for r in held:
        equal(r("PING"), "PONG")
    with Redis(W1) as last:
        equal(last("PING"), "PONG")
        for port in (FRONT, W0, W1):
            with Redis(port) as refused:
                try:
                    refused.read()
                    raise AssertionError("let in")
                except Error as error:
                    equal(str(error), "ERR max number of clients reached")
                equal(refused.sock.recv(1), b"")
    held.pop().close()

    def fits():
        try:
            with Redis(W0) as r:
                return r("PING") == "PONG"
        except (Error, ConnectionError):
            return False

    eventually("there is room again", fits)
    for r in held:
        equal(r("PING"), "PONG")
        r.close()


@case
def the_number_of_arguments_has_redis_limit():
    most = 1024 * 1024
    head = b"*%d\r\n$4\r\nPING\r\n"
    with Redis(W0, timeout=60) as r:
        # As many as fit into the bytes of one command get as far as the command.
        r.sock.sendall(head % 100000 + b"$1\r\nx\r\n" * 99999)
        equal(str(r.read_inner()), "ERR wrong number of arguments for 'ping' command")
        r.sock.sendall(b"*%d\r\n" % most)  # as many as may be announced: the connection waits for them
        r.sock.sendall(b"$1\r\nx\r\n" * 10)
        r.sock.settimeout(0.3)
        try:
            equal(r.sock.recv(10), b"nothing")
        except TimeoutError:
            pass
    equal(say(W0, b"*%d\r\n" % (most + 1)), b"-ERR Protocol error: invalid multibulk length\r\n")


@case
def one_command_may_have_as_many_bytes_as_client_input_says():
    limit = 1 << 20
    with Redis(W0, timeout=60) as r:
        for size, fits in ((limit - 1, True), (limit, True), (limit + 1, False)):
            overhead = len(Redis.encode(["ECHO", b"x" * size])) - size
            value = b"x" * (size - overhead)
            reply = r_inner(r, "ECHO", value)
            equal(isinstance(reply, bytes) and len(reply) == len(value), fits, size)
            equal(isinstance(reply, Error), not fits, size)
        equal(r("PING"), "PONG")


@case
def unfinished_commands_beyond_the_total_wait_and_are_served_one_by_one():
    value = b"y" * 900000
    data = Redis.encode(["SET", "{t}k", value])
    clients = [Redis(W0, timeout=60) for _ in range(6)]  # 5.4 MB for 2 MB, the half of one worker
    for r in clients:
        r.sock.setblocking(False)
        try:
            r.sock.send(data[:-10])
        except BlockingIOError:
            pass
        r.sock.setblocking(True)
    for r in clients:
        r.close()
    with Redis(W0, timeout=60) as r:
        r.sock.sendall(data)
        equal(str(r.read_inner())[:2] in ("OK", "MO"), True)


@case
def a_reader_that_does_not_read_is_disconnected_and_keen_ones_are_not():
    with Redis(FRONT) as r:
        equal(r("SET", "big", b"z" * 100000), "OK")
    lazy = [Redis(FRONT, timeout=60) for _ in range(4)]
    for r in lazy:
        r.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        r.sock.sendall(Redis.encode(["GET", "big"]) * 400)
    with Redis(FRONT, timeout=60) as keen:
        for reply in keen.pipeline([["GET", "big"]] * 400):
            assert not isinstance(reply, Error), reply
            equal(len(reply), 100000)
    for r in lazy:
        r.close()


@case
def the_system_is_told_to_ask_silent_clients_whether_they_live():
    with Redis(W0) as r:
        equal(r("PING"), "PONG")
        try:
            text = subprocess.run(["ss", "-tnoH", "state", "established", f"( sport = :{W0} )"], capture_output=True,
                                  text=True, timeout=20).stdout
        except FileNotFoundError:
            skip("the keepalive timer", "there is no ss")
            return
        found = re.findall(r"timer:\(keepalive,(?:(\d+)min)?([\d.]+)sec", text)
        times = [int(minutes or 0) * 60 + float(seconds) for minutes, seconds in found]
        assert times and all(0 < t <= 77 for t in times), text


@case
def silent_clients_are_disconnected_after_their_time_and_others_are_not():
    reload([("limits", "client_idle = 1s")])
    eventually("the setting is in force", lambda: b"1" in setting("timeout"))
    with Redis(W0) as silent, Redis(W0) as busy:
        equal(silent("PING"), "PONG")

        def closed():
            equal(busy("PING"), "PONG")
            silent.sock.settimeout(0.1)
            try:
                return silent.sock.recv(1) == b""
            except TimeoutError:
                return False

        eventually("the silent one is disconnected", closed)
        equal(busy("PING"), "PONG")


@case
def strangers_have_tiny_budgets():
    reload([("security", "requirepass = secret")])

    def asked():
        with Redis(W0) as r:
            return isinstance(r_inner(r, "GET", "x"), Error) and isinstance(r_inner(r, "PING"), Error)

    eventually("a password is asked for", asked)
    denied = b"-NOAUTH Authentication required.\r\n"
    for count in (9, 10):
        equal(say(W0, b"*%d\r\n$4\r\nPING\r\n" % count + b"$1\r\nx\r\n" * (count - 1)).startswith(b"-"), True)
    equal(say(W0, b"*11\r\n"), b"-ERR Protocol error: unauthenticated multibulk length\r\n")
    for size in (16383, 16384):
        equal(say(W0, Redis.encode(["ECHO", b"x" * size])), denied)
    equal(say(W0, Redis.encode(["ECHO", b"x" * 16385])), b"-ERR Protocol error: unauthenticated bulk length\r\n")
    words = ["PING"] + [b"x" * 16300] * 4  # below 64 KiB together, and beyond with one more
    assert b"unauthenticated" not in say(W0, Redis.encode(words[:4]))
    equal(say(W0, Redis.encode(words + [b"x" * 1000])), b"-ERR Protocol error: unauthenticated bulk length\r\n")
    with Redis(W0) as r:
        equal(r("AUTH", "secret"), "OK")
        equal(len(r("ECHO", b"x" * 100000)), 100000)


@case
def a_stranger_that_does_not_read_is_disconnected():
    with socket.create_connection(("127.0.0.1", W0), timeout=60) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            for _ in range(20000):  # 120 MB: more than all socket buffers take
                s.sendall(b"PING\r\n" * 1000)
            raise AssertionError("it was read from all the time")
        except ConnectionError:
            pass
    with socket.create_connection(("127.0.0.1", W0), timeout=60) as keen:
        keen.sendall(b"PING\r\n" * 5000)
        want, got = len(b"-NOAUTH Authentication required.\r\n") * 5000, 0
        while got < want:
            part = keen.recv(65536)
            assert part, got
            got += len(part)


finish()
