"""What the tests say things with: an application that produces and consumes, a user's click, a raw connection."""

import base64
import collections
import contextlib
import json
import pathlib
import queue
import subprocess
import threading
import time

import clients
import waiting

Message = collections.namedtuple("Message", "key value headers", defaults=(None, None, ()))
Stored = collections.namedtuple("Stored", "partition offset timestamp message")
Reading = collections.namedtuple("Reading", "records end")  # end: {"complete", "position", "lag", "committed"}

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ANY = [{"any": True}]
RAW_CLIENT = pathlib.Path(__file__).with_name("raw_client.py")


def click(user, number=0, **more):
    """The value of one click record of a user."""
    return json.dumps({"userid": user, "number": number, "request": f"GET /secret/{user}/{number}", **more}).encode()


def clicks(user, count):
    return [Message(value=click(user, number)) for number in range(count)]


class Application:
    """Unmodified clients inside one workload. Without a workload: on the host, out of the agent's reach."""

    def __init__(self, broker, workload=None):
        self.broker = broker
        self.workload = workload

    # The Java client.

    def produce(self, topic, messages, *settings, timeout=90):
        """Sends the messages with Kafka's own producer; returns its answers, {"partition", "offset"} or {"error", "message"}."""
        lines = "".join(record_line(topic, message) + "\n" for message in messages)
        return json_lines(self.run(clients.java("produce", self.broker.bootstrap, *settings), input=lines, timeout=timeout))

    def consume(self, topic, *settings, timeout=90):
        """Reads the topic to its end with Kafka's own consumer."""
        lines = json_lines(self.run(
            clients.java("consume", self.broker.bootstrap, topic, "fetch.max.wait.ms=100", *settings), timeout=timeout))
        return Reading([stored(line) for line in lines[:-1]], lines[-1]["end"])

    def values(self, topic, *settings):
        """The values that the Java consumer reads, in order."""
        reading = self.consume(topic, *settings)
        assert reading.end["complete"], f"the consumer did not reach the end of {topic}: {reading.end}"
        return [record.message.value for record in reading.records]

    def create_topic(self, topic, partitions=1, *settings):
        self.run(clients.java("create-topic", self.broker.bootstrap, topic, str(partitions), *settings))

    @contextlib.contextmanager
    def producing(self, topic, *settings):
        """A running producer."""
        with self._running(clients.java("produce", self.broker.bootstrap, *settings)) as lines:
            yield RunningProducer(lines, topic)

    @contextlib.contextmanager
    def following(self, topic, *settings):
        """A running consumer."""
        with self._running(clients.java("follow", self.broker.bootstrap, topic, "fetch.max.wait.ms=100", *settings)) as lines:
            yield RunningConsumer(lines)

    # kcat.

    def kcat_produce(self, topic, values, *options, timeout=60):
        """One record a value. Returns the completed process."""
        return self._completed(clients.kcat_produce(self.broker.bootstrap, topic, *options),
                               input=b"".join(value + b"\n" for value in values), timeout=timeout, text=False)

    def kcat_consume(self, topic, *options, timeout=60):
        """The values of all records. Raises when kcat reports a failure."""
        output = self.run(clients.kcat_consume(self.broker.bootstrap, topic, "-X", "fetch.wait.max.ms=50", *options),
                          timeout=timeout, text=False)
        return output.splitlines()

    # Bytes.

    @contextlib.contextmanager
    def raw(self):
        """A connection to the broker's address on which any bytes may be sent."""
        command = ["/usr/bin/python3", RAW_CLIENT, self.broker.address, self.broker.port]
        with self._running([str(word) for word in command]) as lines:
            yield RawConnection(lines)

    def run(self, command, **options):
        done = self._completed(command, **options)
        assert done.returncode == 0, f"{command[:4]} ended with status {done.returncode}: {done.stderr}"
        return done.stdout

    def _completed(self, command, **options):
        options = {"timeout": 60, "text": True, **options}
        if self.workload:
            return self.workload.run(command, **options)
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **options)

    @contextlib.contextmanager
    def _running(self, command):
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = self.workload.start(command, **options) if self.workload else subprocess.Popen(command, **options)
        try:
            yield Lines(process)
        finally:
            process.kill()  # The wrapper has become the client itself (exec).
            process.wait(5)


class Lines:
    """A running client that is told lines and answers with lines. Its answers are taken off its hands at once, so that it
    never stands still because nobody reads them."""

    def __init__(self, process):
        self._process = process
        self._answers = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def next(self, timeout=30):
        """The next answer; None at the end of them all."""
        try:
            return self._answers.get(timeout=timeout)
        except queue.Empty:
            raise waiting.TimedOut(f"waited {timeout} s for a line from the client") from None

    def finish(self, timeout=90):
        """Ends the client's input, waits until it ended by itself; returns the answers that nobody has taken yet."""
        self._process.stdin.close()
        assert self._process.wait(timeout) == 0
        self._reader.join(5)
        return list(iter(self._answers.get_nowait, None))

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(line.strip())
        self._answers.put(None)


class RunningProducer:
    def __init__(self, lines, topic):
        self._lines, self._topic = lines, topic

    def send(self, message):
        self._lines.tell(record_line(self._topic, message))

    def do(self, what):
        """begin, commit, abort or flush."""
        self._lines.tell(json.dumps({"do": what}))

    def flush(self, timeout=30):
        """Waits until all that was sent has been answered; returns the next answer."""
        self.do("flush")
        return self.answer(timeout)

    def answer(self, timeout=30):
        """The next answer; waits for it."""
        return json.loads(self._lines.next(timeout))

    def finish(self, timeout=90):
        """Ends the producer; returns the answers that have not been taken yet."""
        return [json.loads(line) for line in self._lines.finish(timeout)]


class RunningConsumer:
    def __init__(self, lines):
        self._lines = lines

    def next(self, timeout=30):
        """The next record; waits for it."""
        return stored(json.loads(self._lines.next(timeout)))

    def finish(self):
        """Asks the consumer to end; returns the records that have not been taken yet, and its last words."""
        lines = [json.loads(line) for line in self._lines.finish(30)]
        return Reading([stored(line) for line in lines[:-1]], lines[-1]["end"])


class RawConnection:
    def __init__(self, lines):
        self._lines = lines
        self.greeting = lines.next().split()

    def send(self, data):
        self._lines.tell(data.hex())

    def exchange(self, data):
        """Sends bytes; the answer's bytes, or `closed` or `silent`."""
        self._lines.tell(data.hex())
        line = self._lines.next()
        return line if line in ("closed", "silent") else bytes.fromhex(line)


def exchange_when_led(connection, request, has_no_leader, seconds=20):
    """Sends a request to a topic that was made a moment ago: the broker may need another to lead its partitions."""
    limit = time.monotonic() + seconds
    while True:
        answer = connection.exchange(request)
        if not has_no_leader(answer) or time.monotonic() > limit:
            return answer
        time.sleep(0.1)


def record_line(topic, message):
    return json.dumps({"topic": topic, "key": encoded(message.key), "value": encoded(message.value),
                       "headers": [[name, encoded(value)] for name, value in message.headers]})


def stored(line):
    headers = tuple((name, decoded(value)) for name, value in line.get("headers", []))
    return Stored(line["partition"], line["offset"], line["timestamp"],
                  Message(decoded(line["key"]), decoded(line["value"]), headers))


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def is_sealed(record):
    """Whether a record as the broker has it carries an envelope. Null values have nothing to seal."""
    return record.message.value is None or sum(name == "kveil" for name, _ in record.message.headers) == 1
