"""One application under load: a producer that numbers its records, and a consumer that must get each of them once, in order."""

import collections
import itertools
import json
import threading
import time

from harness import Message, click
import waiting

RECORDS_OF_A_USER = 100  # Then comes the next user.
ROUND = 10  # Records that are sent before the producer waits for their answers.
PAUSE = 0.05  # Seconds.
MARK = b"GET /secret/"  # In every value that `click` makes. At the broker it may not be seen.


class Stream:
    """`with Stream(application, topic, settings) as stream:` sends and reads until its end."""

    SETTINGS_OF_READERS = []

    def __init__(self, application, topic, *settings):
        self.topic = topic
        self.acknowledged = {}  # Offset at the broker by number.
        self.refused = {}  # What the producer was told, by number.
        self.read = []  # Numbers in the order in which the consumer got them.
        self.turned = []  # The first record of each transaction that came out the wrong way, by the broker's own doing.
        self.rounds = []  # When each round of the producer began, and its last number. Only those that are to be read.
        self._application = application
        self._settings = ["linger.ms=2", "delivery.timeout.ms=900000", "reconnect.backoff.max.ms=200", *settings]
        self._checked = 0  # How much of what was read.
        self._missed = set()  # Numbers that the consumer has passed without getting them.
        self._ending = threading.Event()
        self._problems = collections.deque()
        self._threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in (self._produce, self._consume)]

    def __enter__(self):
        self._application.create_topic(self.topic)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._ending.set()
        if kind is None:
            self.end()

    def end(self):
        """Nothing more is sent; what was sent is acknowledged and read, if that takes no longer than a minute."""
        self._ending.set()
        limit = time.monotonic() + 60
        for thread in self._threads:
            thread.join(max(0, limit - time.monotonic()))

    def user_of(self, number):
        return f"{self.topic}-{number // RECORDS_OF_A_USER}"

    def value_of(self, number):
        return click(self.user_of(number), number)

    def problems(self):
        """What went wrong so far, a line each."""
        return [*self._problems, *(f"{self.topic}: record {number} was refused: {why}" for number, why in list(self.refused.items())[:3])]

    def has_worked_since(self, moment):
        """Whether records that were sent after that moment of the monotonic clock are acknowledged and read."""
        if len(self.rounds) < 2:
            return False
        began, newest = self.rounds[-2]  # The last one is not answered yet.
        return began > moment and bool(self.read) and self.read[-1] >= newest

    def check(self):
        """What is wrong with what was read up to now, a line each."""
        return self._out_of_order() or [f"{self.topic}: record {number} was acknowledged and not read" for number in self._lost()[:3]]

    def _out_of_order(self):
        """Looks at what was read since the last time."""
        end = len(self.read)
        last = self.read[self._checked - 1] if self._checked else -1
        for number in self.read[self._checked:end]:
            if number <= last:
                return [f"{self.topic}: record {number} was read after {last}"]
            self._missed.update(range(last + 1, number))
            last = number
        self._checked = end
        return []

    def _lost(self):
        return sorted(number for number in self._missed if number in self.acknowledged)

    def _guard(self, work):
        try:
            work()
        except Exception as error:  # pylint: disable=broad-exception-caught # it ends the campaign
            self._problems.append(f"{self.topic}: {work.__name__.strip('_')}: {type(error).__name__}: {error}")

    def _produce(self):
        numbers = itertools.count()
        with self._application.producing(self.topic, *self._settings) as producer:
            while not self._ending.is_set():
                batch = list(itertools.islice(numbers, ROUND))
                self.rounds.append((time.monotonic(), batch[-1]))
                self._take(self._send(producer, batch))
                self._ending.wait(PAUSE)

    def _send(self, producer, batch):
        """The answers by number."""
        for number in batch:
            producer.send(Message(None, self.value_of(number)))
        return list(zip(batch, self._answers(producer, len(batch))))

    def _take(self, answers):
        for number, answer in answers:
            if "offset" in answer:
                self.acknowledged[number] = answer["offset"]
            else:
                self.refused[number] = answer["message"]

    @staticmethod
    def _answers(producer, count):
        return [producer.flush(timeout=900), *(producer.answer() for _ in range(count - 1))]

    def _consume(self):
        with self._application.following(self.topic, *self.SETTINGS_OF_READERS) as consumer:
            while not self._ending.is_set() or self._threads[0].is_alive() or (self.acknowledged and self.read[-1] < max(self.acknowledged)):
                try:
                    record = consumer.next(timeout=0.5)
                except waiting.TimedOut:
                    continue
                number = json.loads(record.message.value)["number"]
                if record.message.value != self.value_of(number):
                    raise ValueError(f"record {number} came back changed")
                self.read.append(number)


