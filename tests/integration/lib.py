"""What the integration tests share: a cluster on free ports in a temporary directory, a small RESP
client, and the lines that scripts/test counts. Nothing here asserts on wall-clock time."""
import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CLOCKWISE_BUILD", os.path.join(ROOT, "build"))
PATIENCE_S = 60

_failed = 0
_clusters = []  # those that have been started and not destroyed
LOG_LINES = 15
LINE_CHARS = 300


class Error(Exception):
    """An error reply."""


def case(function):
    """Run a test now; print its line. The name is the function's, as a sentence."""
    global _failed
    name = function.__name__.replace("_", " ")
    try:
        function()
    except Exception as error:  # every failure becomes a line
        _failed += 1
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__)
                 if os.path.basename(f.filename) == os.path.basename(sys.argv[0])]
        where = f"line {lines[-1]}" if lines else "no line of this file"
        print(f"not ok {name}: {type(error).__name__}: {error} ({where})", flush=True)
        last_words()
    else:
        print(f"ok {name}", flush=True)
    return function


def last_words():
    """What the nodes of all clusters have said last, for whoever reads of a failure."""
    for cluster in _clusters:
        for k in range(1, cluster.count + 1):
            try:
                lines = cluster.log(k).splitlines()[-LOG_LINES:]
            except OSError:
                lines = ["has no log"]
            for line in lines:
                print(f"# node {k}: {line[:LINE_CHARS]}")
    sys.stdout.flush()


def outside(kind, error, trace):
    """A failure that is in no case, such as a cluster that does not start, is reported like one in a case."""
    line = trace.tb_lineno
    print(f"not ok {os.path.basename(sys.argv[0])}, line {line}: {kind.__name__}: {error}", flush=True)
    last_words()


sys.excepthook = outside


def skip(name, reason):
    print(f"skip {name}: {reason}", flush=True)


def finish():
    sys.exit(1 if _failed else 0)


def eventually(what, condition, seconds=PATIENCE_S):
    """Wait until condition() is true; the result. Patience is generous: it decides only failures."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.01)


def equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what} got {got!r}, want {want!r}")


def ports_free(base, nodes):
    """Could nodes listen there now? Connections that have ended do not hinder them, so nor do they here."""
    for k in range(1, nodes + 1):
        for offset in (0, 1, 2, 3, 4, 9999, 10000, 10001, 10002, 10003, 10004):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    if kind == socket.SOCK_STREAM:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        s.bind(("127.0.0.1", base + 100 * k + offset))
                    except OSError:
                        return False
    return True


_reserved = []  # sockets whose abstract names say that ports are taken


def reserve(base, nodes):
    """Take the ports of some nodes for as long as this process lives: tests run beside each other.
    An abstract socket's name goes away with its process; a lock file would stay."""
    taken = []
    for k in range(1, nodes + 1):
        s = socket.socket(socket.AF_UNIX)
        taken.append(s)
        try:
            s.bind(f"\0clockwise-ports-{base + 100 * k}")
        except OSError:
            for s in taken:
                s.close()
            return False
    _reserved.extend(taken)
    return True


def free_base(nodes):
    """Where the ports of some nodes begin, as scripts/cluster counts them. A node takes less than ten."""
    for _ in range(1000):
        # Peers' ports are 10000 above: nobody's clients' ports may lie among them.
        base = random.randrange(10000, 20000 - 100 * (nodes + 1), 10)
        if reserve(base, nodes) and ports_free(base, nodes):
            return base
    raise AssertionError(f"no free ports for {nodes} nodes between 10000 and 20000")


