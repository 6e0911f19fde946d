"""Erasing a person: their records are gone for every reader at once, everybody else's stay, and no reader stops."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time

import pytest
import waiting

from harness import CODECS, Message, click, clicks


def mixed(gone, stays, count=30):
    """Records of two users in turns, the last of them the erased one's."""
    return [Message(None, click(gone if number % 2 else stays, number)) for number in range(count)]


def of(user, messages):
    return [message.value for message in messages if f'"userid": "{user}"'.encode() in message.value]


def batches_of(count):
    """Producer settings that put all, or each, of the records of a test into one batch."""
    return ["linger.ms=500", "batch.size=1000000"] if count > 1 else ["linger.ms=0", "batch.size=1"]


@pytest.mark.parametrize("codec, records_in_batch", [("none", 1), *((codec, 30) for codec in CODECS)])
def test_the_others_records_stay_and_the_consumer_reaches_the_end(app, reader, agent, topic, codec, records_in_batch):
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    messages = mixed(gone, stays)
    app.produce(name, messages, f"compression.type={codec}", *batches_of(records_in_batch))
    assert reader.values(name) == [message.value for message in messages]
    assert agent.erase(gone).returncode == 0
    read = reader.consume(name, "group.id=" + name)
    assert [record.message.value for record in read.records] == of(stays, messages)
    assert read.end == {"complete": True, "position": {"0": 30}, "lag": {"0": 0}, "committed": {"0": 30}}
    assert reader.kcat_consume(name) == of(stays, messages)


def test_what_is_still_to_be_erased_is_not_confirmed(agent):
    """A receipt for it would confirm erasures that nobody has made yet."""
    for number in (10**12, 2**63, 2**64 - 1):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(agent.folder / "admin.sock"))
            admin.sendall(json.dumps({"command": "awaitErasure", "number": number}).encode() + b"\n")
            answer = json.loads(admin.makefile().readline())
        assert answer["code"] == "InvalidArgument" and "there is no erasure" in answer["error"], answer


def test_a_turn_of_the_epochs_takes_nothing_from_the_others(app, reader, agent, topic):
    """Records from before it are read as before, and records after it are sealed under the same keys."""
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    messages = mixed(gone, stays)
    app.produce(name, messages)
    assert agent.erase(gone).returncode == 0
    behind = agent.log_size()
    turned = agent.kveil("epochs", "turn", "--wait", "60", "--json", timeout=90)
    assert turned.returncode == 0, turned
    *ended, current = json.loads(turned.stdout)["epochs"]
    assert {epoch["state"] for epoch in ended} == {"destroyed"} and current["state"] == "inUse", turned.stdout
    app.produce(name, mixed(gone, stays))
    assert reader.values(name) == 2 * of(stays, messages)
    agent.wait_for_log("keys.rootKey.advanced", behind, seconds=30)  # Old copies of the registry open nothing from now on.
    assert agent.root_key.read_text().splitlines()[0].startswith("kveil root key 2 ")


@pytest.mark.parametrize("codec", CODECS)
def test_a_topic_that_was_one_persons_is_empty_but_has_its_offsets(app, reader, agent, topic, codec):
    """Wholly erased batches: the consumer must get past them although they give it nothing."""
    name = topic("user")
    for _ in range(2):
        app.produce(name, clicks(name, 20), f"compression.type={codec}", *batches_of(20))
    assert agent.erase(name).returncode == 0
    read = reader.consume(name, "group.id=" + name)
    assert read.records == []
    assert read.end == {"complete": True, "position": {"0": 40}, "lag": {"0": 0}, "committed": {"0": 40}}
    assert reader.kcat_consume(name) == []
    assert app.produce(name, [Message(None, click("other-" + name))])[0]["offset"] == 40
    resumed = reader.consume(name, "group.id=" + name)
    assert [record.offset for record in resumed.records] == [40]


def test_read_committed_readers_get_past_erased_transactions(app, reader, agent, topic):
    name = topic("user")
    with app.producing(name, "transactional.id=" + name) as producer:
        for user, outcome in ((f"{name}-gone", "commit"), (f"{name}-stays", "abort"), (f"{name}-stays", "commit")):
            producer.do("begin")
            for message in clicks(user, 5):
                producer.send(message)
            producer.do("flush")
            producer.do(outcome)
        producer.finish()
    assert agent.erase(f"{name}-gone").returncode == 0
    read = reader.consume(name, "isolation.level=read_committed")
    assert [record.message.value for record in read.records] == [m.value for m in clicks(f"{name}-stays", 5)]
    assert read.end["lag"] == {"0": 0}


