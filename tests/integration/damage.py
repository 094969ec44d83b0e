#!/usr/bin/env python3
"""Files of a stopped node are damaged, lost, exchanged or replaced by older copies: the node says so, its
vnodes take new ids, it serves, and never is old data served as if it were new."""
import glob
import os
import random
import re
import shutil
import struct

from lib import Cluster, Error, case, equal, eventually, finish

KEYS = 600
OPTIONS = ("partitions=16", "flush_age=100ms", "segment_size=1mb", "repair_interval=1s")
HEADER = 64


def put(cluster, k, values):
    with cluster.redis(k) as r:
        equal(r.pipeline([("SET", key, value) for key, value in values.items()]).count("OK"), len(values))


def get(cluster, k, keys):
    with cluster.redis(k) as r:
        return r.pipeline([("GET", key) for key in keys])


def values(prefix, text):
    return {f"{prefix}:{i}": b"%s:%d" % (text, i) * 8 for i in range(KEYS)}


def read_all(cluster, k, want, lost_ok=True):
    """No value may be wrong. How many are missing."""
    missing = 0
    for key, reply in zip(want, get(cluster, k, want)):
        if reply is None or isinstance(reply, Error):
            missing += 1
        else:
            equal(reply, want[key], key)
    if not lost_ok:
        equal(missing, 0, "missing")
    return missing


def ids(cluster, k):
    """{partition: vnode id} as the .id files say."""
    found = {}
    for path in glob.glob(os.path.join(cluster.data_dir(k), "vnodes", "*.id")):
        with open(path) as f:
            words = f.read().split()
        found[int(words[1])] = words[3]
    return found


def segments(cluster, worker):
    """Paths of the segments that have records, oldest first."""
    found = []
    for path in sorted(glob.glob(os.path.join(cluster.data_dir(1), "journal", str(worker), "0*.wal"))):
        with open(path, "rb") as f:
            if struct.unpack_from("<Q", f.read(HEADER), 40)[0] != 0:
                found.append(path)
    return found


def used(path):
    with open(path, "rb") as f:
        return len(f.read().rstrip(b"\0"))


def flip(path, at, bit=3):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


def restart_and_look(cluster, text, k=1):
    """Start the node; its log since then must say `text`. Which partitions have new vnode ids."""
    before, mark = ids(cluster, k), len(cluster.log(k))
    cluster.run("start", k)
    said = cluster.log(k)[mark:]
    if not re.search(text, said):
        raise AssertionError(f"the log does not say {text!r}: {said[-1500:]}")
    after = ids(cluster, k)
    return {p for p in before if after[p] != before[p]}


def flushed(r):
    """Wait until the node has nothing in its buffers."""
    eventually("everything is flushed", lambda: b"\nwrite_buffer_bytes:0\r" in r("INFO", "everything"))


# Buffers stay in the journal here.
one = Cluster(nodes=1, workers=2, options=("partitions=16", "flush_age=1h", "segment_size=1mb"))
DATA = values("a", b"one")
FILL = {f"fill:{i}": b"x" * 4000 for i in range(2000)}


def of_worker(worker):
    return {p for p in ids(one, 1)
            if f" worker {worker} " in open(os.path.join(one.data_dir(1), "vnodes", f"{p}.id")).read()}


def journal_damage(change, text):
    put(one, 1, DATA)
    one.run("stop", 1)
    mine = of_worker(0)
    assert len(mine) >= 4
    change()
    equal(restart_and_look(one, text), mine, "vnodes with new ids")
    missing = read_all(one, 1, DATA)
    put(one, 1, DATA)
    read_all(one, 1, DATA, lost_ok=False)
    return missing


