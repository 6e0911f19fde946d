"""Readers with rules (`where`) get exactly the records that their rules let them have, and their offsets go on all the same."""

import fcntl
import itertools
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import termios

import clients
import pytest
import waiting
import wire
from agent import Agent
from harness import CODECS, Application, Message, click, clicks, exchange_when_led, is_sealed, json_lines, stored

AUDIT, SUPPORT, EUROPE = ({"workload": {"unit": f"{name}.service"}} for name in ("audit", "support", "europe"))
TRAIL = "kveil-audit"  # As docs/audit.md names it.
PURPOSES = {"purposes": ["marketing"], "workloads": [{**SUPPORT, "purpose": "marketing"}]}
BY_USER = {"scope": "user", "user": {"value": "/userid"}, "keyspace": "people"}
READ = [AUDIT,
        {**SUPPORT, "where": {"users": ["38", "never-written"]}},
        {**EUROPE, "where": {"header": {"name": "region", "matches": "eu(-[a-z]+)?"}}}]
POLICIES = [
    {"prefix": "user-", "seal": BY_USER, "read": READ},
    {"prefix": "masked-", "seal": BY_USER, "read": READ, "onDenied": "mask"},
    {"prefix": "sealed-", "seal": BY_USER, "read": READ, "onDenied": "sealed"},
    {"prefix": "error-", "seal": BY_USER, "read": READ, "onDenied": "error"},
    {"prefix": "bykey-", "seal": {**BY_USER, "user": {"key": True}}, "read": READ},
    {"prefix": "value-", "seal": {"scope": "topic"}, "read": [
        {**SUPPORT, "where": {"value": {"pointer": "/number", "range": {"min": 3, "max": 5}}}}]},
    {"prefix": "age-", "seal": {"scope": "topic"}, "read": [{**SUPPORT, "where": {"olderThan": "1h"}},
                                                             {**EUROPE, "where": {"newerThan": "1h"}}]},
    {"prefix": "consent-", "seal": BY_USER, "read": [AUDIT, {"purpose": True}]},
    {"prefix": "consented-", "seal": BY_USER, "read": [AUDIT, {"purpose": True}], "onDenied": "mask"},
    {"prefix": "audited-", "seal": BY_USER, "read": READ, "audit": {"users": True}},
    {"prefix": "ledger-", "seal": BY_USER, "read": [AUDIT],
     "write": [{**SUPPORT, "where": {"users": ["38"]}}, {**EUROPE, "where": {"header": {"name": "region", "equals": "eu"}}}]},
]

versions = itertools.count(1)


@pytest.fixture(scope="session")
def places_of_readers(site):
    return {name: site.workload(f"{name}.service") for name in ("audit", "support", "europe")}


@pytest.fixture(scope="session")
def agent(site, broker, shop, places_of_readers):
    """It trusts signed policies only."""
    Application(broker).create_topic(TRAIL)
    made = Agent(site, broker, POLICIES, {"audit": {"topic": {"topic": TRAIL, "bootstrapServers": [broker.bootstrap]}}})
    made.write_policy_text(json.dumps(PURPOSES), "purposes.json")
    assert made.kveil("policy", "keygen", made.folder / "policies.key").returncode == 0
    made.config["policies"] = {"folder": "policies", "trustedKeys": ["policies.key.pub"]}
    made.write_config()
    sign_policies(made)
    with made as started:
        yield started


def sign_policies(agent):
    """As the next version. Waits until a running agent has it in force."""
    version = next(versions)
    done = agent.kveil("policy", "sign", "--key", agent.folder / "policies.key", "--version", str(version), agent.policy_folder)
    assert done.returncode == 0, done.stderr
    if agent.running:
        waiting.wait_until("the signed policies to be in force", lambda: agent.status()["policies"]["version"] == version, 60)


def problems(agent):
    return {problem["name"]: problem["message"] for problem in agent.status()["problems"]}


@pytest.fixture
def audit(broker, places_of_readers, agent):
    return Application(broker, places_of_readers["audit"])


@pytest.fixture
def support(broker, places_of_readers, agent):
    """Reads the records of user 38."""
    return Application(broker, places_of_readers["support"])


