"""Batches that sealing makes too large for their topic go in parts: nothing is lost, repeated or out of order, also when
connections break in between."""

import contextlib
import threading

import pytest

from harness import Message
from test_roundtrip import events

LIMIT = 30_000


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
    # kcat's status also tells that all brokers were gone for a while.
    failures = [line for line in done.stderr.decode().splitlines() if "brokers are down" not in line]
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
