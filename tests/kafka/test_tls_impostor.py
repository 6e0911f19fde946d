"""Whoever stands where a broker should be, or puts bytes into the stream: no request reaches them, and the application gets
none of their bytes. No broker is needed for that."""

import socket
import ssl
import threading

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import places
import waiting
import wire
from agent import Agent
from certificates import Authority
from conftest import POLICIES
from harness import Application

NAME = "broker.test"
API_VERSIONS = b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff"  # version 0, correlation id 1, no client id


class Impostor:
    """Listens where a broker might be. Does `greet(connection, hello)` with whoever comes, and keeps what it got in clear."""

    def __init__(self, address):
        self.address = address
        self.port = places.free_port(address)
        self.bootstrap = f"{address}:{self.port}"
        self.greet = None
        self.got = b""
        self.ended = threading.Event()
        self.resumed = False
        self._listener = socket.create_server((address, self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(2)  # it serves one after the other
                self.resumed = False
                try:
                    hello = connection.recv(65536)
                    self.got += hello
                    self.greet(connection, hello)
                except OSError:  # the agent has gone
                    pass
            self.ended.set()

    def raw(self, answer):
        """Sends these bytes as its greeting, and takes what comes then for clear."""
        def greet(connection, _):
            connection.sendall(answer)
            self._read(connection.recv)
        return greet

    def tls(self, certificate, then=b""):
        """A TLS server with this certificate, which sends raw bytes after the handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")

        def greet(connection, hello):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(incoming, outgoing, server_side=True)
            incoming.write(hello)

            def attempt(action):
                while True:
                    try:
                        return action()
                    except ssl.SSLWantReadError:
                        connection.sendall(outgoing.read())
                        more = connection.recv(65536)
                        incoming.write(more) if more else incoming.write_eof()

            attempt(session.do_handshake)
            self.resumed = session.session_reused
            connection.sendall(outgoing.read())
            if then:
                connection.sendall(then)
            self._read(lambda size: attempt(lambda: session.read(size)))
        return greet

    def _read(self, read):
        while more := read(65536):
            self.got += more


@pytest.fixture(scope="module")
def impostor(site):
    return Impostor(site.address)


@pytest.fixture(scope="module")
def authority(site):
    made = Authority(site.folder / "certificates", "company")
    made.revocation_list([])
    return made


@pytest.fixture(scope="module")
def agent(site, authority, impostor, shop):
    tls = {"ca": str(authority.ca), "serverNames": [NAME], "crl": str(authority.folder / "crl.pem")}
    with Agent(site, impostor, POLICIES, {"clusters": {"main": {"tls": tls}}}, name="agent-impostor") as started:
        yield started


def tls_failures(agent):
    return agent.metrics()['kveil_connections_closed_total{result="tls_failed"}']


# A ServerHello of TLS 1.1, and what Kafka would say.
TLS11_HELLO = (b"\x16\x03\x02\0\x2a" b"\x02\0\0\x26\x03\x02" + bytes(range(32)) + b"\0\xc0\x13\0")
RECORD = b"\x17\x03\x03"


@pytest.mark.parametrize("kind", ["self-signed", "common name alone", "another's", "a client's", "TLS 1.1", "Kafka in clear", "half a record",
                                  "a record too long", "nothing"])
def test_an_impostor_gets_no_byte_of_a_request(site, agent, authority, impostor, shop, kind):
    secret = wire.frame(wire.API_VERSIONS, 0, b"", correlation=77) + b"secret"
    greetings = {
        "self-signed": lambda: impostor.tls(Authority(site.folder / "self", "self").issue("self", [NAME])),
        "common name alone": lambda: impostor.tls(authority.issue(NAME)),
        "another's": lambda: impostor.tls(authority.issue("another", ["another.test", f"{NAME}.other.test"])),
        "a client's": lambda: impostor.tls(authority.issue("client", [NAME], usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
        "TLS 1.1": lambda: impostor.raw(TLS11_HELLO),
        "Kafka in clear": lambda: impostor.raw(bytes.fromhex("0000000a000000010000000000")),
        "half a record": lambda: lambda connection, _: connection.sendall(b"\x16\x03\x03\0\x7a\x02\0\0\x76"),
        "a record too long": lambda: impostor.raw(b"\x16\x03\x03\xff\xff" + bytes(70_000)),
        "nothing": lambda: lambda connection, _: None,
    }
    impostor.greet, impostor.got = greetings[kind](), b""
    impostor.ended.clear()
    before, logged = tls_failures(agent), agent.log_size()
    with Application(impostor, shop).raw() as connection:
        assert connection.greeting[0] != "connected" or connection.exchange(secret) == "closed"
    assert impostor.ended.wait(10)
    waiting.wait_until("the agent to count it", lambda: tls_failures(agent) == before + 1, 10)
    assert b"secret" not in impostor.got and not impostor.got.startswith(secret[:8])
    agent.wait_for_log("connection.closed .*no TLS connection to the broker: TLS: ", logged)


@pytest.mark.parametrize("kind, bytes_after", [
    ("half a record", RECORD + b"\x20\0" + b"half"), ("a record too long", RECORD + b"\xff\xff" + bytes(70_000)),
    ("no record of this key", RECORD + b"\0\x40" + bytes(64)), ("Kafka in clear", bytes.fromhex("0000000a00000001") + bytes(6))],
    ids=lambda value: value if isinstance(value, str) else "")
def test_bytes_that_somebody_puts_into_the_stream_reach_nobody(agent, authority, impostor, shop, kind, bytes_after):
    good = impostor.tls(authority.issue("good", [NAME]), then=bytes_after)

    def greet(connection, hello):
        connection.settimeout(1)  # then it goes: the rest of half a record never comes
        good(connection, hello)

    impostor.greet = greet
    impostor.ended.clear()
    with Application(impostor, shop).raw() as connection:
        assert connection.greeting[0] != "connected" or connection.exchange(API_VERSIONS) == "closed", kind
    assert impostor.ended.wait(10)


def test_sessions_from_before_a_new_revocation_list_are_not_taken_up(agent, authority, impostor, shop):
    certificate, serial = authority.issue("soon-revoked", [NAME]), authority.last_serial
    impostor.greet = impostor.tls(certificate)

    def refusals():
        return agent.log.read_text().count("certificate revoked")

    def is_served():
        """Whether the impostor gets a request."""
        impostor.got, before = b"", refusals()
        with Application(impostor, shop).raw() as connection:
            if connection.greeting[0] == "connected":
                connection.send(API_VERSIONS)
            waiting.wait_until("a request or a refusal", lambda: API_VERSIONS in impostor.got or refusals() > before, 10)
        return API_VERSIONS in impostor.got

    assert is_served()
    assert is_served() and impostor.resumed, "as it is until then"
    authority.revocation_list([serial])
    waiting.wait_until("the list to be read", lambda: not is_served(), 20)
    assert API_VERSIONS not in impostor.got and not impostor.resumed
