"""What may not pass is refused in Kafka's own terms, and nothing of it is stored."""

import contextlib
import json

import pytest

import waiting
import wire
from harness import ANY, Message, click, clicks

INVALID_RECORD, TOPIC_AUTHORIZATION_FAILED = 87, 29


def nothing_stored(broker, name):
    return broker.stored_bytes(name).strip(b"\0") == b""


@pytest.mark.parametrize("value, reason", [(b"no JSON at all: secret", "JSON"), (b'{"name": "secret"}', "user"),
                                           (b'{"userid": null, "name": "secret"}', "user"),
                                           (b'{"userid": {"secret": 1}}', "user"), (b"[1, 2", "JSON")])
def test_a_record_that_names_no_user_is_an_invalid_record(app, broker, topic, value, reason):
    name = topic("user")
    app.create_topic(name)
    answer, = app.produce(name, [Message(None, value)])
    assert answer["error"] == "InvalidRecordException" and reason in answer["message"]
    assert "secret" not in answer["message"], "the value is quoted"
    assert nothing_stored(broker, name)


def test_the_broker_of_the_batch_says_which_records_are_wrong(app, broker, topic):
    name = topic("user")
    app.create_topic(name)
    batch = wire.batch([(None, click(1), []), (None, b"bad", []), (None, click(2), []), (None, b"{}", [])])
    with app.raw() as connection:
        answer = wire.produce_answer(connection.exchange(wire.produce(name, batch)))
    assert answer.error == INVALID_RECORD and sorted(answer.record_errors) == [1, 3]
    assert nothing_stored(broker, name)


def test_good_records_go_on_after_a_bad_one(app, reader, topic):
    name = topic("user")
    with app.producing(name) as producer:
        answers = []
        for message in [*clicks(1, 3), Message(None, b"bad"), *clicks(2, 3)]:
            producer.send(message)
            answers.append(producer.flush())  # One batch a record.
    assert ["error" in answer for answer in answers] == [False] * 3 + [True] + [False] * 3
    assert reader.values(name) == [message.value for message in clicks(1, 3) + clicks(2, 3)]


def test_an_idempotent_producer_with_many_batches_in_flight_stays_in_order(app, reader, topic):
    """After a local refusal, later batches of the same producer may not overtake."""
    name = topic("user")
    messages = [Message(None, b"bad") if number == 50 else Message(None, click(1, number)) for number in range(300)]
    answers = app.produce(name, messages, "linger.ms=0", "batch.size=1")
    acknowledged = [message.value for message, answer in zip(messages, answers) if "offset" in answer]
    assert "error" in answers[50] and len(acknowledged) >= 50
    assert reader.values(name) == acknowledged


@contextlib.contextmanager
def unselected(agent, what):
    """With this said of the topics that no policy selects."""
    def files():
        return agent.status()["policies"]["files"]

    before = files()
    agent.write_policy_text(json.dumps({"unselected": what}), "unselected.json")
    waiting.wait_until("the policy to be in force", lambda: files() == before + 1, 10)
    try:
        yield
    finally:
        (agent.policy_folder / "unselected.json").unlink()
        waiting.wait_until("the policy to be gone", lambda: files() == before, 10)


def test_a_topic_that_no_policy_selects_may_be_refused(app, reader, broker, agent, topic):
    free, selected = topic("free"), topic("topic")
    app.create_topic(free)
    with unselected(agent, "refuse"):
        answer, = app.produce(free, [Message(None, b"secret")])
        assert answer["error"] == "TopicAuthorizationException"
        assert "offset" in app.produce(selected, [Message(None, b"secret")])[0]
        assert app.kcat_produce(free, [b"secret"]).returncode != 0
        # The consumer's group keeps its offsets in a topic of Kafka's own.
        read = reader.consume(selected, "group.id=" + selected)
        assert [record.message.value for record in read.records] == [b"secret"]
        assert nothing_stored(broker, free)
    assert "offset" in app.produce(free, [Message(None, b"clear")])[0]


