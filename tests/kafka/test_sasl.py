"""SASL between application and broker: it passes unseen, with both handshakes, and the agent knows the principal when the
broker has accepted it."""

import json
import re
import struct
import time

import pytest

from agent import Agent
from broker import Broker
from conftest import POLICIES
from harness import Application, Message, click, clicks, is_sealed
import waiting
import wire

SECRET = "alice-secret"
LOGIN = "org.apache.kafka.common.security"
MECHANISMS = {
    "PLAIN": f'{LOGIN}.plain.PlainLoginModule required username="alice" password="{SECRET}";',
    "SCRAM-SHA-256": f'{LOGIN}.scram.ScramLoginModule required username="alice" password="{SECRET}";',
    "SCRAM-SHA-512": f'{LOGIN}.scram.ScramLoginModule required username="alice" password="{SECRET}";',
    "OAUTHBEARER": f'{LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="alice";',
}
# Not SCRAM: Debian's librdkafka 2.0.2 is refused by a broker 4.4 with it, also without an agent between.
KCAT = {
    "PLAIN": ["sasl.username=alice", f"sasl.password={SECRET}"],
    "OAUTHBEARER": ["enable.sasl.oauthbearer.unsecure.jwt=true", "sasl.oauthbearer.config=principal=alice"],
}
REAUTHENTICATE = 2  # Seconds, with PLAIN.
OF_ALICE = {"prefix": "alices-", "seal": {"scope": "topic"}, "read": [{"workload": {"claimed": {"principal": "User:alice"}}}],
            "write": [{"workload": {"claimed": {"principal": "User:alice"}}}]}
# Of alice and of everybody, some records each.
SOME_OF_ALICE = [{"prefix": f"{kind}-", "onDenied": kind, "seal": {"scope": "user", "user": {"value": "/userid"}, "keyspace": "people"},
                  "read": [{"workload": {"claimed": {"principal": "User:alice"}}, "where": {"users": ["1"]}},
                           {"any": True, "where": {"users": ["3"]}}]} for kind in ("sealed", "error")]


class At:
    def __init__(self, broker):
        self.address, self.port = broker.address, broker.ports["sasl"]
        self.bootstrap = f"{self.address}:{self.port}"


@pytest.fixture(scope="module")
def broker(site):
    sasl = {
        "protocol": "SASL_PLAINTEXT", "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_alice="{SECRET}";',
        "plain.connections.max.reauth.ms": str(REAUTHENTICATE * 1000),
        "scram-sha-256.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        "scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        "oauthbearer.sasl.jaas.config":
            f'{LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
    }
    users = [f"SCRAM-SHA-{size}=[name=alice,password={SECRET}]" for size in (256, 512)]
    with Broker(site.address, site.folder / "sasl", listeners={"sasl": sasl}, users=users) as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def names(site):
    """With SASL the Java client wants to know the broker's name, and waits ten seconds for a name server that is not there."""
    hosts = site.folder / "hosts"
    hosts.write_text(f"{site.address} broker.test\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAVA_TOOL_OPTIONS", f"-Djdk.net.hosts.file={hosts}")
        yield


@pytest.fixture(scope="module")
def agent(site, broker, shop, analytics):
    changes = {"intercept": {"targets": [{"cluster": "main", "cidr": f"{broker.address}/32",
                                          "ports": f"{broker.port},{broker.ports['sasl']}"}]}}
    with Agent(site, broker, [*POLICIES, OF_ALICE, *SOME_OF_ALICE], changes, name="agent-sasl") as started:
        yield started
        assert SECRET not in started.log.read_text(), "a password is in the agent's log"


@pytest.fixture
def app(broker, shop, agent):
    return Application(At(broker), shop)


def java(mechanism):
    return ("security.protocol=SASL_PLAINTEXT", f"sasl.mechanism={mechanism}", f"sasl.jaas.config={MECHANISMS[mechanism]}")


def authenticated(agent, mechanism):
    """The principals that the agent has come to know."""
    return re.findall(rf"connection\.authenticated .*mechanism={mechanism} principal=(\S+)", agent.log.read_text())


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_records_pass_sealed_and_the_principal_is_known(app, agent, broker, topic, mechanism):
    name = topic("user")
    messages = clicks(1, 20)
    assert all("offset" in answer for answer in app.produce(name, messages, *java(mechanism)))
    assert app.values(name, *java(mechanism)) == [message.value for message in messages]
    waiting.wait_until("the principal in the agent's log", lambda: authenticated(agent, mechanism), 5)
    assert set(authenticated(agent, mechanism)) == {"alice"}
    assert all(is_sealed(record) for record in Application(broker).consume(name).records)


def test_policies_may_ask_for_the_principal(app, agent, broker, shop, topic):
    """Also when it has authenticated again, and not of the same workload without it."""
    name = topic("alices")
    with app.producing(name, *java("PLAIN"), "linger.ms=0") as producer:
        for number in range(2):
            producer.send(Message(None, click(1, number)))
            assert "offset" in producer.flush()
            time.sleep(REAUTHENTICATE)
        listed = json.loads(agent.kveil("connections", "--json").stdout)["connections"]
        assert [one["sealed"] for one in listed if one.get("principal") == "alice" and one["sealed"]] == [2], listed
    assert app.values(name, *java("SCRAM-SHA-256")) == [click(1, 0), click(1, 1)]
    nobody = Application(broker, shop)
    assert nobody.produce(name, clicks(1, 1))[0]["error"] == "TopicAuthorizationException"
    with pytest.raises(AssertionError, match="TopicAuthorizationException"):
        nobody.consume(name, "limit.seconds=10")


