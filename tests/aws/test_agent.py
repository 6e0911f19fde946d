"""A whole agent whose root key is at moto's KMS, in front of a real broker."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka")]
import waiting  # noqa: E402
import workload as workloads  # noqa: E402
from agent import Agent  # noqa: E402
from broker import Broker  # noqa: E402
from harness import Application, clicks, is_sealed  # noqa: E402
from moto_server import Moto  # noqa: E402

POLICY = [{"prefix": "user-", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": True}]}]


@pytest.fixture(scope="module")
def site():
    with workloads.Site("aws") as made:
        yield made


@pytest.fixture(scope="module")
def broker(site):
    with Broker(site.address, site.folder / "broker") as started:
        yield started


@pytest.fixture
def moto(site):
    folder = site.folder / "moto"
    folder.mkdir()
    with Moto(folder) as started:
        yield started


def problems(agent):
    return [problem["message"] for problem in agent.status()["problems"]]


def test_an_outage_holds_up_nothing_and_a_restarted_agent_opens_everything(site, broker, moto):
    made = moto.prepare()
    profile = moto.folder / "credentials"
    profile.write_text(f"[default]\naws_access_key_id = {made['id']}\naws_secret_access_key = {made['secret']}\n", encoding="utf-8")
    agent = Agent(site, broker, POLICY)
    agent.config["keys"]["root"] = {"awsKms": {"key": made["keys"][0], "endpoint": moto.address}}
    agent.write_config()
    agent.wrapper = ["env", f"AWS_SHARED_CREDENTIALS_FILE={profile}"]
    topic = "user-outage"
    with agent:
        app = Application(broker, site.workload("app"))
        app.produce(topic, clicks("38", 5))
        moto.pause()
        waiting.wait_until("the outage to be noticed", lambda: any("AWS KMS key" in text for text in problems(agent)), 60)
        assert agent.status()["ready"], "everything that is asked for is served"
        app.produce(topic, clicks("new", 5))
        assert agent.erase("38").returncode == 0
        moto.resume()
        waiting.wait_until("the problem to be over", lambda: not problems(agent), 60)
        agent.stop()
        agent.start()
        assert app.values(topic) == [message.value for message in clicks("new", 5)]
        assert agent.metrics()['kveil_root_key_calls_total{operation="unwrap",provider="awsKms"}'] >= 1
        held = Application(broker).consume(topic).records
        assert len(held) == 10 and all(is_sealed(record) for record in held)
        log = agent.log.read_text(encoding="utf-8")
        assert made["secret"] not in log and made["id"] not in log
