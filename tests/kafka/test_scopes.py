"""Whose key seals a record: the cluster's, the topic's, or the user's, wherever the record names the user."""

import json
import struct

import pytest

import segments
import waiting
from harness import ANY, Message, click, is_sealed

# (policy of the topic, how a record of a user looks there)
WHERE_THE_USER_IS = {
    "user": lambda user: Message(None, click(user)),
    "deep": lambda user: Message(None, json.dumps({"who": [{"id": user}], "text": "secret"}).encode()),
    "bykey": lambda user: Message(str(user).encode(), b"secret, and no JSON"),
    "inkey": lambda user: Message(json.dumps({"userid": user}).encode(), b"secret, and no JSON"),
    "byheader": lambda user: Message(None, b"secret, and no JSON", (("user", str(user).encode()),)),
}


@pytest.mark.parametrize("scope", ["cluster", "topic"])
def test_shared_keys_seal_any_value(app, reader, outside, topic, scope):
    name = topic(scope)
    messages = [Message(b"k", b"secret, and no JSON"), Message(None, b""), Message(b"k", bytes(range(256)))]
    app.produce(name, messages)
    assert [record.message for record in reader.consume(name).records] == messages
    held = outside.consume(name).records
    assert all(is_sealed(record) for record in held)
    assert all(b"secret" not in record.message.value for record in held)


@pytest.mark.parametrize("where", WHERE_THE_USER_IS)
def test_erasing_a_user_finds_the_records_wherever_they_name_the_user(app, reader, outside, agent, topic, where):
    name, message = topic(where), WHERE_THE_USER_IS[where]
    gone, stays = f"{name}-gone", f"{name}-stays"
    app.produce(name, [message(gone), message(stays), message(gone)])
    assert [record.message for record in reader.consume(name).records] == [message(gone), message(stays), message(gone)]
    assert all(b"secret" not in record.message.value for record in outside.consume(name).records)
    assert agent.erase(gone).returncode == 0
    assert [record.message for record in reader.consume(name).records] == [message(stays)]


def test_the_number_38_and_the_text_38_are_the_same_user(app, reader, agent, topic):
    name = topic("user")
    number = 3_800_000 + hash(name) % 100_000
    app.produce(name, [Message(None, click(number)), Message(None, click(str(number))), Message(None, click("other-" + name))])
    assert agent.erase(str(number)).returncode == 0
    assert reader.values(name) == [click("other-" + name)]


def test_a_number_in_json_and_a_long_key_are_the_same_user(app, reader, outside, agent, topic):
    """The key is what Java's LongSerializer writes: eight bytes, big endian."""
    by_key, by_value = topic("bylong"), topic("bynumber")
    number = 4_800_000 + hash(by_key) % 100_000
    keyed = [Message(struct.pack(">q", user), b"secret, and no JSON") for user in (number, -number)]
    app.produce(by_key, keyed)
    app.produce(by_value, [Message(None, click(number))])
    assert [record.message for record in reader.consume(by_key).records] == keyed
    assert all(is_sealed(record) for record in outside.consume(by_key).records)
    erased = agent.kveil("erase", "--as", "int64", "--user", str(number))
    assert erased.returncode == 0 and "1 key(s)" in erased.stdout
    assert [record.message for record in reader.consume(by_key).records] == keyed[1:]
    assert reader.values(by_value) == []
    assert agent.kveil("erase", f"--user=-{number}").returncode == 0


def test_a_binary_key_without_a_declaration_is_an_invalid_record(app, topic):
    name = topic("bykey")
    answer, = app.produce(name, [Message(struct.pack(">q", 38), b"secret")])
    assert answer["error"] == "InvalidRecordException" and '"as"' in answer["message"]


def test_one_batch_holds_many_users(app, reader, broker, agent, topic):
    name = topic("user")
    users = [f"{name}-{number % 40}" for number in range(400)]
    messages = [Message(None, click(user, number)) for number, user in enumerate(users)]
    app.produce(name, messages, "linger.ms=500", "batch.size=1000000")
    assert sum(1 for path in broker.segment_files(name) for _ in segments.batches(path)) == 1
    assert reader.values(name) == [message.value for message in messages]
    assert agent.erase(users[7]).returncode == 0
    assert reader.values(name) == [message.value for message, user in zip(messages, users) if user != users[7]]


