#!/usr/bin/env python3
"""One node of three dies, or freezes, while clients of another node write at a steady rate: no write
may fail, none that was acknowledged may be lost. Prints how long the longest gap between successes
was, and latencies before and during; asserts nothing about them. OUTAGE_SECONDS, OUTAGE_RATE and
OUTAGE_NODE (who is asked: 1) change the run."""
import os
import select
import signal
import socket
import subprocess
import time

from lib import ROOT, Cluster, Redis, case, equal, eventually, finish, kill

RATE = int(os.environ.get("OUTAGE_RATE", "2000"))
SECONDS = float(os.environ.get("OUTAGE_SECONDS", "6"))
ASKED = int(os.environ.get("OUTAGE_NODE", "1"))
CONNECTIONS = 16


class Load:
    """Writes at a steady rate over a few connections, each with at most one write in flight; when all
    wait, the clock of those that are due goes on, so that waiting counts as latency."""

    def __init__(self, port, prefix):
        self.socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for s in self.socks:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.prefix = prefix
        self.sent = 0
        self.acked = []     # numbers of writes
        self.samples = []   # (time of reply, latency)
        self.errors = []
        self.paused = (0, 0) # longest time for which this process did not get to run, and when

    def run(self, seconds, events=()):
        """events: (second, function) to call meanwhile."""
        poll = select.poll()
        by_fd = {s.fileno(): s for s in self.socks}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        idle = list(self.socks)
        waiting = {}
        begun = time.monotonic()
        events = list(events)
        due = begun
        end = begun + seconds
        while True:
            now = time.monotonic()
            if now >= end and not waiting:
                return
            if now > end + 30:
                self.errors += [f"write {n} never answered" for n, _ in waiting.values()]
                return
            while events and now - begun >= events[0][0]:
                events.pop(0)[1]()
                now = time.monotonic()
            while idle and due <= now and now < end:
                s = idle.pop()
                n = self.sent
                self.sent += 1
                s.sendall(Redis.encode(("SET", f"{self.prefix}{n}", n)))
                waiting[s.fileno()] = (n, due)
                due += 1 / RATE
            asleep = time.monotonic()
            ready = poll.poll(1)
            self.paused = max(self.paused, (asleep - now, asleep), (time.monotonic() - asleep - 0.001, asleep))
            for fd, _ in ready:
                reply = by_fd[fd].recv(4096)
                n, since = waiting.pop(fd)
                now = time.monotonic()
                if reply == b"+OK\r\n":
                    self.acked.append(n)
                    self.samples.append((now, now - since))
                else:
                    self.errors.append(repr(reply[:200]))
                if not reply:
                    poll.unregister(fd)
                else:
                    idle.append(by_fd[fd])

    def show(self, name, first=0):
        part = [s for s in self.samples if s[0] >= first]
        times = [t for t, _ in part]
        gap, at = max((b - a, a) for a, b in zip(times, times[1:]))
        slow = sorted(x * 1e3 for _, x in part)
        p50, p99, p999 = (slow[int(len(slow) * q)] for q in (0.5, 0.99, 0.999))
        print(f"# {name}: {len(part)} writes, {len(self.errors)} errors, longest gap {gap * 1e3:.1f} ms at "
              f"{at - first:.2f} s (pause of this client {self.paused[0] * 1e3:.1f} ms at {self.paused[1] - first:.2f} s), "
              f"p50 {p50:.1f} p99 {p99:.1f} p99.9 {p999:.1f} max {slow[-1]:.1f} ms", flush=True)
        self.paused = (0, 0)


def outage(name, strike, heal):
    cluster = Cluster(nodes=3, workers=2)
    load = Load(cluster.port(ASKED), f"{name}:")
    load.run(1)
    load.samples.clear()
    begun = time.monotonic()
    load.run(SECONDS)
    load.show(f"{name}, undisturbed", begun)
    struck = time.monotonic() + 0.5
    load.run(SECONDS + 0.5, [(0.5, lambda: strike(cluster))])
    load.show(f"{name}, from the outage on", struck)
    healed = time.monotonic() + 0.5
    load.run(SECONDS + 0.5, [(0.5, lambda: heal(cluster))])
    load.show(f"{name}, while it comes back", healed)
    with cluster.redis(ASKED) as r:
        info = dict(x.split(":", 1) for x in r("INFO").decode().splitlines() if ":" in x)
    print("# node %d: longest sync of its journal %s us, back-pressure %s us, hints stored %s, delivered %s" % (
        ASKED, info["journal_max_sync_us"], info["pressure_us"], info["hints_stored"], info["hints_delivered"]))
    equal(load.errors[:3], [], f"{len(load.errors)} errors")
    with cluster.redis(ASKED % 3 + 1) as r:
        replies = r.pipeline([("GET", f"{name}:{n}") for n in load.acked])
        lost = [n for n, x in zip(load.acked, replies) if x != b"%d" % n]
        equal(lost[:3], [], f"{len(lost)} acknowledged writes lost")

    def drained():
        with cluster.redis(ASKED) as r:
            return b"hints_pending:0\r\n" in r("INFO", "clockwise")
    eventually("hints delivered", drained)
    cluster.destroy()


VICTIM = ASKED % 3 + 1


@case
def no_write_fails_when_a_node_is_killed():
    # Not by scripts/cluster, which waits until it is gone: the load must not wait for that.
    def strike(cluster):
        for pid in [cluster.supervisor(VICTIM), *cluster.children(VICTIM).values()]:
            kill(pid, signal.SIGKILL)
    def heal(cluster):
        starting[:] = [subprocess.Popen([os.path.join(ROOT, "scripts", "cluster"), "start", "-d", cluster.dir,
                                         str(VICTIM)])]
    starting = []
    outage("killed", strike, heal)
    equal(starting[0].wait(60), 0, "start")


@case
def no_write_fails_when_a_node_is_frozen():
    frozen = []

    def strike(cluster):
        frozen[:] = [cluster.supervisor(VICTIM), *cluster.children(VICTIM).values()]
        for pid in frozen:
            kill(pid, signal.SIGSTOP)
    outage("frozen", strike, lambda c: [kill(pid, signal.SIGCONT) for pid in frozen])


finish()