@case
def a_bit_that_flips_in_the_journal_is_reported_and_costs_its_vnodes_their_ids():
    def change():
        path = segments(one, 0)[-1]
        flip(path, HEADER + (used(path) - HEADER) // 2)

    missing = journal_damage(change, "records [0-9]+ to [0-9]+ are damaged")
    assert missing <= 2, missing


@case
def a_journal_segment_that_is_cut_short_is_reported():
    def change():
        path = segments(one, 0)[-1]
        os.truncate(path, HEADER + (used(path) - HEADER) // 2 | 5)

    journal_damage(change, "was cut short")


@case
def a_lost_journal_segment_is_reported():
    """One between others, that is: all that follows shows that it was there."""
    def change():
        os.unlink(segments(one, 0)[-2])

    put(one, 1, FILL)
    journal_damage(change, "are damaged")


@case
def the_loss_of_the_newest_journal_segment_is_reported():
    def change():
        os.unlink(segments(one, 0)[-1])

    put(one, 1, FILL)
    journal_damage(change, "records [0-9]+ to [0-9]+ are missing")


@case
def a_journal_segment_of_another_worker_is_reported_and_not_believed():
    def change():
        shutil.copyfile(segments(one, 1)[-1], segments(one, 0)[-1])

    journal_damage(change, "belongs to worker 1|damaged header|are damaged")
    one.destroy()


three = Cluster(nodes=3, workers=1, options=OPTIONS)
OLD, NEW = values("b", b"old"), values("b", b"new")
GONE = values("gone", b"old")


def data_file(p):
    return os.path.join(three.data_dir(1), "vnodes", str(p), "data.mdb")


@case
def an_older_copy_of_a_vnode_takes_a_new_id_and_no_acknowledged_write_vanishes():
    """Some come back as new files, some are written over the file that is there."""
    put(three, 1, OLD)
    put(three, 1, GONE)
    three.run("stop", 1)
    partitions = sorted(ids(three, 1))
    kept = os.path.join(three.dir, "kept")
    shutil.copytree(os.path.join(three.data_dir(1), "vnodes"), kept)
    three.run("start", 1)
    put(three, 1, NEW)
    with three.redis(1) as r:
        equal(r("DEL", *GONE), len(GONE))
        flushed(r)
    three.run("stop", 1)
    for p in partitions:
        copy = os.path.join(kept, str(p), "data.mdb")
        if p % 2 == 0:
            os.unlink(data_file(p))
            shutil.copy2(copy, data_file(p))
        else:
            with open(copy, "rb") as f, open(data_file(p), "r+b") as g:
                g.truncate()
                g.write(f.read())
    equal(restart_and_look(three, "its file is older than it was"), set(partitions), "vnodes with new ids")
    after = {key: b"after" for key in list(NEW)[:100]}
    put(three, 1, after)
    for k in (1, 2, 3):
        read_all(three, k, NEW | after, lost_ok=False)
        equal([x for x in get(three, k, GONE) if x is not None], [], "deleted values")


@case
def a_vnode_whose_pages_are_overwritten_is_set_aside_and_comes_back_from_the_others():
    with three.redis(1) as r:
        flushed(r)
    three.run("stop", 1)
    p = sorted(ids(three, 1))[5]
    with open(data_file(p), "r+b") as f:
        f.write(random.randbytes(8192))
    equal(restart_and_look(three, "is damaged: moved to"), {p}, "vnodes with new ids")
    assert os.listdir(os.path.join(three.data_dir(1), "quarantine"))
    for k in (1, 2):
        read_all(three, k, {key: NEW[key] for key in list(NEW)[100:]}, lost_ok=False)


@case
def pages_that_are_overwritten_anywhere_in_a_vnode_never_give_wrong_values():
    rng = random.Random(7)
    three.run("stop", 1)
    for p in sorted(ids(three, 1))[7:9]:
        pages = os.path.getsize(data_file(p)) // 4096
        with open(data_file(p), "r+b") as f:
            for page in rng.sample(range(2, pages), (pages - 2) // 3):
                f.seek(page * 4096)
                f.write(rng.randbytes(4096))
    three.run("start", 1)
    want = {key: NEW[key] for key in list(NEW)[100:]}

    def whole():
        try:
            return read_all(three, 1, want) == 0
        except OSError:  # a worker may die of it, once
            return False

    eventually("all values are there again", whole)
    for _ in range(3):  # two vnodes are damaged: their pages may cost a connection each
        try:
            found = get(three, 1, GONE)
            break
        except OSError:
            eventually("the worker is there again", lambda: three.redis(1).close() is None)
    equal([x for x in found if x is not None], [], "deleted values")


finish()
