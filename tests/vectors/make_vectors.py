#!/usr/bin/env python3
"""Writes envelope-v1.json: the test vectors of docs/envelope.md, computed with the Python package `cryptography` only.

Nothing of kveil's own code takes part, so that agent/crypto and these vectors check each other. The inputs are fixed; running
it again gives the same file.   tests/vectors/make_vectors.py > tests/vectors/envelope-v1.json
"""

import hashlib
import json
import sys

import envelope


def fixed(label, size):
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(label.encode()).digest(size)


def vector(name, *, topic, record_key, value, flags, index, scope="scope key 1", salt="salt 1", kek=None, wrapped=None,
           period=None, kek_key=None):
    given = {
        "scopeKey": fixed(scope, 32).hex(),
        "registrySecret": fixed("registry secret", 32).hex(),
        "salt": salt.hex() if isinstance(salt, bytes) else fixed(salt, 12).hex(),
        "suite": envelope.BATCH_KEY if period is None else envelope.PERIOD_KEY,
        "recordIndex": index,
        "flags": flags,
        "topic": topic,
        "recordKey": None if record_key is None else record_key.hex(),
        "value": value.hex(),
    }
    if period is not None:
        given["period"] = period
    if kek_key is not None:
        given["kekKey"] = fixed(kek_key, 32).hex()
    if kek is not None:
        given["kekReference"] = kek.hex()
        given["wrappedKey"] = wrapped.hex()
    return {"name": name, "given": given, "expected": envelope.compute(given)}


VECTORS = [
    vector("a user's record, key id masked", topic="clickstream", record_key=b"38",
           value=b'{"ip":"203.0.113.7","userid":38,"request":"GET /site/user_status.html HTTP/1.1","status":"405"}',
           flags=8, index=0),
    vector("a topic's record, found by id", topic="orders", record_key=b"\x00\xff\x00\xff", value=b"hello", flags=0, index=1,
           scope="scope key 2"),
    vector("null record key", topic="orders", record_key=None, value=b"hello", flags=0, index=2),
    vector("empty record key", topic="orders", record_key=b"", value=b"hello", flags=0, index=2),
    vector("empty value", topic="orders", record_key=b"k", value=b"", flags=0, index=3),
    vector("two bytes of record index", topic="orders", record_key=b"k", value=b"x" * 33, flags=8, index=128),
    vector("three bytes of record index, the largest", topic="orders", record_key=b"k", value=b"x", flags=8, index=2**21 - 1),
    vector("compressed value", topic="orders", record_key=b"k", flags=2 | 8, index=7,
           # A zstd frame of one raw block: "hello, hello, hello".
           value=bytes.fromhex("28b52ffd2013990000") + b"hello, hello, hello"),
    vector("wrapped key inline", topic="us-west.orders", record_key=b"k" * 200, value=b"v" * 1000, flags=1, index=300,
           kek=b"transit/kek-orders:v3", wrapped=fixed("wrapped key", 184)),
    vector("topic name with other letters than ASCII", topic="caf\u00e9", record_key=b"k", value=b"v", flags=8, index=5,
           salt="salt 2"),
    vector("suite 2, a user's record", topic="clickstream", record_key=b"38",
           value=b'{"ip":"203.0.113.7","userid":38,"request":"GET /site/user_status.html HTTP/1.1","status":"405"}',
           flags=8, index=300, period=0xA4A3),
    vector("suite 2, salt and index go over 2^96", topic="orders", record_key=None, value=b"x" * 16, flags=8, index=2**21 - 1,
           salt=b"\xff" * 12, period=0),
    vector("suite 2, a carry into the first four bytes", topic="orders", record_key=b"", value=b"", flags=8, index=1,
           salt=bytes(4) + b"\xff" * 8, period=1),
    vector("suite 2, compressed value, the last period", topic="orders", record_key=b"k", flags=2 | 8, index=7,
           value=bytes.fromhex("28b52ffd2013990000") + b"hello, hello, hello", period=0xFFFF),
    vector("suite 2, a user's record under a KEK", topic="clickstream", record_key=b"38",
           value=b'{"ip":"203.0.113.7","userid":38,"request":"GET /site/user_status.html HTTP/1.1","status":"405"}',
           flags=8 | 16, index=300, period=0xA4A3, kek_key="KEK key 1"),
    vector("suite 1, under another KEK, key id not masked", topic="orders", record_key=None, value=b"hello", flags=16, index=2,
           kek_key="KEK key 2"),
]

# Header values that a reader must refuse, and why.
GOOD = VECTORS[1]["expected"]["header"]
GOOD_OF_A_PERIOD = VECTORS[10]["expected"]["header"]
GOOD_UNDER_A_KEK = VECTORS[14]["expected"]["header"]
REFUSED = [
    {"why": "empty", "header": ""},
    {"why": "cut short", "header": GOOD[:-2]},
    {"why": "a byte left over", "header": GOOD + "00"},
    {"why": "version 2", "header": "21" + GOOD[2:]},
    {"why": "suite 0", "header": "10" + GOOD[2:]},
    {"why": "suite 3", "header": "13" + GOOD[2:]},
    {"why": "suite 2 without a period", "header": "12" + GOOD[2:]},
    {"why": "suite 2, cut short in the period", "header": GOOD_OF_A_PERIOD[:62]},
    {"why": "suite 2, cut short behind the period", "header": GOOD_OF_A_PERIOD[:64]},
    {"why": "suite 2, a byte left over", "header": GOOD_OF_A_PERIOD + "00"},
    {"why": "flag 0x20", "header": "1120" + GOOD[4:]},
    {"why": "under a KEK, without its key's id", "header": "1110" + GOOD[4:]},
    {"why": "under a KEK, cut short in the id", "header": GOOD_UNDER_A_KEK[:-2]},
    {"why": "under a KEK, a byte left over", "header": GOOD_UNDER_A_KEK + "00"},
    {"why": "record index longer than it needs to be", "header": GOOD[:60] + "8100"},
    {"why": "record index above 2^21 - 1", "header": GOOD[:60] + "80808001"},
    {"why": "inline flag without a key", "header": "1101" + GOOD[4:]},
    {"why": "empty KEK reference", "header": "1101" + GOOD[4:] + "000161"},
    {"why": "wrapped key shorter than its length", "header": "1101" + GOOD[4:] + "01610261"},
]

if __name__ == "__main__":
    json.dump({"format": "kveil envelope, version 1", "vectors": VECTORS, "refusedHeaders": REFUSED}, sys.stdout, indent=2)
    sys.stdout.write("\n")
