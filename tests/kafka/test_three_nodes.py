"""Three nodes with one registry, under traffic: when `kveil erase` has returned, no reader on any node gets a record of that
user. A node that does not answer is named, with the moment from which it refuses the user's records by itself."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import certificates
import wire
from agent import Agent
from conftest import POLICIES
from harness import Application, Message, click, clicks
from postgres import Postgres, unprivileged_user
import waiting

CACHE_TTL = 4  # Seconds.


class Node:
    def __init__(self, agent, app):
        self.agent, self.app = agent, app

    @property
    def name(self):
        """What the registry calls the agent."""
        return f"{socket.gethostname()}:{self.agent.pid}"


class Registry:
    """A PostgreSQL in a namespace of its own with two addresses, one of which can be made to answer nothing."""

    def __init__(self, site, postgres, namespace, second, authority):
        self._site, self._postgres, self._namespace, self.second = site, postgres, namespace, second
        self._authority = authority

    def keys(self, address=None):
        text = (f"host={address or self._postgres.address} port={self._postgres.port} dbname=kveil user=kveil "
                f"sslrootcert={self._authority.ca}")
        return {"root": {"file": str(self._site.folder / "three-nodes.key")}, "registry": {"postgres": text},
                "cacheTtl": f"{CACHE_TTL}s"}

    @contextlib.contextmanager
    def second_address_gone(self):
        """Whatever is sent to it gets lost on the way: nothing is refused, and no connection is closed."""
        self._address("del")
        try:
            yield
        finally:
            self._address("add")

    def _address(self, what):
        subprocess.run(["ip", "-n", self._namespace, "addr", what, f"{self.second}/16", "dev", "eth0"], check=True)


@pytest.fixture(scope="module")
def registry(site):
    home = site.workload("registry", below=site.elsewhere)
    second = site.second_address()
    subprocess.run(["ip", "addr", "del", f"{second}/16", "dev", site.bridge], check=True)
    authority = certificates.Authority(site.folder / "registry-tls", "registry")
    server = authority.issue("server", [home.address, second])
    with tempfile.TemporaryDirectory(prefix="kveil-test-") as folder:  # One that the server's user may enter.
        os.chmod(folder, 0o755)
        for ending in (".crt", ".key"):
            copy = shutil.copy(server + ending, folder)
            os.chmod(copy, 0o600)
            shutil.chown(copy, unprivileged_user())
        settings = {"listen_addresses": "*", "ssl": "on", "ssl_cert_file": f"{folder}/server.crt",
                    "ssl_key_file": f"{folder}/server.key"}
        with Postgres(home.address, netns=home.namespace, settings=settings) as postgres:
            made = Registry(site, postgres, home.namespace, second, authority)
            made._address("add")  # pylint: disable=protected-access
            yield made
    home.remove()


@pytest.fixture(scope="module")
def nodes(site, broker, registry):
    """a, b and c. Node b reaches the registry by its second address."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in "abc":
            cgroup = site.cgroup.parent / f"node-{name}.slice"
            cgroup.mkdir(exist_ok=True)
            workload = site.workload(f"app-{name}", below=cgroup)
            stack.callback(workload.remove)
            keys = registry.keys(registry.second if name == "b" else None)
            agent = stack.enter_context(Agent(site, broker, POLICIES, {"intercept": {"cgroup": str(cgroup)}},
                                              name=f"three-{name}", keys=keys))
            made.append(Node(agent, Application(broker, workload)))
        yield made


class Reader:
    """Reads a topic from its start again and again, and remembers whose records came when."""

    def __init__(self, node, topic, users):
        self.node, self._topic, self._users = node, topic, users
        self.seen = []  # When it asked, and whose records it got.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, *users):
        start = time.monotonic()
        waiting.wait_until(f"records of {users}", lambda: any(
            asked > start and set(users) <= found for asked, found in list(self.seen)), 20)

    def asked_since(self, moment):
        return [found for asked, found in list(self.seen) if asked >= moment]

    def _run(self):
        while not self._stop.is_set():
            with self.node.app.raw() as connection:
                answer = b""
                while not self._stop.is_set() and isinstance(answer, bytes):
                    asked = time.monotonic()
                    answer = connection.exchange(wire.fetch(self._topic))
                    if isinstance(answer, bytes):
                        self.seen.append((asked, {user for user in self._users if f"/secret/{user}/".encode() in answer}))


