"""Whatever breaks: nothing unsealed reaches the broker, nothing acknowledged is lost, nothing tampered with is delivered."""

import json
import os
import pathlib
import sqlite3
import subprocess
import threading
import time

import pytest

import places
import waiting
import wire
from agent import Agent
from conftest import POLICIES, numbers
from harness import Application, Message, click, clicks, exchange_when_led, is_sealed

FORBID = pathlib.Path(__file__).with_name("forbid.py")
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
LOAD = ["linger.ms=5", "delivery.timeout.ms=80000", "request.timeout.ms=5000", "reconnect.backoff.max.ms=200"]


@pytest.fixture(autouse=True)
def leaves_the_agent_running(agent):
    yield
    if not agent.running:
        agent.start()


@pytest.fixture
def second_agent(site, broker):
    """An agent that is not started yet, for what it does at its start. It stands on a workload's cgroup of its own."""
    workload = site.workload(f"second{next(numbers)}", below=site.elsewhere)
    made = Agent(site, broker, POLICIES, {"intercept": {"cgroup": str(workload.cgroup)}}, name=workload.name + "-agent")
    made.application = Application(broker, workload)
    made.mount_pins()
    yield made
    made.remove()
    workload.remove()


def everything_sealed(outside, name):
    held = outside.consume(name).records
    assert all(is_sealed(record) for record in held)
    return held


class Load:
    """Sends records one after the other while the block runs, from a thread of its own: a producer that knows no broker
    stands still until it finds one again. `sent` is how many there were in the end."""

    def __init__(self, producer, user):
        self._producer, self._user = producer, user
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "the producer takes no more records"

    def _run(self):
        while not self._ended.is_set():
            for _ in range(20):
                self._producer.send(Message(None, click(self._user, self.sent)))
                self.sent += 1
            time.sleep(0.005)


def wait_until_stored(broker, name, more_than=0):
    """Waits until the broker's log of the topic has grown beyond a size; returns the size."""
    waiting.wait_until(f"records to arrive in {name}", lambda: len(broker.stored_bytes(name)) > more_than, 30)
    return len(broker.stored_bytes(name))


def delivered_once_and_in_order(reader, name, user, count):
    assert reader.values(name) == [click(user, number) for number in range(count)]


def test_killed_in_mid_load(app, reader, outside, broker, agent, topic):
    name = topic("user")
    app.create_topic(name)
    with app.producing(name, *LOAD) as producer:
        with Load(producer, name) as load:
            wait_until_stored(broker, name)
            agent.kill()
            with app.raw() as connection:
                assert connection.greeting == ["refused"], "without an agent a connect to the broker is refused"
            agent.start()
            wait_until_stored(broker, name, wait_until_stored(broker, name))
        answers = producer.finish()
    assert [answer for answer in answers if "error" in answer] == []
    assert len(answers) == load.sent
    everything_sealed(outside, name)
    delivered_once_and_in_order(reader, name, name, load.sent)


def test_asked_to_end_in_mid_load_it_drains(app, reader, outside, broker, agent, topic):
    name = topic("user")
    app.create_topic(name)
    with app.producing(name, *LOAD) as producer:
        with Load(producer, name) as load:
            wait_until_stored(broker, name)
            started = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - started < 15
            agent.start()
            wait_until_stored(broker, name, wait_until_stored(broker, name))
        answers = producer.finish()
    assert [answer for answer in answers if "error" in answer] == []
    everything_sealed(outside, name)
    delivered_once_and_in_order(reader, name, name, load.sent)


def test_a_consumer_goes_on_after_a_restart(app, reader, agent, topic):
    name = topic("user")
    app.produce(name, clicks(name, 3))
    # Without a group: one that finds its coordinator anew may begin again at its last commit, with or without an agent.
    with reader.following(name, "reconnect.backoff.max.ms=200") as consumer:
        for number in range(3):
            assert consumer.next().message.value == click(name, number)
        agent.kill()
        agent.start()
        app.produce(name, [Message(None, click(name, 3))])
        assert consumer.next().message.value == click(name, 3)
        assert consumer.finish().records == []