def test_a_running_consumer_is_affected_at_once(app, reader, agent, topic):
    """No reconnect: the same consumer reads the person's record, then, after the erasure, does not read the next copy."""
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    app.create_topic(name)  # The consumer asks for its partitions at its start.
    with app.producing(name, "linger.ms=0") as producer, reader.following(name, "group.id=" + name) as consumer:
        producer.send(Message(None, click(gone, 1)))
        assert producer.flush()["offset"] == 0
        assert consumer.next().message.value == click(gone, 1)
        assert agent.erase(gone).returncode == 0
        for message in (click(gone, 2), click(stays, 3)):
            producer.send(Message(None, message))
            assert "offset" in producer.flush(), "a late record of an erased user is taken and stays unreadable"
        assert consumer.next().message.value == click(stays, 3)
        rest = consumer.finish()
    assert rest.records == [] and rest.end["position"] == {"0": 3}
    assert reader.values(name) == [click(stays, 3)]


def test_an_erasure_survives_a_restart(app, reader, agent, topic):
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    messages = mixed(gone, stays)
    app.produce(name, messages)
    assert agent.erase(gone).returncode == 0
    assert agent.stop() == 0
    agent.start()
    assert reader.values(name) == of(stays, messages)
    app.produce(name, [Message(None, click(gone, 99))])
    assert reader.values(name) == of(stays, messages), "a record produced after erasure and restart stays unreadable"


def problems(agent):
    return [problem["name"] for problem in agent.status()["problems"]]


def test_erasures_that_a_restored_registry_does_not_know_of_are_repeated(app, reader, agent, topic, tmp_path):
    name = topic("user")
    gone, stays = f"{name}-gone", f"{name}-stays"
    messages = mixed(gone, stays)
    app.produce(name, messages)
    backup = tmp_path / "registry.db"
    with contextlib.closing(sqlite3.connect(agent.registry)) as source, \
            contextlib.closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    assert agent.erase(gone).returncode == 0
    assert agent.stop() == 0
    for ending in ("-wal", "-shm"):
        agent.registry.with_name(agent.registry.name + ending).unlink(missing_ok=True)
    shutil.copy(backup, agent.registry)
    agent.start(wait=False)  # it is not without problems
    waiting.wait_until("the loss to be noticed", lambda: '"erasures"' in agent.kveil("status", "--json").stdout, 30)
    waiting.wait_until("the agent to be ready", lambda: agent.kveil("status", "--ready").returncode == 0, 30)
    done = agent.kveil("receipts", "replay", "--dry-run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["missing"] == 1, done
    done = agent.kveil("receipts", "replay")
    assert done.returncode == 0 and " 1 had to be erased again, 1 key(s) destroyed" in done.stdout, done
    waiting.wait_until("the problem to pass", lambda: problems(agent) == [], 30)
    assert reader.values(name) == of(stays, messages)
    assert "; 0 had to be erased again" in agent.kveil("receipts", "replay").stdout


def test_a_person_who_is_readmitted_has_a_new_key(app, reader, agent, topic):
    name = topic("user")
    app.produce(name, [Message(None, click(name, 1))])
    refused = agent.kveil("readmit", "--user", name)
    assert refused.returncode == 1 and "not erased" in refused.stderr
    assert agent.erase(name).returncode == 0
    done = agent.kveil("readmit", "--user", name)
    assert done.returncode == 0, done.stderr
    assert "readmitted in keyspace user-" in done.stdout and "receipt" in done.stdout
    app.produce(name, [Message(None, click(name, 2))])
    assert reader.values(name) == [click(name, 2)], "what was erased stays unreadable, what came after can be read"
    assert agent.kveil("receipts", "verify").returncode == 0
    assert agent.erase(name).returncode == 0
    assert reader.values(name) == []


def test_where_the_policy_says_so_the_next_record_has_a_new_key(app, reader, agent, topic):
    name = topic("returning")
    app.produce(name, [Message(None, click(name, 1))])
    assert agent.erase(name).returncode == 0
    app.produce(name, [Message(None, click(name, 2))])
    assert reader.values(name) == [click(name, 2)]


def test_erasing_somebody_unknown_says_so_and_fails(agent):
    done = agent.erase("nobody-has-this-id")
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1


def test_erasing_twice_says_when_it_was_done(app, agent, topic):
    name = topic("user")
    app.produce(name, clicks(name, 1))
    first, second = agent.erase(name), agent.erase(name)
    assert first.returncode == 0
    words = second.stdout + second.stderr
    assert "20" in words and ":" in words, f"no time in: {words}"


def test_many_at_once_from_a_file(app, reader, agent, topic, tmp_path):
    name = topic("user")
    users = [f"{name}-{number}" for number in range(600)]
    app.produce(name, [Message(None, click(user)) for user in [*users, f"{name}-stays"]])
    listed = tmp_path / "users"
    listed.write_text("".join(f"{user}\n" for user in [*users[:300], f"{name}-nobody"]), encoding="utf-8")
    done = agent.kveil("erase", "--users-from", str(listed), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["erased"], summary["erasedBefore"], summary["noKey"], summary["keys"]) == (300, 0, 1, 300)
    assert sorted(reader.values(name)) == sorted(click(user) for user in [*users[300:], f"{name}-stays"])
    listed.write_text("".join(f"{user}\n" for user in users), encoding="utf-8")
    done = agent.kveil("erase", "--users-from", str(listed))
    assert done.returncode == 0 and "300 user(s) erased" in done.stdout and "300 user(s) were erased before" in done.stdout
    assert reader.values(name) == [click(f"{name}-stays")]


def test_an_erasure_has_a_receipt_that_openssl_verifies(app, agent, topic, tmp_path):
    name = topic("user")
    app.produce(name, clicks(name, 1))
    done = agent.kveil("erase", "--user", name, "--reason", "request 38", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    number, confirmed = answer["receipt"]["number"], answer["confirmation"]["number"]
    shown = agent.kveil("receipts", "show", str(number))
    assert name not in shown.stdout, "the user's id is in the receipt"
    receipt = json.loads(shown.stdout)
    assert (receipt["kind"], receipt["uid"], receipt["reason"]) == ("erasure", os.getuid(), "request 38")
    user, = receipt["users"]
    assert user["keys"] == 1 and len(user["keyspaces"][0]["pseudonym"]) == 64
    confirmation = json.loads(agent.kveil("receipts", "show", str(confirmed)).stdout)
    assert (confirmation["kind"], confirmation["erasure"]) == ("confirmation", receipt["erasure"])
    assert confirmation["spread"]["complete"] and "confirmed" in confirmation["spread"]["agents"][0]
    again = json.loads(agent.kveil("erase", "--user", name, "--json").stdout)
    repeated, = json.loads(agent.kveil("receipts", "show", str(again["receipt"]["number"])).stdout)["users"]
    assert repeated["keys"] == 0 and repeated["keyspaces"][0]["erasedBefore"] == receipt["time"]
    folder = agent.registry.parent / "receipts"
    public = tmp_path / "public.pem"
    public.write_text(agent.kveil("receipts", "key").stdout, encoding="utf-8")
    subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin",
                    "-in", folder / f"{number:08}.json", "-sigfile", folder / f"{number:08}.sig"], check=True)
    assert agent.kveil("receipts", "verify").returncode == 0
    assert f"{number}  " in agent.kveil("receipts", "list").stdout
    stored = folder / f"{number:08}.json"
    before = stored.read_bytes()
    stored.write_bytes(before.replace(b"request 38", b"request 39"))
    try:
        assert agent.kveil("receipts", "verify").returncode == 1
        assert agent.kveil("receipts", "verify", str(number)).returncode == 1
    finally:
        stored.write_bytes(before)


