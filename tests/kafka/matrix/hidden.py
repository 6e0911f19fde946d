"""What every client does where a part of the records is hidden: those of a user who has been erased.

Everything that is visible is read once, position and commit reach the end, and no client asks again and again for what it does
not get. How often it asked is seen by how often records were left out: each time that a batch is fetched, its hidden ones are."""

import time

import waiting
from cases import Case, came_back
from driving import require
from harness import Message, click

VISIBLE, HIDDEN = "stays", "gone"
IDLE = 1.5                # Seconds that a client is watched for at the end of a topic.
IDLE_BYTES = 40_000       # What it may send in that time: some 200 requests. A client that is stuck sends thousands.
REQUEST = 60              # The least bytes that a fetch request has.
ONE_BATCH = ("fetch.bytes=1",)  # The broker gives the first batch always, and no second one that is beyond the limit.
MASK = ("kveil-hidden", b"erased")


def laid_out(seat, pattern, prefix="user"):
    """A topic with a batch for each word of the pattern, such as `vvh`, in which the records that are marked h are hidden.
    Returns the topic and the messages with what they are."""
    topic = seat.node.topic(prefix)
    marks = iter(range(1_000_000))
    batches = [[(mark, message_of(topic, mark, next(marks))) for mark in word] for word in pattern]
    seat.node.lay_out(topic, [[message for _, message in batch] for batch in batches])
    erased = seat.node.agent.erase(f"{topic}-{HIDDEN}")
    require(erased.returncode == 0, f"kveil erase: {erased.stderr}")
    return topic, [entry for batch in batches for entry in batch]


def message_of(topic, mark, number):
    return Message(f"key {number}".encode(), click(f"{topic}-{HIDDEN if mark == 'h' else VISIBLE}", number), (("trace", b"1f"),))


def left_out(seat):
    return seat.node.metric("kveil_records_dropped_total") + seat.node.metric("kveil_records_masked_total")


def asked(seat):
    """How many bytes of requests clients have sent."""
    return seat.node.metric("kveil_received_bytes_total", 'from="client"')


def hidden(name, title, pattern, *settings, has=lambda client: True):
    def run(seat):
        topic, laid = laid_out(seat, pattern)
        group = f"group-{topic}"
        due = [message for mark, message in laid if mark == "v"]
        before, quiet = left_out(seat), asked(seat)
        with seat.following(topic, f"group.id={group}", *settings) as follower:
            follower.take(records_due(seat, laid))
            stands_still(seat, before, laid)
            if settings == ONE_BATCH:
                require(asked(seat) - quiet > len(pattern) * REQUEST, "it got many batches in a response")
            late = message_of(topic, "v", len(laid))
            seat.node.lay_out(topic, [[late]])
            follower.take(1)
            reading = follower.finish()
        came_back(due + [late], without_masked(seat, reading, laid))
        at_the_end(seat, topic, group, reading, len(laid) + 1)
        reads_nothing_twice(seat, topic, group)

    return Case(name, title, run, has)


def records_due(seat, laid):
    return len(laid) if seat.client.gets_masked else sum(mark == "v" for mark, _ in laid)


def without_masked(seat, reading, laid):
    """A client that is known not to stand gaps gets hidden records with their values masked: each of them once."""
    if not seat.client.gets_masked:
        return reading
    masked = [record for record in reading.records if MASK in record.message.headers]
    require(not any(record.message.value for record in masked), "a hidden record has a value")
    require([record.offset for record in masked] == [offset for offset, (mark, _) in enumerate(laid) if mark == "h"],
            f"masked are the offsets {[record.offset for record in masked]}")
    return reading._replace(records=[record for record in reading.records if MASK not in record.message.headers])


def stands_still(seat, before, laid):
    """At the end of the topic, behind records that it did not get, the client waits; it got none of the batches often."""
    hidden_records = sum(mark == "h" for mark, _ in laid)
    waiting.wait_until("the client to get past the last hidden batch", lambda: left_out(seat) - before >= hidden_records, 30)
    time.sleep(0.5)
    sent = asked(seat)
    skipped = left_out(seat)
    time.sleep(IDLE)
    require(left_out(seat) == skipped, "at the end of the topic the client fetches again what is hidden from it")
    said = asked(seat) - sent
    require(said < IDLE_BYTES, f"at the end of the topic the client is busy: {said:.0f} bytes in {IDLE} s")
    require(hidden_records <= skipped - before <= 3 * hidden_records,
            f"{hidden_records} hidden records were left out {skipped - before:.0f} times")


def at_the_end(seat, topic, group, reading, end):
    if seat.client.tells_position:
        require(reading.position == {"0": end}, f"the client's position is {reading.position}, the end is {end}")
    committed = seat.node.observer.committed(topic, group)
    require(committed == {"0": end}, f"committed is {committed}, the end is {end}")