class Transactions(Stream):
    """Its producer commits two transactions and aborts the third. A record is acknowledged when its transaction is committed; of those
    that were aborted, none may be read.

    But a broker that starts again may end a transaction without a marker in the partition: while it does not know yet which partitions it
    leads, it takes this one for deleted, and says so (Kafka 4.4.0, TransactionMarkerChannelManager). The next transaction of the same
    producer then decides for both. So a transaction may come out the wrong way if the next one came out that way, if the producer was at it,
    or at one beside it, when the broker was killed, and if the broker has said so since: one for each time."""

    SETTINGS_OF_READERS = ["isolation.level=read_committed"]
    WITHOUT_MARKER = "Couldn't find leader endpoint for partitions Set({}-0) while trying to send transaction markers"

    def __init__(self, application, topic):
        super().__init__(application, topic, f"transactional.id={topic}", "transaction.timeout.ms=900000", "max.block.ms=900000")
        self.aborted = set()
        self._read_aborted = set()
        self._at = 0  # The first record of the transaction that the producer is at.
        self._in_flight = set()  # Of those that the broker may end without a marker when it starts again, the first record.

    def broker_was_killed(self):
        """Call it before the broker is started again."""
        self._in_flight = {self._at - ROUND, self._at, self._at + ROUND}

    def check(self):
        self._read_aborted.update(number for number in self.read[self._checked:] if number in self.aborted)
        disorder = self._out_of_order()
        self._leave_out_turned()
        return disorder or [*(f"{self.topic}: record {number} was acknowledged and not read" for number in self._lost()[:3]),
                            *(f"{self.topic}: record {number} was read, and its transaction was aborted" for number in sorted(self._read_aborted)[:3])]

    def _leave_out_turned(self):
        """Takes what the broker has decided for what was asked of it, where it may."""
        wrong = {*self._lost(), *self._read_aborted}
        if not wrong:
            return
        said = self._application.broker.said_since_its_start().decode(errors="replace")
        without_marker = said.count(self.WITHOUT_MARKER.format(self.topic)) - len(self._in_flight.intersection(self.turned))
        for first in sorted(self._in_flight & wrong, reverse=True):  # The later one decides for the earlier one.
            transaction = range(first, first + ROUND)
            is_turned = wrong.issuperset(transaction) and self._came_out_aborted(first + ROUND) != (first in self.aborted)
            if without_marker <= 0 or not is_turned:
                continue
            without_marker -= 1
            self.turned.append(first)
            self._read_aborted.difference_update(transaction)
            for number in transaction:
                if number in self.aborted:
                    self.acknowledged[number] = None
                else:
                    self.acknowledged.pop(number, None)

    def _came_out_aborted(self, first):
        return (first in self.aborted) != (first in self.turned)

    def _produce(self):
        batches = (list(range(first, first + ROUND)) for first in itertools.count(0, ROUND))
        committing = []
        with self._application.producing(self.topic, *self._settings) as producer:
            for count, batch in enumerate(batches, 1):
                commits = count % 3 != 0
                self._at = batch[0]
                if commits:
                    self.rounds.append((time.monotonic(), batch[-1]))
                else:
                    self.aborted.update(batch)
                producer.do("begin")
                answers = self._send(producer, batch)
                self._take(committing)  # The producer does one thing after the other: that transaction is committed.
                producer.do("commit" if commits else "abort")
                committing = answers if commits else []
                if self._ending.wait(PAUSE):
                    break
            producer.finish(timeout=900)
            self._take(committing)
