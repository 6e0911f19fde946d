"""TLS between application and agent: applications speak TLS to the broker's address, and the agent, which has a certificate for
it, speaks TLS in the broker's place, and to the broker. Or their TLS is passed, where a cluster says so."""

import os
import subprocess

import pytest

from agent import Agent
from broker import Broker, tls_listener
from certificates import Authority
from conftest import POLICIES
from harness import Application, Message, click, is_sealed
import waiting
import wire

LOGIN = "org.apache.kafka.common.security"
SASL = f'{LOGIN}.plain.PlainLoginModule required username="alice" password="alice-secret";'

READERS = ("reader", "reader2")  # The broker lets both read everything.
OF_READER = {"prefix": "subjects-", "seal": {"scope": "topic"},
             "read": [{"workload": {"claimed": {"certificate": "CN=reader"}}}]}

# Speaks Kafka's protocol over Python's TLS: one request, whose answer it prints. With a version, it speaks that one and offers
# protocols (ALPN), and prints what came of both.
PYTHON = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3])
if sys.argv[5:]:
    context.maximum_version = ssl.TLSVersion[sys.argv[5]]
    context.set_alpn_protocols(["h2", "http/1.1", "kafka"])
with context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20), server_hostname=sys.argv[1]) as tls:
    tls.sendall(bytes.fromhex(sys.argv[4]))
    answer = b""
    while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
        answer += tls.recv(65536) or sys.exit("the connection ended")
    print(answer.hex())
    if sys.argv[5:]:
        print(tls.version(), tls.selected_alpn_protocol())
