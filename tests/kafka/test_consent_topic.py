"""Topics that consents come from, at real brokers: TLS with a client's certificate, SASL over TLS, what the agent says when
it is refused, and topics whose records are gone or that were made anew.

One agent follows them all, each for a keyspace of its own. Nothing is intercepted here."""

import ctypes
import json
import subprocess

import pytest

from agent import Agent
from broker import Broker, tls_listener
from certificates import Authority
import clients
from conftest import POLICIES
from harness import Application, Message
import kafka_jars
import waiting

PASSWORD = "consents-secret-1"
WRONG_PASSWORD = "consents-secret-2"
LOGIN = "org.apache.kafka.common.security"


@pytest.fixture(scope="module")
def authority(site):
    return Authority(site.folder / "consent-certificates", "company")


@pytest.fixture(scope="module")
def broker(site, authority):
    certificate = authority.issue("broker", [site.address])
    tls = tls_listener(certificate, authority.ca)
    sasl = {**tls, "ssl.client.auth": "none", "protocol": "SASL_SSL", "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_kveil="{PASSWORD}";',
            "scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;"}
    users = [f"SCRAM-SHA-512=[name=kveil,password={PASSWORD}]"]
    with Broker(site.address, site.folder / "consents-broker", listeners={"tls": tls, "sasl": sasl}, users=users) as started:
        yield started


@pytest.fixture(scope="module")
def topics(site, broker, authority):
    """The section consentTopics: a topic for each keyspace, named after it."""
    stranger = Authority(site.folder / "consent-strangers", "stranger")
    own = authority.issue("agent")
    secret = {}
    for name, text in (("right", PASSWORD), ("wrong", WRONG_PASSWORD)):
        secret[name] = site.folder / f"{name}.password"
        secret[name].write_text(text)
        secret[name].chmod(0o600)
    ca = str(authority.ca)

    def topic(keyspace, listener, **more):
        port = broker.ports.get(listener, broker.port)
        return {"keyspace": keyspace, "topic": keyspace, "bootstrapServers": [f"{broker.address}:{port}"], **more}

    def login(mechanism, password):
        return {"mechanism": mechanism, "username": "kveil", "passwordFile": str(secret[password])}

    return [
        topic("certified", "tls", tls={"ca": ca, "certificate": own + ".crt", "key": own + ".key"}),
        topic("plain", "sasl", tls={"ca": ca}, sasl=login("PLAIN", "right")),
        topic("scram", "sasl", tls={"ca": ca}, sasl=login("SCRAM-SHA-512", "right")),
        topic("refused", "sasl", tls={"ca": ca}, sasl=login("PLAIN", "wrong")),
        topic("unknown", "sasl", tls={"ca": str(stranger.ca)}, sasl=login("PLAIN", "right")),
        topic("uncertified", "tls", tls={"ca": ca}),
        topic("remade", ""),
        topic("shortened", ""),
    ]


@pytest.fixture(scope="module")
def agent(site, broker, topics):
    outside = Application(broker)
    for topic in topics:
        outside.create_topic(topic["topic"])
    started = Agent(site, broker, POLICIES, {"intercept": {"cgroup": str(site.elsewhere)}, "consentTopics": topics},
                    name="agent-consents")
    started.mount_pins()
    try:
        started.start(wait=False)  # It never is without problems.
        waiting.wait_until("the agent to answer", lambda: started.kveil("status", "--json").stdout, 60)
        yield started
        log = started.log.read_text()
        assert PASSWORD not in log and WRONG_PASSWORD not in log
    finally:
        started.remove()


def record(user, *purposes):
    return Message(user.encode(), json.dumps({"purposes": purposes}).encode())


def consents(agent, keyspace, user):
    """Whether the user's consent to marketing counts."""
    shown = agent.kveil("consent", "list", "--user", user, "--keyspace", keyspace, "--json")
    return shown.returncode == 0 and any(one["purpose"] == "marketing" and one["holds"]
                                         for known in json.loads(shown.stdout)["known"] for one in known["consents"])


