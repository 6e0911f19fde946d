"""A way to the broker on which answers get lost: a relay that, at random, drops an answer to a Produce request and ends that
connection. The broker has taken what it answered, and the producer does not know."""

import contextlib
import random
import socket
import struct
import threading

PRODUCE = 0


class LossyRelay:
    """`with LossyRelay(address, port, target) as relay:` listens and passes everything on to `target`, (address, port).
    `relay.share` of the answers to Produce requests gets lost; `relay.lost` counts them."""

    def __init__(self, address, port, target, seed=1):
        self.bootstrap = f"{address}:{port}"
        self.share = 0.0
        self.lost = 0
        self._target = target
        self._random = random.Random(seed)
        self._listener = socket.create_server((address, port), backlog=64)

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            broker = socket.create_connection(self._target)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kinds = []  # The API keys of the requests that were not answered yet, in their order.
            threading.Thread(target=self._requests, args=(client, broker, kinds), daemon=True).start()
            threading.Thread(target=self._answers, args=(broker, client, kinds), daemon=True).start()

    def _requests(self, client, broker, kinds):
        with ends(client, broker):
            for frame in frames(client):
                kinds.append(struct.unpack_from(">h", frame, 4)[0])
                broker.sendall(frame)

    def _answers(self, broker, client, kinds):
        with ends(client, broker):
            for frame in frames(broker):
                if kinds.pop(0) == PRODUCE and self._random.random() < self.share:
                    self.lost += 1
                    return
                client.sendall(frame)


@contextlib.contextmanager
def ends(*connections):
    """Of which each ends when one does."""
    with contextlib.suppress(OSError):
        yield
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def frames(connection):
    """Whole Kafka frames, length included."""
    while True:
        length = exactly(connection, 4)
        if length is None:
            return
        body = exactly(connection, struct.unpack(">i", length)[0])
        if body is None:
            return
        yield length + body


def exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
