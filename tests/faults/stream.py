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
MARK = b"GET /secret/"  # In every value that `click` makes. At the broker it may not be seen.


class Stream:
    """`with Stream(application, topic, settings) as stream:` sends and reads until its end."""

    def __init__(self, application, topic, *settings):
        self.topic = topic
        self.acknowledged = {}  # Offset at the broker by number.
        self.refused = {}  # What the producer was told, by number.
        self.read = []  # Numbers in the order in which the consumer got them.
        self.rounds = []  # When each round of the producer began.
        self._application = application
        self._settings = ["linger.ms=2", "delivery.timeout.ms=900000", "reconnect.backoff.max.ms=200", *settings]
        self._ending = threading.Event()
        self._problems = collections.deque()
        self._threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in (self._produce, self._consume)]

    def __enter__(self):
        self._application.create_topic(self.topic)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Nothing more is sent; what was sent is acknowledged and read."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    def user_of(self, number):
        return f"{self.topic}-{number // RECORDS_OF_A_USER}"

    def value_of(self, number):
        return click(self.user_of(number), number)

    def problems(self):
        """What went wrong so far, a line each."""
        return [*self._problems, *(f"{self.topic}: record {number} was refused: {why}" for number, why in list(self.refused.items())[:3])]

    def has_worked_since(self, moment):
        """Whether records that were sent after that moment of the monotonic clock are acknowledged and read."""
        begun = len([1 for began, _ in self.rounds if began > moment])
        if begun < 2:  # The last one is not answered yet.
            return False
        newest = self.rounds[-2][1]
        return bool(self.read) and self.read[-1] >= newest

    def check(self):
        """What is wrong with what was read up to now, a line each."""
        read = list(self.read)
        if read != sorted(set(read)):
            at = next(i for i in range(1, len(read)) if read[i] <= read[i - 1])
            return [f"{self.topic}: record {read[at]} was read after {read[at - 1]}"]
        missing = [number for number in self.acknowledged if number <= read[-1]] if read else []
        missing = sorted(set(missing) - set(read))
        return [f"{self.topic}: record {number} was acknowledged and not read" for number in missing[:3]]

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
                for number in batch:
                    producer.send(Message(None, self.value_of(number)))
                for number, answer in zip(batch, self._answers(producer, len(batch))):
                    if "offset" in answer:
                        self.acknowledged[number] = answer["offset"]
                    else:
                        self.refused[number] = answer["message"]
                self._ending.wait(0.05)

    @staticmethod
    def _answers(producer, count):
        return [producer.flush(timeout=900), *(producer.answer() for _ in range(count - 1))]

    def _consume(self):
        with self._application.following(self.topic) as consumer:
            while not self._ending.is_set() or (self.acknowledged and self.read[-1] < max(self.acknowledged)):
                try:
                    record = consumer.next(timeout=0.5)
                except waiting.TimedOut:
                    continue
                number = json.loads(record.message.value)["number"]
                if record.message.value != self.value_of(number):
                    raise ValueError(f"record {number} came back changed")
                self.read.append(number)
