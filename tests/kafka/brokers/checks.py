"""What is checked with every broker. Values hold the word `secret`, so that one that was not sealed is found on disk."""

import collections
import itertools
import json
import subprocess

import clients
import kafka_jars
import old_messages
import waiting
from harness import ANY, CODECS, Application, Message, click, clicks, is_sealed

# Everything is sealed but what has `plain` in front.
POLICIES = [{"prefix": "sealed-", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": ANY},
            {"prefix": "old-", "seal": {"scope": "topic"}, "read": ANY}]
numbers = itertools.count(1)

Check = collections.namedtuple("Check", "title run applies")


class Bench:
    """What a check works with: an application behind the agent, and one that sees what the broker has. Both start with the
    broker that the agent is configured for."""

    def __init__(self, release, broker, configured, workload):
        self.release = release
        self.broker = broker
        self.app = Application(configured, workload)
        self.outside = Application(configured)
        self.topic = f"sealed-{next(numbers)}"

    def expect_sealed(self, topic, count):
        held = self.outside.consume(topic).records
        equal(len(held), count, "records at the broker")
        equal([record.offset for record in held if not is_sealed(record)], [], "offsets of records that are not sealed")
        equal(b"secret" in self.broker.stored_bytes(topic), False, "clear values on the broker's disk")

    def leader(self, topic):
        """The node that leads partition 0, or None."""
        described = self._described(topic)
        return described["leader"] if described and described["leader"] > 0 else None

    def in_sync(self, topic):
        """How many replicas of partition 0 are in sync."""
        described = self._described(topic)
        return len(described["isrs"]) if described else 0

    def _described(self, topic):
        """Partition 0 as kcat, on the host, sees it."""
        # All topics: asking for one by its name would make it.
        listed = subprocess.run(["kcat", "-L", "-J", "-m", "5", "-b", self.broker.bootstrap], timeout=30,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
        for described in json.loads(listed or "{}").get("topics", []):
            if described["topic"] == topic:
                return next((partition for partition in described["partitions"] if partition["partition"] == 0), None)
        return None


def equal(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: {_short(got)} instead of {_short(wanted)}")


def _short(value):
    text = repr(value)
    return text if len(text) < 250 else f"{text[:250]}..."


def values(messages):
    return [message.value for message in messages]


# ------------------------------------------------------------------------------------------------------------ the checks


def every_codec(bench):
    """Java and librdkafka write with each codec, both read all of it."""
    written = []
    for user, codec in enumerate(CODECS):
        messages = [Message(b"key", click(user), (("trace", b"\x00\xff"),)), Message(None, click(user, 1, pad="x" * 3000)),
                    *clicks(user, 20)]
        answers = bench.app.produce(bench.topic, messages, f"compression.type={codec}", "linger.ms=200")
        equal([answer for answer in answers if "offset" not in answer], [], f"refusals with {codec}")
        lines = [click(user + 100, number) for number in range(200)]
        done = bench.app.kcat_produce(bench.topic, lines, "-z", codec)
        equal((done.returncode, done.stderr), (0, b""), f"kcat with {codec}")
        written += values(messages) + lines
    equal(bench.app.values(bench.topic), written, "what Java reads")
    equal(bench.app.kcat_consume(bench.topic), written, "what kcat reads")
    bench.expect_sealed(bench.topic, len(written))


def own_clients(bench):
    """The console producer and consumer of the broker's own release."""
    lines = [click(7, number).decode() for number in range(50)]
    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp",
            kafka_jars.class_path(bench.release.maven)]
    bench.app.run([*java, bench.release.console_producer, "--bootstrap-server", bench.app.broker.bootstrap, "--topic",
                   bench.topic, "--compression-codec", "lz4"], input="".join(f"{line}\n" for line in lines), timeout=120)
    read = bench.app.run([*java, bench.release.console_consumer, "--bootstrap-server", bench.app.broker.bootstrap,
                          "--topic", bench.topic, "--from-beginning", "--max-messages", "50", "--timeout-ms", "60000"],
                         timeout=120)
    equal(read.splitlines(), lines, "what the console consumer reads")
    bench.expect_sealed(bench.topic, len(lines))


def transactions(bench):
    """Committed ones are read, aborted ones are not, and the consumer gets over the markers to the end."""
    with bench.app.producing(bench.topic, f"transactional.id={bench.topic}", "linger.ms=0") as producer:
        for user, outcome in ((1, "commit"), (2, "abort"), (3, "commit"), (4, "abort")):
            producer.do("begin")
            for message in clicks(user, 5):
                producer.send(message)
            producer.do("flush")
            producer.do(outcome)
        answers = producer.finish()
    equal([answer for answer in answers if "offset" not in answer], [], "refusals")
    committed = bench.app.consume(bench.topic, "isolation.level=read_committed", f"group.id={bench.topic}")
    equal(values(record.message for record in committed.records), values(clicks(1, 5) + clicks(3, 5)), "what is committed")
    equal(committed.end["lag"], {"0": 0}, "lag")
    equal(len(bench.app.values(bench.topic, "isolation.level=read_uncommitted")), 20, "what is not committed, too")
    bench.expect_sealed(bench.topic, 20)


def group(*settings):
    def check(bench):
        """A group reads on where it left off."""
        bench.app.create_topic(bench.topic, 3)
        written = [Message(str(number).encode(), click(number % 5, number)) for number in range(60)]
        for part in (written[:40], written[40:]):
            bench.app.produce(bench.topic, part)
            reading = bench.app.consume(bench.topic, f"group.id={bench.topic}", *settings)
            equal(reading.end["complete"], True, "the group is at the end")
            equal(sorted(values(record.message for record in reading.records)), sorted(values(part)), "what the group reads")
            equal(set(reading.end["lag"].values()), {0}, "lag")
            equal(reading.end["committed"], reading.end["position"], "committed offsets")
        bench.expect_sealed(bench.topic, len(written))
    return check


def old_formats(bench):
    """What lies there as magic 1 is plaintext by policy; new messages of magic 1 are refused, as they cannot be sealed."""
    topic = f"old-{bench.topic}"
    bench.outside.create_topic(topic, 1, "message.format.version=0.10.2")
    bench.outside.produce(topic, clicks(1, 10), "enable.idempotence=false", "compression.type=gzip", "linger.ms=200")
    path, = bench.broker.segment_files(topic)
    equal(path.read_bytes()[16], 1, "magic on disk")
    equal(bench.app.values(topic), values(clicks(1, 10)), "what Java reads")
    equal(bench.app.kcat_consume(topic), values(clicks(1, 10)), "what kcat reads")
    for version in (0, 1, 2, 3, 7):
        with bench.app.raw() as connection:
            answer = connection.exchange(old_messages.produce(bench.topic, click(1), version))
        equal(old_messages.error_of(answer), old_messages.INVALID_RECORD, f"code for a message of magic 1 in Produce {version}")
    # The broker cannot keep a sealed record, which has a header, in the old format: it says so, and nothing is lost.
    refused = bench.app.produce(topic, clicks(2, 1), "enable.idempotence=false", "delivery.timeout.ms=16000")
    equal([answer for answer in refused if "offset" in answer], [], "sealed records kept without their header")
    equal(len(bench.app.values(topic)), 10, "records in the end")


def made_anew(bench):
    """The same name, another topic id: clients, and the agent, take the new one."""
    for user in (1, 2):
        bench.app.create_topic(bench.topic)
        bench.app.produce(bench.topic, clicks(user, 10))
        equal(bench.app.values(bench.topic), values(clicks(user, 10)), f"what is read of topic number {user}")
        bench.expect_sealed(bench.topic, 10)
        if user == 1:
            bench.app.run(clients.java("delete-topic", bench.app.broker.bootstrap, bench.topic))
            waiting.wait_until("the topic to be gone", lambda: bench.leader(bench.topic) is None, 30, every=0.5)


def broker_restart(bench):
    """In the middle of producing and consuming: everything comes once and in order."""
    bench.app.produce(bench.topic, clicks(0, 1))
    with bench.app.following(bench.topic) as consumer, bench.app.producing(bench.topic, *PATIENT) as producer:
        read = [consumer.next(PATIENCE)]
        for message in clicks(1, 50):
            producer.send(message)
        producer.flush(PATIENCE)
        bench.broker.stop()
        for message in clicks(2, 50):
            producer.send(message)
        bench.broker.start()
        for message in clicks(3, 50):
            producer.send(message)
        answers = producer.finish(180)
        equal([answer for answer in answers if "offset" not in answer], [], "refusals")
        read += [consumer.next(PATIENCE) for _ in range(150)]
        read += consumer.finish().records
    written = clicks(0, 1) + clicks(1, 50) + clicks(2, 50) + clicks(3, 50)
    equal(values(record.message for record in read), values(written), "what the consumer read")
    bench.expect_sealed(bench.topic, len(written))


def leader_moves(bench):
    """The leader is stopped, twice, so that another broker leads, and comes back: everything comes once and in order."""
    written = clicks(0, 1)
    bench.app.produce(bench.topic, written)
    leaders = []
    with bench.app.following(bench.topic) as consumer, bench.app.producing(bench.topic, *PATIENT) as producer:
        for user in (1, 2):
            leaders.append(bench.leader(bench.topic))
            stopped = bench.broker.brokers[leaders[-1] - 1]
            first, rest = clicks(user, 60)[:30], clicks(user, 60)[30:]
            for message in first:
                producer.send(message)
            stopped.stop()
            for message in rest:
                producer.send(message)
            written = written + first + rest
            waiting.wait_until("another leader", lambda: bench.leader(bench.topic) not in (None, leaders[-1]), 60, every=0.5)
            producer.flush(PATIENCE)
            stopped.start()
            waiting.wait_until("its replica to catch up", lambda: bench.in_sync(bench.topic) == 3, 60, every=0.5)
        answers = producer.finish(180)
        equal([answer for answer in answers if "offset" not in answer], [], "refusals")
        read = [consumer.next(PATIENCE) for _ in written]
        read += consumer.finish().records
    equal(values(record.message for record in read), values(written), "what the consumer read")
    equal(bench.app.values(bench.topic), values(written), "what another consumer reads")
    bench.expect_sealed(bench.topic, len(written))


# A producer that is not to give up while a broker is away, and how long to wait for a client's answer on a busy machine.
PATIENCE = 120
PATIENT = ["delivery.timeout.ms=150000", "linger.ms=5"]


def always(_release):
    return True


ON_ONE_BROKER = [
    Check("produce and fetch, every codec, Java 4.4 and librdkafka", every_codec, always),
    Check("the release's own console producer and consumer", own_clients, always),
    Check("transactions, committed and aborted", transactions, always),
    Check("consumer groups", group(), always),
    Check("consumer groups of KIP-848", group("group.protocol=consumer"), lambda release: release.has_consumer_protocol),
    Check("a topic kept in magic 1; magic 1 produced", old_formats, lambda release: release.has_old_formats),
    Check("a topic deleted and created again", made_anew, always),
    Check("the broker restarts while records flow", broker_restart, always),
]
ON_A_CLUSTER = [
    Check("three brokers: the leader moves while records flow", leader_moves, always),
    Check("three brokers: transactions", transactions, always),
]
