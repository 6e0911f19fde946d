"""What the Python drivers have in common: the lines that they are told and answer. The contract is in ../../README.md."""

import base64
import collections
import json
import sys
import threading

Settings = collections.namedtuple("Settings", "bootstrap topic own from_offset from_time fetch_bytes")


def arguments(words):
    """The command and what follows it. `own` are the settings that the client has names for."""
    command, rest = words[0], words[1:]
    if command == "version":
        return command, None
    bootstrap = rest.pop(0)
    topic = rest.pop(0) if command == "follow" else None
    own = dict(word.split("=", 1) for word in rest)
    numbers = [int(own.pop(name)) if name in own else None for name in ("from.offset", "from.time", "fetch.bytes")]
    return command, Settings(bootstrap, topic, own, *numbers)


def told():
    """Every line of standard input, decoded: a record, or {"do": ...}."""
    for line in sys.stdin:
        told_now = json.loads(line)
        if "do" not in told_now:
            told_now["key"], told_now["value"] = decoded(told_now["key"]), decoded(told_now["value"])
            told_now["headers"] = [(name, decoded(value)) for name, value in told_now.get("headers", [])]
        yield told_now


def input_closed():
    """An event that is set when the parent closes standard input: a following consumer is to end."""
    closed = threading.Event()

    def watch():
        while sys.stdin.buffer.read(65536):
            pass
        closed.set()

    threading.Thread(target=watch, daemon=True).start()
    return closed


def answer(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def answer_version(*packages):
    from importlib import metadata  # pylint: disable=import-outside-toplevel
    answer(version=", ".join(f"{package} {metadata.version(package)}" for package in packages))


def answer_record(partition, offset, timestamp, key, value, headers):
    answer(partition=partition, offset=offset, timestamp=timestamp, key=encoded(key), value=encoded(value),
           headers=[[name, encoded(content)] for name, content in headers])


def answer_end(positions):
    answer(end={"position": {str(partition): offset for partition, offset in positions.items()}})


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)
