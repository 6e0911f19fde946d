"""Fixtures: one broker and one set of workloads a file, one agent a file, a topic name a test."""

import itertools
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import places  # noqa: E402
import workload as workloads  # noqa: E402
from agent import Agent  # noqa: E402
from broker import Broker  # noqa: E402
from harness import ANY, Application  # noqa: E402
from transit import Transit  # noqa: E402

numbers = itertools.count(1)


def user_policy(prefix, source, **more):
    return {"prefix": prefix, "seal": {"scope": "user", "user": source, **more}, "read": ANY}


# The topics of the tests are named after how they are sealed.
POLICIES = [
    user_policy("user-", {"value": "/userid"}),
    user_policy("deep-", {"value": "/who/0/id"}),
    user_policy("bykey-", {"key": True}),
    user_policy("inkey-", {"key": "/userid"}),
    user_policy("byheader-", {"header": "user"}),
    user_policy("bylong-", {"key": True, "as": "int64"}, keyspace="numbers"),
    user_policy("bynumber-", {"value": "/userid"}, keyspace="numbers"),
    {**user_policy("returning-", {"value": "/userid"}), "afterErase": "newKey"},
    {"prefix": "topic-", "seal": {"scope": "topic"}, "read": ANY},
    {"prefix": "cluster-", "seal": {"scope": "cluster"}, "read": ANY},
    {"prefix": "unread-", "seal": {"scope": "topic"}},
    {"prefix": "byunit-", "seal": {"scope": "topic"}, "read": [{"workload": {"unit": "analytics.service"}}]},
]

# Of an agent that has these providers.
KEK_POLICIES = [{"prefix": f"kek{provider}-", "read": ANY, "seal": {"scope": "topic", "kek": {
    "provider": provider, "key": "kafka-${topic}"}}} for provider in "ab"]
KEK_POLICIES += [user_policy(f"users{provider}-", {"value": "/userid"}, keyspace="people", kek={
    "provider": provider, "key": "kafka-people"}) for provider in "ab"]


@pytest.fixture(scope="session")
def site():
    places.require_root("tests/kafka")
    with workloads.Site("test") as made:
        yield made


@pytest.fixture(scope="session")
def broker(site):
    with Broker(site.address, site.folder / "broker") as started:
        yield started


@pytest.fixture(scope="session")
def shop(site):
    return site.workload("shop")


@pytest.fixture(scope="session")
def analytics(site):
    """In a cgroup that looks like a systemd unit's."""
    return site.workload("analytics.service")


@pytest.fixture(scope="session")
def desk(site):
    return site.workload("desk", own_namespace=False)


@pytest.fixture(scope="session")
def transits():
    """Two key services, by the names that policies have for them."""
    with Transit() as first, Transit() as second:
        yield {"a": first, "b": second}


def kek_providers(site, transits):
    token = site.folder / "transit-token"
    token.write_text("token")
    return {name: {"vault": {"address": transit.address, "tokenFile": str(token)}} for name, transit in transits.items()}


@pytest.fixture(scope="session")
def agent(site, broker, shop, analytics, desk, transits):
    changes = {"keys": {"keks": kek_providers(site, transits)}}
    with Agent(site, broker, [*POLICIES, *KEK_POLICIES, {"prefix": "bycgroup-", "seal": {"scope": "topic"}, "read": [
            {"workload": {"cgroup": "/" + str(analytics.cgroup.relative_to(places.cgroup_mount()))}}]}], changes) as started:
        yield started


@pytest.fixture(autouse=True)
def agent_log(request):
    """Shows what the agent said when a test fails."""
    yield
    outcome = getattr(request.node, "outcome_of_call", None)
    if outcome and outcome.failed and "agent" in request.fixturenames:
        print("--- the end of the agent's log ---\n" + request.getfixturevalue("agent").last_log_lines(40))


@pytest.fixture
def app(broker, shop, agent):
    """An application on the node, in a network namespace of its own."""
    return Application(broker, shop)


@pytest.fixture
def reader(broker, analytics, agent):
    """Another application, in another namespace, in the unit analytics.service."""
    return Application(broker, analytics)


@pytest.fixture
def on_host(broker, desk, agent):
    """An application in the host's own network namespace."""
    return Application(broker, desk)


@pytest.fixture
def outside(broker):
    """A client that the agent does not serve: what it reads is what the broker has."""
    return Application(broker)


@pytest.fixture
def topic(request):
    """A name that no other test uses, to be given the prefix that chooses the policy: topic("user")."""
    return lambda prefix: f"{prefix}-{request.node.originalname.removeprefix('test_')[:60]}-{next(numbers)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.outcome_of_call = report
    if report.skipped:  # A test that cannot run has failed.
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {report.longrepr}"
