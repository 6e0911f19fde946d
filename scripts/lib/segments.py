"""Reads the broker's log segment files from disk: record batches version 2, as KIP-98 laid them out.

Written for looking, not for speed: the demo and the tests check with it what really lies at the broker, with no code in
common with the agent."""

import collections
import gzip
import mmap
import struct
import subprocess

HEADER = struct.Struct(">qiibIhiqqqhii")  # baseOffset ... count: 61 bytes
CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

Batch = collections.namedtuple("Batch", "position base_offset last_offset attributes producer_id producer_epoch "
                                        "base_sequence count crc payload whole")
Record = collections.namedtuple("Record", "path position offset key value headers raw")


def batches(path):
    """Every complete batch of one segment file, in order."""
    data = path.read_bytes()
    position = 0
    while position + HEADER.size <= len(data):
        (base, length, _epoch, magic, crc, attributes, last_delta, _first_time, _last_time, producer, producer_epoch,
         sequence, count) = HEADER.unpack_from(data, position)
        end = position + 12 + length
        if length <= 0 or end > len(data):
            return  # The rest of the file is space that the broker has set aside.
        if magic != 2:
            raise ValueError(f"{path}: a batch of magic {magic} at {position}")
        yield Batch(position, base, base + last_delta, attributes, producer, producer_epoch, sequence, count, crc,
                    data[position + HEADER.size:end], data[position:end])
        position = end


def appended(path):
    """(milliseconds, records) of each batch, in order. The time is the latest of its records': with LogAppendTime, when the broker had it."""
    found = []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 0
        while position + HEADER.size <= len(data):
            header = HEADER.unpack_from(data, position)
            length, latest, count = header[1], header[8], header[12]
            if length <= 0:
                break
            found.append((latest, count))
            position += 12 + length
    return found


def codec(batch):
    return CODECS[batch.attributes & 7]


def is_control(batch):
    return bool(batch.attributes & 0x20)


def records(path):
    """Every record of the segment's data batches that are not compressed, or compressed with gzip or zstd."""
    for batch in batches(path):
        if not is_control(batch):
            yield from _records_of(path, batch)


def record_at(paths, offset):
    """The record at `offset` of one partition, whose segment files are `paths`."""
    for path in paths:
        for batch in batches(path):
            if batch.base_offset <= offset <= batch.last_offset and not is_control(batch):
                return next(record for record in _records_of(path, batch) if record.offset == offset)
    raise LookupError(f"no record at offset {offset}")


def payload_of(batch):
    """The bytes of the batch's records, decompressed."""
    if codec(batch) == "none":
        return batch.payload
    if codec(batch) == "gzip":
        return gzip.decompress(batch.payload)
    if codec(batch) == "zstd":
        return subprocess.run(["zstd", "-dcq"], input=batch.payload, stdout=subprocess.PIPE, check=True, timeout=20).stdout
    raise ValueError(f"cannot look into a batch compressed with {codec(batch)}")


def _records_of(path, batch):
    payload = payload_of(batch)
    inside = 0
    for _ in range(batch.count):
        start = inside
        size, inside = _varint(payload, inside)
        end = inside + size
        yield _record(path, batch, payload, start, inside, end)
        inside = end


def _record(path, batch, payload, start, at, end):
    at += 1  # attributes
    _, at = _varint(payload, at)  # timestamp delta
    delta, at = _varint(payload, at)
    key, at = _nullable(payload, at)
    value, at = _nullable(payload, at)
    count, at = _varint(payload, at)
    headers = []
    for _ in range(count):
        name, at = _nullable(payload, at)
        content, at = _nullable(payload, at)
        headers.append((name.decode(), content))
    if at != end:
        raise ValueError(f"{path}: the record at offset {batch.base_offset + delta} does not end where its length says")
    return Record(path, batch.position + HEADER.size + start, batch.base_offset + delta, key, value, headers,
                  payload[start:end])


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _nullable(data, at):
    size, at = _varint(data, at)
    return (None, at) if size < 0 else (data[at:at + size], at + size)
