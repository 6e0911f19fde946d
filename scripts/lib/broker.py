"""Real Kafka brokers in a temporary folder: one node, or a cluster of three."""

import os
import pathlib
import socket
import subprocess

import class_archives
import kafka_jars
import places
import segments
import waiting

START_LIMIT = 90  # Seconds. 1.5-5 s is usual.
# For a JVM that does not live long: it compiles less, and collects on one thread. What is measured goes without.
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
STARTED = [b"Kafka Server started", b"[KafkaServer id=1] started"]  # with KRaft, with ZooKeeper


def tls_listener(certificate, ca):
    """The settings of a listener that shows a certificate (`Authority.issue` gives its path) and asks clients for theirs."""
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": f"{certificate}.pem", "ssl.truststore.type": "PEM",
            "ssl.truststore.location": ca, "ssl.client.auth": "required"}


class Broker:
    """`with Broker(address, folder) as broker:` starts it and waits until it answers; the end stops it.

    `address` is an address of this machine that every client can reach; the broker advertises it, or `advertised`.
    `listeners` adds listeners: a name for each, and its settings (`tls_listener`, or with a "protocol"); `ports` has their
    ports. `users` are SCRAM credentials, as the storage tool takes them.
    `jvm` are options of its JVM instead of those that make it start quickly.
    `within` is a workload that it runs inside of; then `address` is that workload's.
    `version` is another version of Kafka than the tests' usual one. KRaft and controller of itself, unless the version is
    older than 3: then there is a ZooKeeper beside it, as KRaft was a preview without transactions."""

    def __init__(self, address, folder, heap="512m", settings=None, advertised=None, listeners=None, version=None,
                 users=(), node=1, jvm=None, within=None):
        self.node = node
        self.address = address
        self._within = within
        self._bindable = "0.0.0.0" if within else address  # From here.
        self.port = places.free_port(self._bindable)
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
        self._jvm = [*QUICK, *([] if version else class_archives.options("broker"))] if jvm is None else jvm
        self.ports = {name: places.free_port(self._bindable) for name in self._listeners}
        self._controller = places.free_port("127.0.0.1")
        self._voters = [self.voter]
        self._keeper = ZooKeeper(self.folder / "zookeeper", version) if version and version.startswith("2.") else None
        self._process = None

    @property
    def bootstrap(self):
        return f"{self.address}:{self.port}"

    @property
    def voter(self):
        """This node as a member of the controllers' quorum."""
        return f"{self.node}@127.0.0.1:{self._controller}"

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        if self._keeper:
            self._keeper.stop()

    def start(self):
        """Formats the storage at the first start. Returns when the broker serves; raises with its log's end if not."""
        self.launch()
        self.wait()

    def join(self, voters):
        """Makes it one of several controllers, all of which are named; before the first start."""
        self._voters = voters

    def launch(self):
        """Starts the broker without waiting for it: the nodes of a cluster wait for each other."""
        properties = self.folder / "server.properties"
        if self._keeper:
            self._keeper.start()
        if not properties.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            properties.write_text(self._properties(), encoding="utf-8")
            if not self._keeper:
                subprocess.run(self._java(QUICK, "kafka.tools.StorageTool", "format", "--cluster-id", "kveilTestClusterIdAAAA",
                                          "--config", str(properties),
                                          *(word for user in self._users for word in ("--add-scram", user))),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, timeout=START_LIMIT)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        command = self._java(self._jvm, "kafka.Kafka", str(properties))
        self._process = _start(self._within.command(command) if self._within else command, self.log)

    def wait(self):
        try:
            waiting.wait_until(f"the Kafka broker to answer at {self.bootstrap}", self._ready, START_LIMIT)
        except Exception as error:
            self.stop()
            raise RuntimeError(f"{error}; the end of {self.log}:\n{_last_lines(self.log)}") from error

    def stop(self):
        if self._process:
            waiting.stop(self._process, "the Kafka broker")
            self._process = None

    def kill(self):
        """SIGKILL. A node of a cluster whose others are gone does not end by itself."""
        if self._process:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def said_since_its_start(self):
        """The bytes of its log."""
        return self.log.read_bytes()[self._log_start:]

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
        said = self.said_since_its_start()
        if not any(line in said for line in STARTED):
            return False
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

    def _java(self, jvm, *arguments):
        return _java(self._version, self._heap, jvm, *arguments)

    def _properties(self):
        open_to_all = {"PLAINTEXT": self.port, **{name.upper(): port for name, port in self.ports.items()}}
        listeners = [f"{name}://{self._bound}:{port}" for name, port in open_to_all.items()]
        advertised = [f"{name}://{self._advertised}:{port}" for name, port in open_to_all.items()]
        protocols = ["PLAINTEXT:PLAINTEXT",
                     *(f"{name.upper()}:{settings.get('protocol', 'SSL')}" for name, settings in self._listeners.items())]
        if self._keeper:
            role = {"broker.id": self.node, "zookeeper.connect": self._keeper.bootstrap}
        else:
            role = {"process.roles": "broker,controller", "node.id": self.node,
                    "controller.quorum.voters": ",".join(self._voters), "controller.listener.names": "CONTROLLER"}
            listeners.append(f"CONTROLLER://127.0.0.1:{self._controller}")
            protocols.append("CONTROLLER:PLAINTEXT")
        lines = {
            **role,
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join(protocols),
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


class Cluster:
    """Three brokers, each a controller, too; every topic has a replica on each. `with Cluster(addresses, folder) as cluster:`
    with an address of this machine for each of them."""

    SETTINGS = {"default.replication.factor": "3", "min.insync.replicas": "2", "offsets.topic.replication.factor": "3",
                "transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"}

    def __init__(self, addresses, folder, version=None, heap="384m"):
        self.brokers = [Broker(address, pathlib.Path(folder) / f"node{node}", heap, self.SETTINGS, version=version, node=node)
                        for node, address in enumerate(addresses, 1)]
        for broker in self.brokers:
            broker.join([each.voter for each in self.brokers])

    @property
    def bootstrap(self):
        return ",".join(broker.bootstrap for broker in self.brokers)

    def __enter__(self):
        try:
            for broker in self.brokers:
                broker.launch()
            for broker in self.brokers:
                broker.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for broker in self.brokers:
            broker.kill()

    def stored_bytes(self, topic):
        """What all the disks hold of `topic`."""
        return b"".join(broker.stored_bytes(topic) for broker in self.brokers)


class ZooKeeper:
    """What brokers older than Kafka 3 keep their cluster in."""

    def __init__(self, folder, version):
        self.folder = folder
        self._version = version
        self._port = places.free_port("127.0.0.1")
        self._process = None

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self._port}"

    def start(self):
        """Goes on with what it has, when it is started again."""
        if self._process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "zookeeper.properties"
        settings.write_text(f"dataDir={self.folder / 'data'}\nclientPort={self._port}\nclientPortAddress=127.0.0.1\n"
                            "admin.enableServer=false\nmaxClientCnxns=0\n", encoding="utf-8")
        log = self.folder / "zookeeper.log"
        self._process = _start(_java(self._version, "128m", QUICK, "org.apache.zookeeper.server.quorum.QuorumPeerMain", settings), log)
        waiting.wait_until(f"ZooKeeper to answer at {self.bootstrap}", self._ready, START_LIMIT)

    def stop(self):
        if self._process:
            waiting.stop(self._process, "ZooKeeper")
            self._process = None

    def _ready(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"ZooKeeper ended: {_last_lines(self.folder / 'zookeeper.log')}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _java(version, heap, jvm, *arguments):
    options = [f"-Xmx{heap}", *jvm, "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
               "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    return ["java", *options, "-cp", kafka_jars.class_path(version), *map(str, arguments)]


def _start(command, log):
    # A session of its own keeps Ctrl-C away from it; it must outlive the clean-up of those who use it.
    with open(log, "ab") as output:
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL, stdout=output,
                                stderr=output, start_new_session=True)


def _last_lines(path, count=25):
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if os.path.exists(path) else "(no log)"
