#!/usr/bin/env python3
"""The shopping cart of the Dynamo paper on two sides of a real partition: four nodes in network
namespaces of their own, two and two behind a bridge, and the link between the bridges goes down.
Clients on both sides go on adding and removing items through contexts; after healing no added item
is lost. Needs root, for the namespaces; they and their processes are removed at the end."""
import json
import os

from lib import Error, case, eventually, equal, finish, skip
from lib_net import possible, start, together

CARTS = 20
ROUNDS = 8

why_not = possible()
if why_not:
    skip("no added item is lost on two sides of a partition", why_not)
    finish()

net, nodes = start()
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
    eventually("all alive again", lambda: together(nodes))
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
