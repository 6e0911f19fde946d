"""What the agent tells a service manager, which here is a socket of the test: ready when it is, alive while its threads are."""

import contextlib
import json
import os
import signal
import socket
import time
import types

import pytest

import places
import threads
import waiting
from agent import Agent
from conftest import POLICIES


class Manager:
    """Collects what it is told: a list of lines per message."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.told = []

    def listen(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told.append(self._socket.recv(65536).decode().splitlines())
        return self.told

    def wait_for(self, line, seconds=10):
        """Waits for a message with this line, and returns it. Forgets it and those before."""
        def found():
            return next((index for index, message in enumerate(self.listen()) if line in message), None)
        waiting.wait_until(f"{line} to be told", lambda: found() is not None, seconds)
        message = self.told[found()]
        self.told = self.told[found() + 1:]
        return message

    def hears_that_it_is_not_ready(self):
        return any(line.startswith("STATUS=NOT ready, ") for message in self.listen() for line in message)


def wrong_with(agent):
    return [problem["name"] for problem in agent.status()["problems"]]


@pytest.fixture(name="manager")
def fixture_manager(tmp_path, monkeypatch):
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(60_000_000))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    return manager


@pytest.fixture(name="managed")
def fixture_managed(site, manager):  # pylint: disable=unused-argument
    no_broker = types.SimpleNamespace(address=site.address, port=places.free_port(site.address))
    agent = Agent(site, no_broker, POLICIES, name="managed-agent")
    agent.mount_pins()
    yield agent
    agent.remove()


def expect_reload_to_say_what_it_changes(agent):
    def notes():
        return [note["name"] for note in agent.status()["notes"]]
    configured = json.loads(agent.kveil("config", "show").stdout)
    assert configured["limits"]["connections"] == 10000
    agent.config["log"] = {"level": "debug"}
    agent.config["limits"] = {"connections": 9}
    agent.write_config()
    reloaded = agent.kveil("reload")
    assert reloaded.stdout == "/log/level is in force\n/limits/connections needs a restart of the agent\n", reloaded
    assert notes() == ["configuration"]
    # What `config show` had printed is a configuration, and the one in force.
    agent.config_file.write_text(json.dumps({**configured, "log": {"level": "debug"}}))
    assert agent.kveil("reload").stdout == "the configuration is the one in force\n"
    assert notes() == []


def test_the_service_manager_hears_how_the_agent_is(managed, manager):
    agent = managed
    agent.start(wait=False)
    assert "STATUS=ready" in manager.wait_for("READY=1", 30)
    assert agent.status()["ready"], "READY=1 came before the agent was ready"
    manager.wait_for("WATCHDOG=1", 3)

    # Not ready, but a restart would not help.
    away = agent.root_key.with_suffix(".away")
    agent.root_key.rename(away)
    waiting.wait_until("the agent to notice", lambda: "keyService" in wrong_with(agent), 10)
    waiting.wait_until("the manager to hear of it", manager.hears_that_it_is_not_ready, 5)
    manager.told.clear()
    manager.wait_for("WATCHDOG=1", 3)
    away.rename(agent.root_key)
    assert not any("READY=1" in message for message in manager.listen())
    manager.wait_for("STATUS=ready")

    # A stuck worker, for which only a restart helps.
    with threads.stopped(agent.pid, "kveil-worker-0"):
        waiting.wait_until("the agent to notice", lambda: "workers" in wrong_with(agent), 10)
        time.sleep(1)
        manager.listen()
        manager.told.clear()
        time.sleep(4)
        assert not any("WATCHDOG=1" in message for message in manager.listen()), manager.told
    manager.wait_for("WATCHDOG=1")

    os.kill(agent.pid, signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1")
    expect_reload_to_say_what_it_changes(agent)
    manager.wait_for("RELOADING=1")

    assert agent.stop() == 0
    assert "EXTEND_TIMEOUT_USEC=41000000" in manager.wait_for("STOPPING=1")
    assert manager.listen() == []