def problem(agent, keyspace):
    """What the agent says is wrong with the keyspace's topic."""
    return next((one["message"] for one in agent.status()["problems"] if one["name"] == f"consents.{keyspace}"), "")


def tools(command, broker, *arguments):
    done = subprocess.run(["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", kafka_jars.class_path(),
                           f"org.apache.kafka.tools.{command}", "--bootstrap-server", broker.bootstrap, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("keyspace", ["certified", "plain"])
def test_consents_come_over_tls(agent, outside, keyspace):
    outside.produce(keyspace, [record("38", "marketing")])
    waiting.wait_until("the consent", lambda: consents(agent, keyspace, "38"), 60)
    waiting.wait_until("no problem", lambda: not problem(agent, keyspace), 30)
    outside.produce(keyspace, [Message(b"38", None)])
    waiting.wait_until("the withdrawal", lambda: not consents(agent, keyspace, "38"), 30)


@pytest.mark.parametrize("keyspace, why", [("refused", "Authentication failed"), ("unknown", "certificate verify failed"),
                                           ("uncertified", "certificate")])
def test_who_is_refused_says_why(agent, outside, keyspace, why):
    outside.produce(keyspace, [record("38", "marketing")])
    waiting.wait_until(f'"{why}"', lambda: why in problem(agent, keyspace), 60)
    assert f"no consent in keyspace {keyspace}" in problem(agent, keyspace)
    assert not consents(agent, keyspace, "38")
    assert PASSWORD not in problem(agent, keyspace) and WRONG_PASSWORD not in problem(agent, keyspace)


def test_scram_works_or_the_agent_says_why_not(agent, outside):
    """Brokers of Kafka 4 refuse it of librdkafka before 2.6.1."""
    outside.produce("scram", [record("38", "marketing")])
    is_right = ctypes.CDLL("librdkafka.so.1").rd_kafka_version() >= 0x020601FF
    waiting.wait_until("consents or the reason", lambda: consents(agent, "scram", "38") or
                       not is_right and "it refuses SCRAM of librdkafka" in problem(agent, "scram"), 60)


def test_a_topic_that_is_made_anew_is_read_anew(agent, outside):
    """With fewer records than were read."""
    outside.produce("remade", [record("38", "marketing"), record("39", "marketing"), record("40", "marketing")])
    waiting.wait_until("the consents", lambda: consents(agent, "remade", "40"), 60)
    behind = agent.log_size()
    outside.run(clients.java("delete-topic", outside.broker.bootstrap, "remade"))
    outside.create_topic("remade")
    outside.produce("remade", [record("39", "marketing")])
    agent.wait_for_log("consents.readAnew topic=remade", behind, 90)
    for gone in ("38", "40"):
        waiting.wait_until("the end of what the topic does not hold any more", lambda user=gone: not consents(agent, "remade", user), 60)
    waiting.wait_until("the consent", lambda: consents(agent, "remade", "39"), 60)


def test_a_topic_whose_records_are_deleted_unread_is_read_anew(agent, broker, outside, site):
    """Behind the place of an agent that was stopped."""
    outside.produce("shortened", [record("38", "marketing"), record("39", "marketing")])
    waiting.wait_until("the consents", lambda: consents(agent, "shortened", "39"), 60)
    assert agent.stop() == 0
    outside.produce("shortened", [Message(b"38", None), record("40", "marketing")])
    offsets = site.folder / "deleted.json"
    offsets.write_text(json.dumps({"version": 1, "partitions": [{"topic": "shortened", "partition": 0, "offset": 3}]}))
    tools("DeleteRecordsCommand", broker, "--offset-json-file", str(offsets))
    behind = agent.log_size()
    agent.start(wait=False)
    agent.wait_for_log("consents.readAnew topic=shortened", behind, 90)
    waiting.wait_until("the consent that is left", lambda: consents(agent, "shortened", "40"), 60)
    for user in ("38", "39"):
        assert not consents(agent, "shortened", user), "nobody knows whether they have withdrawn"
