"""Kroxylicious in front of a broker, for comparisons."""

import base64
import json
import os
import pathlib
import re
import subprocess
import uuid

import kafka_jars
import places
import processes
import waiting

START_LIMIT = 60  # Seconds.
HEADER = "kroxylicious.io/encryption"  # Of a record that it has sealed.


def newest_java():
    """The version of the newest Java in JAVA_HOME or below /usr/lib/jvm, and its program."""
    homes = [os.environ["JAVA_HOME"]] if "JAVA_HOME" in os.environ else pathlib.Path("/usr/lib/jvm").glob("*")
    found = []
    for home in map(pathlib.Path, homes):
        said = re.search(r'^JAVA_VERSION="([0-9.]+)', (home / "release").read_text(), re.MULTILINE) if (home / "release").exists() else None
        if said and (home / "bin/java").exists():
            found.append((tuple(map(int, said[1].split("."))), said[1], str(home / "bin/java")))
    return max(found)[1:] if found else ("unknown", "java")


class Peer:
    """`with Peer(address, broker, folder) as peer:` starts one and waits until it listens at `peer.bootstrap`.

    It seals each of `topics` with a key of the topic from its key service in memory, and only forwards all others. The newest Java that is
    installed runs it, as it runs by default."""

    def __init__(self, address, broker, folder, topics=()):
        self.bootstrap = f"{address}:{places.free_port(address)}"
        self.folder = pathlib.Path(folder)
        self.log = self.folder / "peer.log"
        self._configuration = {
            "virtualClusters": [{
                "name": "main",
                "targetCluster": {"bootstrapServers": broker.bootstrap},
                "gateways": [{"name": "plain", "portIdentifiesNode": {
                    "bootstrapAddress": self.bootstrap, "nodeStartPort": places.free_port(address),
                    "nodeIdRanges": [{"name": "brokers", "start": broker.node, "end": broker.node}]}}],
            }],
        }
        if topics:
            keys = [{"alias": topic, "algorithm": "AES", "uuid": str(uuid.uuid4()), "key": base64.b64encode(os.urandom(32)).decode()}
                    for topic in topics]
            self._configuration |= {
                "filterDefinitions": [{"name": "seal", "type": "RecordEncryption", "config": {
                    "kms": "UnitTestingKmsService", "kmsConfig": {"numIvBytes": 12, "numAuthBits": 128, "existingKeks": keys},
                    "selector": "TemplateKekSelector", "selectorConfig": {"template": "$(topicName)"}}}],
                "defaultFilters": ["seal"],
            }
        self._process = None

    def __enter__(self):
        self.folder.mkdir(parents=True)
        file = self.folder / "peer.yaml"
        file.write_text(json.dumps(self._configuration, indent=2), encoding="utf-8")  # JSON is YAML
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", newest_java()[1], "-cp", kafka_jars.peer_class_path(), "Peer", file],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            waiting.wait_until("Kroxylicious to listen", self._listens, START_LIMIT)
        except Exception as error:
            self.__exit__()
            raise RuntimeError(f"{error}; the end of its log:\n{self.log.read_text(errors='replace')[-3000:]}") from error
        return self

    def __exit__(self, *_):
        waiting.stop(self._process, "Kroxylicious")

    def cpu_seconds(self):
        """User and system time so far, its compiler's and garbage collector's included."""
        return processes.cpu_seconds(self._process.pid)

    def peak_memory(self):
        """The largest resident set so far, in bytes."""
        return processes.peak_memory(self._process.pid)

    def _listens(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"Kroxylicious ended with status {self._process.returncode}")
        return re.search("^ready$", self.log.read_text(errors="replace"), re.MULTILINE)
