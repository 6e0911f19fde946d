"""Kroxylicious in front of a broker, for comparisons."""

import json
import pathlib
import re
import subprocess

import kafka_jars
import places
import processes
import waiting

START_LIMIT = 60  # Seconds.
HEADER = "kroxylicious.io/encryption"  # Of a record that it has sealed.


class Peer:
    """`with Peer(address, broker, folder) as peer:` starts one and waits until it listens at `peer.bootstrap`.

    It seals every topic with a key of the topic from its key service in memory, unless `seals` is false: then it only forwards. Java
    runs it as it runs by default."""

    def __init__(self, address, broker, folder, seals=True):
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
        if seals:
            key = {"alias": "bench", "algorithm": "AES", "uuid": "6a4f86c4-2f4a-4d45-94d3-2c4df5a9ad42", "key": "A" * 43 + "="}
            self._configuration |= {
                "filterDefinitions": [{"name": "seal", "type": "RecordEncryption", "config": {
                    "kms": "UnitTestingKmsService", "kmsConfig": {"numIvBytes": 12, "numAuthBits": 128, "existingKeks": [key]},
                    "selector": "TemplateKekSelector", "selectorConfig": {"template": "bench"}}}],
                "defaultFilters": ["seal"],
            }
        self._process = None

    def __enter__(self):
        self.folder.mkdir(parents=True)
        file = self.folder / "peer.yaml"
        file.write_text(json.dumps(self._configuration, indent=2), encoding="utf-8")  # JSON is YAML
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", "java", "-cp", kafka_jars.peer_class_path(), "Peer", file],
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