def test_a_topic_that_no_policy_selects_may_be_sealed(app, reader, outside, agent, topic):
    free = topic("free")
    with unselected(agent, {"seal": {"scope": "topic"}, "read": ANY}):
        app.produce(free, [Message(None, b"secret")])
        assert reader.values(free) == [b"secret"]
    assert b"secret" not in outside.values(free)[0]


def test_unselected_topics_are_named_that_a_reader_of_protected_ones_writes_to(app, reader, agent, topic):
    free, protected = topic("free"), topic("topic")
    app.produce(protected, [Message(None, b"secret")])
    assert reader.values(protected) == [b"secret"]
    reader.produce(free, [Message(None, b"copied: secret")])
    assert free in {named["topic"] for named in agent.status()["unselected"]["topics"]}
    assert free in agent.kveil("status").stdout


def test_kcat_sees_the_refusal_too(app, broker, topic):
    name = topic("user")
    app.create_topic(name)
    done = app.kcat_produce(name, [b"no JSON"])
    assert done.returncode != 0 or b"ailed" in done.stderr
    assert nothing_stored(broker, name)


def test_a_forged_envelope_is_refused(app, broker, topic):
    for prefix in ("user", "topic"):
        name = topic(prefix)
        app.create_topic(name)
        answer, = app.produce(name, [Message(None, click(1), (("kveil", b"\x11" + bytes(40)),))])
        assert answer["error"] == "InvalidRecordException"
        assert nothing_stored(broker, name)


def test_a_workload_without_a_rule_may_not_read(app, reader, topic):
    name = topic("unread")
    assert "offset" in app.produce(name, [Message(None, b"x")])[0], "writing is not reading"
    with pytest.raises(AssertionError, match="TopicAuthorizationException"):
        reader.consume(name, "limit.seconds=10")
    with pytest.raises(AssertionError, match="uthorization failed"):
        reader.kcat_consume(name)


def test_a_topic_may_be_read_by_the_unit_that_is_named_and_no_other(app, reader, topic):
    name = topic("byunit")
    app.produce(name, [Message(None, b"x")])
    assert reader.values(name) == [b"x"]
    with pytest.raises(AssertionError, match="TopicAuthorizationException"):
        app.consume(name, "limit.seconds=10")


def test_a_topic_may_be_read_by_the_cgroup_that_is_named_and_no_other(app, reader, topic):
    name = topic("bycgroup")
    app.produce(name, [Message(None, b"x")])
    assert reader.values(name) == [b"x"]
    with pytest.raises(AssertionError, match="TopicAuthorizationException"):
        app.consume(name, "limit.seconds=10")


@pytest.mark.parametrize("first_bytes", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                         b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"])
def test_bytes_that_are_not_kafka_end_the_connection_before_the_broker_sees_them(app, broker, first_bytes):
    complaints = broker.log.read_bytes().count(b"InvalidReceiveException")
    with app.raw() as connection:
        assert connection.greeting[0] == "connected"
        assert connection.exchange(first_bytes) == "closed"
    assert broker.log.read_bytes().count(b"InvalidReceiveException") == complaints


@pytest.mark.parametrize("damage", ["wrong crc", "count too large", "count too small", "cut off", "garbage"])
def test_a_batch_that_does_not_parse_is_refused(app, broker, topic, damage):
    name = topic("topic")
    app.create_topic(name)
    records = [(None, b"secret", [])] * 3
    batch = {"wrong crc": lambda: wire.batch(records, wrong_crc=True), "count too large": lambda: wire.batch(records, count=4),
             "count too small": lambda: wire.batch(records, count=2), "cut off": lambda: wire.batch(records)[:-3],
             "garbage": lambda: bytes(range(100))}[damage]()
    with app.raw() as connection:
        answer = connection.exchange(wire.produce(name, batch))
    assert answer == "closed" or wire.produce_answer(answer).error == INVALID_RECORD
    assert nothing_stored(broker, name)


def test_a_produce_version_that_nobody_knows_ends_the_connection(app, broker, topic):
    name = topic("topic")
    app.create_topic(name)
    batch = wire.batch([(None, b"secret", [])])
    for version in (99, 2):
        with app.raw() as connection:
            assert connection.exchange(wire.produce(name, batch, version=version)) == "closed"
    assert nothing_stored(broker, name)