def test_a_sealed_record_does_not_tell_who_it_belongs_to(app, broker, topic):
    """Two batches of one user have nothing in common in their headers: the key id is masked with the batch's salt."""
    name = topic("user")
    for number in range(2):
        app.produce(name, [Message(None, click(name, number))])
    first, second = [dict(record.headers)["kveil"] for record in broker.stored_records(name)]
    assert first[0] == second[0] == 0x12  # version 1, suite 2
    assert first[2:18] != second[2:18] and first[18:30] != second[18:30]


def test_topics_share_a_users_key_only_within_a_keyspace(app, reader, agent, topic):
    """Topics under one prefix are one keyspace; those under another keep their own key for the same user."""
    first, second, other = topic("user"), topic("user"), topic("bykey")
    user = f"shared-{first}"
    for name in (first, second):
        app.produce(name, [Message(None, click(user))])
    app.produce(other, [Message(user.encode(), b"secret")])
    assert agent.erase(user, keyspace="user-").returncode == 0
    assert reader.values(first) == [] and reader.values(second) == []
    assert reader.values(other) == [b"secret"]


def test_a_topic_moves_to_another_kek_and_stays_readable(app, reader, outside, agent, transits, topic):
    name = topic("moves")

    def use(provider):
        before = agent.status()["policies"]["generation"]
        kek = {"provider": provider, "key": "kafka-${cluster}-${topic}"}
        agent.write_policies([{"name": name, "seal": {"scope": "topic", "kek": kek}, "read": ANY}], "kek.json")
        waiting.wait_until("the policy to be in force", lambda: agent.status()["policies"]["generation"] > before, 20)

    use("a")
    app.produce(name, [Message(None, b"secret one")])
    use("b")
    app.produce(name, [Message(None, b"secret two")])
    assert reader.values(name) == [b"secret one", b"secret two"]
    assert all(is_sealed(record) for record in outside.consume(name).records)
    for transit in transits.values():
        assert transit.made[f"kafka-main-{name}"] == 1


def test_a_provider_of_keks_that_is_out_holds_up_its_own_topics_alone(app, reader, agent, transits, topic):
    held, other = topic("keka"), topic("kekb")
    transits["a"].is_out = True
    try:
        answer, = app.produce(held, [Message(None, b"given up")], "delivery.timeout.ms=3000", "request.timeout.ms=2000")
        assert "error" in answer
        app.produce(other, [Message(None, b"secret")])
        assert reader.values(other) == [b"secret"]
        note, = (each["message"] for each in agent.status()["notes"] if each["name"] == "keys")
        assert f"KEK a/kafka-{held} is out of reach" in note and "sealed" in note
        assert agent.kveil("status", "--ready").returncode == 0
        assert agent.metrics()['kveil_kek_keys{provider="a",state="unreachable"}'] == 1
    finally:
        transits["a"].is_out = False
    app.produce(held, [Message(None, b"secret")])
    # The agent may have held what its producer gave up, and written it then.
    assert [value for value in reader.values(held) if value != b"given up"] == [b"secret"]
    assert agent.status()["problems"] == []


def test_users_under_keks_are_erased_one_by_one_and_cost_one_call(app, reader, broker, agent, transits, topic):
    names = [topic("usersa"), topic("usersb")]
    values = [click(f"{user}-{names[0]}") for user in range(50)]
    for name in names:
        app.produce(name, [Message(None, value) for value in values])
        assert reader.values(name) == values
        stored = broker.stored_records(name)
        assert all(b"secret" not in record.value for record in stored)
        envelopes = [dict(record.headers)["kveil"] for record in stored]
        assert {header[1] for header in envelopes} == {0x18}
        assert len({header[-16:] for header in envelopes}) == 1, "they say which key of the KEK they are under"
    assert [transit.made["kafka-people"] for transit in transits.values()] == [1, 1]
    assert agent.erase(f"0-{names[0]}", keyspace="people").returncode == 0
    for name in names:
        assert reader.values(name) == values[1:]
