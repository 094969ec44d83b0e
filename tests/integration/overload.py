#!/usr/bin/env python3
"""More pipelined work than a cluster can do at once: clients are slowed down, not refused."""
import threading

from lib import Cluster, Error, Redis, case, equal, finish

CLIENTS, COMMANDS = 100, 6000
cluster = Cluster(nodes=3, workers=2, options=[
    "request_timeout=10s", "probe_timeout=10s"])


@case
def deep_pipelines_of_many_clients_are_slowed_down_and_not_refused():
    errors, done = {}, []

    def client(number):
        with cluster.redis(number % 3 + 1, timeout=180) as r:
            writer = threading.Thread(target=r.sock.sendall, args=(b"".join(
                Redis.encode(["GET" if i % 2 else "SET", f"{number}:{i // 2}"] + ["v"] * (1 - i % 2)) for i in range(COMMANDS)),))
            writer.start()
            for _ in range(COMMANDS):
                reply = r.read_inner()
                if isinstance(reply, Error):
                    errors[str(reply)] = errors.get(str(reply), 0) + 1
            writer.join()
            done.append(number)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(errors, {})
    equal(len(done), CLIENTS)


finish()
