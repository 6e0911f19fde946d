"""The broker answers whatever can be forwarded: what a client hears through an agent is what it hears without one."""

import struct
import subprocess
import uuid

import pytest

import kafka_jars
import wire
from agent import Agent
from broker import Broker
from conftest import POLICIES
from harness import Application, click

UNKNOWN_API = 4000
SHARE_FETCH, SHARE_FETCH_VERSION = 78, 2
UNSUPPORTED_VERSION = 35


def share_fetch(topic_id):
    """Opens a session for one partition."""
    body = wire.compact(b"group") + wire.compact(uuid.uuid4().hex.encode()) + struct.pack(">iiiiii", 0, 100, 0, 1 << 20, 10, 10) + b"\0\0"
    partition = struct.pack(">i", 0) + wire.unsigned(1) + b"\0"
    body += wire.unsigned(2) + topic_id + wire.unsigned(2) + partition + b"\0" + wire.unsigned(1) + b"\0"
    return wire.flexible_frame(SHARE_FETCH, SHARE_FETCH_VERSION, body)


def both(app, outside, request):
    """What the broker answers directly and through the agent."""
    answers = []
    for who in (outside, app):
        with who.raw() as connection:
            answers.append(connection.exchange(request))
    return answers


def test_an_api_versions_request_of_the_future_is_the_brokers_to_answer(app, outside):
    for version in (6, 99, 32767):
        direct, through = both(app, outside, wire.flexible_frame(wire.API_VERSIONS, version, b"\0"))
        assert through == direct
        assert struct.unpack_from(">h", through, 8) == (UNSUPPORTED_VERSION,)


def test_an_api_of_the_future_is_not_offered_and_ends_the_connection(app, agent):
    behind = agent.log_size()
    with app.raw() as connection:
        offered = connection.exchange(wire.frame(wire.API_VERSIONS, 0, b""))
        assert struct.unpack_from(">h", offered, 8) == (0,)
        assert connection.exchange(wire.frame(UNKNOWN_API, 0, b"whatever this carries")) == "closed"
    agent.wait_for_log(f"API {UNKNOWN_API}", behind)


def test_a_produce_request_of_which_nothing_is_left_is_answered(app, outside, topic):
    name = topic("user")
    app.create_topic(name)
    refused = wire.produce(name, wire.batch([(b"k", b"no user in it", [])]))
    with app.raw() as connection:
        for _ in range(2):  # The connection goes on.
            assert wire.produce_answer(connection.exchange(refused)).error == 87
        good = wire.produce(name, wire.batch([(b"k", click(1), [])]))
        assert wire.produce_answer(connection.exchange(good)).error == 0


@pytest.fixture(scope="module")
def without_share_groups(site):
    with Broker(site.address, site.folder / "no-share-groups") as started:
        subprocess.run(["java", "-cp", kafka_jars.class_path(), "org.apache.kafka.tools.FeatureCommand", "--bootstrap-server",
                        started.bootstrap, "downgrade", "--feature", "share.version=0"], check=True, timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        yield started


def test_where_share_groups_are_disabled_the_broker_says_so(site, without_share_groups, topic):
    workload = site.workload("disabled", below=site.elsewhere)
    changes = {"intercept": {"cgroup": str(workload.cgroup)}}
    try:
        with Agent(site, without_share_groups, POLICIES, changes, name="agent-disabled"):
            request = share_fetch(uuid.uuid4().bytes)
            direct, through = both(Application(without_share_groups, workload), Application(without_share_groups), request)
            assert through == direct
            assert struct.unpack_from(">h", through, 4 + 4 + 1 + 4) == (UNSUPPORTED_VERSION,)
    finally:
        workload.remove()
