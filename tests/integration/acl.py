#!/usr/bin/env python3
"""Users on a node of two workers: who may run what on which keys, in Redis's words; changes that both
workers follow at once; files; a password by SIGHUP; workers killed; changes by many at a time."""
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

from lib import BUILD, Cluster, Error, Redis, case, equal, eventually, finish, free_base, kill

DIR = tempfile.mkdtemp(prefix="cw-acl-")
FILE = os.path.join(DIR, "users.acl")
with open(FILE, "w") as f:
    f.write("user default on nopass ~* &* +@all\n"
            f"user reader on #{hashlib.sha256(b'read').hexdigest()} ~* -@all +@read +@connection\n")
cluster = Cluster(nodes=1, workers=2, options=["n=1", "r=1", "w=1", f"aclfile={FILE}"])
FRONT, W0, W1 = cluster.port(1), cluster.port(1) + 1, cluster.port(1) + 2


def on(port, user=None, password=None):
    r = Redis(port)
    if user:
        equal(r("AUTH", user, password), "OK")
    return r


def error(r, *words):
    reply = r_inner(r, *words)
    assert isinstance(reply, Error), f"{words}: {reply!r}"
    return str(reply)


def r_inner(r, *words):
    r.send(*words)
    return r.read_inner()


def gone(r):
    """The other side has closed."""
    try:
        return r.sock.recv(1) == b""
    except ConnectionError:
        return True


@case
def users_of_the_file_are_there_on_both_workers_from_the_start():
    for port in (W0, W1):
        with on(port, "reader", "read") as r:
            equal(r("PING"), "PONG")
            equal(error(r, "SET", "{a}", "1"), "NOPERM User reader has no permissions to run the 'set' command")
            equal(error(r, "ACL", "LIST"), "NOPERM User reader has no permissions to run the 'acl|list' command")


@case
def rules_are_kept_and_shown_as_redis_shows_them():
    with on(W0) as r:
        equal(r("ACL", "SETUSER", "bob"), "OK")
        equal(r("ACL", "LIST"), [b"user bob off resetchannels -@all", b"user default on nopass ~* &* +@all",
                                 b"user reader on #" + hashlib.sha256(b"read").hexdigest().encode() +
                                 b" ~* resetchannels -@all +@read +@connection"])
        equal(r("ACL", "SETUSER", "bob", "on", ">x", ">y", "<x", "~a*", "%R~b*", "%W~c*", "&ch", "+@all",
                "-@dangerous", "+config|get", "+GET"), "OK")
        y = hashlib.sha256(b"y").hexdigest().encode()
        equal(r("ACL", "LIST")[0], b"user bob on #" + y + b" ~a* %R~b* %W~c* resetchannels &ch +@all -@dangerous "
              b"+config|get +get")
        equal(r("ACL", "GETUSER", "bob"), [
            b"flags", [b"on"], b"passwords", [y], b"commands", b"+@all -@dangerous +config|get +get",
            b"keys", b"~a* %R~b* %W~c*", b"channels", b"&ch", b"selectors", []])
        equal(r("ACL", "GETUSER", "nobody"), None)
        equal(r("ACL", "USERS"), [b"bob", b"default", b"reader"])
        equal(r("ACL", "SETUSER", "bob", "reset"), "OK")
        equal(r("ACL", "LIST")[0], b"user bob off resetchannels -@all")
        equal(r("ACL", "DELUSER", "bob", "nobody"), 1)


@case
def wrong_rules_are_refused_whole_in_redis_words():
    wrong = {
        "blah": "Syntax error", "%Z~x": "Syntax error", "%~x": "Syntax error", "(+get)": "Clockwise has no selectors",
        "+foo": "Unknown command or category name in ACL", "+@foo": "Unknown command or category name in ACL",
        "+config|foo": "Unknown command or category name in ACL",
        "+config|get|x": "Allowing first-arg of a subcommand is not supported",
        "+get|a|b": "Unknown command or category name in ACL", "-get|a": "Unknown command or category name in ACL",
        "#zz": "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        "<zz": "The password you are trying to remove from the user does not exist",
    }
    with on(W0) as r:
        for rule, why in wrong.items():
            text = error(r, "ACL", "SETUSER", "new", "on", rule)
            assert text.startswith(f"ERR Error in ACL SETUSER modifier '{rule}': {why}"), text
        text = error(r, "ACL", "SETUSER", "new", "allkeys", "~x")
        assert "Adding a pattern after the * pattern (or the 'allkeys' flag)" in text, text
        equal(r("ACL", "USERS"), [b"default", b"reader"])
        equal(error(r, "ACL", "SETUSER", "with space", "on"), "ERR Usernames can't contain spaces or null characters")
        equal(error(r, "ACL", "DELUSER", "default"), "ERR The 'default' user cannot be removed")


