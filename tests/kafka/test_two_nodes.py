"""Two nodes with one registry: what one seals the other opens, and what is erased on one is gone on both.

Each node has its own configuration, cgroup and workloads, in network namespaces of their own; they share the broker, the
root key and a PostgreSQL."""

import json
import threading
import time

import pytest

from agent import Agent
from conftest import POLICIES
from harness import Application, Message, click, clicks, is_sealed
from postgres import Postgres
import waiting

CONSENTS = "people-consents"
CONSENTED = {"prefix": "consented-", "seal": {"scope": "user", "user": {"value": "/userid"}, "keyspace": "people"},
             "read": [{"any": True, "where": {"consent": "marketing"}}]}


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as started:
        yield started


@pytest.fixture(scope="module")
def nodes(site, broker, postgres):
    """Agent and workload of node a, agent and workload of node b."""
    shop = site.workload("shop-a")
    analytics = site.workload("analytics-b", below=site.elsewhere)
    keys = postgres.keys(site.folder / "root.key")
    Application(broker).create_topic(CONSENTS)
    follow = {"consentTopics": [{"keyspace": "people", "topic": CONSENTS, "bootstrapServers": [broker.bootstrap]}]}
    a = Agent(site, broker, [*POLICIES, CONSENTED], follow, name="a", keys=keys)
    b = Agent(site, broker, [*POLICIES, CONSENTED], {"intercept": {"cgroup": str(site.elsewhere)}, **follow}, name="b",
              keys=keys)
    for agent in (a, b):
        agent.write_policy_text(json.dumps({"purposes": ["marketing"]}), "purposes.json")
    with a, b:
        yield a, shop, b, analytics
    shop.remove()
    analytics.remove()


@pytest.fixture
def agent_a(nodes):
    return nodes[0]


@pytest.fixture
def agent_b(nodes):
    return nodes[2]


@pytest.fixture
def app_a(broker, nodes):
    return Application(broker, nodes[1])


@pytest.fixture
def app_b(broker, nodes):
    return Application(broker, nodes[3])


@pytest.mark.parametrize("prefix", ["user", "topic", "cluster"])
def test_what_one_node_seals_the_other_opens(app_a, app_b, outside, topic, prefix):
    name = topic(prefix)
    app_a.produce(name, clicks("anna", 20) + clicks("boris", 20))
    app_b.produce(name, clicks("boris", 20) + clicks("carla", 20))
    expected = [message.value for user in ("anna", "boris", "boris", "carla") for message in clicks(user, 20)]
    assert app_a.values(name) == expected
    assert app_b.values(name) == expected
    assert all(is_sealed(record) for record in outside.consume(name).records)