@pytest.fixture
def europe(broker, places_of_readers, agent):
    """Reads the records with a European region."""
    return Application(broker, places_of_readers["europe"])


def values_of(messages):
    return [message.value for message in messages]


def written(application, topic, values, *options):
    """By kcat, in one batch."""
    done = application.kcat_produce(topic, values, "-X", "linger.ms=200", *options)
    assert done.returncode == 0, done.stderr


def test_each_reader_gets_its_records_whatever_the_codec(app, audit, support, europe, topic):
    for codec in CODECS:
        name = topic("user")
        values = [click(38 + number % 3, number) for number in range(300)]
        for region in ("eu", "us"):
            written(app, name, values, "-z", codec, "-H", f"region={region}")
        assert audit.kcat_consume(name) == values + values
        assert support.kcat_consume(name) == [value for value in values if b'"userid": 38' in value] * 2
        assert europe.kcat_consume(name) == values


def test_a_reader_that_may_have_nothing_reaches_the_end(app, support, agent, topic):
    name = topic("user")
    before = agent.metrics()['kveil_records_dropped_total{reason="denied"}']
    for _ in range(2):
        written(app, name, values_of(clicks(39, 20)))
    read = support.consume(name, "group.id=" + name)
    assert read.records == []
    assert read.end == {"complete": True, "position": {"0": 40}, "lag": {"0": 0}, "committed": {"0": 40}}
    assert agent.metrics()['kveil_records_dropped_total{reason="denied"}'] >= before + 40
    written(app, name, values_of(clicks(38, 1)))
    assert [record.offset for record in support.consume(name, "group.id=" + name).records] == [40]


def test_transactions_stay_what_they_are(app, audit, support, topic):
    name = topic("user")
    with app.producing(name, "transactional.id=" + name) as producer:
        for user, outcome in ((38, "commit"), (39, "commit"), (38, "abort"), (39, "abort"), (38, "commit")):
            producer.do("begin")
            for message in clicks(user, 3) + clicks(40, 1):
                producer.send(message)
            producer.do("flush")
            producer.do(outcome)
        producer.finish()
    read = support.consume(name, "isolation.level=read_committed", "group.id=" + name)
    assert values_of(record.message for record in read.records) == values_of(clicks(38, 3) * 2)
    assert read.end["lag"] == {"0": 0}
    assert len(support.values(name, "isolation.level=read_uncommitted")) == 9
    assert len(audit.values(name, "isolation.level=read_committed")) == 12


def test_a_compacted_topic_tells_of_deletions(app, support, topic):
    name = topic("bykey")
    app.create_topic(name, 1, "cleanup.policy=compact")
    app.produce(name, [Message(b"38", b"a"), Message(b"39", b"b"), Message(b"39", None), Message(b"38", None)])
    read = support.consume(name, "group.id=" + name)
    assert [(record.offset, record.message.key, record.message.value) for record in read.records] == \
           [(0, b"38", b"a"), (3, b"38", None)]
    assert read.end["lag"] == {"0": 0}


def test_values_and_ages_decide(app, support, europe, topic):
    name = topic("value")
    values = [click(1, number) for number in range(8)] + [b'{"number": 4, "number": 9}', b"number 4"]
    written(app, name, values, "-z", "zstd")
    assert support.kcat_consume(name) == [click(1, number) for number in (3, 4, 5)]
    name = topic("age")
    written(app, name, values_of(clicks(1, 3)))
    assert support.kcat_consume(name) == [] and europe.kcat_consume(name) == values_of(clicks(1, 3))


def test_a_reader_may_begin_inside_a_batch(app, support, broker, topic):
    name = topic("user")
    values = [click(38 + number % 2, number) for number in range(10)]
    written(app, name, values)
    for offset in range(10):
        read = support.run(["kcat", "-C", "-q", "-e", "-m", "30", "-b", broker.bootstrap, "-t", name, "-o", str(offset)], text=False)
        assert read.splitlines() == values[offset + offset % 2::2]


