"""Kafka's frames on a socket, for the programs that run inside a workload."""


def receive(connection, count):
    """So many bytes; fewer at the end of the connection."""
    data = bytearray()
    while len(data) < count:
        more = connection.recv(min(count - len(data), 1 << 18))
        if not more:
            break
        data += more
    return bytes(data)


def receive_frame(connection):
    """The next frame with its length; None when the connection has ended before it or in its middle."""
    length = receive(connection, 4)
    size = int.from_bytes(length, "big")
    body = receive(connection, size) if len(length) == 4 else b""
    return length + body if len(length) == 4 and len(body) == size else None
