"""TLS between agent and broker: applications speak plain Kafka to ports where the broker wants TLS with a client's
certificate."""

import pytest

from agent import Agent
from broker import Broker, tls_listener
from certificates import Authority
from conftest import POLICIES
from harness import Application, Message, click, is_sealed
import waiting
import wire

NAME = "broker.test"
API_VERSIONS = b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff"  # version 0, correlation id 1, no client id


class At:
    """The same broker at another of its ports."""

    def __init__(self, broker, listener):
        self.address = broker.address
        self.port = broker.ports[listener]
        self.bootstrap = f"{self.address}:{self.port}"


@pytest.fixture(scope="module")
def authority(site):
    return Authority(site.folder / "certificates", "company")


@pytest.fixture(scope="module")
def secured(site, authority):
    """A broker with a listener for each kind of certificate. Whoever may do anything: the agent, and who comes in clear."""
    stranger = Authority(site.folder / "strangers", "stranger")
    revoked = authority.issue("revoked", [NAME])
    authority.revocation_list([authority.last_serial])
    stores = {"good": authority.issue("broker", [NAME]), "expired": authority.issue("expired", [NAME], days=-1),
              "misnamed": authority.issue("misnamed", ["other.test"]), "unknown": stranger.issue("unknown", [NAME]),
              "revoked": revoked, "tls12": authority.issue("old", [NAME])}
    tls = {name: tls_listener(certificate, authority.ca) for name, certificate in stores.items()}
    tls["tls12"]["ssl.enabled.protocols"] = "TLSv1.2"
    settings = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS;User:CN=agent", "allow.everyone.if.no.acl.found": "false"}
    with Broker(site.address, site.folder / "secured", settings=settings, listeners=tls) as started:
        yield started


@pytest.fixture(scope="module")
def identities(site, authority):
    """The folder with the certificates of workloads: only one has its own."""
    folder = site.folder / "identities"
    folder.mkdir()
    issued = authority.issue("analytics")
    for ending in (".crt", ".key"):
        (folder / f"analytics.service{ending}").write_bytes(open(issued + ending, "rb").read())
    return folder


@pytest.fixture(scope="module")
def named(site, authority):
    """A broker that is found at an address and advertises a name, which stands for another address."""
    address = site.second_address()
    certificate = authority.issue("named", [address, "localhost"])
    with Broker(address, site.folder / "named", advertised="localhost",
                listeners={"good": tls_listener(certificate, authority.ca)}) as started:
        yield started


def target(cluster, broker):
    return {"cluster": cluster, "cidr": f"{broker.address}/32", "ports": ",".join(map(str, sorted(broker.ports.values())))}


@pytest.fixture(scope="module")
def agent(site, secured, named, authority, identities, shop, analytics):
    own = authority.issue("agent")
    tls = {"ca": str(authority.ca), "certificate": own + ".crt", "key": own + ".key"}
    changes = {
        "intercept": {"targets": [target("main", secured), target("named", named)]},
        "clusters": {"main": {"tls": {**tls, "serverNames": [NAME], "crl": str(site.folder / "certificates/crl.pem"),
                                      "identities": str(identities)}},
                     "named": {"tls": tls}},
    }
    with Agent(site, secured, POLICIES, changes, name="agent-tls") as started:
        yield started


TLS_FAILED = 'kveil_connections_closed_total{result="tls_failed"}'


@pytest.mark.parametrize("listener", ["good", "tls12"])
def test_records_pass_sealed_and_come_back(site, secured, agent, shop, topic, listener):
    application, name = Application(At(secured, listener), shop), topic("user")
    values = [click(user, number) for user in range(1, 4) for number in range(50)]
    answers = application.produce(name, [Message(None, value) for value in values])
    assert all("offset" in answer for answer in answers), answers[:3]
    assert application.values(name) == values
    large = click(9, text="x" * 900_000)
    assert application.kcat_produce(name, [large]).returncode == 0
    assert application.kcat_consume(name) == [*values, large]
    stored = Application(secured).consume(name).records
    assert len(stored) == len(values) + 1
    assert all(is_sealed(record) for record in stored)


@pytest.mark.parametrize("listener, reason", [
    ("expired", "certificate has expired"), ("misnamed", "hostname mismatch"), ("unknown", "issuer certificate"),
    ("revoked", "certificate revoked")])
