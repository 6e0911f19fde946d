"""Stands for a broker where thousands of connections would be too much for a real one: `sink.py ADDRESS PORT [silent | NAME]`.

Answers every request with a header and nothing else, in order, as soon as all of it has come; a silent one reads and answers
nothing. With a NAME it answers as to a Metadata request of version 1, that there is one broker, of this name at this port. Prints
a line when it listens."""

import resource
import select
import socket
import struct
import sys

SILENT = sys.argv[3:] == ["silent"]
BODY = b""
if sys.argv[3:] and not SILENT:
    BODY = struct.pack(">iih", 1, 7, len(sys.argv[3])) + sys.argv[3].encode() + struct.pack(">ihii", int(sys.argv[2]), -1, 7, 0)


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections, unfinished = {}, {}
    print("listens", flush=True)
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connection.setblocking(False)
                connections[connection.fileno()] = connection
                unfinished[connection.fileno()] = b""
                poll.register(connection, select.EPOLLIN)
            elif not serve(connections[number], unfinished):
                connections.pop(number).close()


def serve(connection, unfinished):
    try:
        data = connection.recv(1 << 20)
    except OSError:
        return False
    if not data:
        return False
    if SILENT:
        return True
    data, answers = unfinished[connection.fileno()] + data, b""
    while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
        answers += struct.pack(">i", 4 + len(BODY)) + data[8:12] + BODY
        data = data[4 + int.from_bytes(data[:4], "big"):]
    unfinished[connection.fileno()] = data
    if answers:
        connection.sendall(answers)
    return True


main()
