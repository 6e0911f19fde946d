"""Everything that takes part in the campaign."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from agent import Agent
from broker import Broker
from certificates import Authority
from clock import Clock
from harness import ANY, Application
from postgres import Postgres, unprivileged_user
from stream import MARK, Stream, Transactions
from vault import Vault
from workload import Site

REGISTRY_DISK = "192m"
AGENT_DISK = "24m"
POLICIES = [{"prefix": "user-", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": ANY},
            {"prefix": "topic-", "seal": {"scope": "topic"}, "read": ANY}]
# The agent's state folder lies on the small disk, also where the agent chooses its path. Only the agent sees that.
ON_ITS_DISK = ["unshare", "--mount", "--propagation", "slave", "sh", "-c",
               'mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/kveil && mount --bind "$0" /var/lib/kveil && exec "$@"']


class Place:
    """One node with an agent and applications, and another one, `beyond`, with all that they need: broker, registry, key service."""

    def __init__(self, stack, registry):
        self.site = stack.enter_context(Site("faults"))
        self.beyond = self.site.workload("beyond", below=self.site.elsewhere)
        self.registry = _postgres(stack, self.beyond) if registry == "postgres" else None
        self.key_service = stack.enter_context(Vault(self.site.folder / "key-service", within=self.beyond))
        self.broker = stack.enter_context(Broker(self.beyond.address, self.site.folder / "broker", within=self.beyond))
        self.disk = _mounted(stack, self.site.folder / "disk", AGENT_DISK)
        self.clock = Clock(self.site.folder)
        self.agent = stack.enter_context(self._agent())
        self.application = Application(self.broker, self.site.workload("shop"))
        self.users = stack.enter_context(Stream(self.application, "user-clicks"))
        self.transactions = stack.enter_context(Transactions(self.application, "topic-payments"))
        self.streams = [self.users, stack.enter_context(Stream(self.application, "topic-orders", "compression.type=lz4")), self.transactions]
        self.erased = set()
        self.may_end = False  # Whether the agent may end by itself, and is started again.
        self.ended = 0  # How often it did.
        self._looked_at = {}  # How much of a segment file was looked at.

    def supervise(self):
        """Starts the agent again when it ended by itself, as a supervisor would; raises when it may not end."""
        if self.agent.running:
            return
        if not self.may_end:
            raise RuntimeError("the agent ended")
        self.ended += 1
        self.agent.start(wait=False)

    def clear_bytes(self):
        """Segment files that hold what was to be sealed."""
        found = []
        for stream in self.streams:
            for path in self.broker.segment_files(stream.topic):
                with open(path, "rb") as file:
                    file.seek(max(0, self._looked_at.get(path, 0) - len(MARK)))
                    if MARK in file.read():
                        found.append(f"{path.name} of {stream.topic} holds records in clear")
                    self._looked_at[path] = file.tell()
        return found

    def kept_by_the_agent(self):
        """Its files that hold what was to be sealed."""
        files = [path for folder in (self.agent.folder, self.disk) for path in folder.rglob("*")
                 if path.is_file() and self.agent.pins not in path.parents]
        return [f"{path} holds records in clear" for path in files if MARK in path.read_bytes()]

    def evidence(self):
        """What is wrong with the trail and the receipts of the agent, which runs, a line each."""
        inside = ["nsenter", "--mount", "--target", str(self.agent.pid), "--", str(self.agent.program)]
        checks = {what: subprocess.run([*inside, what, "verify", "--config", self.agent.config_file], timeout=120, text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False) for what in ("audit", "receipts")}
        return [f"kveil {what} verify: {done.stdout.strip()}" for what, done in checks.items() if done.returncode]

    def _agent(self):
        (self.disk / "state").mkdir()
        registry = {"postgres": f"host={self.registry.address} port={self.registry.port} dbname=kveil user=kveil "
                                f"sslrootcert={self.registry.settings['ssl_ca_file']}"} if self.registry else {"sqlite": str(self.disk / "state/registry.db")}
        agent = Agent(self.site, self.broker, POLICIES, {"audit": {"folder": str(self.disk / "audit")}},
                      keys={"root": self.key_service.root_key(token_ttl="5m"), "registry": registry})
        agent.wrapper = [*ON_ITS_DISK, self.disk / "state", *self.clock.wrapper]
        return agent


def _postgres(stack, workload):
    """On a small disk of its own. With TLS, as agents want it beyond their node."""
    disk = pathlib.Path(tempfile.mkdtemp(prefix="kveil-disk-"))
    stack.callback(os.rmdir, disk)
    _mounted(stack, disk, REGISTRY_DISK)
    authority = Authority(disk / "tls", "authority")
    server = authority.issue("server", [workload.address])
    for ending in (".crt", ".key"):
        shutil.chown(server + ending, unprivileged_user())
    os.chmod(server + ".key", 0o600)
    settings = {"min_wal_size": "32MB", "max_wal_size": "64MB", "ssl": "on", "ssl_cert_file": f"{server}.crt",
                "ssl_key_file": f"{server}.key", "ssl_ca_file": authority.ca}
    tempfile.tempdir = disk  # Where it makes its folder.
    try:
        return stack.enter_context(Postgres(workload.address, workload.namespace, settings))
    finally:
        tempfile.tempdir = None


def _mounted(stack, folder, size):
    """The folder, which is a file system of that size for as long as the stack lasts."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], check=True)
    stack.callback(lambda: subprocess.run(["umount", folder], check=False))
    return folder


@contextlib.contextmanager
def full(folder):
    """No file of that file system can grow."""
    stuffing = folder / "stuffing"
    with contextlib.suppress(OSError):
        with open(stuffing, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
    try:
        yield
    finally:
        stuffing.unlink()
