"""Produce requests as clients before Kafka 0.11 sent them: one message of magic 1, no record batch. Nothing in common with
agent/kafka."""

import struct
import time
import zlib

import wire

INVALID_RECORD = 87


def produce(topic, value, version):
    """A Produce request of one message, acks=1."""
    message = _message(value)
    body = b"" if version < 3 else wire.string(None)
    body += struct.pack(">hi", 1, 10_000) + struct.pack(">i", 1) + wire.string(topic)
    body += struct.pack(">iii", 1, 0, len(message)) + message
    return wire.frame(wire.PRODUCE, version, body)


def error_of(response):
    """The error code of the one partition; what there is instead of an answer otherwise."""
    if not isinstance(response, bytes):
        return response
    at = 4 + 4 + 4  # length, correlation, count of topics
    size, = struct.unpack_from(">h", response, at)
    return struct.unpack_from(">h", response, at + 2 + size + 4 + 4)[0]  # after name, count of partitions, index


def _message(value):
    checked = struct.pack(">bbqii", 1, 0, int(time.time() * 1000), -1, len(value)) + value  # magic, codec, time, null key
    whole = struct.pack(">I", zlib.crc32(checked)) + checked
    return struct.pack(">qi", 0, len(whole)) + whole