def test_new_users_at_the_same_moment_get_one_key_each(app_a, app_b, postgres, topic):
    name = topic("user")
    app_a.create_topic(name)
    users = [f"{name}-{number}" for number in range(2000)]
    before = rows(postgres)
    both = [threading.Thread(target=app.produce, args=(name, [Message(None, click(user, node)) for user in order]))
            for node, app, order in ((1, app_a, users), (2, app_b, users[::-1]))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert rows(postgres) - before == len(users)
    expected = sorted(click(user, node) for user in users for node in (1, 2))
    assert sorted(app_a.values(name)) == expected
    assert sorted(app_b.values(name)) == expected


def rows(postgres):
    return int(postgres.query("SELECT count(*) FROM kveil.scope_keys WHERE state = 1")[0][0])


def test_an_erasure_on_one_node_reaches_a_running_reader_on_the_other(app_a, app_b, agent_a, topic):
    """Without a reconnect, within a second."""
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    app_a.create_topic(name)
    with app_a.producing(name, "linger.ms=0") as producer, app_b.following(name, "group.id=" + name) as consumer:
        producer.send(Message(None, click(gone, 1)))
        assert producer.flush()["offset"] == 0
        assert consumer.next().message.value == click(gone, 1)
        assert agent_a.erase(gone).returncode == 0
        time.sleep(1)  # The bound that is promised.
        for message in (click(gone, 2), click(stays, 3)):
            producer.send(Message(None, message))
            assert "offset" in producer.flush()
        assert consumer.next().message.value == click(stays, 3)
        rest = consumer.finish()
    assert rest.records == []
    assert app_b.values(name) == [click(stays, 3)]
    assert app_a.values(name) == [click(stays, 3)]


def test_a_node_that_was_down_knows_of_the_erasure_when_it_starts(app_a, app_b, agent_a, agent_b, topic):
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    app_a.produce(name, [Message(None, click(gone)), Message(None, click(stays))])
    assert app_b.values(name) == [click(gone), click(stays)]
    assert agent_b.stop() == 0
    try:
        assert agent_a.erase(gone).returncode == 0
    finally:
        agent_b.start()
    assert app_b.values(name) == [click(stays)]


def test_without_the_registry_known_users_go_on_and_new_ones_wait(app_a, app_b, agent_a, agent_b, postgres, topic):
    name = topic("user")
    app_a.produce(name, clicks("known-" + name, 5))
    assert app_b.values(name) == [message.value for message in clicks("known-" + name, 5)]
    with app_a.producing(name, "linger.ms=0", "delivery.timeout.ms=60000") as producer:
        producer.send(Message(None, click("known-" + name, 10)))
        assert producer.flush()["offset"] == 5
        postgres.stop()
        try:
            producer.send(Message(None, click("known-" + name, 11)))
            assert producer.flush()["offset"] == 6, "a key that is in the cache serves on"
            for agent in (agent_a, agent_b):
                waiting.wait_until("status to tell of the registry", lambda: any(  # pylint: disable=cell-var-from-loop
                    "registry" in problem["message"] for problem in agent.status()["problems"]), 20)
            producer.send(Message(None, click("new-" + name, 12)))
            producer.do("flush")
        finally:
            postgres.start()
        assert producer.flush(60)["offset"] == 7, "the new user's record was held and retried, and is not lost"
    assert app_b.values(name)[-2:] == [click("known-" + name, 11), click("new-" + name, 12)]


def record(user, *purposes):
    return Message(user.encode(), json.dumps({"purposes": purposes}).encode())


def consents(agent, user):
    """Whether the user's consent to marketing counts at this node."""
    shown = agent.kveil("consent", "list", "--user", user, "--keyspace", "people", "--json")
    assert shown.returncode == 0, shown.stderr
    return any(one["purpose"] == "marketing" and one["holds"]
               for known in json.loads(shown.stdout)["known"] for one in known["consents"])


def follower(agent):
    """What the agent says of the topic of consents."""
    notes = json.loads(agent.kveil("status", "--json").stdout)["notes"]
    return next((note["message"] for note in notes if note["name"] == "consents.people"), "")


def test_consents_come_from_a_topic(app_a, app_b, outside, agent_a, agent_b, topic):
    """One agent follows the topic. When it is killed in the middle, the other one goes on where it was."""
    name = topic("consented")
    outside.produce(CONSENTS, [record("60", "marketing"), record("61", "marketing"), Message(b"62", b"garbage")])
    app_a.produce(name, clicks("60", 2) + clicks("61", 2) + clicks("62", 2) + clicks("63", 2))
    for agent in (agent_a, agent_b):
        waiting.wait_until("the consents", lambda agent=agent: consents(agent, "60"), 60)
    assert app_b.values(name) == values_of(clicks("60", 2) + clicks("61", 2))
    outside.produce(CONSENTS, [Message(b"61", None)])
    for agent in (agent_a, agent_b):
        waiting.wait_until("the withdrawal", lambda agent=agent: not consents(agent, "61"), 30)
    assert app_b.values(name) == values_of(clicks("60", 2))
    waiting.wait_until("the notes", lambda: follower(agent_a) and follower(agent_b), 30)
    first, second = sorted((agent_a, agent_b), key=lambda agent: "this agent follows" not in follower(agent))
    assert "1 record(s) cannot be read, the last one in partition 0 at offset 2" in follower(first)
    # Killed in the middle of many.
    outside.produce(CONSENTS, [record(f"many-{number}", "marketing") for number in range(3000)] + [record("60")])
    first.kill()
    try:
        outside.produce(CONSENTS, [record("63", "marketing")])
        waiting.wait_until("the other agent to follow", lambda: consents(second, "63"), 60)
        assert "this agent follows" in waiting.wait_until("its note", lambda: follower(second), 30)
        assert not consents(second, "60")
        assert consents(second, "many-0") and consents(second, "many-2999")
        assert "consents.readAnew" not in second.log.read_text(encoding="utf-8"), "it goes on where the first one was"
    finally:
        first.start()
    assert app_b.values(name) == values_of(clicks("63", 2))


def values_of(messages):
    return [message.value for message in messages]
