#!/usr/bin/env python3
"""The supervisor alone, with dummies for its children: order, descriptors, replacement, back-off, watchdog,
drain, systemd's protocol, and everything it must refuse."""
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from lib import BUILD, alive, case, equal, eventually, finish, free_base

HERE = os.path.dirname(os.path.abspath(__file__))
CLOCKWISED = os.path.join(BUILD, "clockwised")


class Node:
    def __init__(self, options="", workers=2, env=None, port=None, dir=None):
        self.dir = dir or tempfile.mkdtemp(prefix="clockwise-supervisor-")
        self.keep = dir is not None
        self.dummy = os.path.join(self.dir, "dummy")
        self.programs = os.path.join(self.dir, "programs")
        os.makedirs(self.dummy, exist_ok=True)
        os.makedirs(self.programs, exist_ok=True)
        for program in ("worker", "gossipd", "antientropyd"):
            link = os.path.join(self.programs, f"clockwise-{program}")
            if not os.path.islink(link):
                os.symlink(os.path.join(HERE, "dummy", "child"), link)
        self.port = port or free_base(1) + 100
        self.workers = workers
        self.env = dict(os.environ, CLOCKWISE_PROGRAMS=self.programs, CLOCKWISE_DUMMY=self.dummy, **(env or {}))
        self.conf = os.path.join(self.dir, "node.conf")
        self.configure(options)

    def configure(self, options):
        with open(self.conf, "w") as f:
            f.write(f"[node]\nport = {self.port}\nworkers = {self.workers}\ndata_dir = {self.dir}/data\n"
                    f"runtime_dir = {self.dir}/run\n{options}\n")

    def start(self, wait=True):
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen([CLOCKWISED, "-c", self.conf], stderr=self.log, stdout=self.log,
                                        env=self.env, stdin=subprocess.DEVNULL)
        if wait:
            eventually("the node is up", lambda: " is up on " in self.text() or self.process.poll() is not None)
            equal(self.process.poll(), None, self.text())
        return self

    def text(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def said(self, pattern):
        return re.search(pattern, self.text())

    def lines(self, name):
        try:
            with open(os.path.join(self.dummy, name + ".log")) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def starts(self, name):
        return [dict(w.split("=", 1) for w in re.sub(r"stray=\[.*?\]", lambda m: m[0].replace(" ", ""), line)
                     .split()[1:]) for line in self.lines(name) if line.startswith("start ")]

    def pid(self, name):
        return int(self.starts(name)[-1]["pid"])

    def misbehave(self, name, what):
        path = os.path.join(self.dummy, name)
        if what:
            with open(path, "w") as f:
                f.write(what)
        else:
            os.unlink(path)

    def stop(self, status=0):
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(30), status, "exit status")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if hasattr(self, "log"):
            self.log.close()
        if kind:
            print("# " + self.text().replace("\n", "\n# "))
        if not self.keep:
            shutil.rmtree(self.dir)


@case
def children_start_in_order_with_their_descriptors_and_nothing_else():
    with Node().start() as node:
        gossipd, w0, w1, ae = (node.starts(n)[0] for n in ("gossipd", "worker-0", "worker-1", "antientropyd"))
        equal(gossipd["fds"], "admin,channel,gossip-tcp,gossip-udp,notify,panic")
        equal(w0["fds"], "channel,client,front,panic,peer,wake0,wake1")
        equal(ae["fds"], "channel,panic,repair")
        for child in (gossipd, w0, w1, ae):
            equal(child["stray"], "[]", "descriptors inherited by accident:")
            equal(child["config"], f"{node.dir}/run/effective.conf")
        numbers = [int(c["incarnation"]) for c in (gossipd, w0, w1, ae)]
        equal(numbers, sorted(set(numbers)), "incarnations rise in the order of starts")
        cpus = sorted(os.sched_getaffinity(0))
        equal(w0["cpus"], str(cpus[0]))
        equal(w1["cpus"], str(cpus[1 % len(cpus)]))
        equal(gossipd["cpus"], ",".join(map(str, cpus)))
        equal(int(w0["oom"]) > int(gossipd["oom"]), True, "a worker dies of no memory before gossipd:")
        equal(len(open(f"{node.dir}/data/node-id").read()), 33)
        with socket.create_connection(("127.0.0.1", node.port)):
            pass
        node.stop()
        equal(node.lines("worker-0")[-1], "drain")


