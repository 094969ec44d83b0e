#!/usr/bin/env python3
"""Starting and stopping a node: wrong configuration, a second supervisor, a taken port, reload, drain."""
import os
import re
import signal
import socket
import subprocess
import tempfile

from lib import BUILD, Cluster, Redis, alive, case, equal, eventually, finish, free_base

PROGRAM = os.path.join(BUILD, "clockwised")


def clockwised(*words, text=None, env=None):
    """Exit code and output of clockwised; text becomes a configuration file."""
    with tempfile.TemporaryDirectory() as folder:
        if text is not None:
            path = os.path.join(folder, "node.conf")
            with open(path, "w") as f:
                f.write(text)
            words += ("-c", path)
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=30,
                              env=dict(os.environ, **(env or {})))
        return done.returncode, (done.stdout + done.stderr).replace(folder + "/", "")


@case
def help_and_version_are_answered():
    code, out = clockwised("--help")
    equal(code, 0)
    for word in ("-c", "-t", "--version"):
        if word not in out:
            raise AssertionError(f"{word} is not in --help")
    code, out = clockwised("--version")
    equal(code, 0)
    if not re.search(r"\d+\.\d+\.\d+", out):
        raise AssertionError(out)


@case
def a_wrong_configuration_is_refused_with_file_line_and_reason():
    for text, want in (
            ("[node]\nname = a\nporrt = 1\n", "node.conf:3: "),
            ("[node]\nport = 70000\n", "node.conf:2: "),
            ("[node]\nport = many\n", "node.conf:2: "),
            ("[node]\n\nbind = 300.1.1.1\n", "node.conf:3: "),
            ("[nod]\nport = 1\n", "node.conf:"),
            ("[cluster]\npartitions = 100\n", "node.conf:2: "),
            ("[cluster]\nn = 2\nw = 3\n", "node.conf:3: "),
            ("[storage]\nwrite_buffer_total = 12 apples\n", "node.conf:2: "),
            ("[node]\nport = 1\nport = 2\n", "node.conf:3: "),
            ("[node]\nbind = 0.0.0.0\n", "node.conf:2: "),
            ("[node]\nbind = 10.1.2.3\n", "requirepass"),
            ("[node]\njust words\n", "node.conf:2: ")):
        for flags in (("-t",), ()):
            code, out = clockwised(*flags, text=text)
            equal(code, 78, repr(text) + out)
            if want not in out:
                raise AssertionError(f"{text!r}: {out!r} does not say {want!r}")


@case
def a_right_configuration_passes_the_check():
    code, out = clockwised("-t", text="[node]\nport = 7400\n[cluster]\nn = 1\nr = 1\nw = 1\n")
    equal(code, 0, out)


@case
def a_missing_file_is_refused():
    code, out = clockwised("-c", "/nowhere/at/all.conf")
    equal(code, 78, out)
    if "/nowhere/at/all.conf" not in out:
        raise AssertionError(out)


cluster = Cluster(nodes=1, workers=2)
CONF = os.path.join(cluster.dir, "1", "node.conf")


@case
def a_second_supervisor_on_the_same_data_is_refused():
    with open(CONF) as f:
        text = f.read()
    base = free_base(1)
    for old, new in ((cluster.base, base), (cluster.base + 10000, base + 10000)):
        text = text.replace(f"= {old + 100}", f"= {new + 100}").replace(f"= {old + 101}", f"= {new + 101}")
    with tempfile.TemporaryDirectory() as run:
        text = re.sub(r"runtime_dir = .*", f"runtime_dir = {run}", text)
        code, out = clockwised(text=text)
    equal(code, 1, out)
    if cluster.data_dir(1) not in out:
        raise AssertionError(f"does not name the data directory: {out}")
    with cluster.redis(1) as r:
        equal(r("PING"), "PONG")


@case
def a_port_that_is_taken_is_named():
    base = free_base(1)
    with socket.socket() as taken, tempfile.TemporaryDirectory() as folder:
        taken.bind(("127.0.0.1", base + 100))
        taken.listen()
        code, out = clockwised(text=f"[node]\nport = {base + 100}\ndata_dir = {folder}/d\nruntime_dir = {folder}/r\n"
                                    "[cluster]\nn = 1\nr = 1\nw = 1\n")
    equal(code, 1, out)
    if f"127.0.0.1:{base + 100}" not in out:
        raise AssertionError(out)


@case
def sighup_takes_over_what_can_change():
    with open(CONF) as f:
        text = f.read()
    with open(CONF, "w") as f:
        f.write(text.replace("[cluster]", "[cluster]\nrequest_timeout = 1234ms"))
    os.kill(cluster.supervisor(1), signal.SIGHUP)
    with cluster.redis(1) as r:
        eventually("the new value", lambda: b"1234" in (r("CONFIG", "GET", "request_timeout") + [b"", b""])[1])
    with open(CONF, "w") as f:
        f.write(text.replace("[cluster]", "[cluster]\nnonsense = 1"))
    os.kill(cluster.supervisor(1), signal.SIGHUP)
    eventually("a complaint in the log", lambda: "nonsense" in cluster.log(1))
    with cluster.redis(1) as r:
        equal(r("PING"), "PONG")
    with open(CONF, "w") as f:
        f.write(text)


@case
def sigterm_drains_and_stops_everything():
    children = cluster.children(1)
    pid = cluster.supervisor(1)
    with Redis(cluster.port(1)) as r:
        equal(r("SET", "last", "words"), "OK")
    os.kill(pid, signal.SIGTERM)
    eventually("the supervisor is gone", lambda: not alive(pid), seconds=20)
    equal([name for name, child in children.items() if alive(child)], [])
    cluster.run("start", 1)
    with cluster.redis(1) as r:
        equal(r("GET", "last"), b"words")


finish()