def test_the_oldest_fetch_version_gets_no_more(app, support, topic):
    """Brokers answered older ones, too, with messages that have no headers: nothing of those is opened (unit/guard)."""
    name = topic("user")
    written(app, name, values_of(clicks(39, 3) + clicks(38, 2)))
    with support.raw() as connection:
        batch, error = wire.fetched_batch(exchange_when_led(
            connection, wire.fetch(name), lambda answer: wire.fetched_batch(answer)[1] in (3, 5, 6)))
        assert error == 0 and b"/secret/38/" in batch and b"/secret/39/" not in batch


def consent(agent, what, user):
    done = agent.kveil("consent", what, "--user", user, "--purpose", "marketing", "--keyspace", "people")
    assert done.returncode == 0, done.stdout + done.stderr


def test_consents_decide(app, audit, support, agent, topic):
    """What is granted and withdrawn counts for a consumer that runs, from the next record on that it fetches."""
    name = topic("consent")
    app.create_topic(name)
    written(app, name, values_of(clicks(50, 2) + clicks(51, 2)))
    assert support.kcat_consume(name) == []
    consent(agent, "grant", "50")
    assert support.kcat_consume(name) == values_of(clicks(50, 2))
    with app.producing(name, "linger.ms=0") as producer, \
            support.following(name, "group.id=" + name, "auto.offset.reset=earliest") as consumer:
        assert [consumer.next().message.value for _ in range(2)] == values_of(clicks(50, 2))
        consent(agent, "withdraw", "50")
        consent(agent, "grant", "51")
        for message in (click(50, 8), click(51, 9)):
            producer.send(Message(None, message))
            assert "offset" in producer.flush()
        assert consumer.next().message.value == click(51, 9)
        assert consumer.finish().end["position"] == {"0": 6}
    assert support.kcat_consume(name) == values_of(clicks(51, 2)) + [click(51, 9)]
    assert len(audit.kcat_consume(name)) == 6
    assert agent.erase("51", "people").returncode == 0
    assert support.kcat_consume(name) == []


def test_consents_mask_for_a_share_group(app, support, agent, topic):
    name = topic("consented")
    written(app, name, values_of(clicks(52, 2) + clicks(53, 2)))
    consent(agent, "grant", "52")
    assert sorted(share(support, name, 4)) == [b"", b"", *values_of(clicks(52, 2))]


def test_writers_have_rules_too(app, audit, support, europe, topic):
    """Who has no entry is refused the topic; of the others, each record that no entry describes is refused by its place."""
    name = topic("ledger")
    app.create_topic(name)
    answers = app.produce(name, [Message(None, click(38, 1))])
    assert [answer["error"] for answer in answers] == ["TopicAuthorizationException"]
    good, other = Message(None, click(38, 2)), Message(None, click(39, 3))
    answers = support.produce(name, [good, other, good], "linger.ms=200")
    assert [answer["error"] for answer in answers] == ["KafkaException", "InvalidRecordException", "KafkaException"]
    assert [answer["offset"] for answer in support.produce(name, [good, good], "linger.ms=200")] == [0, 1]
    refused = europe.kcat_produce(name, [click(39, 4)], "-H", "region=us")
    assert refused.returncode != 0, refused.stderr
    written(europe, name, [click(39, 5)], "-H", "region=eu")
    assert audit.kcat_consume(name) == [good.value, good.value, click(39, 5)]


def share(application, topic, count):
    lines = json_lines(application.run(clients.java_share(application.broker.bootstrap, "g-" + topic, topic, count), timeout=90))
    return [line["error"] for line in lines if "error" in line] or [stored(line).message.value for line in lines]


def test_share_groups_lose_nothing(app, audit, support, topic):
    """A record that is left out would be lost for the other members. So the topic is refused, or the record masked."""
    name = topic("user")
    written(app, name, values_of(clicks(38, 2) + clicks(39, 2)))
    assert share(support, name, 4) == ["TopicAuthorizationException"]
    assert sorted(share(audit, name, 4)) == values_of(clicks(38, 2) + clicks(39, 2))
    name = topic("masked")
    written(app, name, values_of(clicks(38, 2) + clicks(39, 2)))
    assert sorted(share(support, name, 4)) == [b"", b"", *values_of(clicks(38, 2))]


