#!/usr/bin/env python3
"""The shopping cart of the Dynamo paper on two sides of a real partition: four nodes in network
namespaces of their own, two and two behind a bridge, and the link between the bridges goes down.
Clients on both sides go on adding and removing items through contexts; after healing no added item
is lost. Needs root, for the namespaces; they and their processes are removed at the end."""
import atexit
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile

from lib import BUILD, Error, Redis, case, eventually, equal, finish, skip

NODES = 4
CARTS = 20
ROUNDS = 8
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
    def __init__(self, k, directory):
        self.k = k
        self.dir = os.path.join(directory, str(k))
        for name in ("data", "run"):
            os.makedirs(os.path.join(self.dir, name))
        seeds = ", ".join(f"{address(i)}:17379" for i in range(1, NODES + 1))
        self.conf = os.path.join(self.dir, "node.conf")
        with open(self.conf, "w") as f:
            f.write(f"[node]\nname = node{k}\ndata_dir = {self.dir}/data\nruntime_dir = {self.dir}/run\n"
                    f"workers = 2\ncpu_pin = no\nbind = {address(k)}\nport = 7379\n"
                    f"[cluster]\nname = cart\nseeds = {seeds}\nsecret = between-nodes\nn = 3\nr = 2\nw = 2\n"
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


why_not = possible()
if why_not:
    skip("no added item is lost on two sides of a partition", why_not)
    finish()

directory = tempfile.mkdtemp(prefix="cw-cart-")
net = Net()
nodes = {}


def clean():
    for node in nodes.values():
        node.stop()
    net.remove()
    shutil.rmtree(directory, ignore_errors=True)


atexit.register(clean)
for number in range(1, NODES + 1):
    nodes[number] = Node(number, directory)


def ready():
    infos = [node.info() for node in nodes.values()]
    return all(i.get("ring_ready") == "1" and i.get("ring_members_alive") == str(NODES) for i in infos)


eventually("a ring of four", ready)
connections = {k: node.connect() for k, node in nodes.items()}


def read(r, cart):
    """The items of all siblings together, and the context that covers them."""
    answer = insist(r, "CW.GET", cart)
    items = set()
    for value in answer[b"values"]:
        items |= set(json.loads(value))
    return items, answer[b"context"]


retries = []


def insist(r, *words):
    """What a client does that does not know how its request ended: the same again. While the failure
    is fresh a request may have been sent to the other side."""
    for _ in range(5):
        try:
            return r(*words)
        except Error as error:
            retries.append(str(error))
            last = error
    raise last


def change(r, cart, add=(), remove=()):
    items, seen = read(r, cart)
    words = ["CW.PUT", cart, json.dumps(sorted((items | set(add)) - set(remove)))]
    insist(r, *words, "ID", os.urandom(8).hex(), *(["CTX", seen] if seen else []))


added = {f"cart:{n}": {"first"} for n in range(CARTS)}
removed = {cart: set() for cart in added}


def shop(side, members, what):
    """Every cart gets an item through each node of the side in turn; some own items go again."""
    for turn in range(ROUNDS):
        r = connections[members[turn % len(members)]]
        for cart in added:
            item = f"{what}-{side}-{turn}"
            change(r, cart, add=[item])
            added[cart].add(item)
            if turn % 4 == 3:
                gone = f"{what}-{side}-{turn - 2}"
                change(r, cart, remove=[gone])
                removed[cart].add(gone)


@case
def carts_are_filled_before_the_partition():
    for cart in added:
        change(connections[1], cart, add=["first"])
    shop("both", (1, 2, 3, 4), "before")


@case
def both_sides_of_a_partition_go_on_writing():
    net.link("down")
    shop("a", (1, 2), "apart")
    shop("b", (3, 4), "apart")
    shop("a", (2, 1), "late")
    # It is a partition: neither side sees what the other has added.
    for k in (1, 2):
        equal([i for i in read(connections[k], "cart:0")[0] if "-b-" in i], [], f"node {k}")
    for k in (3, 4):
        equal([i for i in read(connections[k], "cart:0")[0] if "-a-" in i], [], f"node {k}")
    print(f"# {len(retries)} requests were sent again: {sorted(set(retries))}")
    print("# hints while apart: " + ", ".join(f"node {k} {node.info()['hints_pending']}"
                                              for k, node in nodes.items()))


@case
def no_added_item_is_lost_after_healing():
    net.link("up")
    eventually("all alive again", ready)
    eventually("hints delivered", lambda: all(n.info().get("hints_pending") == "0" for n in nodes.values()))
    siblings = 0
    for cart, items in added.items():
        views = []
        for r in connections.values():
            siblings = max(siblings, len(r("CW.GET", cart)[b"values"]))
            views.append(read(r, cart)[0])
        for k, view in enumerate(views, 1):
            equal(sorted(items - removed[cart] - view), [], f"{cart} through node {k} lost")
            equal(sorted(view - items), [], f"{cart} through node {k} has what nobody added")
            equal(view, views[0], f"{cart} through node {k} and through node 1")
    print(f"# at most {siblings} siblings after healing")


@case
def a_merged_cart_is_one_again():
    for cart in added:
        change(connections[3], cart)
        for r in connections.values():
            equal(len(r("CW.GET", cart)[b"values"]), 1, cart)


finish()