@case
def a_change_holds_on_the_other_worker_before_its_reply_is_read():
    with on(W0) as admin, on(W1) as other:
        for i in range(200):
            equal(admin("ACL", "SETUSER", "quick", "on", f">p{i}", "+ping"), "OK")
            equal(other("AUTH", "quick", f"p{i}"), "OK")
            equal(admin("ACL", "SETUSER", "quick", f"<p{i}"), "OK")
            equal(error(other, "AUTH", "quick", f"p{i}"),
                  "WRONGPASS invalid username-password pair or user is disabled.")
        equal(admin("ACL", "DELUSER", "quick"), 1)


@case
def both_workers_changing_users_at_once_lose_nothing():
    def add(port, mark):
        with on(port) as r:
            for i in range(100):
                equal(r("ACL", "SETUSER", f"{mark}{i}", "on", ">p", "~k*", "+get"), "OK")

    threads = [threading.Thread(target=add, args=a) for a in ((W0, "x"), (W1, "y"), (FRONT, "z"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for port in (W0, W1):
        with on(port) as r:
            equal(len(r("ACL", "USERS")), 302)
    with on(W1) as r:
        equal(r("ACL", "DELUSER", *[f"{m}{i}" for m in "xyz" for i in range(100)]), 300)
    with on(W0) as r:
        equal(r("ACL", "USERS"), [b"default", b"reader"])


@case
def keys_are_guarded_by_patterns_for_reading_and_writing():
    with on(FRONT) as admin:
        admin("SET", "r:1", "v")
        equal(admin("ACL", "SETUSER", "keys", "on", ">p", "%R~r:*", "%W~w:*", "~b:*", "+@all"), "OK")
    no_key = "NOPERM No permissions to access a key"
    with on(FRONT, "keys", "p") as r:
        equal(r("GET", "r:1"), b"v")
        equal(error(r, "SET", "r:1", "x"), no_key)
        equal(r("SET", "w:1", "x"), "OK")
        equal(error(r, "GET", "w:1"), no_key)
        equal(error(r, "SET", "w:1", "x", "GET"), no_key)
        equal(error(r, "GETDEL", "w:1"), no_key)
        equal(r("EXISTS", "w:1", "r:1"), 2)
        equal(r("SET", "b:1", "x", "GET"), None)
        equal(r("MSET", "w:1", "1", "b:1", "2"), "OK")
        equal(error(r, "MSET", "w:1", "1", "r:1", "2"), no_key)
        equal(error(r, "MGET", "r:1", "other"), no_key)
        equal(error(r, "CW.GET", "w:1"), no_key)
        equal(error(r, "CW.PUT", "r:1", "v"), no_key)
        equal(error(r, "CW.EXPLAIN", "other"), no_key)
        equal(r("DEL", "w:1", "b:1"), 2)


@case
def subcommands_and_first_arguments_are_commands_of_their_own():
    with on(FRONT) as admin:
        equal(admin("ACL", "SETUSER", "subs", "on", ">p", "+config|get", "+select|0", "+client", "-client|kill"), "OK")
    with on(FRONT, "subs", "p") as r:
        assert r("CONFIG", "GET", "port")
        equal(error(r, "CONFIG", "HELP"), "NOPERM User subs has no permissions to run the 'config|help' command")
        equal(r("SELECT", "0"), "OK")
        equal(error(r, "SELECT", "1"), "NOPERM User subs has no permissions to run the 'select' command")
        assert r("CLIENT", "ID") > 0
        equal(error(r, "CLIENT", "KILL", "x"), "NOPERM User subs has no permissions to run the 'client|kill' command")
        assert b"user=subs" in r("CLIENT", "INFO")
        equal(r("AUTH", "reader", "read"), "OK")  # always allowed


@case
def dryrun_tells_without_running():
    with on(W1) as r:
        equal(r("ACL", "DRYRUN", "keys", "GET", "r:1"), "OK")
        equal(r("ACL", "DRYRUN", "keys", "GET", "w:1"),
              b"User keys has no permissions to access the 'w:1' key")
        equal(r("ACL", "DRYRUN", "reader", "SET", "a", "b"), b"User reader has no permissions to run the 'set' command")
        equal(error(r, "ACL", "DRYRUN", "nobody", "GET", "a"), "ERR User 'nobody' not found")
        equal(error(r, "ACL", "DRYRUN", "keys", "nothing"), "ERR Command 'nothing' not found")


@case
def categories_are_listed_and_cw_commands_are_in_them():
    with on(W0) as r:
        equal(len(r("ACL", "CAT")), 21)
        assert {b"get", b"cw.get"} <= set(r("ACL", "CAT", "read"))
        assert {b"set", b"cw.put", b"cw.del"} <= set(r("ACL", "CAT", "write"))
        assert b"acl|setuser" in r("ACL", "CAT", "dangerous")
        equal(error(r, "ACL", "CAT", "nothing"), "ERR Unknown category 'nothing'")
        equal(len(r("ACL", "GENPASS")), 64)
        equal(len(r("ACL", "GENPASS", "5")), 2)
        assert "a positive number up to 4096" in error(r, "ACL", "GENPASS", "0")
        assert r("ACL", "GENPASS") != r("ACL", "GENPASS")


@case
def refusals_are_logged_once_for_each_kind_and_bounded():
    with on(W0) as r, on(W0) as bad:
        equal(r("ACL", "LOG", "RESET"), "OK")
        with on(W1) as other:  # what one worker refuses, the others show
            error(other, "AUTH", "elsewhere", "guess")
            equal(dict(zip(*[iter(r("ACL", "LOG")[0])] * 2))[b"username"], b"elsewhere")
            equal(other("ACL", "LOG", "RESET"), "OK")
        equal(r("ACL", "LOG"), [])
        for _ in range(3):
            error(bad, "AUTH", "someone", "guess")
        equal(bad("AUTH", "reader", "read"), "OK")
        error(bad, "SET", "a", "b")
        first, second = (dict(zip(e[::2], e[1::2])) for e in r("ACL", "LOG"))
        equal((first[b"count"], first[b"reason"], first[b"object"], first[b"username"]),
              (1, b"command", b"set", b"reader"))
        equal((second[b"count"], second[b"reason"], second[b"object"], second[b"username"]),
              (3, b"auth", b"AUTH", b"someone"))
        assert b"addr=127.0.0.1" in first[b"client-info"] and b"user=reader" in first[b"client-info"]
        equal(len(r("ACL", "LOG", "1")), 1)
        for i in range(300):
            error(bad, "AUTH", f"user{i}", "guess")
        equal(len(r("ACL", "LOG", "1000")), 128)
        equal(r("ACL", "LOG", "RESET"), "OK")
        equal(r("ACL", "LOG"), [])
        text = r("INFO", "stats").decode()
        assert re.search(r"acl_access_denied_auth:50[0-9]", text) and "acl_access_denied_cmd:" in text, text


@case
def a_deleted_user_is_disconnected_from_every_worker_and_others_are_not():
    with on(W0) as admin:
        equal(admin("ACL", "SETUSER", "shortlived", "on", ">p", "+@all", "~*"), "OK")
        victims = [on(port, "shortlived", "p") for port in (W0, W1, FRONT, FRONT)]
        bystander = on(W1, "reader", "read")
        equal(admin("ACL", "DELUSER", "shortlived"), 1)
        equal(admin("ACL", "SETUSER", "shortlived", "on", ">p", "+@all", "~*"), "OK")  # another of that name
        for r in victims:
            equal(gone(r), True)
        equal(bystander("PING"), "PONG")
        with on(W1, "shortlived", "p") as myself:
            equal(myself("ACL", "DELUSER", "shortlived"), 1)
            equal(gone(myself), True)


@case
def a_user_that_is_switched_off_stays_connected_but_cannot_log_in_again():
    with on(W0) as admin:
        admin("ACL", "SETUSER", "fading", "on", ">p", "+ping")
        with on(W1, "fading", "p") as r:
            admin("ACL", "SETUSER", "fading", "off")
            equal(r("PING"), "PONG")
            assert "WRONGPASS" in error(r, "AUTH", "fading", "p")
            admin("ACL", "SETUSER", "fading", "-ping")
            assert "NOPERM" in error(r, "PING")
        admin("ACL", "DELUSER", "fading")


@case
def save_and_load_go_through_the_file_whole_or_not_at_all():
    with on(W0) as r, on(W1) as other:
        equal(r("ACL", "SETUSER", "kept", "on", ">p", "%R~a*", "+get", "-@slow"), "OK")
        equal(other("ACL", "SAVE"), "OK")
        with open(FILE) as f:
            saved = f.read()
        equal(os.stat(FILE).st_mode & 0o777, 0o600)
        assert "user kept on #" in saved and saved.endswith("\n"), saved
        with on(W1, "kept", "p") as stays, on(W1, "keys", "p") as goes:
            with open(FILE, "w") as f:
                f.write("# comment\n\n" + "".join(line + "\n" for line in saved.splitlines() if "user keys" not in line)
                        + "user kept2 on +nonsense\n")
            number = len(saved.splitlines()) - 1 + 3
            equal(error(r, "ACL", "LOAD"),
                  f"ERR {FILE}:{number}: Unknown command or category name in ACL. WARNING: ACL errors detected, no "
                  "change to the previously active ACL rules was performed")
            equal(goes("PING"), "PONG")
            with open(FILE, "w") as f:
                f.write("".join(line + "\n" for line in saved.splitlines() if "user keys" not in line))
            equal(r("ACL", "LOAD"), "OK")
            equal(gone(goes), True)
            assert "NOPERM" in error(stays, "PING")  # not disconnected: it has not changed
        equal(other("ACL", "GETUSER", "keys"), None)


@case
def a_killed_worker_comes_back_with_users_that_were_never_saved():
    with on(W0) as r:
        equal(r("ACL", "SETUSER", "unsaved", "on", ">p", "+ping"), "OK")
    kill(cluster.children(1)["worker-1"])

    def back():
        try:
            with on(W1, "unsaved", "p") as r:
                return r("PING") == "PONG"
        except (OSError, Error):
            return False

    eventually("it knows the user", back)
    with on(W1) as r:
        equal(r("ACL", "SETUSER", "later", "on", ">p", "+ping"), "OK")
    with on(W0, "later", "p") as r:
        equal(r("PING"), "PONG")
    kill(cluster.children(1)["worker-0"])
    eventually("worker 0 is back", lambda: cluster.ready(1))


@case
def a_restart_of_the_node_begins_with_the_file():
    cluster.run("stop", 1)
    cluster.run("start", 1)
    with on(W0) as r:
        equal(r("ACL", "GETUSER", "unsaved"), None)
        assert r("ACL", "GETUSER", "kept")


@case
def a_password_set_by_sighup_holds_for_new_connections_on_both_workers():
    conf = os.path.join(cluster.dir, "1", "node.conf")
    with open(conf) as f:
        text = f.read()
    with on(W0) as old:
        with open(conf, "w") as f:
            f.write(text.replace("[security]\n", "[security]\nrequirepass = fresh\n"))
        kill(cluster.supervisor(1), signal.SIGHUP)
        for port in (W0, W1):
            def asked(port=port):
                with on(port) as r:
                    return isinstance(r_inner(r, "GET", "{x}"), Error)
            eventually("a password is asked for", asked)
            with on(port) as r:
                equal(error(r, "GET", "x"), "NOAUTH Authentication required.")
                equal(r("AUTH", "fresh"), "OK")
                assert not str(r_inner(r, "GET", "x")).startswith("NO")
            with on(port) as r:
                assert "NOAUTH HELLO must be called" in error(r, "HELLO", "3")
                equal(r("HELLO", "3", "AUTH", "default", "fresh")[b"proto"], 3)
        equal(old("PING"), "PONG")
    with open(conf, "w") as f:
        f.write(text)
    kill(cluster.supervisor(1), signal.SIGHUP)
    eventually("no password is asked for", lambda: cluster.ready(1))


def start(options):
    """Exit status and last words of a node that does not come up."""
    conf, base = os.path.join(DIR, "node.conf"), free_base(1) + 100
    with open(conf, "w") as f:
        f.write(f"[node]\nport = {base}\nworkers = 1\ndata_dir = {DIR}/data\nruntime_dir = {DIR}/run\n{options}")
    done = subprocess.run([os.path.join(BUILD, "clockwised"), "-c", conf], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@case
def a_file_with_a_mistake_stops_the_start_with_its_line():
    bad = os.path.join(DIR, "bad.acl")
    for text, why in (("user a on +get\nuser b on blah\n", f"{bad}:2: Syntax error"),
                      ("\nusr a\n", f"{bad}:2: line should begin with user keyword"),
                      ("user a on\nuser a on\n", f"{bad}:2: Duplicate user 'a' found")):
        with open(bad, "w") as f:
            f.write(text)
        status, words = start(f"[security]\naclfile = {bad}\n")
        equal(status, 78, words)
        assert why in words, words
    status, words = start("[security]\naclfile = /nowhere/users.acl\n")
    equal(status, 78, words)
    assert "/nowhere/users.acl: not found" in words, words


@case
def beyond_loopback_the_default_user_cannot_be_left_without_a_password():
    bad = os.path.join(DIR, "bad.acl")
    with open(bad, "w") as f:
        f.write("user default on nopass ~* +@all\n")
    status, words = start(f"bind = 0.0.0.0\nannounce = 127.0.0.1\n[security]\nrequirepass = x\naclfile = {bad}\n"
                          "[cluster]\nsecret = y\n")
    equal(status, 78, words)
    assert "the default user needs a password" in words, words


cluster.destroy()
shutil.rmtree(DIR, ignore_errors=True)
finish()
