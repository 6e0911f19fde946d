"""A whole agent whose root key is at Vault's real Transit engine, in front of a real broker."""

import itertools
import json
import pathlib
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka")]
import waiting  # noqa: E402
import workload as workloads  # noqa: E402
from agent import Agent  # noqa: E402
from broker import Broker  # noqa: E402
from harness import Application, click, clicks, is_sealed, Message  # noqa: E402
from vault import Vault  # noqa: E402

numbers = itertools.count(1)
OUTAGE = 60  # Seconds. As long as keys.cacheTtl, so that every cached key is looked up anew meanwhile.
POLICY = [{"prefix": "user-", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": True}]}]


@pytest.fixture(scope="module")
def site():
    with workloads.Site("vault") as made:
        yield made


@pytest.fixture(scope="module")
def broker(site):
    with Broker(site.address, site.folder / "broker") as started:
        yield started


@pytest.fixture
def number():
    """Of the test: a socket's path is short."""
    return next(numbers)


@pytest.fixture
def vault(site, number):
    with Vault(site.folder / f"vault{number}") as started:
        yield started


@pytest.fixture
def agent(site, broker, vault, number):
    made = Agent(site, broker, POLICY, name=f"agent{number}")
    made.config["keys"]["root"] = vault.root_key()
    made.write_config()
    with made:
        yield made
        leaked = [(vault.folder / "secret-id").read_text(), vault.root_token, "hvs."]
        assert not any(text in made.log.read_text() for text in leaked)


@pytest.fixture
def app(site, broker, agent, number):
    workload = site.workload(f"app{number}")
    yield Application(broker, workload)


def problems(agent):
    return [problem["message"] for problem in agent.status()["problems"]]


def everything_sealed(broker, topic):
    held = Application(broker).consume(topic).records
    assert held and all(is_sealed(record) for record in held)
    return held


def test_an_outage_of_a_minute(agent, app, broker, vault):
    topic = "user-outage"
    sent = clicks("38", 20)
    app.produce(topic, sent)
    assert app.values(topic) == [message.value for message in sent]
    vault.stop()
    slowest, end, number = 0, time.monotonic() + OUTAGE, 0
    with app.producing(topic, "linger.ms=0") as producer:
        while time.monotonic() < end:
            for user in ("38", f"new-{number}"):
                message = Message(None, click(user, number))
                begun = time.monotonic()
                producer.send(message)
                assert "error" not in producer.flush()
                slowest = max(slowest, time.monotonic() - begun)
                sent.append(message)
            number += 1
            time.sleep(0.2)
        producer.finish()
    assert agent.status()["ready"], "everything that is asked for is served"
    assert any("Vault key transit/kveil" in message for message in problems(agent)), problems(agent)
    begun = time.monotonic()
    assert agent.erase("new-0").returncode == 0
    erasure = time.monotonic() - begun
    print(f"\n{len(sent)} records, the slowest took {slowest * 1000:.0f} ms; an erasure {erasure * 1000:.0f} ms; "
          f"problem: {problems(agent)}")
    stays = [message.value for message in sent if b'"new-0"' not in message.value]
    assert app.values(topic) == stays
    assert len(everything_sealed(broker, topic)) == len(sent)
    vault.start()
    waiting.wait_until("the problem to be over", lambda: not problems(agent), 40)
    metrics = agent.metrics()
    assert metrics['kveil_root_key_calls_total{operation="unwrap",provider="vault"}'] >= 2
    assert sum(value for name, value in metrics.items() if name.startswith("kveil_root_key_errors_total")) > 0


def test_an_agent_waits_for_vault_when_it_starts(agent, app, broker, vault):
    topic = "user-start"
    app.produce(topic, clicks("38", 5))
    agent.stop()
    vault.stop()
    size = agent.log_size()
    agent.start(wait=False)
    agent.wait_for_log("keys.rootKey.waiting", size, 20)
    assert agent.kveil("status").returncode == 1
    assert not agent.status()["ready"]
    assert any("Vault key transit/kveil" in message for message in problems(agent)), problems(agent)
    assert "starting" in agent.erase("38").stderr
    vault.start()
    waiting.wait_until("the agent to be ready", lambda: agent.kveil("status").returncode == 0, 30)
    assert app.values(topic) == [message.value for message in clicks("38", 5)]
    # One that waits ends at once when it is told to.
    agent.stop()
    vault.stop()
    size = agent.log_size()
    agent.start(wait=False)
    agent.wait_for_log("keys.rootKey.waiting", size, 20)
    begun = time.monotonic()
    agent.stop()
    assert time.monotonic() - begun < 20


def test_after_a_rotation_the_old_version_opens_nothing_and_is_not_needed(agent, app, broker, vault):
    topic = "user-rotated"
    app.produce(topic, clicks("38", 5))
    agent.stop()
    registry = pathlib.Path(agent.config["keys"]["registry"]["sqlite"])
    backup = registry.read_bytes()
    agent.start()
    vault.call("POST", "transit/keys/kveil/rotate", {})
    rotated = agent.kveil("keys", "rotate", "--reason", "yearly", "--json")
    assert rotated.returncode == 0, rotated.stderr
    assert json.loads(rotated.stdout)["versions"] == ["version 2"]
    vault.call("POST", "transit/keys/kveil/config", {"min_decryption_version": 2})
    agent.stop()
    agent.start()
    app.produce(topic, clicks("39", 5))
    assert app.values(topic) == [message.value for message in clicks("38", 5) + clicks("39", 5)]
    assert not problems(agent)
    agent.stop()
    for name in registry.parent.glob(registry.name + "*"):
        name.unlink()
    registry.write_bytes(backup)
    agent.start(wait=False)
    assert agent.wait_for_exit(30) != 0
    assert "min_decryption_version" in agent.last_log_lines(3)


def test_a_deleted_key_stops_new_keys_and_nothing_leaves_in_the_clear(agent, app, broker, vault):
    topic = "user-deleted"
    app.produce(topic, clicks("38", 5))
    vault.delete_key("kveil")
    waiting.wait_until("the agent to know", lambda: any("deleted" in message for message in problems(agent)), 30)
    answers = app.produce(topic, [Message(None, click("new", 0))], "delivery.timeout.ms=8000", "request.timeout.ms=4000")
    assert "error" in answers[0], answers
    assert len(everything_sealed(broker, topic)) == 5
    assert app.values(topic) == [message.value for message in clicks("38", 5)], "what was unwrapped serves on"
    agent.stop()
    agent.start(wait=False)
    assert agent.wait_for_exit(30) != 0, "there is nothing to wait for"
    assert "deleted, or never made" in agent.last_log_lines(3)
