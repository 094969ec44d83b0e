#!/usr/bin/env python3
"""TLS at the client ports and between nodes: ordinary clients, wrong certificates, the wrong protocol on
either side, handshakes that are slow, half or garbage, certificates replaced while running."""
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from lib import BUILD, ROOT, Cluster, Redis, case, equal, eventually, finish, kill, skip

sys.path.append("/usr/lib/python3/dist-packages")  # python3-redis, also for another python3
try:
    import redis
    import redis.cluster
except ImportError:
    redis = None

CERTS = tempfile.mkdtemp(prefix="cw-tls-")
subprocess.run([os.path.join(ROOT, "tests", "certificates"), CERTS], check=True)


def path(name):
    return os.path.join(CERTS, name)


# The files in use, so that a test can replace them.
for suffix in (".crt", ".key"):
    shutil.copy(path("node" + suffix), path("used" + suffix))

cluster = Cluster(nodes=2, workers=2, options=[
    "n=2", "r=1", "w=1", "tls=yes", "tls_cluster=yes", f"tls_cert={path('used.crt')}",
    f"tls_key={path('used.key')}", f"tls_ca={path('ca.crt')}", "secret=between-nodes",
    "handshake_timeout=3s", "repair_interval=1s", "flush_age=300ms", "probe_interval=100ms",
    "suspicion_timeout=500ms"])
PORT = cluster.port(1)
PEER_PORT = PORT + 10001