def erase(node, user, *options):
    """When it returned, its exit status, and its agents' entries by name."""
    done = node.agent.kveil("erase", "--user", user, "--json", *options)
    moment = time.monotonic()
    agents = json.loads(done.stdout)["spread"]["agents"]
    return moment, done.returncode, {agent["name"]: agent for agent in agents}


def fill(node, name, count):
    users = [f"{name}-{number}" for number in range(count)]
    node.app.produce(name, [message for user in users for message in clicks(user, 3)] + clicks(f"{name}-stays", 3))
    return users


def seconds_until(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - time.time()


def test_when_erase_returns_no_reader_on_any_node_gets_a_record(nodes, topic):
    a, b, c = nodes
    name = topic("user")
    users = fill(a, name, 6)
    stop = threading.Event()

    def traffic():
        with a.app.producing(name, "linger.ms=5") as producer:
            number = 0
            while not stop.is_set():
                number += 1
                producer.send(Message(None, click(f"{name}-new-{number % 50}", number)))
                time.sleep(0.002)

    producing = threading.Thread(target=traffic)
    producing.start()
    try:
        with Reader(b, name, [*users, f"{name}-stays"]) as of_b, Reader(c, name, [*users, f"{name}-stays"]) as of_c:
            for number, user in enumerate(users):
                for reader in (of_b, of_c):
                    reader.wait_for(user)
                began = time.monotonic()
                moment, status, agents = erase(nodes[number % 3], user)
                assert status == 0
                assert set(agents) == {node.name for node in nodes}
                assert all("confirmed" in agent for agent in agents.values()), agents
                assert moment - began < 2.5, "agents that are connected confirm within about a second"
                for reader in (of_b, of_c):
                    waiting.wait_until("two more answers", lambda: len(  # pylint: disable=cell-var-from-loop
                        reader.asked_since(moment)) >= 2, 20)
                    for found in reader.asked_since(moment):
                        assert user not in found, f"a record of an erased user on {reader.node.name}"
                        assert f"{name}-stays" in found
    finally:
        stop.set()
        producing.join(30)


def test_an_agent_that_is_stopped_is_named_with_its_bound(nodes, topic):
    a, _, c = nodes
    name = topic("user")
    first, second = fill(a, name, 2)
    with Reader(c, name, [first, second]) as reader:
        reader.wait_for(first, second)
        os.kill(c.agent.pid, signal.SIGSTOP)
        try:
            _, status, agents = erase(a, first, "--wait", "1")
            assert status == 3
            assert "confirmed" not in agents[c.name]
            assert -1.5 < seconds_until(agents[c.name]["refusesFrom"]) <= CACHE_TTL + 1
            _, status, agents = erase(a, second)
            assert status == 0
            assert "confirmed" not in agents[c.name]
            assert seconds_until(agents[c.name]["refusesFrom"]) <= 0
        finally:
            goes_on = time.monotonic()
            os.kill(c.agent.pid, signal.SIGCONT)
        waiting.wait_until("node c to answer", lambda: len(reader.asked_since(goes_on)) >= 3, 30)
        assert not any(found for found in reader.asked_since(goes_on))


def test_an_agent_that_is_cut_off_refuses_by_itself(nodes, registry, topic):
    a, b, _ = nodes
    name = topic("user")
    user, = fill(a, name, 1)
    with Reader(b, name, [user, f"{name}-stays"]) as reader:
        reader.wait_for(user)
        with registry.second_address_gone():
            began = time.monotonic()
            moment, status, agents = erase(a, user)
            assert status == 0
            assert "confirmed" not in agents[b.name], agents
            assert moment - began < CACHE_TTL + 4
            waiting.wait_until("another question", lambda: time.monotonic() > moment + 1, 5)
            assert not any(user in found for found in reader.asked_since(moment))
        back = time.monotonic()
        waiting.wait_until("node b to be well again", lambda: any(
            f"{name}-stays" in found for found in reader.asked_since(back)), 30)
        assert not any(user in found for found in reader.asked_since(moment))
    _, status, agents = erase(a, f"{name}-stays")
    assert status == 0
    assert "confirmed" in agents[b.name], "it is connected again"