def test_a_receipt_says_when_no_copy_of_the_registry_undoes_an_erasure(app, agent, topic):
    name = topic("user")
    app.produce(name, [Message(None, click(f"{name}-gone"))])
    erased = json.loads(agent.kveil("erase", "--user", f"{name}-gone", "--json").stdout)
    erasure = json.loads(agent.kveil("receipts", "show", str(erased["receipt"]["number"])).stdout)["erasure"]
    turned = agent.kveil("epochs", "turn", "--wait", "60")
    assert turned.returncode == 0, turned.stderr
    limit = time.monotonic() + 60
    while f"irrecoverable  of erasures up to {erasure}  epochs before " not in agent.kveil("receipts", "list").stdout:
        assert time.monotonic() < limit, agent.kveil("receipts", "list").stdout
        time.sleep(0.2)
    assert agent.kveil("receipts", "verify").returncode == 0


def test_the_wrapped_key_is_gone_from_the_registrys_files(app, agent, topic):
    name = topic("user")
    app.produce(name, [Message(None, click(user)) for user in (f"{name}-gone", f"{name}-stays")])
    before = blobs(agent.registry)
    assert agent.erase(f"{name}-gone").returncode == 0
    destroyed = before - blobs(agent.registry)
    assert destroyed, "nothing was taken out of the registry"
    files = list(agent.registry.parent.glob(agent.registry.name + "*"))
    assert files
    for path in files:
        content = path.read_bytes()
        assert not any(blob in content for blob in destroyed), f"{path.name} still holds the wrapped key"


def test_the_registry_is_no_list_of_people(app, agent, topic):
    name = topic("user")
    app.produce(name, clicks(f"{name}-somebody", 1))
    for path in agent.registry.parent.glob(agent.registry.name + "*"):
        assert b"somebody" not in path.read_bytes()


def blobs(registry):
    """Every long binary value in the registry, whatever its tables are: keys, wrapped, are among them."""
    found = set()
    connection = sqlite3.connect(f"file:{registry}?mode=ro", uri=True)
    try:
        for table, in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                found.update(value for value in row if isinstance(value, bytes) and len(value) >= 32)
    finally:
        connection.close()
    return found
