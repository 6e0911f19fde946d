"""Just enough of Kafka's wire to write and read what no ordinary client would: batches with a wrong CRC, forged headers,
versions that do not exist. Nothing in common with agent/kafka."""

import collections
import struct
import time

PRODUCE, FETCH, API_VERSIONS = 0, 1, 18
PRODUCE_VERSION, FETCH_VERSION = 8, 4

Answer = collections.namedtuple("Answer", "error offset record_errors message")


def frame(api, version, body, correlation=7):
    """A request with its length, header version 1."""
    request = struct.pack(">hhi", api, version, correlation) + string("raw") + body
    return struct.pack(">i", len(request)) + request


def flexible_frame(api, version, body, correlation=7):
    """The same with header version 2, which has tagged fields: none."""
    return frame(api, version, b"\0" + body, correlation)


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def produce(topic, batch, partition=0, version=PRODUCE_VERSION):
    """A Produce request of one batch, acks=all."""
    return produce_all(topic, [(partition, batch)], version)


def produce_all(topic, batches, version=PRODUCE_VERSION):
    """A Produce request of a batch for each of several partitions, acks=all."""
    body = string(None) + struct.pack(">hi", -1, 10_000) + struct.pack(">i", 1) + string(topic) + struct.pack(">i", len(batches))
    body += b"".join(struct.pack(">ii", partition, len(batch)) + batch for partition, batch in batches)
    return frame(PRODUCE, version, body)


def produce_answer(response):
    """What a Produce response of version 8 says of its one partition."""
    at = 4 + 4 + 4  # length, correlation, count of topics
    size, = struct.unpack_from(">h", response, at)
    at += 2 + size + 4 + 4  # name, count of partitions, index
    error, offset, _, _, count = struct.unpack_from(">hqqqi", response, at)
    at += 30
    errors = {}
    for _ in range(count):
        index, = struct.unpack_from(">i", response, at)
        text, at = _nullable_string(response, at + 4)
        errors[index] = text
    message, _ = _nullable_string(response, at)
    return Answer(error, offset, errors, message)


def fetch(topic, offset=0, partition=0):
    return fetch_all(topic, [partition], offset)


def fetch_all(topic, partitions, offset=0):
    body = struct.pack(">iiiib", -1, 500, 1, 1 << 26, 0) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">i", len(partitions)) + b"".join(struct.pack(">iqi", one, offset, 1 << 24) for one in partitions)
    return frame(FETCH, FETCH_VERSION, body)


def fetched_batch(response):
    """The records field of a Fetch response of version 4 for its one partition, and its error code."""
    at = 4 + 4 + 4 + 4  # length, correlation, throttle, count of topics
    size, = struct.unpack_from(">h", response, at)
    at += 2 + size + 4 + 4
    error, _, _, aborted = struct.unpack_from(">hqqi", response, at)
    at += 22 + max(0, aborted) * 16
    length, = struct.unpack_from(">i", response, at)
    return response[at + 4:at + 4 + max(0, length)], error


def batch(records, wrong_crc=False, count=None, codec=0, compress=bytes):
    """A record batch version 2. `records`: (key, value, headers), headers a list of (name, value)."""
    now = int(time.time() * 1000)
    body = compress(b"".join(_record(index, *record) for index, record in enumerate(records)))
    checked = struct.pack(">hiqqqhii", codec, len(records) - 1, now, now, -1, -1, -1,
                          len(records) if count is None else count) + body
    crc = crc32c(checked) ^ (1 if wrong_crc else 0)
    rest = struct.pack(">ibI", -1, 2, crc) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def _record(index, key, value, headers):
    body = b"\0" + varint(0) + varint(index) + _bytes(key) + _bytes(value) + varint(len(headers))
    body += b"".join(_bytes(name.encode()) + _bytes(content) for name, content in headers)
    return varint(len(body)) + body


def _bytes(data):
    return varint(-1) if data is None else varint(len(data)) + data


def varint(value):
    return unsigned((value << 1) ^ (value >> 63))


def compact(data):
    return unsigned(len(data) + 1) + data


def unsigned(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _nullable_string(data, at):
    size, = struct.unpack_from(">h", data, at)
    return (None, at + 2) if size < 0 else (data[at + 2:at + 2 + size].decode(), at + 2 + size)


def _crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_TABLE = list(_crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
