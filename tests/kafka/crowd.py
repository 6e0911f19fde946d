"""Many TCP connections from one process, to be run inside a workload: `crowd.py HOST PORT`.

Each line of input is a JSON object that names what to do; for each it prints one JSON line when that is done. What is sent
is hex, "over" is how many of the connections take part, the oldest first (all of them without it):

  {"do": "open", "count": N}                   N more connections; {"open", "failed"}
  {"do": "send", "bytes": HEX, "over": N}      the same bytes on each; {"sent"}, fewer than N where some are closed
  {"do": "flood", "bytes": HEX, "seconds": S}  the same bytes on each, again and again, without ever reading; {"sent"}: bytes
  {"do": "trickle", "bytes": HEX, "pause": S}  on the first, one byte at a time; {"sent"}
  {"do": "frames", "count": N}                 N whole frames from the first; {"frames": [first bytes in hex], "sizes", "ended"}
  {"do": "answers", "over": N}                 one whole frame from each; {"answered"}
  {"do": "read", "bytes": N}                   so many bytes from the first, less at its end; {"read", "ended"}
  {"do": "ended", "wait": S}                   how many are open, ended in order, reset, after at most S seconds, sooner when
                                               none is open; {"open", "ended", "reset"}"""

import json
import resource
import select
import socket
import sys
import time

PATIENCE = 60  # Seconds.
AT_ONCE = 256  # Connects that have not been answered yet.


class Crowd:
    def __init__(self, address):
        self._address = address
        self._open = []
        self._over = {}

    def open(self, order):
        waiting, failed, left = {}, 0, order["count"]
        poll = select.epoll()
        limit = time.monotonic() + PATIENCE
        while (left or waiting) and time.monotonic() < limit:
            while left and len(waiting) < AT_ONCE:
                left -= 1
                connection = socket.socket()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.connect_ex(self._address)
                waiting[connection.fileno()] = connection
                poll.register(connection, select.EPOLLOUT)
            for number, _ in poll.poll(1):
                poll.unregister(number)
                connection = waiting.pop(number)
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    connection.settimeout(PATIENCE)
                    self._open.append(connection)
                else:
                    failed += 1
        return {"open": len(self._open), "failed": failed + left + len(waiting)}

    def send(self, order):
        sent = 0
        for connection in self._some(order):
            try:
                connection.sendall(bytes.fromhex(order["bytes"]))
                sent += 1
            except OSError:
                pass
        return {"sent": sent}

    def flood(self, order):
        data, sent, limit = bytes.fromhex(order["bytes"]) * 4096, 0, time.monotonic() + order["seconds"]
        rest = dict.fromkeys(self._open, data)
        while time.monotonic() < limit:
            _, writable, _ = select.select([], list(rest), [], 0.1)
            for connection in writable:
                try:
                    count = connection.send(rest[connection], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
                except OSError:
                    del rest[connection]
                    continue
                sent += count
                rest[connection] = rest[connection][count:] or data
        return {"sent": sent}

    def trickle(self, order):
        sent = 0
        for byte in bytes.fromhex(order["bytes"]):
            self._open[0].sendall(bytes([byte]))
            sent += 1
            time.sleep(order["pause"])
        return {"sent": sent}

    def frames(self, order):
        starts, sizes = [], []
        while len(sizes) < order["count"]:
            frame = _frame(self._open[0])
            if frame is None:
                break
            starts.append(frame[4:12].hex())
            sizes.append(len(frame))
        return {"frames": starts, "sizes": sizes, "ended": len(sizes) < order["count"]}

    def answers(self, order):
        return {"answered": sum(_frame(connection) is not None for connection in self._some(order))}

    def read(self, order):
        data = _read(self._open[0], order["bytes"])
        return {"read": len(data), "ended": len(data) < order["bytes"]}

    def ended(self, order):
        limit = time.monotonic() + order["wait"]
        while True:
            for connection in self._open:
                if connection not in self._over and (way := _how_it_ended(connection)):
                    self._over[connection] = way
            ways = [self._over.get(connection, "open") for connection in self._open]
            if "open" not in ways or time.monotonic() > limit:
                return {way: ways.count(way) for way in ("open", "ended", "reset")}
            time.sleep(0.1)

    def _some(self, order):
        return self._open[:order.get("over", len(self._open))]


def _how_it_ended(connection):
    """None when it has not. What was received before its end is thrown away."""
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(1 << 16):
                return "ended"
    except BlockingIOError:
        return None
    except OSError:
        return "reset"
    finally:
        connection.settimeout(PATIENCE)


def _frame(connection):
    length = _read(connection, 4)
    body = _read(connection, int.from_bytes(length, "big")) if len(length) == 4 else b""
    return length + body if len(length) == 4 and len(body) == int.from_bytes(length, "big") else None


def _read(connection, count):
    data = bytearray()
    try:
        while len(data) < count:
            more = connection.recv(min(count - len(data), 1 << 16))
            if not more:
                break
            data += more
    except OSError:
        pass
    return bytes(data)


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd((sys.argv[1], int(sys.argv[2])))
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(crowd, order["do"])(order)), flush=True)


main()