@case
def a_killed_child_is_replaced_at_once_again_and_again():
    with Node().start() as node:
        times, rounds = [], 10
        for i in range(rounds):
            for name in ("worker-1", "gossipd", "antientropyd"):
                old = node.pid(name)
                begin = time.monotonic()
                os.kill(old, signal.SIGKILL)
                eventually(f"a new {name}", lambda: node.pid(name) != old)
                times.append((time.monotonic() - begin) * 1000)
                eventually("it is ready", lambda: len(re.findall(
                    name.replace("-", " ") + r" \(pid \d+\) is ready", node.text())) == i + 2)
        print(f"# the successor runs after {statistics.median(times):.0f} ms (median of {len(times)})")
        incarnations = [int(s["incarnation"]) for s in node.starts("worker-1")]
        equal(incarnations, sorted(set(incarnations)))
        ups = [line for line in node.lines("worker-0") if line.startswith("worker-up 1 ")]
        equal(ups[-1], f"worker-up 1 {incarnations[-1]}")
        eventually("the new worker hears of its sibling",
                   lambda: node.lines("worker-1")[-1].startswith("worker-up 0 "))
        assert node.said(r"worker 1 \(pid \d+\) died of signal 9 after \d+\.\d s")
        node.stop()


@case
def a_panic_text_is_in_the_obituary():
    with Node().start() as node:
        node.misbehave("worker-0", "panic the\tworld ended")
        os.kill(node.pid("worker-0"), signal.SIGKILL)
        eventually("the obituary", lambda: node.said(
            r"worker 0 \(pid \d+\) died of signal 6 after \d+\.\d s: worker-0: PANIC: the\?world ended\n"))
        node.stop()


@case
def a_child_that_dies_too_often_is_given_up_and_the_rest_serves_on():
    with Node("ready_timeout = 20s") as node:
        node.misbehave("worker-1", "exit 3")
        node.start()
        assert node.said(r"degraded, 3 of 4 processes ready")
        eventually("it is given up", lambda: node.said(r"worker 1 has failed: it died 9 times in a row"), 90)
        equal(len(node.starts("worker-0")), 1)
        equal(len(node.starts("worker-1")), 9)
        node.stop()


@case
def a_program_that_cannot_be_executed_is_named():
    with Node() as node:
        os.unlink(f"{node.programs}/clockwise-antientropyd")
        node.start()
        assert node.said(r"antientropyd \(pid \d+\) exited with 127 after .*: "
                         r"cannot execute .*/clockwise-antientropyd: No such file")
        node.stop()


@case
def a_silent_child_is_killed_and_replaced():
    with Node("watchdog_timeout = 3s\nready_timeout = 8s") as node:
        node.misbehave("antientropyd", "hang")
        node.misbehave("worker-1", "mute")
        node.start()
        eventually("the hung one is killed", lambda: node.said(r"antientropyd \(pid \d+\) does not answer"))
        eventually("it left by SIGABRT", lambda: node.said(r"antientropyd \(pid \d+\) died of signal 6"))
        eventually("the mute one is killed", lambda: node.said(r"worker 1 \(pid \d+\) was not ready in time"))
        node.misbehave("antientropyd", None)
        node.misbehave("worker-1", None)
        eventually("both are back", lambda: node.said(r"worker 1 \(pid \d+\) is ready"))
        stopped = node.pid("worker-0")
        os.kill(stopped, signal.SIGSTOP)
        eventually("a stopped one is replaced", lambda: node.said(r"worker 0 \(pid \d+\) died of signal 9"))
        node.stop()


@case
def a_pause_of_the_whole_node_kills_nobody():
    with Node("watchdog_timeout = 1s").start() as node:
        pids = [node.process.pid] + [node.pid(n) for n in ("worker-0", "worker-1", "gossipd", "antientropyd")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        time.sleep(2.5)
        equal([alive(p) for p in pids], [True] * 5)
        assert not node.said("does not answer"), "a child was blamed"
        node.stop()


@case
def a_child_that_sends_garbage_is_killed():
    with Node() as node:
        node.misbehave("gossipd", "garbage")
        node.start(wait=False)
        eventually("it is noticed", lambda: node.said(r"gossipd \(pid \d+\) sent a malformed message"))
        node.misbehave("gossipd", None)
        eventually("the node is up", lambda: node.said(" is up on "))
        node.stop()


@case
def a_child_that_does_not_drain_is_killed():
    with Node("drain_timeout = 0ms") as node:
        node.misbehave("worker-0", "deaf")
        node.start().stop()
        assert node.said(r"worker 0 \(pid \d+\) has not stopped, sending signal 15")
        assert node.said(r"worker 0 \(pid \d+\) has not stopped, sending signal 9")


@case
def nothing_survives_the_supervisor():
    with Node().start() as node:
        pids = [node.pid(n) for n in ("worker-0", "worker-1", "gossipd", "antientropyd")]
        node.process.kill()
        node.process.wait()
        eventually("all children are gone", lambda: not any(map(alive, pids)), 5)
        first = int(node.starts("worker-0")[0]["incarnation"])
        node.start()
        equal(int(node.starts("worker-0")[-1]["incarnation"]) > first, True)
        node.stop()


@case
def a_second_supervisor_on_the_same_data_is_refused():
    with Node().start() as node, Node() as other:
        with open(other.conf, "w") as f:
            f.write(f"[node]\nport = {other.port}\ndata_dir = {node.dir}/data\nruntime_dir = {other.dir}/run\n")
        other.start(wait=False)
        equal(other.process.wait(10), 1)
        assert other.said(f"another clockwised with pid {node.process.pid} uses the data directory {node.dir}/data")
        node.stop()


@case
def a_second_supervisor_on_the_same_runtime_directory_is_refused():
    with Node().start() as node, Node() as other:
        with open(other.conf, "w") as f:
            f.write(f"[node]\nport = {other.port}\ndata_dir = {other.dir}/data\nruntime_dir = {node.dir}/run\n")
        other.start(wait=False)
        equal(other.process.wait(10), 1)
        assert other.said(f"another clockwised with pid {node.process.pid} uses the runtime directory {node.dir}/run")
        node.stop()


@case
def a_port_in_use_is_named():
    with Node() as node, socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port + 2))
        taken.listen()
        node.start(wait=False)
        equal(node.process.wait(10), 1)
        assert node.said(rf"cannot listen on 127\.0\.0\.1:{node.port + 2} \(tcp\): Address already in use")


