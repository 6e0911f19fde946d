"""How each client sees what kveil refuses, and that nothing is lost when the cause is gone."""

import contextlib
import fcntl
import time

import waiting
from cases import Case, came_back, texts
from driving import QUIET, require
from harness import Message, click

TOPIC_AUTHORIZATION_FAILED, INVALID_RECORD = 29, 87


def denied(seat):
    topic = seat.node.topic("denied")
    seat.produce(topic, texts(3))
    with seat.following(topic) as follower:
        code = follower.take_error()
        require(code == TOPIC_AUTHORIZATION_FAILED, f"the client said {follower.errors[0]}")
        require(not follower.records, "a record was read")


def invalid_record(seat):
    """One that names no user, among others that do: they are not hurt. Without an agent, one without a key in a compacted topic:
    the broker answers it with the same code."""
    topic = seat.node.topic("user", compact=seat.node.direct)
    good = [Message(b"key", click(f"{topic}-user", number), ()) for number in range(6)]
    answers = []
    with seat.producing(*seat.client.after_refusal) as producer:
        for message in [*good[:3], Message(None, b"no JSON", ()), *good[3:]]:
            producer.send(topic, message)
            answers += producer.flush(1)  # A batch for each: what is refused is a batch.
        producer.finish()
    codes = [answer.get("error") for answer in answers]
    require(codes == [None] * 3 + [seat.client.invalid_record] + [None] * 3, f"the answers were {codes}; {answers[3]}")
    came_back(good, seat.read(topic, len(good)))


@contextlib.contextmanager
def keys_unreachable(seat):
    """Another process holds every lock of the registry. SQLite's are byte ranges of this file; with a statement of SQL one
    can only keep others from writing."""
    with open(f"{seat.node.agent.registry}-shm", "r+b") as locks:
        waiting.wait_until("the locks of the registry", lambda: locked(locks), 10, 0.001)
        yield


def locked(locks):
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 120)
        return True
    except OSError:
        return False


def of_new_users(topic, count):
    """Each record is of a user who has no key yet."""
    return [Message(None, click(f"{topic}-{number}", number), ()) for number in range(count)]


def keys_unreachable_while_producing(seat):
    topic = seat.node.topic("user")
    messages = of_new_users(topic, 100)
    with seat.producing(*seat.client.careful) as producer:
        for message in messages[:20]:
            producer.send(topic, message)
        answers = producer.flush(20)
        with keys_unreachable(seat):
            for message in messages[20:80]:
                producer.send(topic, message)
                time.sleep(0.05)
            producer.do("flush")
            time.sleep(3)
            stored = seat.node.observer.ends(topic)
            require(stored == {"0": 20}, f"the broker has {stored} although no key can be had")
        for message in messages[80:]:
            producer.send(topic, message)
        answers += producer.finish()
    failed = [answer for answer in answers if "error" in answer]
    require(not failed and len(answers) == 100, f"{len(failed)} records were lost: {failed[:1]}")
    came_back(messages, seat.read(topic, 100))


def keys_unreachable_while_reading(seat):
    """The agent starts anew, so that it has no key at hand."""
    topic = seat.node.topic("user")
    messages = of_new_users(topic, 50)
    seat.node.lay_out(topic, [messages[:25], messages[25:]])
    seat.node.agent.stop()
    seat.node.agent.start()
    with contextlib.ExitStack() as while_locked:
        while_locked.enter_context(keys_unreachable(seat))
        with seat.following(topic) as follower:
            time.sleep(4)
            follower.hears_nothing()
            while_locked.close()
            follower.take(len(messages))
            time.sleep(QUIET)
            reading = follower.finish()
    came_back(messages, reading)


ALL = [
    Case("denied", "a topic that it may not read", denied),
    Case("invalid-record", "a record that the policy cannot be applied to", invalid_record),
    Case("keys-produce", "keys unreachable for 6 s, while producing", keys_unreachable_while_producing),
    Case("keys-read", "keys unreachable for 4 s, while reading", keys_unreachable_while_reading),
]
