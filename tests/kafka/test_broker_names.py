"""Brokers advertised by names that only the workload can resolve: by a hosts file or a name server of its own."""

import contextlib
import pathlib
import re
import subprocess

import pytest

from agent import Agent
from broker import Broker
from conftest import POLICIES
from harness import Application, click

NAME = "b1.kveil.internal"
TOO_LARGE = 5 << 20  # Bytes of a hosts file that the agent does not read, while the C library does.


@pytest.fixture(scope="module")
def elsewhere(site):
    """The address that the name stands for. No target covers it."""
    return site.second_address()


@pytest.fixture(scope="module")
def named(site, elsewhere):
    """A broker that is found at site.address, and advertises the name."""
    with Broker(site.address, site.folder / "named", advertised=NAME) as started:
        yield started


class Mounted:
    """A workload whose processes see a file of their own in the place of /etc/`name`, as those of a container do."""

    def __init__(self, workload, name, text):
        self._workload = workload
        self._file = workload.site.folder / f"{workload.name}-{name}"
        self._file.write_text(text, encoding="utf-8")
        self._name = name

    def run(self, command, **options):
        return self._workload.run(["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "/etc/$1" && shift && exec "$@"',
                                   str(self._file), self._name, *command], **options)


@contextlib.contextmanager
def agent_for(site, named, name, targets=None):
    """A workload with an agent of its own."""
    workload = site.workload(name, below=site.elsewhere)
    changes = {"intercept": {"cgroup": str(workload.cgroup), **({"targets": targets} if targets else {})}}
    try:
        with Agent(site, named, POLICIES, changes, name=f"agent-{name}") as agent:
            yield workload, agent
    finally:
        workload.remove()


def hosts(elsewhere, size=0):
    return f"127.0.0.1 localhost\n{elsewhere} {NAME}\n" + "# padding\n" * (size // 10)


def produce(workload, named, topic):
    """One click by kcat; the completed process."""
    return Application(named, workload).kcat_produce(topic, [click(1)], "-X", "message.timeout.ms=8000", timeout=40)


def notes(agent):
    status = agent.status()
    assert not status["problems"], "what a workload's name servers say is no problem of the node"
    return {note["name"]: note["message"] for note in status["notes"]}


def assert_sealed(named, topic):
    stored = named.stored_bytes(topic)
    assert stored and b"GET /secret" not in stored


def test_a_name_in_the_workloads_own_hosts_file(site, named, elsewhere, topic):
    name = topic("user")
    with agent_for(site, named, "hosts") as (workload, agent):
        done = produce(Mounted(workload, "hosts", hosts(elsewhere)), named, name)
        assert done.returncode == 0, done.stderr
        agent.wait_for_log(f"broker={re.escape(elsewhere)}:{named.port}", 0)
        assert "brokers" not in notes(agent)
    assert_sealed(named, name)


def test_a_name_of_the_workloads_own_name_server(site, named, elsewhere, topic):
    name = topic("user")
    with agent_for(site, named, "server") as (workload, agent):
        script = pathlib.Path(__file__).with_name("name_server.py")
        server = workload.start(["/usr/bin/python3", str(script), NAME, elsewhere], stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == "serving\n"
            done = produce(Mounted(workload, "resolv.conf", "nameserver 127.0.0.1\n"), named, name)
        finally:
            server.kill()
            server.wait(5)
        assert done.returncode == 0, done.stderr
        assert "brokers" not in notes(agent)
    assert_sealed(named, name)


def test_a_name_that_the_agent_cannot_resolve_is_left_out_and_nothing_leaves_in_the_clear(site, named, elsewhere, topic):
    name = topic("user")
    with agent_for(site, named, "unknown") as (workload, agent):
        done = produce(Mounted(workload, "hosts", hosts(elsewhere, TOO_LARGE)), named, name)
        assert done.returncode != 0
        assert f"broker {NAME}:{named.port}" in notes(agent)["brokers"]
        # It costs nobody else anything.
        again = produce(Mounted(workload, "hosts", hosts(elsewhere)), named, name)
        assert again.returncode == 0, again.stderr
    assert_sealed(named, name)


def test_where_targets_cover_every_address_no_name_has_to_resolve(site, named, elsewhere, topic):
    name = topic("user")
    targets = [{"cluster": "main", "cidr": cidr, "ports": str(named.port)} for cidr in ("0.0.0.0/0", "::/0")]
    with agent_for(site, named, "covered", targets) as (workload, agent):
        done = produce(Mounted(workload, "hosts", hosts(elsewhere, TOO_LARGE)), named, name)
        assert done.returncode == 0, done.stderr
        assert "brokers" not in notes(agent)
        assert "broker.learned" not in agent.log.read_text()
    assert_sealed(named, name)
