"""A TCP client that knows nothing of Kafka, to be run inside a workload: `raw_client.py HOST PORT`.

Each line of input is a frame in hex, sent as it is. For each it prints one line: the answer (a frame with its four length
bytes, in hex), or `closed` or `silent` (nothing within ten seconds). The first line it prints says how the connect went:
`connected PEER OWN`, as the application sees these addresses, or `refused`, or `failed` and why."""

import socket
import sys

from frames import receive_frame

PATIENCE = 10  # Seconds.


def main():
    try:
        connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=PATIENCE)
    except OSError as error:
        print("refused" if isinstance(error, ConnectionRefusedError) else f"failed {error}", flush=True)
        return
    try:
        print("connected", connection.getpeername()[0], connection.getsockname()[0], flush=True)
    except OSError as error:  # Connected, and reset before anybody looked.
        print(f"failed reset, {error}", flush=True)
        return
    for line in sys.stdin:
        try:
            connection.sendall(bytes.fromhex(line))
            print(answer(connection), flush=True)
        except TimeoutError:
            print("silent", flush=True)
        except OSError:
            print("closed", flush=True)


def answer(connection):
    frame = receive_frame(connection)
    return "closed" if frame is None else frame.hex()


main()