def test_what_a_principal_may_not_have_comes_sealed(app, broker, shop, topic):
    """The same connection's workload gets less without the principal."""
    name = topic("sealed")
    values = [click(1), click(2), click(3)]
    assert all("offset" in answer for answer in app.produce(name, [Message(None, value) for value in values], *java("PLAIN")))
    for reader, settings, clear in ((app, java("SCRAM-SHA-256"), {0, 2}), (Application(broker, shop), (), {2})):
        records = reader.consume(name, *settings).records
        assert [record.message.value if place in clear else is_sealed(record) for place, record in enumerate(records)] == [
            value if place in clear else True for place, value in enumerate(values)], settings
        assert all(b"secret" not in record.message.value for place, record in enumerate(records) if place not in clear)


def test_a_principal_gets_an_error_at_what_it_may_not_have(app, broker, shop, topic):
    name = topic("error")
    values = [click(1, 0), click(3, 1), click(1, 2), click(2, 3)]
    assert all("offset" in answer for answer in app.produce(name, [Message(None, value) for value in values], *java("PLAIN")))
    with app.following(name, "group.id=" + name, "auto.offset.reset=earliest", *java("PLAIN")) as consumer:
        assert [consumer.next().message.value for _ in range(3)] == values[:3]
    for reader, settings in ((app, java("PLAIN")), (Application(broker, shop), ())):
        with pytest.raises(AssertionError, match="TopicAuthorizationException"):
            reader.consume(name, "limit.seconds=10", *settings)


@pytest.mark.parametrize("mechanism", KCAT)
def test_kcat_authenticates_too(app, agent, topic, mechanism):
    name = topic("user")
    options = [word for setting in ["security.protocol=SASL_PLAINTEXT", f"sasl.mechanisms={mechanism}", *KCAT[mechanism]]
               for word in ("-X", setting)]
    known = len(authenticated(agent, mechanism))
    assert app.kcat_produce(name, [click(1)], *options).returncode == 0
    assert app.kcat_consume(name, *options) == [click(1)]
    waiting.wait_until("the principal in the agent's log", lambda: len(authenticated(agent, mechanism)) > known, 5)


def test_a_wrong_password_leaves_no_principal(app, agent, topic):
    wrong = java("SCRAM-SHA-256")[:2] + (MECHANISMS["SCRAM-SHA-256"].replace('"alice" password', '"mallory" password'),)
    wrong = (*wrong[:2], "sasl.jaas.config=" + wrong[2])
    answers = app.produce(topic("user"), clicks(1, 1), "max.block.ms=8000", *wrong)
    assert answers[0].get("error") == "SaslAuthenticationException", answers
    assert "mallory" not in authenticated(agent, "SCRAM-SHA-256")


def test_a_connection_that_authenticates_again_goes_on(app, agent, topic):
    """Every two seconds the broker wants to see the credentials anew, and closes connections that do not show them."""
    name = topic("user")
    with app.producing(name, *java("PLAIN"), "linger.ms=0") as producer:
        first = len(authenticated(agent, "PLAIN"))
        producer.send(Message(None, click(1)))
        assert "offset" in producer.flush()
        waiting.wait_until("the principal in the agent's log", lambda: len(authenticated(agent, "PLAIN")) > first, 5)
        known = len(authenticated(agent, "PLAIN"))
        closed = agent.log.read_text().count("connection.closed")
        for number in range(3):
            time.sleep(REAUTHENTICATE)
            producer.send(Message(None, click(1, number)))
            assert "offset" in producer.flush()
        assert agent.log.read_text().count("connection.closed") == closed, "a connection had to be made anew"
        assert len(authenticated(agent, "PLAIN")) == known


def test_bare_tokens_of_the_first_handshake_pass(app, agent, broker, topic):
    """SaslHandshake version 0, as clients of Kafka 0.10 send it: its tokens have no header."""
    name = topic("user")
    Application(broker).create_topic(name)
    with app.raw() as connection:
        handshake = connection.exchange(wire.frame(17, 0, wire.string("PLAIN"), correlation=1))
        assert struct.unpack_from(">ih", handshake, 4) == (1, 0)
        token = b"\0alice\0" + SECRET.encode()
        assert connection.exchange(struct.pack(">i", len(token)) + token) == b"\0\0\0\0"
        answer = wire.produce_answer(connection.exchange(wire.produce(name, wire.batch([(b"k", click(7), [])]))))
        assert (answer.error, answer.offset) == (0, 0)
        assert wire.fetched_batch(connection.exchange(wire.fetch(name)))[0].count(b"secret") == 1
    records = Application(broker).consume(name).records
    assert len(records) == 1 and is_sealed(records[0])


def test_a_handshake_that_the_broker_refuses_opens_no_way_past_the_agent(agent, broker, shop, topic):
    """Without SASL on its listener the broker refuses the handshake and goes on: what follows is no token then."""
    behind = agent.log_size()
    name = topic("user")
    Application(broker).create_topic(name)
    with Application(broker, shop).raw() as connection:
        handshake = wire.frame(17, 0, wire.string("PLAIN"), correlation=1)
        assert connection.exchange(handshake + wire.produce(name, wire.batch([(b"k", click(7), [])]))) == "closed"
    assert Application(broker).consume(name).records == []
    agent.wait_for_log("the broker refused SaslHandshake version 0 with error 34", behind)
