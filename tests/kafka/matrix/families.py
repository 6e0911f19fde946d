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
    gets_masked: bool = False           # Known by its client id not to stand gaps: hidden records keep their place, masked.
    commits_position: bool = False      # A commit takes in what was passed over after the last record that was read.


ALL = [
    Client("kcat", lambda: installing.python("kcat"), aborts=False, commits_position=True),
    Client("java-4.4", lambda: installing.java(None), tells_position=True, commits_position=True),
    Client("java-2.8", lambda: installing.java("2.8.2"), tells_position=True, commits_position=True),
    Client("confluent-kafka", lambda: installing.python("confluent"), tells_position=True, commits_position=True),
    Client("kafka-python", lambda: installing.python("kafka_python"), tells_position=True, commits_position=True),
    Client("aiokafka", lambda: installing.python("aiokafka"), tells_position=True, commits_position=True),
]
