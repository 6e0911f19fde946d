"""One application that has records of very many new users, and what the others notice of it."""

import json
import threading
import time

import wire
from harness import click, clicks, exchange_when_led

MESSAGE_TOO_LARGE = 10
LEADER_NOT_AVAILABLE = (3, 5, 6)
FLOOD = 90_000
PATIENCE = 1.0  # Seconds; without a flood both take a few milliseconds, and a new process for `kveil erase`.


def batch_of(users):
    return wire.batch([(None, json.dumps({"userid": user}).encode(), []) for user in users])


def has_no_leader(answer):
    return wire.produce_answer(answer).error in LEADER_NOT_AVAILABLE


def test_many_new_users_of_one_application_hold_up_nobody_else(app, reader, agent, topic):
    name, other = topic("user"), topic("user")
    app.create_topic(name, 1, "max.message.bytes=50000000")
    people = [f"{name}-person-{number}" for number in range(40)]
    app.produce(other, [clicks(person, 1)[0] for person in people])
    flood = wire.produce(name, batch_of(f"{name[-8:]}-{number}" for number in range(FLOOD)))
    answers, erasing, sealing = [], [], []

    def send_flood():
        with app.raw() as connection:
            limit = time.monotonic() + 60
            while not answers or (answers[-1].error != 0 and time.monotonic() < limit):  # As any client does.
                answers.append(wire.produce_answer(connection.exchange(flood)))

    with reader.raw() as connection:
        for_one = lambda user: wire.produce(other, wire.batch([(None, click(user), [])]))
        exchange_when_led(connection, for_one("somebody"), has_no_leader)
        sender = threading.Thread(target=send_flood)
        sender.start()
        while sender.is_alive() and people:
            started = time.monotonic()
            # Without the wait for the workers: 3 says that one of them has not dropped the key yet.
            assert agent.kveil("erase", "--user", people.pop(), "--wait", "0").returncode in (0, 3)
            erased = time.monotonic()
            answer = wire.produce_answer(connection.exchange(for_one(f"{name}-new-{len(people)}")))
            assert answer.error == 0
            erasing.append(erased - started)
            sealing.append(time.monotonic() - erased)
        sender.join(90)
    assert answers[-1].error == 0, answers
    assert len(erasing) >= 3, "the flood was over too soon to say anything"
    assert max(erasing) < PATIENCE and max(sealing) < PATIENCE, (erasing, sealing)


def test_a_batch_of_more_users_than_it_may_have_is_refused_for_good(app, agent, topic):
    name = topic("user")
    app.create_topic(name, 1, "max.message.bytes=50000000")
    with app.raw() as connection:
        request = wire.produce(name, batch_of(f"{name[-8:]}-{number}" for number in range(100_001)))
        answer = wire.produce_answer(connection.exchange(request))
    assert answer.error == MESSAGE_TOO_LARGE
    assert "100000 users" in answer.message
    assert agent.erase(f"{name[-8:]}-0").returncode != 0, "a key was made for a batch that is refused"
