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

    @property
    def console_producer(self):
        """The class of bin/kafka-console-producer.sh."""
        return "org.apache.kafka.tools.ConsoleProducer" if self.number >= (4, 0) else "kafka.tools.ConsoleProducer"

    @property
    def console_consumer(self):
        return "org.apache.kafka.tools.consumer.ConsoleConsumer" if self.number >= (3, 8) else "kafka.tools.ConsoleConsumer"
