#!/usr/bin/env python3
"""Membership alone in virtual time: what build/gossip-sim holds to be good, and that planted faults are found."""
import os
import subprocess

from lib import BUILD, Error, case, finish

SIM = os.path.join(BUILD, "gossip-sim")
QUICK = ["--no-fit", "--check", "--kills", "0", "--changes", "0", "--hours", "0"]


def run(*args):
    done = subprocess.run([SIM, *args], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def good(*args):
    status, text = run("--check", *args)
    if status != 0:
        raise Error(f"gossip-sim {' '.join(args)}: exit {status}: {text}")


def found(bug, *args):
    status, text = run("--bug", bug, *QUICK, *args)
    if status != 1:
        raise Error(f"{bug} is not found by {' '.join(args)}: exit {status}: {text}")


@case
def five_nodes_find_a_killed_one_in_time_and_blame_no_frozen_one():
    good("--loss", "10", "--pause", "1500", "--hours", "100", "--kills", "200")


@case
def nor_one_whose_machine_was_frozen_and_heard_nothing():
    good("--loss", "10", "--pause", "6000", "--deaf", "--hours", "100", "--kills", "100", "--no-fit")


@case
def two_hundred_nodes_send_no_more_than_five():
    good("--nodes", "200", "--hours", "0", "--kills", "20")


@case
def the_same_seed_gives_the_same_figures():
    args = ["--loss", "10", "--pause", "1500", "--hours", "10", "--kills", "20", "--json", "--seed", "7"]
    if run(*args) != run(*args):
        raise Error("two runs differ")


@case
def planted_faults_are_found():
    found("NOBODY_REFUTES", "--loss", "10", "--pause", "1500", "--hours", "50")
    found("PAUSE_UNFORGIVEN", "--loss", "10", "--pause", "6000", "--deaf", "--hours", "120")
    found("NEVER_FAULTY", "--kills", "2")
    found("NOT_CHECKED", "--nodes", "200", "--kills", "20")
    found("SHORT_SUSPICION", "--loss", "10", "--pause", "1500", "--hours", "50")
    found("NOBODY_HELPS", "--loss", "10", "--hours", "50")
    found("NEWS_NOT_SPREAD", "--nodes", "100", "--changes", "5")
    found("EXCHANGE_OF_ALL", "--nodes", "200")


@case
def what_it_does_not_understand_is_refused():
    for args in (["--nodes", "0"], ["--nodes", "x"], ["--loss", "101"], ["--bug", "NONE_SUCH"], ["--what"], ["more"]):
        status, text = run(*args)
        if status != 2 or not text:
            raise Error(f"{args}: exit {status}: {text}")


finish()
