"""The envelope, version 1, as docs/envelope.md tells it: a second implementation, to check the first one by."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

INLINE, COMPRESSED, FIELDS, MASKED = 1, 2, 4, 8
MAX_INDEX = 2**21 - 1


class Refused(Exception):
    """The header is not version 1, or the record does not open."""


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def sized(data):
    return varint(len(data)) + data


def key_id(scope_key):
    return hmac_sha256(scope_key, b"kveil id 1")[:16]


def batch_key(scope_key, salt):
    return hmac_sha256(scope_key, b"kveil key 1" + b"\x01" + salt)


def mask(identifier, salt, registry_secret):
    key = hmac_sha256(registry_secret, b"kveil mask 1")
    block = bytes(a ^ b for a, b in zip(identifier, salt + bytes(4)))
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def unmask(masked, salt, registry_secret):
    key = hmac_sha256(registry_secret, b"kveil mask 1")
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()
    block = decryptor.update(masked) + decryptor.finalize()
    return bytes(a ^ b for a, b in zip(block, salt + bytes(4)))


def additional_data(header, topic, record_key):
    key = b"\x00" if record_key is None else b"\x01" + sized(record_key)
    return header + sized(topic.encode()) + key


def nonce(index):
    return bytes(4) + index.to_bytes(8, "big")


def compute(given):
    """Everything that follows from a vector's `given`, as hexadecimal text."""
    scope_key = bytes.fromhex(given["scopeKey"])
    salt = bytes.fromhex(given["salt"])
    identifier = key_id(scope_key)
    travelling = identifier
    if given["flags"] & MASKED:
        travelling = mask(identifier, salt, bytes.fromhex(given["registrySecret"]))
    header = bytes([0x11, given["flags"]]) + travelling + salt + varint(given["recordIndex"])
    if given["flags"] & INLINE:
        header += sized(bytes.fromhex(given["kekReference"])) + sized(bytes.fromhex(given["wrappedKey"]))
    record_key = None if given["recordKey"] is None else bytes.fromhex(given["recordKey"])
    aad = additional_data(header, given["topic"], record_key)
    key = batch_key(scope_key, salt)
    sealed = AESGCM(key).encrypt(nonce(given["recordIndex"]), bytes.fromhex(given["value"]), aad)
    return {
        "keyId": identifier.hex(),
        "batchKey": key.hex(),
        "header": header.hex(),
        "additionalData": aad.hex(),
        "sealed": sealed.hex(),
    }


def take_varint(data, limit):
    value = 0
    for size in range(1, 5):
        if size > len(data):
            break
        value |= (data[size - 1] & 0x7F) << 7 * (size - 1)
        if data[size - 1] & 0x80:
            continue
        if (size > 1 and data[size - 1] == 0) or value > limit:
            break
        return value, data[size:]
    raise Refused("varint")


def take_sized(data, limit):
    size, rest = take_varint(data, limit)
    if size == 0 or size > len(rest):
        raise Refused("length")
    return rest[:size], rest[size:]


def parse(header):
    """The fields of a header value; Refused when it is not exactly version 1."""
    if len(header) < 31 or header[0] != 0x11 or header[1] & ~(INLINE | COMPRESSED | FIELDS | MASKED):
        raise Refused("fixed part")
    index, rest = take_varint(header[30:], MAX_INDEX)
    if header[1] & INLINE:
        _, rest = take_sized(rest, 255)
        _, rest = take_sized(rest, 1023)
    if rest:
        raise Refused("left over")
    return {"flags": header[1], "keyId": header[2:18], "salt": header[18:30], "recordIndex": index}


def open_record(header, topic, record_key, sealed, scope_key, registry_secret):
    """The value of a sealed record, still compressed when the flag says so."""
    fields = parse(header)
    identifier = fields["keyId"]
    if fields["flags"] & MASKED:
        identifier = unmask(identifier, fields["salt"], registry_secret)
    if not hmac.compare_digest(identifier, key_id(scope_key)):
        raise Refused("another key")
    try:
        return AESGCM(batch_key(scope_key, fields["salt"])).decrypt(
            nonce(fields["recordIndex"]), sealed, additional_data(header, topic, record_key))
    except InvalidTag:
        raise Refused("tag") from None
