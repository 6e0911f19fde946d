"""Connections that send what is meant to use the agent up, to be run inside a workload: `hostile.py HOST PORT`.

The first line of input is a JSON list of groups, each a list of frames in hex. Each further line is a JSON object and is
answered by a JSON line:

  {"do": "mix", "connections": N, "seed": S, "seconds": T}  each connection sends frames of one group, several at once, and
                                                            reads the answers; one that is closed is opened again.
                                                            {"sent", "answered", "closed"}
  {"do": "time", "frame": I}                                one of the first group on a connection of its own; {"seconds"}
                                                            until its answer"""

import json
import random
import socket
import sys
import threading
import time

from frames import receive_frame

AT_ONCE = 3  # Frames of a connection that are not answered yet.
PATIENCE = 60


class Hostile:
    def __init__(self, address, groups):
        self._address = address
        self._groups = groups

    def mix(self, order):
        count = {"sent": 0, "answered": 0, "closed": 0}
        lock, over = threading.Lock(), time.monotonic() + order["seconds"]

        def add(what):
            with lock:
                count[what] += 1

        def run(number):
            chance = random.Random(order["seed"] * 1000 + number)
            group = self._groups[number % len(self._groups)]
            while time.monotonic() < over:
                try:
                    with socket.create_connection(self._address, timeout=PATIENCE) as connection:
                        while time.monotonic() < over:
                            frames = [chance.choice(group) for _ in range(chance.randint(1, AT_ONCE))]
                            # Two threads, as what is not read must not keep what is sent.
                            sending = threading.Thread(target=send, args=(connection, frames))
                            sending.start()
                            heard = all([hear(connection) for _ in frames])
                            sending.join()
                            if not heard:
                                break
                except OSError:
                    add("closed")

        def send(connection, frames):
            try:
                for frame in frames:
                    connection.sendall(frame)
                    add("sent")
            except OSError:
                pass  # the other thread sees it

        def hear(connection):
            if receive_frame(connection) is None:
                return False
            add("answered")
            return True

        threads = [threading.Thread(target=run, args=(number,)) for number in range(order["connections"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count

    def time(self, order):
        with socket.create_connection(self._address, timeout=PATIENCE) as connection:
            begun = time.monotonic()
            connection.sendall(self._groups[0][order["frame"]])
            assert receive_frame(connection) is not None
            return {"seconds": time.monotonic() - begun}


def main():
    groups = [[bytes.fromhex(frame) for frame in group] for group in json.loads(sys.stdin.readline())]
    hostile = Hostile((sys.argv[1], int(sys.argv[2])), groups)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(hostile, order["do"])(order)), flush=True)


main()