class Redis:
    """One connection. Strings come back as bytes, maps as dicts, errors are raised."""

    def __init__(self, port, timeout=20, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def encode(words):
        out = [b"*%d\r\n" % len(words)]
        for word in words:
            if not isinstance(word, bytes):
                word = str(word).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        return b"".join(out)

    def send(self, *words):
        self.sock.sendall(self.encode(words))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise Error(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        if kind in b"$=":
            if rest == b"-1":
                return None
            data = self.file.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise ConnectionError("closed")
            return data[:-2]
        if kind in b"*~>":
            return None if rest == b"-1" else [self.read_inner() for _ in range(int(rest))]
        if kind == b"%":
            return {self.read_inner(): self.read_inner() for _ in range(int(rest))}
        raise AssertionError(f"not RESP: {line!r}")

    def read_inner(self):
        try:
            return self.read()
        except Error as error:
            return error

    def __call__(self, *words):
        self.send(*words)
        return self.read()

    def pipeline(self, commands, window=500):
        """Replies to many commands; an error reply stands in its place as an Error."""
        replies = []
        for at in range(0, len(commands), window):
            part = commands[at:at + window]
            self.sock.sendall(b"".join(self.encode(c) for c in part))
            replies += [self.read_inner() for _ in part]
        return replies


class Cluster:
    """A cluster through scripts/cluster; stopped and removed at exit."""

    def __init__(self, nodes=3, workers=2, options=(), spare=0):
        """spare: ports for so many nodes more are kept free, for `add`."""
        self.base = free_base(nodes + spare)
        self.dir = tempfile.mkdtemp(prefix="cw-")
        self.count = nodes
        _clusters.append(self)
        atexit.register(self.destroy)
        self.up(nodes, workers, options)

    def up(self, nodes, workers, options=()):
        self.workers = workers
        words = ["up", "-n", nodes, "-w", workers, "-b", self.base]
        for option in options:
            words += ["-o", option]
        self.run(*words)

    def run(self, verb, *words):
        command = [os.path.join(ROOT, "scripts", "cluster"), verb, "-d", self.dir, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise AssertionError(f"cluster {verb}: {done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def destroy(self):
        with contextlib.suppress(Exception):
            self.run("down")
        if self in _clusters:
            _clusters.remove(self)
        shutil.rmtree(self.dir, ignore_errors=True)

    def port(self, k):
        return self.base + 100 * k

    def redis(self, k, **options):
        return Redis(self.port(k), **options)

    def run_dir(self, k):
        return os.path.join(self.dir, str(k), "run")

    def data_dir(self, k):
        return os.path.join(self.dir, str(k), "data")

    def log(self, k):
        with open(os.path.join(self.dir, str(k), "log"), errors="replace") as f:
            return f.read()

    def supervisor(self, k):
        with open(os.path.join(self.dir, str(k), "pid")) as f:
            return int(f.read())

    def children(self, k):
        """{"worker-0": pid, "gossipd": pid, ...} of a running node."""
        found = {}
        parent = self.supervisor(k)
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as f:
                    words = f.read().rsplit(")", 1)[1].split()
                if int(words[1]) != parent or words[0] == "Z":
                    continue
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    command = f.read().split(b"\0")
            except OSError:
                continue
            role = os.path.basename(command[0].decode()).replace("clockwise-", "")
            if role == "worker":
                role += "-" + command[command.index(b"--index") + 1].decode()
            found[role] = int(name)
        return found

    def ready(self, k):
        """Does every worker of the node serve? (The front port answers as soon as one of them does.)"""
        try:
            for i in range(self.workers):
                with Redis(self.port(k) + 1 + i, timeout=2) as r:
                    if b"ring_ready:1" not in r("INFO", "clockwise"):
                        return False
        except (OSError, Error):
            return False
        return True

    def clockwise(self, k, *words):
        """clockwise cluster WORDS at a node: exit status and what it said."""
        options = [w for w in words if str(w).startswith("-")]
        words = [w for w in words if not str(w).startswith("-")]
        done = subprocess.run([os.path.join(BUILD, "clockwise"), "-p", str(self.port(k)), *options, "cluster", *map(str, words)],
                              capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def admin(self, k, *words):
        """The same as a value; it must succeed."""
        status, text = self.clockwise(k, "--json", *words)
        if status != 0:
            raise AssertionError(f"clockwise cluster {' '.join(map(str, words))}: {status}: {text}")
        return json.loads(text)

    def write(self, k, value, numbers):
        """SET key:N to value:N through a node, until all are acknowledged: a busy machine may take longer than
        a request waits."""
        left = list(numbers)
        for _ in range(20):
            with self.redis(k) as r:
                got = r.pipeline([("SET", f"key:{i}", f"{value}:{i}") for i in left])
            left = [i for i, x in zip(left, got) if x != "OK"]
            if not left:
                return
        raise AssertionError(f"{len(left)} writes are not acknowledged: {got[-1]}")

    def dump(self, k, *words):
        """clockwise-shmdump --json of a node as a value."""
        done = subprocess.run([os.path.join(BUILD, "clockwise-shmdump"), self.run_dir(k), "--json", *words],
                              capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise AssertionError(f"shmdump: {done.stderr}")
        return json.loads(done.stdout)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)
