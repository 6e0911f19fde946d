"""Consumers with a bound on what they read, and consumers that ask for more than the agent holds, get every record."""

import collections
import json
import random
import struct

import wire
from agent import Agent
from conftest import POLICIES
from harness import Application, Message, click

FETCH_SESSION_ID_NOT_FOUND = 70
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


def session_fetch(topic, partitions, session, epoch):
    """A Fetch of version 7 that names so many partitions, from their beginning."""
    body = struct.pack(">iiiibii", -1, 100, 0, 1 << 20, 0, session, epoch)
    body += struct.pack(">i", 1) + wire.string(topic) + struct.pack(">i", partitions) if partitions else struct.pack(">i", 0)
    body += b"".join(struct.pack(">iqqi", index, 0, -1, 1 << 20) for index in range(partitions))
    return wire.frame(wire.FETCH, 7, body + struct.pack(">i", 0))


def error_and_session(answer):
    return struct.unpack_from(">hi", answer, 12)


def test_a_fetch_session_that_there_is_no_room_for_ends_and_its_client_goes_on_without(site, broker, agent):
    """It grows to what no session may take of 2 MiB. The broker knows nothing of those partitions but the first."""
    workload = site.workload("sessions", below=site.elsewhere)
    intercept = {"targets": [{"cluster": "main", "cidr": f"{broker.address}/32", "ports": str(broker.port)}],
                 "cgroup": str(workload.cgroup)}
    limits = {"requestSize": "1MiB", "responseSize": "1MiB", "totalMemory": "2MiB"}
    config = {"intercept": intercept, "limits": limits, "keys": agent.config["keys"]}
    with Agent(site, broker, POLICIES, config, name="little-memory") as little:
        client, name, value = Application(broker, workload), "user-sessions", click("anna", 1)
        assert "offset" in client.produce(name, [Message(None, value)])[0]
        with client.raw() as connection:
            error, session = error_and_session(connection.exchange(session_fetch(name, 1, 0, 0)))
            assert error == 0 and session != 0
            grown = connection.exchange(session_fetch(name, 6000, session, 1))
            assert error_and_session(grown) == (FETCH_SESSION_ID_NOT_FOUND, 0)
            forgotten = connection.exchange(session_fetch(name, 0, session, 2))
            assert error_and_session(forgotten)[0] == FETCH_SESSION_ID_NOT_FOUND, "it goes on"
            for _ in range(2):
                anew = connection.exchange(session_fetch(name, 6000, 0, 0))
                assert error_and_session(anew) == (0, 0) and value in anew
        assert "fetchSessions" in [note["name"] for note in little.status()["notes"]]
    workload.remove()
