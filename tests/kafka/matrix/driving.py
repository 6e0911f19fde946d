"""What the cases say things with: a client that produces, one that follows a topic, and what the broker has."""

import collections
import contextlib
import itertools
import json
import subprocess
import tempfile
import time

import installing
import waiting
from harness import Lines, Message, Stored, decoded, record_line

PATIENCE = 45  # Seconds that one answer of a client may take.
QUIET = 0.7    # Seconds that a follower is listened to after the last record that is due, for one that is not.

Reading = collections.namedtuple("Reading", "records errors position empty_as_null")


class Wrong(Exception):
    """A case that failed, and why."""


class Node:
    """One node with its agent, one broker, and what looks at both. The same for all clients."""

    def __init__(self, site, broker, agent, observer, setup, direct=False, tls=()):
        self.tls = tls  # Settings with which a client speaks TLS to the broker's listener for that.
        self.site, self.broker, self.agent, self.observer, self.setup, self.direct = site, broker, agent, observer, setup, direct
        self.writer, self.reader, self.second_reader = (None if direct else site.workload(name)
                                                        for name in ("writer", "reader", "reader2"))
        self._numbers = itertools.count(1)
        self.memory = {}  # Topics that all clients read.

    def topic(self, prefix, partitions=1, compact=False):
        """A new topic; its name chooses its policy."""
        name = f"{prefix}-{next(self._numbers)}"
        self.observer.ask(do="create", topic=name, partitions=partitions, compact=compact)
        return name

    def metric(self, name, label=""):
        """The sum over all lines of the metric that have the label."""
        return sum(value for line, value in self.agent.metrics().items() if line.split("{")[0] == name and label in line)

    def lay_out(self, topic, batches, timestamps=None):
        """Produces the messages of each batch as one batch, with an application that is not under test."""
        times = iter(timestamps or [])
        for batch in batches:
            for message in batch:
                self.setup.send(topic, message, **({"timestamp": next(times)} if timestamps else {}))
            for answer in self.setup.flush(len(batch)):
                require("offset" in answer, f"the records of the case could not be laid out: {answer}")


    @contextlib.contextmanager
    def another_producer(self, *settings):
        """A producer with settings of its own that is not under test."""
        command = [*installing.java(None), "produce", self.broker.bootstrap, *settings]
        with driver(self.site, self.writer, command) as lines:
            yield Producer(lines)


