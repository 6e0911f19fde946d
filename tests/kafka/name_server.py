"""A name server that knows one name: `name_server.py NAME ADDRESS` answers on 127.0.0.1:53 (RFC 1035), says that any other name
does not exist, and prints `serving` when it is there."""

import socket
import struct
import sys

A, NAME_ERROR = 1, 3


def main():
    name, address = sys.argv[1].lower().split("."), sys.argv[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        print("serving", flush=True)
        while True:
            query, client = server.recvfrom(512)
            server.sendto(answer(query, name, address), client)


def answer(query, name, address):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind, = struct.unpack_from(">H", query, at + 1)
    question = query[12:at + 5]
    known = labels == name
    record = b""
    if known and kind == A:
        record = struct.pack(">HHHIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(address)
    flags = 0x8180 | (0 if known else NAME_ERROR)
    return query[:2] + struct.pack(">HHHHH", flags, 1, 1 if record else 0, 0, 0) + question + record


main()
