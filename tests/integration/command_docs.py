#!/usr/bin/env python3
"""COMMAND DOCS tells of the arguments of a command what redis-server tells of them, but for what is
refused here or is here alone. Client tools make their hints of it."""
import lib_redis_server
from lib import Cluster, Redis, case, equal, finish, skip

# What the two sides may differ in: arguments of Redis that are refused here, and ours that it has not.
REFUSED = {"set": ["condition"]}
OURS = {"set": ["context", "replicas"], "command|getkeys": ["command", "arg"],  # told by Redis 7.2
        "command|getkeysandflags": ["command", "arg"]}
FIELDS = ("name", "type", "token", "flags", "key_spec_index")


def pairs(reply):
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def text(word):
    return word.decode() if isinstance(word, bytes) else word


def arguments(described):
    """As plain as can be compared."""
    out = []
    for one in described:
        one = {text(k): v for k, v in pairs(one).items()}
        plain = {f: sorted(map(text, one[f])) if f == "flags" else text(one[f]) for f in FIELDS if f in one}
        if "arguments" in one:
            plain["arguments"] = arguments(one["arguments"])
        out.append(plain)
    return out


def documented(r):
    """Name of each command and subcommand: its arguments."""
    found = {}

    def note(docs):
        for name, doc in pairs(docs).items():
            doc = {text(k): v for k, v in pairs(doc).items()}
            found[text(name)] = arguments(doc.get("arguments", []))
            note(doc.get("subcommands", []))

    note(r("COMMAND", "DOCS"))
    return found


def without(described, names):
    return [one for one in described if one["name"] not in names]


def compare(ours, theirs):
    different = {}
    for name in ours.keys() & theirs.keys():
        mine, redis = without(ours[name], OURS.get(name, [])), without(theirs[name], REFUSED.get(name, []))
        if name == "restore":  # only with REPLACE
            del [one for one in redis if one["name"] == "replace"][0]["flags"]
        if name == "function":  # only FLUSH, which is no subcommand here
            mine = []
        if mine != redis:
            different[name] = (mine, redis)
    equal(different, {})
    equal(len(ours.keys() & theirs.keys()) > 120, True)


cluster = Cluster(nodes=1, workers=1, options=["n=1", "r=1", "w=1"])


@case
def every_argument_of_our_own_commands_is_told():
    with Redis(cluster.port(1)) as r:
        ours = documented(r)
    equal([one["name"] for one in ours["cw.get"]], ["key", "replicas", "primaries", "milliseconds"])
    equal([one["token"] for one in ours["cw.put"] if "token" in one], ["CTX", "W", "PW", "DW", "TIMEOUT", "ID"])
    equal({one["token"] for one in ours["cw.cluster"][0]["arguments"]},
          {"JOIN", "LEAVE", "REPLACE", "FORCE-REMOVE", "WEIGHT", "PLAN", "COMMIT", "CLEAR", "STATUS"})


if lib_redis_server.installed():
    @case
    def arguments_are_those_of_redis():
        with lib_redis_server.running() as port:
            for protocol in (2, 3):
                with Redis(port) as theirs, Redis(cluster.port(1)) as ours:
                    ours("HELLO", protocol)
                    theirs("HELLO", protocol)
                    compare(documented(ours), documented(theirs))
else:
    skip("arguments are those of redis", "redis-server is not installed")
finish()
