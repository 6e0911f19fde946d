"""Share groups (KIP-932): members read sealed topics, and no record is given up for the group because one did not get it."""

import clients
from harness import Message, click, clicks, json_lines, stored


def read(application, group, topic, count):
    lines = json_lines(application.run(clients.java_share(application.broker.bootstrap, group, topic, count), timeout=90))
    return [line["error"] for line in lines if "error" in line] or [stored(line) for line in lines]


def values(records):
    return sorted(record.message.value for record in records)


def assert_nothing_comes_again(app, reader, topic):
    """What a member that left had not accepted would come before a newer record."""
    app.produce(topic, [Message(b"k", click("last", 1))])
    assert values(read(reader, "g-" + topic, topic, 1)) == [click("last", 1)]


def test_a_member_reads_what_was_sealed(app, reader, outside, topic):
    name = topic("user")
    expected = [click(user, number) for user in (1, 2) for number in range(20)]
    app.produce(name, [Message(b"k", value, (("trace", b"1"),)) for value in expected], "compression.type=lz4")
    records = read(reader, "g-" + name, name, len(expected))
    assert values(records) == sorted(expected)
    assert all(record.message.headers == (("trace", b"1"),) for record in records)
    assert_nothing_comes_again(app, reader, name)
    assert b"GET /secret" not in b"".join(record.message.value for record in outside.consume(name).records)


def test_records_of_an_erased_user_are_masked_and_count_as_read(app, reader, agent, topic):
    name = topic("user")
    app.produce(name, [*clicks(name + "-forgotten", 3), *clicks("kept", 3), *clicks(name + "-forgotten", 2)])
    agent.erase(name + "-forgotten")
    records = read(reader, "g-" + name, name, 8)
    kept = [message.value for message in clicks("kept", 3)]
    assert values(records) == sorted([b""] * 5 + kept)
    for record in records:
        assert record.message.headers == (() if record.message.value else (("kveil-hidden", b"erased"),))
    assert_nothing_comes_again(app, reader, name)


def test_a_member_that_may_not_read_hears_so_and_takes_nothing_from_the_others(app, reader, outside, topic):
    name = topic("byunit")
    app.produce(name, clicks(1, 4))
    for _ in range(2):
        assert read(app, "g-" + name, name, 4) == ["TopicAuthorizationException"]
    lines = json_lines(reader.run(clients.java_share(reader.broker.bootstrap, "g-" + name, name, 4), timeout=90))
    assert values(stored(line) for line in lines) == [message.value for message in clicks(1, 4)]
    assert {line["deliveryCount"] for line in lines} == {1}, "handed out to the other member before, which counts as a try"
