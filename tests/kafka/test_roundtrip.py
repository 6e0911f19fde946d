"""What is produced comes back exactly, and is nowhere at the broker, for every codec and both client families."""

import json
from random import Random

import pytest

import segments
from harness import CODECS, Message, click, clicks, is_sealed

MESSAGES = [
    Message(b"key", click(38), (("trace", b"\x00\xff"), ("empty", b""), ("null", None), ("trace", b"again"))),
    Message(None, click(39, agent="x" * 5000)),
    Message(b"", click("a user's name, in text", note="\u00e4\u4e2d")),
    Message(b"tombstone", None),
    Message(b"last", click(38)),
]


@pytest.mark.parametrize("codec", CODECS)
def test_java_reads_exactly_what_java_wrote(app, reader, outside, topic, codec):
    name = topic("user")
    answers = app.produce(name, MESSAGES, f"compression.type={codec}", "linger.ms=200")
    assert [answer.get("offset") for answer in answers] == [0, 1, 2, 3, 4]
    read = reader.consume(name, "group.id=" + name)
    assert [record.message for record in read.records] == MESSAGES
    assert read.end["lag"] == {"0": 0} and read.end["committed"] == {"0": 5}

    at_the_broker = outside.consume(name).records
    assert [(record.offset, record.timestamp, record.message.key) for record in at_the_broker] == \
           [(record.offset, record.timestamp, record.message.key) for record in read.records]
    assert all(is_sealed(record) for record in at_the_broker)
    for written, held in zip(MESSAGES, at_the_broker):
        assert held.message.headers[:len(written.headers)] == written.headers
        assert (held.message.value is None) == (written.value is None)
        assert written.value is None or b"secret" not in held.message.value


@pytest.mark.parametrize("codec", CODECS)
def test_kcat_reads_exactly_what_kcat_wrote(app, on_host, outside, topic, codec):
    name = topic("topic")
    values = [click(number % 7, number) for number in range(2000)]
    done = app.kcat_produce(name, values, "-z", codec)
    assert done.returncode == 0, done.stderr
    assert on_host.kcat_consume(name) == values
    held = outside.kcat_consume(name, "-f", "%h\n")
    assert sum(line.startswith(b"kveil=") for line in held) >= len(values)


def test_both_client_families_read_each_other(app, reader, topic):
    name = topic("user")
    assert app.kcat_produce(name, [click(1), click(2)], "-z", "snappy").returncode == 0
    app.produce(name, clicks(3, 2), "compression.type=lz4")
    expected = [click(1), click(2), click(3, 0), click(3, 1)]
    assert reader.values(name) == expected
    assert reader.kcat_consume(name) == expected


def test_the_brokers_log_holds_no_clear_value(app, broker, topic):
    name = topic("user")
    assert app.kcat_produce(name, [click(user) for user in range(50)]).returncode == 0
    stored = broker.stored_records(name)
    assert len(stored) == 50
    assert all([header for header, _ in record.headers] == ["kveil"] for record in stored)
    for clear in (b"userid", b"request", b"GET /secret"):
        assert clear not in broker.stored_bytes(name)


def test_a_batch_stays_one_batch_with_its_codec(app, broker, topic):
    """The broker would refuse a batch whose count or sequence does not fit; its codec is the producer's choice."""
    for codec in CODECS:
        name = topic("user")
        app.produce(name, clicks(1, 100), f"compression.type={codec}", "linger.ms=500", "batch.size=1000000")
        stored = [batch for path in broker.segment_files(name) for batch in segments.batches(path)]
        assert [(segments.codec(batch), batch.count, batch.base_sequence) for batch in stored] == [(codec, 100, 0)]


def test_a_topic_without_a_policy_is_not_touched(app, reader, broker, outside, topic):
    name = topic("plain")
    app.produce(name, MESSAGES)
    assert [record.message for record in outside.consume(name).records] == MESSAGES
    assert [record.message for record in reader.consume(name).records] == MESSAGES
    assert b"GET /secret/38" in broker.stored_bytes(name)


