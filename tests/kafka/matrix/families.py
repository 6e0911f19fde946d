"""The clients of the matrix: what each of them is, and what it has."""

import dataclasses

import installing

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@dataclasses.dataclass(frozen=True)
class Client:
    name: str
    command: object                     # Called once: the command line of its driver, without the driver's own arguments.
    codecs: tuple = tuple(CODECS)
    idempotent: bool = True
    transactions: bool = True
    aborts: bool = True
    read_committed: bool = True
    tells_position: bool = False        # The application can ask for the position.
    invalid_record: int = 87            # How it names that code.
    after_refusal: tuple = ()           # Settings without which its producer takes no more records after one was refused.
    careful: tuple = ("enable.idempotence=true",)  # Settings of a producer that is to lose nothing while a broker is away.
    full: tuple = ()                    # Settings with which it fills batches up to nearly what a broker takes; none: it does not.
    empty_as_null: bool = False         # The application gets null where the value is empty.
    gets_masked: bool = False           # Known by its client id not to stand gaps: hidden records keep their place, masked.
    commits_position: bool = False      # A commit takes in what was passed over after the last record that was read.


ALL = [
    Client("kcat", installing.kcat, aborts=False, full=("linger.ms=1000",), commits_position=True),
    Client("java-4.4", lambda: installing.java(None), full=("linger.ms=1000", "batch.size=1000000"), tells_position=True, commits_position=True),
    Client("java-2.8", lambda: installing.java("2.8.2"), full=("linger.ms=1000", "batch.size=1000000"), tells_position=True, commits_position=True),
    Client("confluent-kafka", lambda: installing.python("confluent"), full=("linger.ms=1000",), tells_position=True, commits_position=True),
    Client("kafka-python", lambda: installing.python("kafka_python"), after_refusal=("enable.idempotence=false",),
           tells_position=True, commits_position=True),
    Client("aiokafka", lambda: installing.python("aiokafka"), invalid_record=-1, tells_position=True, commits_position=True),
    Client("franz-go", lambda: installing.go("franz"), full=("linger.ms=1000", "compression.type=none")),
    Client("sarama", lambda: installing.go("sarama")),
    Client("kafkajs", installing.node, codecs=("none", "gzip")),
    Client("kafka-go", lambda: installing.go("segmentio"), idempotent=False, transactions=False, read_committed=False,
           after_refusal=("acks=all",), careful=("acks=all",), empty_as_null=True, gets_masked=True),
]