def test_a_broker_with_a_certificate_that_is_not_accepted_is_refused(secured, agent, shop, listener, reason):
    before = agent.metrics()[TLS_FAILED]
    logged = agent.log_size()
    with Application(At(secured, listener), shop).raw() as connection:
        # The reset may come before connect() has returned.
        assert connection.greeting[0] == "connected" or "reset" in " ".join(connection.greeting), connection.greeting
        assert connection.greeting[0] != "connected" or connection.exchange(API_VERSIONS) == "closed"
    waiting.wait_until("the agent to count it", lambda: agent.metrics()[TLS_FAILED] == before + 1, 5)
    line = agent.wait_for_log("connection.closed", logged)
    assert "the broker's certificate is refused" in line and reason in line


def test_an_advertised_name_is_what_the_certificate_needs(site, named, agent, topic):
    name = topic("user")
    workload = site.workload("host-shop", own_namespace=False)  # where "localhost" is the broker's
    try:
        application = Application(At(named, "good"), workload)
        assert "offset" in application.produce(name, [Message(None, click(1))])[0]
        assert application.values(name) == [click(1)]
    finally:
        workload.remove()
    assert is_sealed(Application(named, None).consume(name).records[0])
    agent.wait_for_log(f"broker=127.0.0.1:{named.ports['good']} cluster=named", 0)


HALF_CLOSING = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
connection.sendall(bytes.fromhex(sys.argv[3]))
connection.shutdown(socket.SHUT_WR)
answers = b""
while more := connection.recv(65536):
    answers += more
print(answers.hex())
"""


def test_a_client_that_has_ended_its_side_gets_all_its_answers(secured, agent, shop, topic):
    name = topic("topic")
    Application(secured).create_topic(name)
    requests = b"".join(API_VERSIONS[:11] + bytes([number]) + API_VERSIONS[12:] for number in range(20))
    requests += wire.fetch(name)  # of an empty topic: the broker waits half a second before it answers
    for listener in ("good", "tls12"):
        at = At(secured, listener)
        done = shop.run(["/usr/bin/python3", "-c", HALF_CLOSING, at.address, str(at.port), requests.hex()], timeout=30)
        assert done.returncode == 0, done.stderr
        assert correlations(bytes.fromhex(done.stdout)) == [*range(20), 7], listener


def correlations(answers):
    """The correlation ids of whole frames."""
    found = []
    while answers:
        size = int.from_bytes(answers[:4], "big")
        assert len(answers) >= 4 + size
        found.append(int.from_bytes(answers[4:8], "big"))
        answers = answers[4 + size:]
    return found


def test_the_broker_tells_workloads_apart_by_their_certificates(secured, agent, shop, analytics, topic):
    name = topic("topic")
    Application(secured).create_topic(name)
    at_good = At(secured, "good")
    assert "offset" in Application(at_good, shop).produce(name, [Message(None, b"x")])[0]
    answer = Application(at_good, analytics).produce(name, [Message(None, b"x")], "max.block.ms=5000")[0]
    assert "Authorization" in answer["error"], answer


def test_changed_files_are_read_without_a_restart(secured, agent, authority, shop, topic):
    name, application = topic("topic"), Application(At(secured, "good"), shop)
    assert "offset" in application.produce(name, [Message(None, b"1")])[0]
    good = {ending: (authority.folder / f"agent{ending}").read_bytes() for ending in (".crt", ".key")}
    (authority.folder / "agent.crt").write_text("no certificate")
    waiting.wait_until("status to name the file", lambda: _uses_tls(application) and any(
        "agent.crt" in problem["message"] for problem in agent.status()["problems"]), 15, every=0.5)
    assert "offset" in application.produce(name, [Message(None, b"2")])[0], "what was read before stays in force"

    stranger = Authority(authority.folder.parent / "strangers-too", "stranger too").issue("agent")
    for ending in (".crt", ".key"):
        (authority.folder / f"agent{ending}").write_bytes(open(stranger + ending, "rb").read())
    waiting.wait_until("the broker to refuse the new certificate", lambda: not _uses_tls(application), 15, every=0.5)
    failed, logged = agent.metrics()[TLS_FAILED], agent.log_size()
    assert not _uses_tls(application)
    waiting.wait_until("the agent to count it", lambda: agent.metrics()[TLS_FAILED] == failed + 1, 5)
    agent.wait_for_log(r'connection.closed .* reason="[^"]*TLS: [^"]*certificate', logged)
    for ending, content in good.items():
        (authority.folder / f"agent{ending}").write_bytes(content)
    waiting.wait_until("the broker to accept the old one again", lambda: _uses_tls(application), 15, every=0.5)
    assert "offset" in application.produce(name, [Message(None, b"3")])[0]
    assert agent.status()["problems"] == []


def _uses_tls(application):
    """Whether a new connection gets an answer to ApiVersions."""
    with application.raw() as connection:
        return connection.greeting[0] == "connected" and connection.exchange(API_VERSIONS) != "closed"