def test_a_reader_gets_an_error_at_a_record_that_is_denied(app, support, broker, topic):
    """What is before it in the same batch comes first. Whoever seeks past it goes on."""
    name = topic("error")
    values = [click(38, 0), click(38, 1), click(39, 2), click(38, 3)]
    written(app, name, values)
    with support.following(name, "group.id=" + name, "auto.offset.reset=earliest") as consumer:
        assert [consumer.next().message.value for _ in range(2)] == values[:2]
    with pytest.raises(AssertionError, match="TopicAuthorizationException"):
        support.consume(name, "limit.seconds=10")
    read = support.run(["kcat", "-C", "-q", "-e", "-m", "30", "-b", broker.bootstrap, "-t", name, "-o", "3"], text=False)
    assert read.splitlines() == values[3:]


def test_a_reader_gets_what_is_denied_sealed(app, support, topic):
    name = topic("sealed")
    written(app, name, [click(38, 0), click(39, 1)])
    records = support.consume(name).records
    assert records[0].message.value == click(38, 0) and not is_sealed(records[0])
    assert is_sealed(records[1]) and b"/secret/" not in records[1].message.value


def connections(agent, workload):
    done = agent.kveil("connections", "--workload", workload, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["connections"]


def test_connections_are_listed_with_what_became_of_their_records(app, support, agent, topic):
    name = topic("masked")
    written(app, name, values_of(clicks(38, 3) + clicks(39, 2)))
    with support.following(name, "group.id=" + name, "auto.offset.reset=earliest", "client.id=desk-7") as consumer:
        assert [consumer.next().message.value for _ in range(5)].count(b"") == 2
        waiting.wait_until("the records to be counted", lambda: any(one["opened"] for one in connections(agent, "support")), 10)
        reading, = (one for one in connections(agent, "support") if one["opened"])
        assert (reading["opened"], reading["denied"], reading["sealed"], reading["refused"]) == (3, 2, 0, 0)
        assert reading["workload"] == "support.service" and reading["cluster"] == "main" and reading["clientId"] == "desk-7"
        assert reading["broker"] == app.broker.bootstrap and reading["clientTls"] == "none" and "principal" not in reading
        assert reading["responseBytes"] > reading["requestBytes"] > 0 and reading["ageMilliseconds"] > 0
        assert connections(agent, "nobody") == []
        once = agent.kveil("top", "--once", "--workload", "support")
        assert once.returncode == 0 and "desk-7" in once.stdout and "OPENED/S" in once.stdout, once
        for key in (b"q", b"\x03"):
            look_at_top(agent, key, "desk-7")


def look_at_top(agent, key, shown):
    """On a terminal, until the key ends it."""
    end, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with subprocess.Popen([agent.program, "top", "--config", agent.config_file], stdin=terminal, stdout=terminal,
                          stderr=subprocess.PIPE, start_new_session=True,
                          preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) as top:
        seen = b""
        while seen.count(shown.encode()) < 2 and select.select([end], [], [], 30)[0]:
            seen += os.read(end, 65536)
        assert seen.count(shown.encode()) >= 2, seen
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        os.write(end, key)
        assert top.wait(30) == 0, top.stderr.read()
        assert top.stderr.read() == b""
    assert termios.tcgetattr(terminal) == before
    rest = b""
    while select.select([end], [], [], 0.5)[0]:
        rest += os.read(end, 65536)
    assert (seen + rest).endswith(b"\x1b[?1049l"), rest
    os.close(end)
    os.close(terminal)


def test_a_rule_takes_effect_on_a_running_consumer(app, support, agent, topic):
    """No reconnect: what the policy says when the broker answers counts."""
    name = topic("user")
    app.create_topic(name)
    with app.producing(name, "linger.ms=0") as producer, support.following(name, "group.id=" + name) as consumer:
        producer.send(Message(None, click(38, 1)))
        assert producer.flush()["offset"] == 0
        assert consumer.next().message.value == click(38, 1)
        other = [{**POLICIES[0], "read": [AUDIT, {**SUPPORT, "where": {"users": ["39"]}}]}, *POLICIES[1:]]
        agent.write_policies(other)
        sign_policies(agent)
        for message in (click(38, 2), click(39, 3)):
            producer.send(Message(None, message))
            assert "offset" in producer.flush()
        assert consumer.next().message.value == click(39, 3)
        assert consumer.finish().end["position"] == {"0": 3}
    agent.write_policies(POLICIES)
    sign_policies(agent)


def test_who_cannot_sign_cannot_open(app, support, outside, agent, topic):
    """As somebody who can change the ConfigMap: no protection any more, and everybody reads. Nothing comes of it."""
    name = topic("user")
    waiting.wait_until("nothing to be wrong", lambda: problems(agent) == {}, 60)
    before = agent.status()["policies"]
    refused = 'kveil_policy_reloads_total{result="refused"}'
    refusals = agent.metrics()[refused]
    agent.write_policies([{"prefix": "user-", "read": [{"any": True}]}])
    try:
        waiting.wait_until("the unsigned policy to be refused", lambda: agent.metrics()[refused] > refusals, 60)
        assert "topics.json: is not the file that was signed" in problems(agent)["policies"]
        written(app, name, [click(39, 1), click(38, 2)])
        assert support.kcat_consume(name) == [click(38, 2)]
        assert [is_sealed(record) for record in outside.consume(name).records] == [True, True]
        now = agent.status()["policies"]
        assert {**now, "error": ""} == before and now["version"] > 0
        assert f'kveil_policy_info{{digest="{now["digest"]}",version="{now["version"]}"}}' in agent.metrics()
    finally:  # the agent is also that of the tests behind this one
        agent.write_policies(POLICIES)
    waiting.wait_until("what was signed to be accepted again", lambda: problems(agent) == {}, 60)


def asked(agent, *options):
    """What the audit trail answers."""
    done = agent.kveil("audit", "query", "--json", *options)
    assert done.returncode == 0, done.stderr
    answer, = json.loads(done.stdout)
    return answer


def crashes_in(answer):
    return sum("without a word" in gap for gap in answer["notKnown"])


def done_by(answer):
    return {(one["workload"], one["access"], one.get("entry", 0), one["records"], one["leftOut"]) for one in answer["done"]}


def expect_done(agent, expected, *options):
    """What is counted in the second after the trail was written is in the next answer."""
    answers = []

    def is_so():
        answers.append(done_by(asked(agent, *options)))
        return answers[-1] == expected
    try:
        waiting.wait_until("the audit trail to have it", is_so, 10)
    except waiting.TimedOut:
        assert answers[-1] == expected


def copy_of_the_topic(broker, agent, folder):
    """Does what docs/audit.md does with the topic of the trail, and returns the trail that it makes."""
    folder.mkdir()
    (folder / "node-a.pem").write_text(agent.kveil("audit", "key").stdout, encoding="utf-8")
    text = (pathlib.Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    commands, = re.findall(r"```sh\n(mkdir node-a.*?cd \.\.) && kveil", text, re.DOTALL)
    subprocess.run(["bash", "-euc", commands.replace("kafka.example:9092", broker.bootstrap)], cwd=folder, check=True,
                   timeout=60)
    return folder / "node-a"


def test_the_audit_trail_is_in_its_topic_and_verifies_there(app, broker, agent, topic, tmp_path):
    name = topic("audited")
    app.produce(name, [Message(None, click("38"))])

    def is_sent():
        assert agent.kveil("audit", "query").returncode == 0  # Has it written.
        trail = copy_of_the_topic(broker, agent, tmp_path / f"copy-{len(list(tmp_path.iterdir()))}")
        return name in "".join(file.read_text(encoding="utf-8") for file in trail.glob("*.jsonl")) and trail
    trail = waiting.wait_until("the topic to have the trail", is_sent, 30)
    checked = agent.kveil("audit", "verify", "--trail", str(trail), "--json")
    assert checked.returncode == 0, checked.stdout
    # Those that were sent and not acknowledged may come again, and none is missing.
    agent.kill()
    agent.start()
    app.produce(name, [Message(None, click("39"))])
    agent.stop()  # Sends the last lines.
    trail = copy_of_the_topic(broker, agent, tmp_path / "end")
    agent.start()
    checked = agent.kveil("audit", "verify", "--trail", str(trail), "--json")
    assert checked.returncode == 0, checked.stdout
    lines = [json.loads(line) for line in (trail / "lines").read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["kind"] == "stopped"
    file = next(trail.glob("*.jsonl"))
    file.write_text(file.read_text(encoding="utf-8").replace(name, name[::-1]), encoding="utf-8")
    assert agent.kveil("audit", "verify", "--trail", str(trail)).returncode == 1
    status = json.loads(agent.kveil("status", "--json").stdout)
    assert not [problem for problem in status["problems"] if problem["name"] == "audit.topic"], status
    assert agent.metrics()["kveil_audit_topic_lines_missed_total"] == 0


def test_a_topic_of_the_trail_that_is_made_anew_gets_all_of_it(app, broker, agent, topic, tmp_path):
    """While the agent runs, so that nobody removes `sent.json`."""
    outside, name = Application(broker), topic("audited")
    app.produce(name, [Message(None, click("38"))])

    def numbers():
        assert agent.kveil("audit", "query").returncode == 0  # Has it written.
        trail = copy_of_the_topic(broker, agent, tmp_path / f"copy-{len(list(tmp_path.iterdir()))}")
        lines = [json.loads(line) for line in (trail / "lines").read_text(encoding="utf-8").splitlines()]
        return name in str(lines) and sorted({line["seq"] for line in lines})
    before = waiting.wait_until("the topic to have the trail", numbers, 60)
    behind = agent.log_size()
    outside.run(clients.java("delete-topic", broker.bootstrap, TRAIL))  # The broker makes it anew when the agent asks for it.
    app.produce(name, [Message(None, click("39"))])
    assert agent.kveil("audit", "query").returncode == 0
    agent.wait_for_log(f"audit.topicMadeAnew topic={TRAIL}", behind, 120)

    def is_whole():
        try:
            now = numbers()
        except subprocess.CalledProcessError:
            return False  # No head is there yet.
        return now and now == list(range(1, now[-1] + 1)) and now[-1] > before[-1]
    waiting.wait_until("the new topic to have all of the trail", is_whole, 60)
    waiting.wait_until("nothing to be wrong", lambda: problems(agent) == {}, 60)


def test_the_audit_trail_says_who_read_whose_records(app, audit, support, agent, topic):
    name, closed = topic("audited"), topic("value")
    app.produce(name, [Message(None, click(user)) for user in ("38", "anna", "38")])
    app.produce(closed, [Message(None, click(1))])
    assert len(audit.values(name)) == 3 and len(support.values(name)) == 2
    with pytest.raises(AssertionError):
        audit.kcat_consume(closed)
    writer, = waiting.wait_until("the audit trail to have the writer", lambda: [
        one["workload"] for one in asked(agent, "--topic", name)["done"] if one["access"] == "write"], 10)
    expect_done(agent, {(writer, "write", 0, 3, 0), ("audit.service", "read", 1, 3, 0), ("support.service", "read", 2, 2, 0),
                        ("support.service", "read", 0, 0, 1)}, "--topic", name)
    expect_done(agent, {(writer, "write", 0, 2, 0), ("audit.service", "read", 1, 2, 0), ("support.service", "read", 2, 2, 0)},
                "--topic", name, "--user", "38")
    assert done_by(asked(agent, "--topic", name, "--user", "anna", "--workload", "support")) == set()
    denied, = waiting.wait_until("the denials", lambda: asked(agent, "--topic", closed, "--workload", "audit.service")["done"], 10)
    assert denied["denials"] > 0 and denied["records"] == 0
    trails = agent.folder / "audit"
    text = "".join(file.read_text(encoding="utf-8") for file in trails.glob("*.jsonl"))
    assert name in text and "anna" not in text
    # What was counted since the last minute is written at the end.
    crashes = crashes_in(asked(agent))
    app.produce(name, [Message(None, click("carl"))])
    agent.stop()
    assert agent.kveil("audit", "verify").returncode == 0
    agent.start()
    assert (writer, "write", 0, 4, 0) in done_by(asked(agent, "--topic", name))
    assert crashes_in(asked(agent)) == crashes
    agent.kill()
    agent.start()
    assert crashes_in(asked(agent)) == crashes + 1
    for file in trails.glob("*.jsonl"):
        file.write_bytes(file.read_bytes().replace(name.encode(), b"x" * len(name)))
    assert agent.kveil("audit", "verify").returncode == 1
    assert agent.kveil("audit", "query").returncode == 1