def reads_nothing_twice(seat, topic, group):
    """The trailing case once more, from the group's offset: behind the visible records are hidden ones, and the group's next
    member starts behind what was committed."""
    gone = [message_of(topic, "h", number) for number in range(3)]
    seat.node.lay_out(topic, [[message] for message in gone])
    end = seat.node.observer.ends(topic)["0"]
    with seat.following(topic, f"group.id={group}") as follower:
        late = message_of(topic, "v", end)
        if seat.client.gets_masked:
            require(all(MASK in record.message.headers for record in follower.take(3)), "a hidden record was read")
        seat.node.lay_out(topic, [[late]])
        again = follower.take(1)
        require([record.message for record in again] == [late], f"the group went on with {again}")
        follower.finish()


def trailing_commit(seat):
    """The last records are hidden, and the client ends there."""
    topic, laid = laid_out(seat, ["vvv"] * 3 + ["hhh"] * 10)
    group = f"group-{topic}"
    with seat.following(topic, f"group.id={group}") as follower:
        follower.take(records_due(seat, laid))
        time.sleep(1)
        reading = follower.finish()
    came_back([message for mark, message in laid if mark == "v"], without_masked(seat, reading, laid))
    if seat.client.commits_position or seat.client.gets_masked:
        at_the_end(seat, topic, group, reading, len(laid))
    else:
        committed = seat.node.observer.committed(topic, group)
        require(committed == {"0": 9}, f"committed is {committed}; the client commits behind the last record that was read, 9")


def seek(seat):
    """Into a batch that is hidden in part, and into one that is hidden as a whole."""
    topic, laid = laid_out(seat, ["vhvhvhvhvh", "hhhhhhhhhh", "vvvvvvvvvv", "hhhhhhhhhh", "vhvhvhvhvv"])
    for start in (3, 9, 14):
        due = [message for mark, message in laid[start:] if mark == "v"]
        reading = seat.read(topic, records_due(seat, laid[start:]), f"from.offset={start}")
        rest = [("", message) for _, message in laid[:start]] + laid[start:]
        came_back(due, without_masked(seat, reading, rest))


def transactions(seat):
    """Committed and aborted ones, each with hidden records, the last one wholly hidden."""
    topic = seat.node.topic("user")
    pattern = [("vv", "commit"), ("hhh", "commit"), ("vvv", "abort"), ("vhv", "commit"), ("hhh", "abort"), ("hh", "commit")]
    marks = iter(range(1_000_000))
    due = []
    with seat.node.another_producer("linger.ms=1000", f"transactional.id={topic}") as producer:
        for word, outcome in pattern:
            producer.do("begin")
            messages = [(mark, message_of(topic, mark, next(marks))) for mark in word]
            for _, message in messages:
                producer.send(topic, message)
            producer.flush(len(messages))
            producer.do(outcome)
            due += messages if outcome == "commit" else []
        producer.finish()
    require(seat.node.agent.erase(f"{topic}-{HIDDEN}").returncode == 0, "kveil erase failed")
    reading = seat.read(topic, records_due(seat, due), "isolation.level=read_committed")
    read = [record for record in reading.records if MASK not in record.message.headers]
    came_back([message for mark, message in due if mark == "v"], reading._replace(records=read))


def masked(seat):
    """The policy says `mask`: hidden records keep their place, key and headers."""
    topic, laid = laid_out(seat, ["vhvhvhvhvh", "hhhhhhhhhh", "vvv", "hhh", "hhh"], "mask")
    group = f"group-{topic}"
    with seat.following(topic, f"group.id={group}") as follower:
        follower.take(len(laid))
        time.sleep(0.7)
        reading = follower.finish()
    due = [message if mark == "v" else message._replace(value=b"", headers=(*message.headers, MASK)) for mark, message in laid]
    came_back(due, reading)
    at_the_end(seat, topic, group, reading, len(laid))


MANY = ["v"] + ["hhh"] * 30 + ["v"] + ["hhh"] * 30
ALL = [
    hidden("hidden-partial", "batches hidden in part", ["vhvhvhvhvh"] * 5),
    hidden("hidden-whole", "whole batches hidden", ["vvvvv", "hhhhh"] * 5 + ["v"]),
    hidden("hidden-many", "30 hidden batches in a row, twice, many in a response", MANY),
    hidden("hidden-singly", "the same, one batch in a response", MANY, *ONE_BATCH),
    Case("hidden-trailing", "the last 10 batches hidden, and the consumer ends", trailing_commit),
    Case("hidden-seek", "seek into hidden records", seek),
    Case("hidden-transactions", "hidden records in transactions, `read_committed`", transactions, lambda client: client.read_committed),
    Case("mask", "hidden records masked by policy", masked),
]