def test_a_locked_registry_holds_new_users_back_and_nothing_is_lost(app, reader, outside, agent, topic):
    """Their producer gets an error it retries; when the registry is free again everything arrives in order."""
    name = topic("user")
    app.create_topic(name)
    messages = [Message(None, click(f"{name}-{number}", number)) for number in range(100)]
    with app.producing(name, "linger.ms=5", "delivery.timeout.ms=60000", "request.timeout.ms=10000") as producer:
        lock = sqlite3.connect(agent.registry, timeout=10, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        try:
            for message in messages:
                producer.send(message)
            time.sleep(4)
            assert outside.consume(name).records == []
            waiting.wait_until("`kveil status` to say that the registry is locked", lambda: "locked" in status_text(agent), 20)
        finally:
            lock.execute("ROLLBACK")
            lock.close()
        answers = producer.finish()
    assert [answer.get("offset") for answer in answers] == list(range(100))
    assert reader.values(name) == [message.value for message in messages]
    everything_sealed(outside, name)
    waiting.wait_until("`kveil status` to be content again", lambda: "locked" not in status_text(agent), 20)


def test_connects_wait_in_the_descriptor_store_while_the_agent_restarts(second_agent, tmp_path, monkeypatch):
    socket, application = tmp_path / "store/socket", second_agent.application
    monkeypatch.setenv("KVEIL_FDSTORE", str(socket))
    ask = wire.frame(18, 0, b"")  # ApiVersions
    store = subprocess.Popen([*WITHOUT_CAPABILITIES, places.program(), "fdstore", "--socket", socket])  # as in a pod
    try:
        waiting.wait_until("the store", socket.exists, 10)
        root = f"/proc/{store.pid}/root"
        assert subprocess.run(["readlink", root]).returncode == 0
        assert subprocess.run([*WITHOUT_CAPABILITIES, "readlink", root]).returncode != 0, "root took its listeners"
        second_agent.start()
        with application.raw() as connection:
            assert len(connection.exchange(ask)) > 20
        for end in (second_agent.stop, second_agent.kill):
            end()
            with application.raw() as connection:
                assert connection.greeting[0] == "connected", connection.greeting
                second_agent.start()
                assert len(connection.exchange(ask)) > 20
        assert "fdstore" not in [note["name"] for note in second_agent.status()["notes"]]
    finally:
        assert waiting.stop(store, "the store", 10) == 0
    waiting.wait_until("a note", lambda: "fdstore" in [note["name"] for note in second_agent.status()["notes"]], 10)
    second_agent.stop()
    with application.raw() as connection:
        assert connection.greeting == ["refused"]


def test_a_registry_that_is_no_registry_is_refused_at_the_start(second_agent):
    second_agent.registry.write_bytes(os.urandom(8192))
    assert refuses_to_start(second_agent).find(second_agent.registry.name) >= 0


@pytest.mark.parametrize("damage", ["readable by others", "cut off", "somebody else's", "missing"])
def test_a_root_key_that_is_wrong_is_refused_at_the_start(second_agent, damage):
    second_agent.start()
    assert oct(second_agent.root_key.stat().st_mode & 0o777) == "0o600"
    second_agent.stop()
    content = second_agent.root_key.read_bytes()
    if damage == "readable by others":
        second_agent.root_key.chmod(0o644)
    elif damage == "cut off":
        second_agent.root_key.write_bytes(content[:-1])
    elif damage == "missing":
        second_agent.root_key.unlink()
    else:
        second_agent.root_key.unlink()
        spare = second_agent.registry.rename(second_agent.registry.with_suffix(".spare"))
        for path in second_agent.folder.glob("registry.db-*"):
            path.unlink()
        second_agent.start()  # Makes a new key and a new registry; the old registry then meets the new key.
        second_agent.stop()
        for path in second_agent.folder.glob("registry.db*"):
            path.unlink()
        spare.rename(second_agent.registry)
    assert second_agent.root_key.name in refuses_to_start(second_agent)


def test_an_agent_that_cannot_start_lets_nothing_pass(second_agent):
    """As after a reboot: nothing of an earlier agent is in the kernel, and the root key is gone."""
    second_agent.start()
    second_agent.stop()
    assert second_agent.kveil("detach").returncode == 0
    second_agent.root_key.unlink()
    refuses_to_start(second_agent)
    with second_agent.application.raw() as connection:  # Held for a while, as the next agent may be about to start.
        assert connection.greeting[0] in ("refused", "failed"), connection.greeting


def test_a_missing_registry_beside_a_root_key_is_no_first_start(second_agent):
    """As after a reboot where the registry's volume is not mounted, and something else keeps the agent from running."""
    second_agent.start()
    second_agent.stop()
    assert second_agent.kveil("detach").returncode == 0
    for path in second_agent.folder.glob("registry.db*"):
        path.unlink()
    second_agent.write_policy_text("{", "broken.json")
    assert "broken.json" in refuses_to_start(second_agent)
    with second_agent.application.raw() as connection:
        assert connection.greeting[0] in ("refused", "failed"), connection.greeting


def test_a_first_start_that_fails_leaves_nothing_behind(second_agent):
    """Where no agent has ever run, nothing was protected: one that cannot start must not cut the broker off."""
    second_agent.write_policy_text("{", "broken.json")
    assert "broken.json" in refuses_to_start(second_agent)
    with second_agent.application.raw() as connection:
        assert connection.greeting[0] == "connected"
    assert "nothing was attached" in second_agent.kveil("detach").stdout


def test_an_agent_that_serves_nobody_well_leaves_connects_refused(second_agent):
    """Its first probe fails, when it has already begun to relay: what was attached stays, also on a node that was new."""
    no_way = "ip link set lo up; ip rule add pref 1 lookup local; ip rule add pref 0 to 127.0.0.1 unreachable; ip rule del pref 0 lookup local"
    second_agent.wrapper = ["unshare", "-n", "sh", "-c", f'{no_way}; exec "$@"', "sh"]
    assert "the probe connect from the agent's cgroup" in refuses_to_start(second_agent)
    with second_agent.application.raw() as connection:
        assert connection.greeting[0] in ("refused", "failed"), connection.greeting
    assert "nothing was attached" not in second_agent.kveil("detach").stdout


def test_an_agent_that_may_not_use_io_uring_attaches_nothing(second_agent):
    second_agent.wrapper = ["/usr/bin/python3", FORBID, "io_uring"]
    assert "io_uring" in refuses_to_start(second_agent)
    with second_agent.application.raw() as connection:
        assert connection.greeting[0] == "connected"
    assert "nothing was attached" in second_agent.kveil("detach").stdout


def refuses_to_start(agent):
    """Starts it, sees it end by itself with a failure; returns what it said."""
    agent.log.unlink(missing_ok=True)
    agent.start(wait=False)
    assert agent.wait_for_exit(15) != 0
    return agent.last_log_lines()


def test_a_broken_policy_leaves_the_old_one_in_force(app, reader, broker, agent, topic):
    name = topic("user")
    for broken in ("{", '{"topics": [{"name": "x", "seel": {}}]}', '{"topics": []}'):
        agent.write_policy_text(broken, "zz-broken.json")
        waiting.wait_until("`kveil status` to tell of the broken policy", lambda: "zz-broken.json" in status_text(agent), 10)
        (agent.policy_folder / "zz-broken.json").unlink()
        waiting.wait_until("`kveil status` to be content again", lambda: "zz-broken.json" not in status_text(agent), 10)
    agent.write_policy_text("{", "zz-broken.json")
    app.produce(name, clicks(name, 3))
    assert reader.values(name) == [message.value for message in clicks(name, 3)]
    assert b"secret" not in broker.stored_bytes(name)
    (agent.policy_folder / "zz-broken.json").unlink()


def status_text(agent):
    done = agent.kveil("status")
    return done.stdout + done.stderr


def test_a_new_policy_takes_effect_without_a_restart(app, outside, agent, topic):
    name = topic("fresh")
    app.produce(name, clicks(1, 1))
    agent.write_policies([{"prefix": "fresh-", "seal": {"scope": "topic"}, "read": [{"any": True}]}], "fresh.json")

    def sealed():
        app.kcat_produce(name, [click(1)])
        return is_sealed(outside.consume(name).records[-1])

    waiting.wait_until("a new policy to be in force", sealed, 15, every=0.2)


# What somebody at the broker could do to sealed records.

def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def tamperings(value, envelope):
    """A sealed value and its envelope, changed in every way that matters: what was changed, value, envelope."""
    return [("the value", flipped(value, 0), envelope),
            ("the tag", flipped(value, len(value) - 1), envelope),
            ("the value's end", value[:-1], envelope),
            ("the whole value", b"", envelope),
            ("the version", value, flipped(envelope, 0)),
            ("an unknown flag", value, envelope[:1] + b"\x80" + envelope[2:]),
            ("the key id", value, flipped(envelope, 5)),
            ("the salt", value, flipped(envelope, 20)),
            ("the index", value, envelope[:30] + b"\x05"),
            ("the envelope's end", value, envelope[:-1]),
            ("an empty envelope", value, b""),
            ("a trailing byte", value, envelope + b"\0")]


def test_a_record_that_was_tampered_with_is_neither_delivered_nor_passed_over(app, reader, broker, outside, topic):
    """One partition a way of tampering. The reader gets what lies before the record, then stands still in that partition:
    no clear text, and no silent gap. The last partition is sound and is read to its end."""
    source, name = topic("user"), topic("user")
    app.produce(source, clicks(source, 1))
    sealed, = broker.stored_records(source)
    changed = tamperings(sealed.value, dict(sealed.headers)["kveil"])
    sound = len(changed)
    app.create_topic(name, sound + 1)
    for partition in range(sound + 1):
        send(app, name, partition, [(None, click(name, partition), [])])
    for partition, (_, value, envelope) in enumerate(changed):
        send(outside, name, partition, [(None, value, [("kveil", envelope)])])
    for partition in range(sound + 1):
        send(app, name, partition, [(None, click(name, partition), [])])
    read = reader.consume(name, "limit.seconds=15")
    delivered = {partition: [record.offset for record in read.records if record.partition == partition]
                 for partition in range(sound + 1)}
    assert {what: delivered[partition] for partition, (what, _, _) in enumerate(changed)} == {what: [0] for what, _, _ in changed}
    assert {what: read.end["position"][str(partition)] for partition, (what, _, _) in enumerate(changed)} == \
           {what: 1 for what, _, _ in changed}
    assert delivered[sound] == [0, 1]


def test_a_record_moved_to_another_topic_is_not_opened(app, reader, broker, outside, topic):
    source, target = topic("user"), topic("user")
    app.produce(source, clicks(source, 1))
    sealed, = broker.stored_records(source)
    outside.create_topic(target)
    send(outside, target, 0, [(sealed.key, sealed.value, sealed.headers)])
    read = reader.consume(target, "limit.seconds=6")
    assert read.records == [] and not read.end["complete"]


def test_a_record_moved_to_another_key_is_not_opened(app, reader, broker, outside, topic):
    name = topic("user")
    app.produce(name, [Message(b"mine", click(name))])
    sealed, = broker.stored_records(name)
    send(outside, name, 0, [(b"yours", sealed.value, sealed.headers)])
    read = reader.consume(name, "limit.seconds=6")
    assert [record.message.key for record in read.records] == [b"mine"]


def test_two_envelopes_on_one_record_are_not_opened(app, reader, broker, outside, topic):
    name = topic("user")
    app.produce(name, clicks(name, 1))
    sealed, = broker.stored_records(name)
    send(outside, name, 0, [(sealed.key, sealed.value, sealed.headers * 2)])
    read = reader.consume(name, "limit.seconds=6")
    assert len(read.records) == 1 and not read.end["complete"]


def send(application, name, partition, records):
    """Produces one batch of records as they are. Over `outside` they go past the agent."""
    with application.raw() as connection:
        request = wire.produce(name, wire.batch(records), partition)
        answer = wire.produce_answer(exchange_when_led(connection, request, lambda made: wire.produce_answer(made).error == 6))
    assert answer.error == 0, answer


def test_a_full_disk_under_the_registry_holds_producers_back(second_agent, outside, topic):
    """Here the disk is one small file system of its own, filled to the last byte."""
    name = topic("user")
    outside.create_topic(name)
    disk = second_agent.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=True)
    try:
        second_agent.config["keys"]["registry"]["sqlite"] = str(disk / "registry.db")
        second_agent.write_config()
        second_agent.start()
        fill(disk / "filler")
        application = second_agent.application
        answers = application.produce(name, [Message(None, click((f"{name}-{number}" * 20)[:1000])) for number in range(300)],
                                      "delivery.timeout.ms=12000", "request.timeout.ms=6000", "linger.ms=0")
        refused = [answer for answer in answers if "error" in answer]
        assert refused and {answer["error"] for answer in refused} <= {"TimeoutException", "NotEnoughReplicasException"}
        (disk / "filler").unlink()
        assert "offset" in application.produce(name, clicks(name, 1))[0]
        everything_sealed(outside, name)
    finally:
        second_agent.remove()
        subprocess.run(["umount", disk], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_status_tells_in_plain_words_what_is_served(agent):
    assert agent.kveil("status").stdout.strip()
    json.dumps(agent.status())
