"""The envelope, version 1, as docs/envelope.md tells it: a second implementation, to check the first one by."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

INLINE, COMPRESSED, FIELDS, MASKED, UNDER_KEK = 1, 2, 4, 8, 16
MAX_INDEX = 2**21 - 1
BATCH_KEY, PERIOD_KEY = 1, 2


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


def key_under_kek(scope_key, kek_key):
    return hmac_sha256(scope_key, b"kveil key under a KEK 1" + kek_key)


def batch_key(scope_key, salt):
    return hmac_sha256(scope_key, b"kveil key 1" + b"\x01" + salt)


def period_key(scope_key, period):
    return hmac_sha256(scope_key, b"kveil key 2" + b"\x02" + period.to_bytes(2, "big"))


def sealing_key(suite, scope_key, salt, period):
    return batch_key(scope_key, salt) if suite == BATCH_KEY else period_key(scope_key, period)


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


def additional_data(header, topic, kafka_key):
    key = b"\x00" if kafka_key is None else b"\x01" + sized(kafka_key)
    return header + sized(topic.encode()) + key


def nonce(suite, salt, index):
    start = 0 if suite == BATCH_KEY else int.from_bytes(salt, "big")
    return ((start + index) % 2**96).to_bytes(12, "big")


def compute(given):
    """Everything that follows from a vector's `given`, as hexadecimal text."""
    scope_key = bytes.fromhex(given["scopeKey"])
    salt = bytes.fromhex(given["salt"])
    identifier = key_id(scope_key)
    travelling = identifier
    if given["flags"] & MASKED:
        travelling = mask(identifier, salt, bytes.fromhex(given["registrySecret"]))
    suite, period = given["suite"], given.get("period", 0)
    header = bytes([0x10 + suite, given["flags"]]) + travelling + salt
    if suite == PERIOD_KEY:
        header += period.to_bytes(2, "big")
    header += varint(given["recordIndex"])
    kek_key = bytes.fromhex(given["kekKey"]) if given["flags"] & UNDER_KEK else None
    if kek_key is not None:
        header += key_id(kek_key)
    if given["flags"] & INLINE:
        header += sized(bytes.fromhex(given["kekReference"])) + sized(bytes.fromhex(given["wrappedKey"]))
    kafka_key = None if given["recordKey"] is None else bytes.fromhex(given["recordKey"])
    aad = additional_data(header, given["topic"], kafka_key)
    mixed = scope_key if kek_key is None else key_under_kek(scope_key, kek_key)
    key = sealing_key(suite, mixed, salt, period)
    number = nonce(suite, salt, given["recordIndex"])
    sealed = AESGCM(key).encrypt(number, bytes.fromhex(given["value"]), aad)
    expected = {} if kek_key is None else {"kekKeyId": key_id(kek_key).hex(), "keyUnderKek": mixed.hex()}
    return expected | {
        "keyId": identifier.hex(),
        "sealingKey": key.hex(),
        "nonce": number.hex(),
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
    if len(header) < 31 or header[0] not in (0x11, 0x12) or header[1] & ~(
            INLINE | COMPRESSED | FIELDS | MASKED | UNDER_KEK):
        raise Refused("fixed part")
    suite, rest, period = header[0] & 15, header[30:], 0
    if suite == PERIOD_KEY:
        if len(rest) < 2:
            raise Refused("period")
        period, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    index, rest = take_varint(rest, MAX_INDEX)
    kek_key_id = b""
    if header[1] & UNDER_KEK:
        if len(rest) < 16:
            raise Refused("KEK key id")
        kek_key_id, rest = rest[:16], rest[16:]
    if header[1] & INLINE:
        _, rest = take_sized(rest, 255)
        _, rest = take_sized(rest, 1023)
    if rest:
        raise Refused("left over")
    return {"suite": suite, "flags": header[1], "keyId": header[2:18], "salt": header[18:30], "period": period,
            "recordIndex": index, "kekKeyId": kek_key_id}


def open_record(header, topic, kafka_key, sealed, scope_key, registry_secret, kek_key=None):
    """The value of a sealed record, still compressed when the flag says so."""
    fields = parse(header)
    identifier = fields["keyId"]
    if fields["flags"] & MASKED:
        identifier = unmask(identifier, fields["salt"], registry_secret)
    if not hmac.compare_digest(identifier, key_id(scope_key)):
        raise Refused("another key")
    suite, salt = fields["suite"], fields["salt"]
    mixed = scope_key
    if fields["flags"] & UNDER_KEK:
        if kek_key is None or not hmac.compare_digest(fields["kekKeyId"], key_id(kek_key)):
            raise Refused("another KEK key")
        mixed = key_under_kek(scope_key, kek_key)
    try:
        return AESGCM(sealing_key(suite, mixed, salt, fields["period"])).decrypt(
            nonce(suite, salt, fields["recordIndex"]), sealed, additional_data(header, topic, kafka_key))
    except InvalidTag:
        raise Refused("tag") from None