@case
def a_wrong_configuration_is_refused_with_78():
    with Node("prot = 1") as node:
        for extra in ([], ["-t"]):
            done = subprocess.run([CLOCKWISED, "-c", node.conf] + extra, capture_output=True, text=True)
            equal(done.returncode, 78)
            equal(done.stderr, f"{node.conf}:6: unknown key prot in section [node]\n")
        node.configure("")
        done = subprocess.run([CLOCKWISED, "-t", "-c", node.conf], capture_output=True, text=True)
        equal((done.returncode, done.stdout), (0, f"{node.conf}: ok\n"))
        equal(os.path.exists(f"{node.dir}/data"), False, "-t makes no directory:")


@case
def a_reload_takes_over_what_may_change():
    with Node().start() as node:
        node.configure("zone = far\n[cluster]\nr = 1")
        node.process.send_signal(signal.SIGHUP)
        eventually("children reload", lambda: node.lines("worker-0")[-1] == "reload 1")
        assert node.said(r"\[node\] zone has changed; that needs a restart")
        node.configure("nonsense")
        node.process.send_signal(signal.SIGHUP)
        eventually("it is refused", lambda: node.said(r"not reloaded: .*node.conf:6: neither"))
        equal(node.process.poll(), None)
        node.stop()


@case
def another_number_of_workers_replays_the_journals_first():
    with Node(workers=2).start() as node:
        node.stop()
        equal(node.lines("recover"), [])
        with Node(workers=3, dir=node.dir, port=node.port) as again:
            again.start()
            equal(len(again.starts("recover")), 1)
            equal(again.starts("recover")[0]["fds"], "channel,panic")
            again.stop()
            again.start().stop()
            equal(len(again.starts("recover")), 1)
        with Node(workers=1, dir=node.dir, port=node.port) as failing:
            failing.misbehave("recover", "panic no such journal")
            before = len(failing.starts("worker-0"))
            failing.start(wait=False)
            equal(failing.process.wait(10), 1)
            assert failing.said("recovery failed, stopping: died of signal 6 .* no such journal")
            equal(len(failing.starts("worker-0")), before)


def notify_socket(address):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(address)
    s.settimeout(20)
    return s


def receive_until(s, key):
    while True:
        fields = dict(line.split("=", 1) for line in s.recv(4096).decode().splitlines())
        if key in fields:
            return fields


@case
def systemd_is_told_by_the_datagram_protocol():
    for abstract in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            name = f"@clockwise-test-{os.getpid()}" if abstract else f"{folder}/notify"
            with notify_socket(name.replace("@", "\0")) as s, Node(
                    env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"}) as node:
                node.start(wait=False)
                equal(receive_until(s, "READY")["STATUS"],
                      "4 of 4 processes ready; gossipd: hello; 2 workers: hello; antientropyd: hello")
                receive_until(s, "WATCHDOG")
                receive_until(s, "WATCHDOG")
                node.process.send_signal(signal.SIGHUP)
                equal(receive_until(s, "RELOADING")["MONOTONIC_USEC"].isdigit(), True)
                receive_until(s, "READY")
                node.process.send_signal(signal.SIGTERM)
                receive_until(s, "STOPPING")
                equal(node.process.wait(20), 0)
                with open(f"{node.dir}/log") as f:
                    equal("NOTIFY_SOCKET" in f.read(), False)


finish()
