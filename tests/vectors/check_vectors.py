#!/usr/bin/env python3
"""Checks envelope-v1.json without any of kveil's code: every expected value follows from what is given, every sealed record
opens, no changed one does, and every header that must be refused is. Needs the Python package `cryptography`.

    tests/vectors/check_vectors.py [FILE]      exits 1 and names the vector when something differs
"""

import json
import pathlib
import sys

import envelope


def open_vector(given, expected, **changed):
    kafka_key = None if given["recordKey"] is None else bytes.fromhex(given["recordKey"])
    arguments = {
        "header": bytes.fromhex(expected["header"]),
        "topic": given["topic"],
        "kafka_key": kafka_key,
        "sealed": bytes.fromhex(expected["sealed"]),
        "scope_key": bytes.fromhex(given["scopeKey"]),
        "registry_secret": bytes.fromhex(given["registrySecret"]),
        "kek_key": bytes.fromhex(given["kekKey"]) if "kekKey" in given else None,
    }
    return envelope.open_record(**(arguments | changed))


def refuses(function, *arguments, **changed):
    try:
        function(*arguments, **changed)
    except envelope.Refused:
        return True
    return False


def check(vector):
    """Yields what is wrong with one vector."""
    given, expected = vector["given"], vector["expected"]
    for field, value in envelope.compute(given).items():
        if expected[field] != value:
            yield f"{field} is {expected[field]}, it should be {value}"
    if open_vector(given, expected).hex() != given["value"]:
        yield "does not open to its value"
    sealed = bytes.fromhex(expected["sealed"])
    header = bytes.fromhex(expected["header"])
    changes = [
        {"topic": given["topic"] + "x"},
        {"kafka_key": b"another" if given["recordKey"] is not None else b""},
        {"sealed": bytes([sealed[0] ^ 1]) + sealed[1:]},
        {"sealed": sealed[:-1]},
        {"header": bytes([header[0], header[1] ^ envelope.COMPRESSED]) + header[2:]},
        {"header": header[:-1] + bytes([header[-1] ^ 1])},
    ]
    if "kekKey" in given:
        changes += [{"kek_key": None}, {"kek_key": bytes(32)},
                    {"header": bytes([header[0], header[1] ^ envelope.UNDER_KEK]) + header[2:-16]}]
    for change in changes:
        if not refuses(open_vector, given, expected, **change):
            yield f"opens although {next(iter(change))} was changed"


def main():
    default = pathlib.Path(__file__).with_name("envelope-v1.json")
    content = json.loads(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else default).read_text())
    wrong = [f"{vector['name']}: {what}" for vector in content["vectors"] for what in check(vector)]
    wrong += [f"refused header, {case['why']}: was not refused" for case in content["refusedHeaders"]
              if not refuses(envelope.parse, bytes.fromhex(case["header"]))]
    for line in wrong:
        print(line, file=sys.stderr)
    if not content["vectors"] or not content["refusedHeaders"]:
        sys.exit("no vectors")
    print(f"{len(content['vectors'])} vectors and {len(content['refusedHeaders'])} refused headers, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
