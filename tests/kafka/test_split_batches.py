"""Batches that sealing makes too large for their topic go in parts: nothing is lost, repeated or out of order, also when
connections break in between and answers get lost.

KVEIL_LOSSY_TURNS=20 lets answers get lost for half an hour (tests/kafka/load/lossy), each turn with other sizes."""

import contextlib
import os
import random
import threading

import pytest

import broker as brokers
import places
from agent import Agent
from conftest import POLICIES
from harness import CODECS, Application, Message
from lossy import LossyRelay
from test_roundtrip import events

LIMIT = 30_000
TURNS = int(os.environ.get("KVEIL_LOSSY_TURNS", 0))
# The size of values, how many, the codec. Full batches of the first two are, sealed, about as large as a topic takes: whether
# they were, when whether they went whole was decided by that, differed from one try to the next.
LOSSY = [(279, 50_000, "none"), (1000, 15_000, "none"), (100, 120_000, "lz4")]


@pytest.fixture(scope="session")
def broker(site):
    """With a listener that is reached through a relay that loses answers."""
    settings = {"advertised.listeners": None}
    made = brokers.Broker(site.address, site.folder / "broker", settings=settings, listeners={"lossy": {"protocol": "PLAINTEXT"}})
    port = places.free_port(site.address)
    settings["advertised.listeners"] = f"PLAINTEXT://{made.bootstrap},LOSSY://{site.address}:{port}"
    with LossyRelay(site.address, port, (site.address, made.ports["lossy"])) as made.relay, made:
        yield made


@pytest.fixture(scope="session")
def agent(site, broker, shop, analytics, desk):
    ports = ",".join(sorted([str(broker.port), broker.relay.bootstrap.split(":")[1]]))
    targets = [{"cluster": "main", "cidr": f"{broker.address}/32", "ports": ports}]
    with Agent(site, broker, POLICIES, {"intercept": {"targets": targets}}) as started:
        yield started


@pytest.fixture
def lossy(broker, shop, agent):
    """An application some of whose answers get lost; `broker.relay.lost` says how many."""
    broker.relay.share, broker.relay.lost = 0.25, 0
    yield Application(broker.relay, shop)
    broker.relay.share = 0.0


@pytest.fixture
def small(topic, outside):
    """A topic that takes no more than batches of that size; sealed, theirs are a fifth larger."""
    name = topic("topic")
    outside.create_topic(name, 1, f"max.message.bytes={LIMIT}")
    return name


@contextlib.contextmanager
def connections_break(workload, every):
    """All connections of the workload's namespace: those to the agent, and the agent's own to the broker."""
    ended, broken = threading.Event(), []

    def work():
        while not ended.wait(every):
            done = workload.run(["ss", "-H", "-K", "-t", "state", "established"], timeout=20)
            broken.append(len(done.stdout.splitlines()))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield broken
    finally:
        ended.set()
        thread.join()


def test_a_librdkafka_whose_connections_break(app, reader, agent, shop, small):
    values = events(100, 60_000)
    split = agent.metrics()["kveil_batches_split_total"]
    with connections_break(shop, 0.05) as broken:
        done = app.kcat_produce(small, values, "-E", "-X", "enable.idempotence=true", "-X", f"batch.size={LIMIT - 500}",
                                "-X", "reconnect.backoff.ms=10", "-X", "reconnect.backoff.max.ms=50", timeout=150)
    # It also tells of connections that broke while they were made, and that all brokers were gone for a while.
    failures = [line for line in done.stderr.decode().splitlines() if "brokers are down" not in line and "|FAIL|" not in line]
    assert not failures, failures[:5]
    assert sum(broken) > 10, broken
    assert agent.metrics()["kveil_batches_split_total"] > split + 100
    assert reader.kcat_consume(small) == values


def test_a_java_producer_whose_connections_break(app, reader, agent, shop, small):
    values = events(100, 60_000)
    split = agent.metrics()["kveil_batches_split_total"]
    with connections_break(shop, 0.05) as broken:
        answers = app.produce(small, [Message(None, value) for value in values], f"batch.size={LIMIT - 500}", "linger.ms=50",
                              "reconnect.backoff.ms=10", "reconnect.backoff.max.ms=50", "retry.backoff.ms=10", timeout=150)
    assert sum(broken) > 10, broken
    assert [answer.get("offset") for answer in answers] == list(range(len(values)))
    assert agent.metrics()["kveil_batches_split_total"] > split + 100
    assert reader.kcat_consume(small) == values


def numbered(count, size, seed):
    """Values of that size that begin with their number, half of them easy to compress."""
    source = random.Random(seed)
    noise = "".join(source.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10 * size))
    values = []
    for number in range(count):
        start = source.randrange(9 * size)
        values.append(f"{number:08}{noise[start:start + size]}"[:size].encode() if number % 2 else f"{number:08}".ljust(size, "x").encode())
    return values


def send_with_librdkafka(lossy, reader, relay, topic, size, count, codec):
    values = numbered(count, size, f"{size} {count} {codec}")
    done = lossy.kcat_produce(topic, values, "-E", "-X", "enable.idempotence=true", "-X", "linger.ms=500", "-z", codec,
                              "-X", "reconnect.backoff.ms=10", "-X", "reconnect.backoff.max.ms=50", timeout=300)
    failures = [line for line in done.stderr.decode().splitlines() if "brokers are down" not in line]
    assert not failures, failures[:5]
    assert done.returncode == 0
    assert relay.lost > 1
    assert reader.kcat_consume(topic) == values


def send_with_java(lossy, reader, relay, topic, size, count, codec):
    values = numbered(count, size, f"{size} {count} {codec}")
    answers = lossy.produce(topic, [Message(None, value) for value in values], "batch.size=1000000", "linger.ms=500",
                            f"compression.type={codec}", "reconnect.backoff.ms=10", "reconnect.backoff.max.ms=50",
                            "retry.backoff.ms=10", timeout=300)
    assert not [answer for answer in answers if "error" in answer]
    assert relay.lost > 1
    assert reader.kcat_consume(topic) == values


@pytest.mark.parametrize("size, count, codec", LOSSY)
def test_a_librdkafka_whose_answers_get_lost(lossy, reader, agent, broker, topic, size, count, codec):
    split = agent.metrics()["kveil_batches_split_total"]
    send_with_librdkafka(lossy, reader, broker.relay, topic("topic"), size, count, codec)
    assert agent.metrics()["kveil_batches_split_total"] > split


def test_a_java_producer_whose_answers_get_lost(lossy, reader, agent, broker, topic):
    split = agent.metrics()["kveil_batches_split_total"]
    send_with_java(lossy, reader, broker.relay, topic("topic"), 279, 25_000, "none")
    assert agent.metrics()["kveil_batches_split_total"] > split


if TURNS:
    @pytest.mark.parametrize("turn", range(TURNS))
    def test_answers_that_get_lost_for_long(lossy, reader, broker, topic, outside, turn):
        source = random.Random(turn)
        size = source.choice([60, 100, 279, 500, 1000, 1200, 5000])
        # A limit below what clients fill batches to would be refused without an agent, too.
        limit = source.choice([1_048_588, 1_048_588, 1_000_000, 1_500_000, 10_000_000])
        for codec in CODECS:
            for send in (send_with_librdkafka, send_with_java):
                name = topic("topic")
                outside.create_topic(name, 1, f"max.message.bytes={limit}")
                send(lossy, reader, broker.relay, name, size, 30_000_000 // size, codec)
