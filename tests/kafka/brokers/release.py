"""The Kafka releases that are run, and what each of them has."""

RELEASES = ["2.8.2", "3.9.2", "4.0.2", "4.1.2", "4.2.2", "4.3.1", "4.4.0"]
NEWEST = RELEASES[-1]  # the one of tests/kafka/broker/pom.xml


class Release:
    def __init__(self, name):
        self.name = name
        self.number = tuple(int(part) for part in name.split("."))
        self.maven = None if name == NEWEST else name  # for Broker and kafka_jars
        # Long enough that a member is not taken for dead while the machine is busy.
        self.settings = {"group.min.session.timeout.ms": "1000"}

    @property
    def has_consumer_protocol(self):
        """The groups of KIP-848, which are general from 4.0 on."""
        return self.number >= (4, 0)

    @property
    def has_old_formats(self):
        """Topics may be kept as messages of magic 1, and such messages may be produced."""
        return self.number < (3, 0)

    @property
    def has_clusters(self):
        """A cluster of three is started of these: the newest, and the last with ZooKeeper's protocols still in it."""
        return self.name in ("3.9.2", NEWEST)

    def console(self, tool):
        """The class of `ConsoleProducer` or `ConsoleConsumer`."""
        package = "org.apache.kafka.tools" if self.number >= (4, 0) else "kafka.tools"
        return f"{package}.consumer.{tool}" if tool == "ConsoleConsumer" and self.number >= (4, 0) else f"{package}.{tool}"
