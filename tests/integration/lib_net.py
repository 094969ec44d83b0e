"""Four nodes in network namespaces of their own, two and two behind a bridge, for tests that take the link
between the bridges down. Needs root; namespaces and processes are removed at the end."""
import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile

from lib import BUILD, Error, Redis, eventually

NODES = 4
PASSWORD = "cart-password"
CLONE_NEWNET = 0x40000000
TAG = f"cw{os.getpid()}"
libc = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def enter(name):
    fd = os.open(name, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


class Net:
    """A namespace for each node, and a hub with two bridges and one link between them."""

    def __init__(self):
        self.names = []
        self.hub = self.add("hub")
        for side in "ab":
            ip("-n", self.hub, "link", "add", f"br{side}", "type", "bridge")
            ip("-n", self.hub, "link", "set", f"br{side}", "up")
        ip("-n", self.hub, "link", "add", "name", "xa", "type", "veth", "peer", "name", "xb")
        for side in "ab":
            self.plug(f"x{side}", side)
        for k in range(1, NODES + 1):
            name = self.add(str(k))
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{k}", "netns", self.hub)
            ip("-n", name, "addr", "add", f"{address(k)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            self.plug(f"p{k}", "a" if k <= NODES // 2 else "b")

    def add(self, what):
        name = f"{TAG}-{what}"
        ip("netns", "add", name)
        self.names.append(name)
        return name

    def plug(self, port, side):
        ip("-n", self.hub, "link", "set", port, "master", f"br{side}")
        ip("-n", self.hub, "link", "set", port, "up")

    def link(self, state):
        ip("-n", self.hub, "link", "set", "xa", state)

    def remove(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def address(k):
    return f"10.99.77.{k}"


class Node:
    def __init__(self, k, directory, cluster):
        self.k = k
        self.dir = os.path.join(directory, str(k))
        for name in ("data", "run"):
            os.makedirs(os.path.join(self.dir, name))
        seeds = ", ".join(f"{address(i)}:17379" for i in range(1, NODES + 1))
        self.conf = os.path.join(self.dir, "node.conf")
        with open(self.conf, "w") as f:
            f.write(f"[node]\nname = node{k}\ndata_dir = {self.dir}/data\nruntime_dir = {self.dir}/run\n"
                    f"workers = 2\ncpu_pin = no\nbind = {address(k)}\nport = 7379\n"
                    f"[cluster]\nname = apart\nseeds = {seeds}\nsecret = between-nodes\nn = 3\nr = 2\nw = 2\n"
                    f"{cluster}"
                    f"[security]\nrequirepass = {PASSWORD}\n")
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.child = subprocess.Popen(["ip", "netns", "exec", f"{TAG}-{k}", os.path.join(BUILD, "clockwised"), "-c",
                                       self.conf], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
                                      start_new_session=True)

    def connect(self):
        """A connection from inside the node's namespace, as of a client on its side."""
        home = "/proc/self/ns/net"
        fd = os.open(home, os.O_RDONLY)
        enter(f"/var/run/netns/{TAG}-{self.k}")
        try:
            r = Redis(7379, host=address(self.k))
        finally:
            if libc.setns(fd, CLONE_NEWNET) != 0:
                os._exit(70)  # no test may go on in a wrong namespace
            os.close(fd)
        r("HELLO", "3", "AUTH", "default", PASSWORD)
        return r

    def info(self):
        try:
            r = self.connect()
        except (OSError, Error):
            return {}
        with r:
            text = r("INFO", "clockwise").decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
        self.log.close()


def possible():
    """None, or why there can be no partition here."""
    if os.getuid() != 0:
        return "not root, no network namespaces"
    if shutil.which("ip") is None:
        return "no ip(8)"
    try:
        ip("netns", "add", f"{TAG}-try")
        ip("-n", f"{TAG}-try", "link", "add", "br0", "type", "bridge")
        ip("-n", f"{TAG}-try", "link", "add", "name", "va", "type", "veth", "peer", "name", "vb")
    except subprocess.CalledProcessError as error:
        return error.stderr.strip()
    finally:
        subprocess.run(["ip", "netns", "del", f"{TAG}-try"], capture_output=True)
    return None


def start(cluster=""):
    """Net and {number: Node}, all in touch; `cluster`: more lines of that section. Both end with the process."""
    directory = tempfile.mkdtemp(prefix="cw-net-")
    net, nodes = Net(), {}

    def clean():
        for node in nodes.values():
            node.stop()
        net.remove()
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(clean)
    for number in range(1, NODES + 1):
        nodes[number] = Node(number, directory, cluster)
    eventually("a ring of four", lambda: together(nodes))
    return net, nodes


def together(nodes):
    infos = [node.info() for node in nodes.values()]
    return all(i.get("ring_ready") == "1" and i.get("ring_members_alive") == str(NODES) for i in infos)