"""


class At:
    """The same broker at another of its ports."""

    def __init__(self, broker, listener):
        self.address = broker.address
        self.port = broker.ports[listener]
        self.bootstrap = f"{self.address}:{self.port}"


@pytest.fixture(scope="module")
def company(site):
    """Who issued the certificates of the broker, of the agent, and of applications."""
    return Authority(site.folder / "terminating", "company")


@pytest.fixture(scope="module")
def secured(site, company):
    own = tls_listener(company.issue("broker", [site.address]), company.ca)
    sasl = {**own, "protocol": "SASL_SSL", "sasl.enabled.mechanisms": "PLAIN", "ssl.client.auth": "none",
            "plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_alice="alice-secret";'}
    settings = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": ";".join(["User:ANONYMOUS", "User:CN=agent", "User:CN=direct", "User:alice",
                                         *(f"User:CN={reader}" for reader in READERS)]),
                "allow.everyone.if.no.acl.found": "false"}
    with Broker(site.address, site.folder / "terminated", settings=settings,
                listeners={"good": own, "sasl": sasl, "passed": own}) as started:
        yield started


@pytest.fixture(scope="module")
def front(site, company):
    """The folder with the certificate that stands for the broker."""
    folder = site.folder / "front"
    folder.mkdir()
    put(company.issue("front", [site.address]), folder / "broker")
    return folder


def put(issued, name):
    """Key first: the agent may look in between."""
    for ending in (".key", ".crt"):
        fresh = name.with_suffix(ending + ".new")
        fresh.write_bytes(open(issued + ending, "rb").read())
        os.chmod(fresh, 0o600)
        fresh.rename(name.with_suffix(ending))


@pytest.fixture(scope="module")
def agent(site, secured, company, front, shop):
    own = company.issue("agent")
    identities = site.folder / "front-identities"
    identities.mkdir()
    put(company.issue("visitor"), identities / "CN=visitor")
    for subject in READERS:
        put(company.issue(subject), identities / f"CN={subject}")
    tls = {"ca": str(company.ca), "certificate": own + ".crt", "key": own + ".key"}
    network = site.address.rsplit(".", 1)[0] + ".0/24"
    changes = {
        "intercept": {"targets": [
            {"cluster": "main", "cidr": f"{site.address}/32",
             "ports": ",".join(map(str, sorted([secured.port, secured.ports["good"], secured.ports["sasl"]])))},
            {"cluster": "passing", "cidr": network, "ports": str(secured.ports["passed"])}]},
        "clusters": {"main": {"tls": {**tls, "identities": str(identities)},
                              "clientTls": {"terminate": {"certificates": str(front), "clientCa": str(company.ca),
                                                          "clientCertificate": "request"}}},
                     "passing": {"clientTls": "pass"}},
    }
    with Agent(site, secured, [*POLICIES, OF_READER], changes, name="agent-front") as started:
        yield started
        assert "PRIVATE KEY" not in started.log.read_text()


def java(company, *more, certificate=None):
    keys = [] if certificate is None else ["ssl.keystore.type=PEM", f"ssl.keystore.location={certificate}.pem"]
    return ("security.protocol=SSL", *truststore(company, "PEM"), *keys, *more)


def truststore(company, kind):
    """The settings of Java clients that trust the company, from a file of the kind PEM or JKS."""
    if kind == "PEM":
        return [f"ssl.truststore.type={kind}", f"ssl.truststore.location={company.ca}"]
    file = company.folder / "trusted.jks"
    if not file.exists():
        subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "company", "-file", company.ca, "-keystore", file,
                        "-storetype", kind, "-storepass", "changeit"], check=True, timeout=60, capture_output=True)
    return [f"ssl.truststore.type={kind}", f"ssl.truststore.location={file}", "ssl.truststore.password=changeit"]


def kcat(company):
    return ("-X", "security.protocol=ssl", "-X", f"ssl.ca.location={company.ca}")


def assert_sealed(secured, topic, count):
    stored = Application(secured).consume(topic).records
    assert len(stored) == count and all(is_sealed(record) for record in stored), stored
    assert b"secret" not in secured.stored_bytes(topic)


def test_what_java_sends_over_tls_is_sealed_and_comes_back(secured, agent, company, shop, topic):
    application, name = Application(At(secured, "good"), shop), topic("user")
    values = [click(user, number) for user in range(1, 4) for number in range(20)]
    answers = application.produce(name, [Message(None, value) for value in values], *java(company))
    assert all("offset" in answer for answer in answers), answers[:3]
    assert application.values(name, *java(company)) == values
    assert_sealed(secured, name, len(values))


def test_what_kcat_sends_over_tls_is_sealed_and_comes_back(secured, agent, company, shop, topic):
    application, name = Application(At(secured, "good"), shop), topic("user")
    values = [click(7, text="x" * 900_000), click(8)]
    produced = application.kcat_produce(name, values, *kcat(company))
    assert produced.returncode == 0, produced.stderr
    assert application.kcat_consume(name, *kcat(company)) == values
    assert_sealed(secured, name, len(values))


def test_what_python_sends_over_tls_is_sealed_and_so_is_what_comes_without(secured, agent, company, shop, topic):
    at, name = At(secured, "good"), topic("user")
    Application(secured).create_topic(name)
    request = wire.produce(name, wire.batch([(None, click(1), [])]))
    done = shop.run(["/usr/bin/python3", "-c", PYTHON, at.address, str(at.port), str(company.ca), request.hex()], timeout=30)
    assert done.returncode == 0, done.stderr
    assert wire.produce_answer(bytes.fromhex(done.stdout)).error == 0
    assert "offset" in Application(at, shop).produce(name, [Message(None, click(2))])[0], "plain Kafka to the same port"
    assert_sealed(secured, name, 2)


def test_a_client_that_offers_protocols_gets_none_and_is_served(secured, agent, company, shop):
    at, request = At(secured, "good"), wire.frame(wire.API_VERSIONS, 0, b"")
    for version, spoken in (("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")):
        done = shop.run(["/usr/bin/python3", "-c", PYTHON, at.address, str(at.port), str(company.ca), request.hex(), version], timeout=30)
        assert done.returncode == 0, done.stderr
        answer, came = done.stdout.splitlines()
        assert bytes.fromhex(answer)[4:10] == request[8:12] + b"\0\0", "the correlation id, and no error"
        assert came == f"{spoken} None"


@pytest.mark.parametrize("store", ["JKS", "PEM"])
def test_sasl_passes_inside_of_tls(site, secured, agent, company, shop, topic, monkeypatch, store):
    # With SASL the Java client wants to know the broker's name, and waits ten seconds for a name server that is not there.
    hosts, name = site.folder / "hosts", topic("user")
    hosts.write_text(f"{site.address} broker.test\n")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-Djdk.net.hosts.file={hosts}")
    settings = ("security.protocol=SASL_SSL", *truststore(company, store), "sasl.mechanism=PLAIN", f"sasl.jaas.config={SASL}")
    application = Application(At(secured, "sasl"), shop)
    answers = application.produce(name, [Message(None, click(3))], *settings)
    assert "offset" in answers[0], answers
    assert application.values(name, *settings) == [click(3)]
    assert_sealed(secured, name, 1)
    assert "alice-secret" not in agent.log.read_text()


def test_an_applications_certificate_chooses_the_one_that_the_broker_sees(secured, agent, company, shop, topic):
    name, logged = topic("topic"), agent.log_size()
    Application(secured).create_topic(name)
    application = Application(At(secured, "good"), shop)
    visitor = java(company, "max.block.ms=5000", certificate=company.issue("visitor"))
    answer = application.produce(name, [Message(None, b"x")], *visitor)[0]
    assert "Authorization" in answer["error"], answer
    line = agent.wait_for_log("connection.closed .*CN=visitor", logged)
    assert 'clientTls="TLSv1.3 of CN=visitor"' in line, line
    stranger = Authority(company.folder.parent / "stranger", "stranger").issue("visitor")
    # Not Java: it shows no certificate of an authority that it is not asked for.
    refused = application.kcat_produce(name, [b"x"], *kcat(company), "-X", f"ssl.certificate.location={stranger}.crt",
                                       "-X", f"ssl.key.location={stranger}.key", "-X", "message.timeout.ms=3000")
    assert refused.returncode != 0
    agent.wait_for_log("connection.closed .*the application's certificate is refused", logged)


def test_policies_may_ask_for_the_subject_of_a_certificate(secured, agent, company, shop, topic):
    """The agent itself has checked it. Neither another subject nor none gets anything, of the same workload."""
    name, application = topic("subjects"), Application(At(secured, "good"), shop)
    values = [click(1, number) for number in range(5)]
    assert all("offset" in answer for answer in application.produce(name, [Message(None, value) for value in values], *java(company)))
    reader, other = (java(company, certificate=company.issue(subject)) for subject in READERS)
    assert application.values(name, *reader) == values
    for settings in (other, java(company)):
        with pytest.raises(AssertionError, match="TopicAuthorizationException"):
            application.consume(name, "limit.seconds=10", *settings)
    assert_sealed(secured, name, len(values))


def test_a_certificate_that_is_renewed_is_shown_without_a_restart(site, secured, agent, company, front, shop, topic):
    name, application = topic("user"), Application(At(secured, "good"), shop)
    renewed = Authority(site.folder / "renewed", "renewed")
    good = {ending: (front / f"broker{ending}").read_bytes() for ending in (".crt", ".key")}
    put(renewed.issue("front", [site.address]), front / "broker")
    trusting = lambda: application.kcat_produce(name, [click(1)], *kcat(renewed), "-X", "message.timeout.ms=3000")
    waiting.wait_until("an application that trusts the new one alone to be served", lambda: trusting().returncode == 0, 30)
    (front / "broker.crt").write_text("no certificate")
    waiting.wait_until("status to name the file", lambda: any(
        "broker.crt" in problem["message"] for problem in agent.status()["problems"]), 15, every=0.5)
    assert trusting().returncode == 0, "what was read before stays in force"
    checked = agent.kveil("agent", "--check")
    assert checked.returncode == 1 and "broker.crt" in checked.stderr, checked
    for ending, content in good.items():
        (front / f"broker{ending}").write_bytes(content)
    waiting.wait_until("the problem to pass", lambda: agent.status()["problems"] == [], 15, every=0.5)
    assert application.kcat_produce(name, [click(2)], *kcat(company)).returncode == 0


def test_tls_that_is_passed_is_counted_and_protects_nothing(secured, agent, company, shop, topic):
    name, application, logged = topic("topic"), Application(At(secured, "passed"), shop), agent.log_size()
    passed = agent.metrics()["kveil_connections_passed_total"]
    settings = java(company, certificate=company.issue("direct"))
    assert "offset" in application.produce(name, [Message(None, b"in the clear")], *settings)[0]
    assert b"in the clear" in secured.stored_bytes(name)
    assert agent.metrics()["kveil_connections_passed_total"] > passed
    agent.wait_for_log("connection.passed .*cluster=passing", logged)
    note, = [note for note in agent.status()["notes"] if note["name"] == "clientTls"]
    assert 'clientTls is "pass" for passing' in note["message"]