def context(ca="ca", certificate=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(path(ca + ".crt"))
    if certificate:
        made.load_cert_chain(path(certificate + ".crt"), path(certificate + ".key"))
    return made


def plain(port=PORT):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def secure(port=PORT, made=None):
    return (made or context()).wrap_socket(plain(port), server_hostname="127.0.0.1")


class Secure(Redis):
    def __init__(self, port=PORT, made=None):
        self.sock = secure(port, made)
        self.file = self.sock.makefile("rb")


def serves():
    with Secure() as r:
        equal(r("SET", "still", "here"), "OK")
        equal(r("GET", "still"), b"here")


def info():
    try:
        with Secure() as r:
            return r("INFO", "clockwise")
    except OSError:
        return b""


def refused(action):
    """Is the action ended by the other side, in whatever way?"""
    try:
        action()
    except (ssl.SSLError, ConnectionError) as error:
        return error
    raise AssertionError("it was let in")


def read_to_end(sock):
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionError:
        pass
    return got


def cli(*words):
    done = subprocess.run(["redis-cli", "--tls", *map(str, words)], capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).strip()


@case
def redis_cli_talks_through_tls_and_follows_the_slot_map():
    equal(cli("--cacert", path("ca.crt"), "-p", PORT, "SET", "a", "1"), "OK")
    for i in range(20):
        equal(cli("--cacert", path("ca.crt"), "-c", "-p", PORT + 1, "SET", f"key{i}", i), "OK")
    equal(cli("--cacert", path("ca.crt"), "-3", "-p", cluster.port(2), "GET", "a"), '"1"' if sys.stdout.isatty() else "1")


@case
def a_client_that_trusts_another_authority_does_not_talk_to_us():
    answer = cli("--cacert", path("other.crt"), "-p", PORT, "PING")
    assert "certificate verify failed" in answer, answer
    serves()


def python_clients():
    options = {"ssl": True, "ssl_ca_certs": path("ca.crt"), "ssl_check_hostname": True}
    r = redis.Redis(host="127.0.0.1", port=PORT, **options)
    value = bytes(random.randrange(256) for _ in range(300000))
    r.set("large", value)
    equal(r.get("large"), value)
    rc = redis.cluster.RedisCluster(host="127.0.0.1", port=PORT + 1, **options)
    for i in range(200):
        rc.set(f"p{i}", i)
    for i in range(200):
        equal(rc.get(f"p{i}"), b"%d" % i)
    rc.close()
    r.close()


if redis is None:
    skip("python redis talks through tls alone and routed", "python3-redis is not installed")
else:
    @case
    def python_redis_talks_through_tls_alone_and_routed():
        python_clients()


@case
def a_megabyte_each_way_in_a_pipeline_arrives_whole():
    value = os.urandom(1 << 20)
    with Secure() as r:
        equal(r("SET", "mb", value), "OK")
        for _ in range(8):
            r.send("GET", "mb")
        for _ in range(8):
            equal(r.read() == value, True)


@case
def a_plain_client_at_the_tls_port_is_disconnected_without_a_word_of_ours():
    with plain() as s:
        s.sendall(b"PING\r\n" * 10)
        got = read_to_end(s)
        assert b"PONG" not in got, got
        assert len(got) < 16, got  # an alert
    serves()


@case
def nothing_older_than_tls_1_3_is_spoken():
    old = context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(lambda: secure(made=old))
    with secure() as s:
        equal(s.version(), "TLSv1.3")


@case
def half_a_handshake_is_given_up_after_its_time():
    with plain() as silent, plain() as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        equal(read_to_end(silent), b"")
        read_to_end(half)
    serves()


@case
def a_handshake_byte_by_byte_succeeds_if_it_is_in_time():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with plain() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def step(action):
            while True:
                try:
                    result = action()
                except ssl.SSLWantReadError:
                    result = None
                for byte in outgoing.read():
                    s.sendall(bytes([byte]))
                if result is not None:
                    return result
                incoming.write(s.recv(1))  # and taken byte by byte

        step(lambda: talk.do_handshake() or True)
        step(lambda: talk.write(b"PING\r\n"))
        equal(step(lambda: talk.read(7)), b"+PONG\r\n")


@case
def garbage_in_the_handshake_harms_nobody_else():
    before = cluster.children(1)
    maker, sink = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context().wrap_bio(maker, sink, server_hostname="127.0.0.1")
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = sink.read()
    dice = random.Random(5)
    for i in range(150):
        bent = bytearray(hello)
        for _ in range(dice.randrange(1, 10)):
            bent[dice.randrange(len(bent))] = dice.randrange(256)
        data = os.urandom(dice.randrange(1, 600)) if i % 5 == 0 else bytes(bent)
        with plain(PORT if i % 3 else PEER_PORT) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            read_to_end(s)
    equal(cluster.children(1), before)
    serves()


@case
def a_certificate_is_asked_of_clients_once_sighup_says_so():
    conf = os.path.join(cluster.dir, "1", "node.conf")
    with open(conf) as f:
        text = f.read()

    def reload(added):
        with open(conf, "w") as f:
            f.write(text.replace("[security]\n", "[security]\n" + added))
        kill(cluster.supervisor(1), signal.SIGHUP)

    def ping(certificate):
        try:
            with Secure(made=context(certificate=certificate)) as r:
                return r("PING")
        except (ssl.SSLError, ConnectionError):
            return None

    reload("tls_auth_clients = yes\n")
    eventually("clients without a certificate are refused", lambda: ping(None) is None)
    equal(ping("client"), "PONG")
    equal(ping("stranger"), None)
    reload("tls_auth_clients = optional\n")
    eventually("clients without a certificate are taken", lambda: ping(None) == "PONG")
    equal(ping("client"), "PONG")
    equal(ping("stranger"), None)
    reload("")
    eventually("any client is taken", lambda: ping("stranger") == "PONG")


def certificate_now():
    with secure() as s:
        return s.getpeercert(binary_form=True)


def replace(certificate, key):
    for source, target in ((certificate, "used.crt"), (key, "used.key")):
        shutil.copy(path(source), path(target + ".new"))
        os.rename(path(target + ".new"), path(target))
    kill(cluster.supervisor(1), signal.SIGHUP)


@case
def sighup_takes_new_certificates_and_keeps_the_old_ones_if_they_are_bad():
    first = certificate_now()
    with Secure() as old:
        equal(old("PING"), "PONG")
        replace("client.crt", "client.key")
        for _ in range(4):  # each worker takes a share of the connections
            eventually("the new certificate is shown", lambda: certificate_now() != first)
        second = certificate_now()
        replace("node.crt", "client.key")
        eventually("the mistake is in the log", lambda: "the certificates in use stay" in cluster.log(1))
        for _ in range(4):
            equal(certificate_now() == second, True)
        replace("node.crt", "node.key")
        eventually("the first certificate is back", lambda: certificate_now() == first)
        equal(old("PING"), "PONG")


@case
def a_node_is_let_in_only_with_a_certificate_of_the_right_authority():
    for port in (PEER_PORT, PORT + 10000, PORT + 9999):  # worker, gossipd, antientropyd
        with secure(port, context(certificate="node")) as s:
            equal(s.version(), "TLSv1.3")
            s.settimeout(0.2)
            try:
                equal(s.recv(100), b"never")  # it waits for us to speak
            except TimeoutError:
                pass

        def without(name):
            with secure(port, context(certificate=name)) as s:
                s.sendall(b"x")
                if not s.recv(100):  # the alert comes after our side thinks that all is well
                    raise ConnectionError

        refused(lambda: without(None))
        refused(lambda: without("stranger"))
        with plain(port) as s:
            s.sendall(b"\x08\0\0\0garbagegarbage")
            got = read_to_end(s)
            assert len(got) < 16, got


@case
def a_bad_certificate_stops_the_start_with_its_name():
    conf = os.path.join(CERTS, "bad.conf")
    for key, text in (("locked.key", "locked.key"), ("client.key", "client.key"), ("absent.key", "absent.key")):
        with open(conf, "w") as f:
            f.write(f"[security]\ntls = yes\ntls_cert = {path('node.crt')}\ntls_key = {path(key)}\n")
        done = subprocess.run([os.path.join(BUILD, "clockwised"), "-t", "-c", conf], capture_output=True,
                              text=True, timeout=20)
        equal(done.returncode, 78)
        assert text in done.stderr, done.stderr
    with open(conf, "w") as f:
        f.write(f"[security]\ntls_key = {path('node.key')}\ntls = yes\n")
    done = subprocess.run([os.path.join(BUILD, "clockwised"), "-t", "-c", conf], capture_output=True,
                          text=True, timeout=20)
    equal((done.returncode, done.stderr.strip()), (78, f"{conf}:3: tls: needs tls_cert"))


@case
def a_killed_worker_comes_back_with_its_certificate_and_links():
    kill(cluster.children(1)["worker-0"])
    eventually("all links are up again", lambda: b"ring_ready:1" in info())
    serves()


@case
def a_wiped_node_is_filled_again_through_tls():
    with Secure() as r:
        for i in range(300):
            equal(r("SET", f"fill{i}", i), "OK")
    cluster.run("kill", 2)
    cluster.run("wipe", 2)
    cluster.run("start", 2)

    def filled():
        try:
            with Secure(cluster.port(2)) as r, Secure() as other:
                return r("DBSIZE") >= other("DBSIZE") >= 300
        except OSError:
            return False

    eventually("node 2 has every key", filled)


shutil.rmtree(CERTS, ignore_errors=True)
finish()
