"""Brokers that responses advertise outside the configured targets: a client is told one address and given another."""

import pytest

from agent import Agent
from broker import Broker
from conftest import POLICIES
from harness import Application, Message, click, is_sealed


@pytest.fixture(scope="module")
def elsewhere(site):
    """A broker that is found at site.address and advertises another address, which no target covers."""
    with Broker(site.address, site.folder / "elsewhere", advertised=site.second_address()) as started:
        yield started


def produce_through(site, broker, topic, advertised):
    """One click through an agent of its own; the record as the broker has it, and what the agent said."""
    workload = site.workload(f"told-{advertised}", below=site.elsewhere)
    changes = {"intercept": {"cgroup": str(workload.cgroup), "advertised": advertised}}
    try:
        with Agent(site, broker, POLICIES, changes, name=f"agent-{advertised}") as agent:
            assert "offset" in Application(broker, workload).produce(topic, [Message(None, click(1))])[0]
            record = Application(broker).consume(topic).records[0]
        return record, agent.log.read_text()
    finally:
        workload.remove()


def test_an_advertised_broker_is_learned_before_the_client_hears_of_it(site, elsewhere, topic):
    record, log = produce_through(site, elsewhere, topic("user"), "learn")
    assert is_sealed(record)
    assert "broker.learned" in log


def test_where_it_is_only_to_be_reported_it_is_reported(site, elsewhere, topic):
    record, log = produce_through(site, elsewhere, topic("user"), "report")
    assert record.message.value == click(1), "the connection to the leader went past the agent, as configured"
    assert "broker.outsideTargets" in log
