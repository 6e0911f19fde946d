"""What every client does on a sealed topic as it does on any other."""

import base64
import dataclasses
import itertools
import os
import time

import segments
from driving import Wrong, require
from families import CODECS
from harness import Message, is_sealed

LARGE = 900 * 1024


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    run: object                              # Called with the client's Seat; raises Wrong.
    has: object = lambda client: True        # Whether the client has what the case is about.


def texts(count, word="value", headers=(("trace", b"1f"), ("kind", b"test"))):
    return [Message(f"key {number}".encode(), f"secret {word} {number} ".encode() + b"x" * 100, headers)
            for number in range(count)]


def came_back(messages, reading):
    """Each of them once, exact, in order."""
    require(not reading.errors, f"the consumer said {reading.errors[:1]}")
    read = [record.message for record in reading.records]
    require(len(read) == len(messages), f"{len(read)} records were read, {len(messages)} are due")
    for number, (wanted, got) in enumerate(zip(messages, read)):
        if reading.empty_as_null and wanted.value == b"" and got.value is None:
            got = got._replace(value=b"")
        require(got == wanted, f"record {number} came back as {shown(got)}, sent was {shown(wanted)}")


def shown(message):
    return f"{str(message)[:200]}..." if len(str(message)) > 200 else str(message)


def all_sealed(seat, topic, messages):
    """At the broker there are as many records, and of their values nothing but envelopes."""
    seat.node.observer.wait_for_records(topic, len(messages))  # A producer with acks=0 does not.
    held = seat.node.observer.records(topic)
    require(len(held) == len(messages), f"the broker has {len(held)} records, sent were {len(messages)}")
    nulls = [sum(message.value is None for message in some) for some in (messages, [record.message for record in held])]
    require(nulls[0] == nulls[1], f"of the values {nulls[0]} were null, at the broker {nulls[1]} are")
    if seat.node.direct:
        return
    for record in held:
        require(is_sealed(record), f"offset {record.offset} is not sealed at the broker: {shown(record)}")
    clear = {message.value for message in messages if message.value}
    require(not any(record.message.value in clear for record in held), "the broker has a value in clear text")


def round_trip(seat, messages, *settings):
    topic = seat.node.topic("open")
    seat.produce(topic, messages, *settings)
    all_sealed(seat, topic, messages)
    came_back(messages, seat.read(topic, len(messages)))
    return topic


def defaults(seat):
    round_trip(seat, texts(100))


def over_tls(seat):
    topic, messages = seat.node.topic("open"), texts(100)
    handshakes = seat.node.metric("kveil_client_tls_handshakes_total")

    def spoke_tls(role):
        nonlocal handshakes
        before, handshakes = handshakes, seat.node.metric("kveil_client_tls_handshakes_total")
        require(seat.node.direct or handshakes > before, f"the {role} spoke no TLS")  # The agent also serves plaintext at that port.
    seat.produce(topic, messages, *seat.node.tls)
    spoke_tls("producer")
    all_sealed(seat, topic, messages)
    came_back(messages, seat.read(topic, len(messages), *seat.node.tls))
    spoke_tls("consumer")


def with_codec(codec):
    def run(seat):
        topic = round_trip(seat, texts(200), f"compression.type={codec}")
        used = {segments.codec(batch) for path in seat.node.broker.segment_files(topic) for batch in segments.batches(path)}
        require(used == {codec}, f"the batches were to be compressed with {codec}; at the broker they have {sorted(used)}")

    return Case(f"codec-{codec}", f"compression `{codec}`", run, lambda client: codec in client.codecs)


def with_acks(acks):
    return Case(f"acks-{acks}", f"acks={acks}", lambda seat: round_trip(seat, texts(100), f"acks={acks}"))


def idempotent(seat):
    topic = round_trip(seat, texts(500), "enable.idempotence=true")
    stored = [batch for path in seat.node.broker.segment_files(topic) for batch in segments.batches(path)]
    require(all(batch.producer_id >= 0 for batch in stored), "the producer was not idempotent")


# Rows that share one topic: all of these are sent and read once for each client, then each row looks at its own.
SHAPES = {
    "empty-value": [Message(f"empty {number}".encode(), b"", ()) for number in range(3)],
    "null-key": [Message(None, f"secret {number}".encode(), ()) for number in range(3)],
    "null-value": [Message(f"null {number}".encode(), None, ()) for number in range(3)],
    "headers": [Message(b"headers", b"secret", tuple((f"name {number}", f"{number}".encode() * 20) for number in range(100)))],
}


def shape(name, title):
    def run(seat):
        if "shapes" not in seat.memory:
            every = [message for messages in SHAPES.values() for message in messages]
            topic = seat.node.topic("open")
            seat.produce(topic, every)
            all_sealed(seat, topic, every)
            seat.memory["shapes"] = seat.read(topic, len(every))
        reading = seat.memory["shapes"]
        start = sum(len(SHAPES[other]) for other in itertools.takewhile(lambda other: other != name, SHAPES))
        came_back(SHAPES[name], reading._replace(records=reading.records[start:start + len(SHAPES[name])]))
        require(len(reading.records) == sum(map(len, SHAPES.values())), f"{len(reading.records)} records were read")

    return Case(name, title, run)


