"""Consumers with a bound on what they read, and consumers that ask for more than the agent holds, get every record."""

import collections
import json
import random

from agent import Agent
from conftest import POLICIES
from harness import Application, Message, click

MOST = 4 << 20  # What a well-known log shipper's client takes of a response.


def events(count, size=400):
    """JSON that compresses to about a third."""
    words = [f"word{number}" for number in range(300)]
    chosen = random.Random(1)
    values = []
    for number in range(count):
        text = ""
        while len(text) < size - 60:
            text += chosen.choice(words) + " "
        values.append(json.dumps({"userid": f"user-{number % 50}", "number": number, "text": text}).encode())
    return values


def test_librdkafka_with_a_bound_on_what_it_receives(app, reader, topic):
    name = topic("user")
    app.create_topic(name, 12)
    sent = events(40_000)
    done = app.kcat_produce(name, sent, "-X", "compression.codec=gzip", "-X", "linger.ms=50", "-X", "sticky.partitioning.linger.ms=0")
    assert done.returncode == 0, done.stderr
    got = reader.kcat_consume(name, "-X", f"fetch.max.bytes={MOST - 512}", "-X", f"receive.message.max.bytes={MOST}", timeout=60)
    assert collections.Counter(got) == collections.Counter(sent)


def test_java_that_asks_for_more_than_the_agent_holds(site, broker, agent):
    """A response that has to be held may have 4 MiB; the topic has 12, in one partition."""
    workload = site.workload("greedy", below=site.elsewhere)
    intercept = {"targets": [{"cluster": "main", "cidr": f"{broker.address}/32", "ports": str(broker.port)}],
                 "cgroup": str(workload.cgroup)}
    config = {"intercept": intercept, "limits": {"responseSize": "4MiB"}, "keys": agent.config["keys"]}
    with Agent(site, broker, POLICIES, config, name="small-agent"):
        greedy, name = Application(broker, workload), "user-greedy"
        values = [click("anna", number, text="x" * 10_000) for number in range(1200)]
        assert all("offset" in answer for answer in greedy.produce(name, [Message(None, value) for value in values]))
        assert greedy.values(name, "fetch.max.bytes=300000000", "max.partition.fetch.bytes=300000000") == values
    workload.remove()