def test_records_from_before_the_policy_are_passed_as_they_are(app, reader, outside, topic):
    name = topic("topic")
    outside.produce(name, clicks(1, 3))
    app.produce(name, clicks(2, 3))
    assert reader.values(name) == [message.value for message in clicks(1, 3) + clicks(2, 3)]


def test_large_batches_that_do_not_compress_get_through(app, reader, topic):
    """A default librdkafka producer fills a batch to 1,000,000 bytes; sealed, small records must still fit the topic's limit."""
    name = topic("topic")
    values = [json.dumps({"n": number, "text": "x" * 60}).encode() for number in range(50_000)]
    done = app.kcat_produce(name, values, "-X", "linger.ms=500", "-X", "batch.num.messages=100000")
    assert done.returncode == 0, done.stderr
    assert reader.kcat_consume(name) == values


def events(size, count):
    """JSON as applications write it: little of it is the same from one record to the next."""
    random = Random(size)
    values = []
    for number in range(count):
        start = json.dumps({"id": f"{random.getrandbits(64):016x}", "n": number, "ms": random.randrange(10_000), "path": ""})[:-2]
        values.append((start + "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=size - len(start) - 2)) + '"}').encode())
    return values


@pytest.mark.parametrize("size, count", [(1024, 3_000), (100, 30_000)])
@pytest.mark.parametrize("settings", [("-z", "none"), ("-z", "snappy"), ("-X", "enable.idempotence=true"), ("-X", "acks=0")])
def test_full_batches_of_librdkafka_get_through(app, reader, agent, topic, size, count, settings):
    """Batches of 1,000,000 bytes, 48,588 below the broker's default limit: what sealing adds to each record would pass it, so
    they are split."""
    name = topic("topic")
    values = events(size, count)
    split = agent.metrics()["kveil_batches_split_total"]
    done = app.kcat_produce(name, values, *settings, "-X", "linger.ms=1000", "-X", "batch.num.messages=100000")
    assert done.returncode == 0, done.stderr
    assert reader.kcat_consume(name) == values
    assert agent.metrics()["kveil_batches_split_total"] > split


def test_a_topics_own_limit_is_kept(app, reader, outside, broker, topic):
    """Below the default, so that a batch that would grow beyond it is split; and above, so that none has to be. Each record
    keeps its place and has the offset that the producer was told."""
    for limit in (60_000, 70_000, 4_000_000):
        name = topic("topic")
        outside.create_topic(name, 1, f"max.message.bytes={limit}")
        values = events(100, 2_000)
        messages = [Message(None, value) for value in values]
        answers = app.produce(name, messages, "batch.size=55000", "linger.ms=2000")
        assert [answer["offset"] for answer in answers] == list(range(len(values)))
        assert reader.values(name) == values
        stored = [batch for path in broker.segment_files(name) for batch in segments.batches(path)]
        assert max(len(batch.whole) for batch in stored) <= limit
        assert {segments.codec(batch) for batch in stored} == {"none"}
        largest = max(batch.count for batch in stored)
        assert largest > 450 if limit > 100_000 else 300 < largest < 450, f"{largest} records in a batch at {limit} bytes"


def test_committed_and_aborted_transactions_stay_what_they_are(app, reader, topic):
    name = topic("user")
    with app.producing(name, "transactional.id=" + name, "linger.ms=0") as producer:
        for user, outcome in ((1, "commit"), (2, "abort"), (3, "commit")):
            producer.do("begin")
            for message in clicks(user, 5):
                producer.send(message)
            producer.do("flush")
            producer.do(outcome)
        answers = producer.finish()
    assert all("offset" in answer for answer in answers)
    committed = reader.consume(name, "isolation.level=read_committed", "group.id=" + name)
    assert [record.message.value for record in committed.records] == [m.value for m in clicks(1, 5) + clicks(3, 5)]
    assert committed.end["lag"] == {"0": 0}
    assert len(reader.values(name, "isolation.level=read_uncommitted")) == 15