def transactions(seat):
    topic = seat.node.topic("open")
    kept, aborted = texts(10, "kept"), texts(5, "aborted") if seat.client.aborts else []
    with seat.producing(f"transactional.id={topic}") as producer:
        for messages, outcome in ((kept[:5], "commit"), (aborted, "abort"), (kept[5:], "commit")):
            if not messages:
                continue
            producer.do("begin")
            for message in messages:
                producer.send(topic, message)
            producer.do("flush")
            producer.do(outcome)
        failed = [answer for answer in producer.finish() if "error" in answer]
    require(not failed, f"{len(failed)} records were not delivered: {failed[:1]}")
    all_sealed(seat, topic, kept + aborted)
    came_back(kept, seat.read(topic, 10, "isolation.level=read_committed"))
    came_back(kept[:5] + aborted + kept[5:], seat.read(topic, 10 + len(aborted), "isolation.level=read_uncommitted"))


def rebalance(seat):
    """Two members share four partitions; one leaves, the other takes over where it stopped."""
    topic = seat.node.topic("open", partitions=4)
    group = f"group-{topic}"
    settings = [f"group.id={group}"]
    first, second = texts(100, "first"), texts(100, "second")
    with seat.following(topic, *settings) as stays, \
            seat.following(topic, *settings, workload=seat.node.second_reader) as leaves:
        seat.node.observer.wait_for_members(group, [2, 2])
        spread(seat, topic, first)
        took = take_shared(stays, leaves, len(first))
        leaves.finish()
        seat.node.observer.wait_for_members(group, [4])
        spread(seat, topic, second)
        stays.take(len(second))
        time.sleep(0.5)
        reading = stays.finish()
    read = sorted([record.message for record in reading.records + took], key=lambda message: message.value)
    require(not reading.errors, f"the consumer said {reading.errors[:1]}")
    require(read == sorted(first + second, key=lambda message: message.value),
            f"{len(read)} records were read by both members, {len(first + second)} are due, each once")
    committed = seat.node.observer.committed(topic, group)
    require(committed == seat.node.observer.ends(topic), f"committed is {committed}")


def spread(seat, topic, messages):
    with seat.producing() as producer:
        for number, message in enumerate(messages):
            producer.send(topic, message, partition=number % 4)
        failed = [answer for answer in producer.finish() if "error" in answer]
    require(not failed, f"not delivered: {failed[:1]}")


def take_shared(stays, leaves, count):
    """Half of the partitions is with each member: so is half of the records. Returns what the one that leaves has read."""
    stays.take(count // 2)
    return leaves.take(count // 2)


def laid_out(seat, messages, batch=10, **where):
    topic = seat.node.topic("open")
    seat.node.lay_out(topic, [messages[start:start + batch] for start in range(0, len(messages), batch)], **where)
    return topic


def seek(seat):
    messages = texts(50)
    topic = laid_out(seat, messages)
    came_back(messages[23:], seat.read(topic, 27, "from.offset=23"))


def by_time(seat):
    messages = texts(50)
    start = int(time.time() * 1000) - 3_600_000
    topic = laid_out(seat, messages, timestamps=range(start, start + 50_000, 1000))
    reading = seat.read(topic, 24, f"from.time={start + 25_500}")
    came_back(messages[26:], reading)
    times = [record.timestamp - start for record in reading.records]
    require(times == list(range(26_000, 50_000, 1000)), f"the records have the times {times}")


def compressed_by_others(seat):
    """What Java has compressed, with each codec. Also for clients that do not have the codec: what was sealed is opened, and so is
    its compression."""
    node = seat.node
    for codec in CODECS:
        if codec not in node.memory:
            topic = node.topic("open")
            with node.another_producer("linger.ms=1000", f"compression.type={codec}") as producer:
                for message in texts(50):
                    producer.send(topic, message)
                producer.finish()
            node.memory[codec] = topic
        came_back(texts(50), seat.read(node.memory[codec], 50))


def large(seat):
    round_trip(seat, [Message(b"large", base64.b64encode(os.urandom(LARGE * 3 // 4)), ())])


def full_batches(seat):
    """Sealed, they could be larger than the topic takes: the agent splits such a batch."""
    for size, count in ((100, 12_000), (1024, 1_500)):
        split = seat.node.metric("kveil_batches_split_total")
        topic = round_trip(seat, [Message(b"%d" % number, base64.b64encode(os.urandom(size * 3 // 4)), ())
                                  for number in range(count)], *seat.client.full)
        largest = max(len(batch.whole) for path in seat.node.broker.segment_files(topic) for batch in segments.batches(path))
        require(seat.node.metric("kveil_batches_split_total") > split or largest > 850_000,
                f"no batch of records of {size} bytes was full; the largest has {largest}")


ALL = [
    Case("defaults", "defaults", defaults),
    *map(with_codec, CODECS),
    Case("codecs-of-others", "reads what Java compressed, with each codec", compressed_by_others),
    Case("idempotent", "idempotent producer", idempotent, lambda client: client.idempotent),
    *map(with_acks, ["0", "1", "all"]),
    Case("transactions", "transactions, committed and aborted; both isolation levels", transactions,
         lambda client: client.transactions),
    Case("tls", "TLS to the agent, and from there to the broker", over_tls),
    Case("rebalance", "consumer group: two members, one leaves", rebalance),
    Case("seek", "seek to an offset", seek),
    Case("by-time", "start at a time", by_time),
    Case("large", "a record of 900 KiB", large),
    Case("full-batches", "batches of 1 MB, of records of 100 bytes and of 1 KiB", full_batches, lambda client: client.full),
    shape("empty-value", "empty values"),
    shape("null-key", "null keys"),
    shape("null-value", "null values"),
    shape("headers", "100 headers"),
]

__all__ = ["ALL", "Case", "Wrong", "came_back", "require"]
