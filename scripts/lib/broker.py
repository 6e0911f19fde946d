"""A real Kafka broker (KRaft, one node) in a temporary folder."""

import os
import pathlib
import socket
import subprocess

import kafka_jars
import segments
import waiting

START_LIMIT = 40  # Seconds. 1.5-5 s is usual.


def free_port(address="0.0.0.0"):
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def tls_listener(certificate, ca):
    """The settings of a listener that shows a certificate (`Authority.issue` gives its path) and asks clients for theirs."""
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": f"{certificate}.pem", "ssl.truststore.type": "PEM",
            "ssl.truststore.location": ca, "ssl.client.auth": "required"}


class Broker:
    """`with Broker(address, folder) as broker:` starts it and waits until it answers; the end stops it.

    `address` is an address of this machine that every client can reach; the broker advertises it, or `advertised`.
    `listeners` adds listeners: a name for each, and its settings (`tls_listener`, or with a "protocol"); `ports` has their
    ports. `users` are SCRAM credentials, as the storage tool takes them.
    `version` is another version of Kafka than the tests' usual one."""

    def __init__(self, address, folder, heap="512m", settings=None, advertised=None, listeners=None, version=None,
                 users=()):
        self.address = address
        self.port = free_port(address)
        self._advertised = advertised or address
        self._bound = address if advertised is None else "0.0.0.0"
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "broker.log"
        self._heap = heap
        self._settings = settings or {}
        self._listeners = listeners or {}
        self._users = users
        self._version = version
        self.ports = {name: free_port(address) for name in self._listeners}
        self._process = None

    @property
    def bootstrap(self):
        return f"{self.address}:{self.port}"

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Formats the storage at the first start. Returns when the broker serves; raises with its log's end if not."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            properties.write_text(self._properties(), encoding="utf-8")
            subprocess.run(self._java("kafka.tools.StorageTool", "format", "--cluster-id", "kveilTestClusterIdAAAA",
                                      "--config", str(properties),
                                      *(word for user in self._users for word in ("--add-scram", user))),
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, timeout=START_LIMIT)
        with open(self.log, "ab") as log:
            # A session of its own keeps Ctrl-C away from it; it must outlive the clean-up of those who use it.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._java("kafka.Kafka", str(properties))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            waiting.wait_until(f"the Kafka broker to answer at {self.bootstrap}", self._ready, START_LIMIT)
        except Exception as error:
            self.stop()
            raise RuntimeError(f"{error}; the end of {self.log}:\n{_last_lines(self.log)}") from error

    def stop(self):
        if self._process:
            waiting.stop(self._process, "the Kafka broker")
            self._process = None

    def segment_files(self, topic):
        """The log segments of every partition of `topic`, as files."""
        return sorted(self.data.glob(f"{topic}-[0-9]*/*.log"))

    def stored_bytes(self, topic):
        """What the broker's disk holds of `topic`: the bytes of all its segments."""
        return b"".join(path.read_bytes() for path in self.segment_files(topic))

    def stored_records(self, topic):
        """The records of `topic` as they lie on disk, by partition and offset."""
        return [record for path in self.segment_files(topic) for record in segments.records(path)]

    def _ready(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"the Kafka broker ended with status {self._process.returncode}")
        if b"Kafka Server started" not in self.log.read_bytes():
            return False
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

    def _java(self, *arguments):
        options = [f"-Xmx{self._heap}", "-Djava.awt.headless=true",
                   "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        return ["java", *options, "-cp", kafka_jars.class_path(self._version), *arguments]

    def _properties(self):
        controller = free_port("127.0.0.1")
        open_to_all = {"PLAINTEXT": self.port, **{name.upper(): port for name, port in self.ports.items()}}
        listeners = [f"{name}://{self._bound}:{port}" for name, port in open_to_all.items()]
        advertised = [f"{name}://{self._advertised}:{port}" for name, port in open_to_all.items()]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name.upper()}:{settings.get('protocol', 'SSL')}" for name, settings in self._listeners.items())]
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{controller}"]),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join(protocols),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.data,
            "num.partitions": "1",
            "auto.create.topics.enable": "true",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self._settings,
            **{f"listener.name.{name.lower()}.{key}": value for name, settings in self._listeners.items()
               for key, value in settings.items() if key != "protocol"},
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())


def _last_lines(path, count=25):
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if os.path.exists(path) else "(no log)"