class Seat:
    """One client on the node."""

    def __init__(self, node, client):
        self.node, self.client = node, client
        self.command = client.command()
        self.memory = {}  # What rows share that look at one run of the client.
        self.version = json.loads(subprocess.run([*self.command, "version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                                 text=True, check=True, timeout=60).stdout)["version"]

    def produce(self, topic, messages, *settings, **where):
        """Sends all, ends the producer, returns its answers; each of them must be a success."""
        with self.producing(*settings) as producer:
            for message in messages:
                producer.send(topic, message, **where)
            answers = producer.finish()
        failed = [answer for answer in answers if "error" in answer]
        require(not failed, f"{len(failed)} of {len(messages)} records were not delivered: {failed[:1]}")
        require(len(answers) == len(messages), f"{len(answers)} answers to {len(messages)} records")
        return answers

    def bootstrap(self, settings):
        broker = self.node.broker
        return f"{broker.address}:{broker.ports['tls']}" if "security.protocol=SSL" in settings else broker.bootstrap

    @contextlib.contextmanager
    def producing(self, *settings):
        with driver(self.node.site, self.node.writer, [*self.command, "produce", self.bootstrap(settings), *settings]) as lines:
            yield Producer(lines)

    @contextlib.contextmanager
    def following(self, topic, *settings, workload=None):
        command = [*self.command, "follow", self.bootstrap(settings), topic, *settings]
        with driver(self.node.site, workload or self.node.reader, command) as lines:
            yield Follower(lines, self.client.empty_as_null)

    def read(self, topic, count, *settings):
        """Reads `count` records, then listens for ones that are not due."""
        with self.following(topic, *settings) as follower:
            follower.take(count)
            time.sleep(QUIET)
            return follower.finish()


class Producer:
    def __init__(self, lines):
        self._lines = lines

    def send(self, topic, message, **where):
        line = record_line(topic, message)
        self._lines.tell(json.dumps({**json.loads(line), **where}) if where else line)

    def do(self, what):
        self._lines.tell(json.dumps({"do": what}))

    def flush(self, count):
        """The answers to the last `count` records."""
        self.do("flush")
        return [json.loads(next_line(self._lines)) for _ in range(count)]

    def finish(self):
        return [json.loads(line) for line in self._lines.finish(PATIENCE * 2)]


class Follower:
    def __init__(self, lines, empty_as_null):
        self._lines, self._empty_as_null = lines, empty_as_null
        self.records, self.errors = [], []

    def take(self, count, patience=PATIENCE):
        """Waits for `count` more records; returns them."""
        taken = []
        while len(taken) < count:
            try:
                self._put(next_line(self._lines, patience), taken)
            except waiting.TimedOut:
                raise Wrong(f"{len(self.records)} records came, then none for {patience} s; {count - len(taken)} are due"
                            f"{self._complaint()}") from None
        return taken

    def take_error(self):
        """Waits for an error; returns its code."""
        while not self.errors:
            self._put(next_line(self._lines), [])
        return self.errors[0]["error"]

    def hears_nothing(self):
        """Neither a record nor an error has come so far."""
        try:
            self._put(next_line(self._lines, 0.1), [])
        except waiting.TimedOut:
            return
        raise Wrong(f"a client that was to wait got {[*self.records, *self.errors][0]}")

    def finish(self):
        position = None
        for line in self._lines.finish(PATIENCE):
            if "end" in json.loads(line):
                position = json.loads(line)["end"]["position"]
            else:
                self._put(line, [])
        return Reading(self.records, self.errors, position, self._empty_as_null)

    def _put(self, line, taken):
        told = json.loads(line)
        if "error" in told:
            self.errors.append(told)
        elif "offset" in told:
            record = stored(told)
            self.records.append(record)
            taken.append(record)

    def _complaint(self):
        return f"; it said {self.errors[-1]['error']}: {self.errors[-1]['message']}" if self.errors else ""


class Observer:
    """What the broker has, seen from outside the agent's reach."""

    def __init__(self, lines):
        self._lines = lines

    def ask(self, **question):
        self._lines.tell(json.dumps(question))
        answer = json.loads(next_line(self._lines))
        if "error" in answer:
            raise RuntimeError(f"{question}: {answer['error']}")
        return answer

    def records(self, topic):
        return [stored(record) for record in self.ask(do="read", topic=topic)["records"]]

    def committed(self, topic, group):
        return self.ask(do="committed", topic=topic, group=group)["offsets"]

    def ends(self, topic):
        return self.ask(do="ends", topic=topic)["offsets"]

    def wait_for_records(self, topic, count):
        """Waits until so many offsets are taken."""
        try:
            waiting.wait_until("records", lambda: sum(self.ends(topic).values()) >= count, 10)
        except waiting.TimedOut:
            raise Wrong(f"the broker has {sum(self.ends(topic).values())} offsets, sent were {count} records") from None

    def wait_for_members(self, group, partitions):
        """Waits until the group is stable and its members have so many partitions each, in any order."""
        waiting.wait_until(f"the members of {group} to have {partitions} partitions",
                           lambda: sorted(self.ask(do="members", group=group)["partitions"]) == partitions, 60, 0.3)


@contextlib.contextmanager
def driver(site, workload, command):
    """A running driver in a workload; on the host without one. What it says on stderr is shown when a case fails in it."""
    said = tempfile.TemporaryFile("w+", dir=site.folder, errors="replace")
    start = workload.start if workload else subprocess.Popen
    process = start(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
    try:
        yield Lines(process)
    except (AssertionError, BrokenPipeError, EOFError, json.JSONDecodeError, waiting.TimedOut) as error:
        said.seek(0)
        tail = " / ".join(said.read().strip().splitlines()[-3:])[-600:]
        raise Wrong(f"{type(error).__name__} {error} {tail}") from error
    finally:
        process.kill()
        process.wait(10)


def next_line(lines, patience=PATIENCE):
    line = lines.next(patience)
    if line is None:
        raise EOFError("the client ended by itself")
    return line


def stored(line):
    headers = tuple((name, decoded(value)) for name, value in line.get("headers", []))
    return Stored(line["partition"], line["offset"], line["timestamp"],
                  Message(decoded(line["key"]), decoded(line["value"]), headers))


def require(condition, otherwise):
    if not condition:
        raise Wrong(otherwise)
