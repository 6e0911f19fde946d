"""Strangers, floods and peers that stand still: each meets a limit, is named in the log and counted, takes bounded memory, and
disturbs nobody else."""

import contextlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

import pytest

import clients
import places
import waiting
import wire
from agent import Agent
from conftest import POLICIES
from harness import Application, Lines, Message, click, exchange_when_led, json_lines, record_line

HERE = pathlib.Path(__file__).parent
PYTHON = "/usr/bin/python3"
MIB = 1 << 20
LIST_OFFSETS, FIND_COORDINATOR = 2, 10  # Requests that nobody in the agent wants.
INVALID_RECORD = 87
NOT_LEADER = 6
# KVEIL_CROWD=10000 is what the agent is built for; that takes half a minute, and 20,500 descriptors a process.
CROWD = int(os.environ.get("KVEIL_CROWD", 2000))
MEMORY_OF_A_CONNECTION = 400e6 / 10_000
HALF_A_HEADER = b"\0\0\0\x40\0\x02"


@contextlib.contextmanager
def run_sink(site, *manner):
    port = places.free_port(site.address)
    process = subprocess.Popen([PYTHON, HERE / "sink.py", site.address, str(port), *manner], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listens\n"
    yield f"{site.address}:{port}"
    process.kill()
    process.wait(5)


@pytest.fixture(scope="module")
def sink(site):
    """Stands for a broker that has room for thousands of connections."""
    with run_sink(site) as address:
        yield address


@pytest.fixture(scope="module")
def silent_sink(site):
    """Stands for a broker that answers nothing."""
    with run_sink(site, "silent") as address:
        yield address


@pytest.fixture(scope="module")
def agent(site, broker, sink, silent_sink, shop, analytics, desk):
    """It has the limits that are the default, but for the number of connections: one workload gets four fifths of them, and
    there is room beside the crowd."""
    with started(site, broker, [sink, silent_sink], "agent", connections=CROWD * 5 // 4 + 200) as agent:
        agent.memory_at_first = agent.memory()
        yield agent


@pytest.fixture(scope="module")
def impatient(site, broker, sink, silent_sink, agent):
    with another(site, broker, [sink, silent_sink], agent, "impatient", stallTimeout="2s", totalMemory="128MiB") as made:
        yield made


@contextlib.contextmanager
def another(site, broker, sink, agent, name, **limits):
    """A second agent in front of the same brokers, with the same keys, for a workload of its own."""
    workload = site.workload(name, below=site.elsewhere)
    with started(site, broker, sink, f"{name}-agent", agent.config["keys"], workload.cgroup, **limits) as made:
        made.workload = workload
        yield made
    workload.remove()


@contextlib.contextmanager
def started(site, broker, sink, name, keys=None, cgroup=None, **limits):
    sinks = [sink] if isinstance(sink, str) else sink
    ports = ",".join(sorted([str(broker.port), *(one.split(":")[1] for one in sinks)], key=int))
    targets = [{"cluster": "main", "cidr": f"{broker.address}/32", "ports": ports}]
    intercept = {"targets": targets, **({"cgroup": str(cgroup)} if cgroup else {})}
    with Agent(site, broker, POLICIES, {"intercept": intercept, "limits": limits, "keys": keys or {}}, name=name) as agent:
        yield agent


class Crowd:
    """Connections of one workload to one address: see crowd.py."""

    def __init__(self, lines):
        self._lines = lines

    def do(self, what, **order):
        self.begin(what, **order)
        return self.outcome()

    def begin(self, what, **order):
        self._lines.tell(json.dumps({"do": what, **order}))

    def outcome(self):
        return json.loads(self._lines.next(timeout=120))


def wait_for_room(agent):
    """The agent takes a moment to let go of a crowd that has gone."""
    waiting.wait_until("the connections of before to be gone", lambda: agent.status()["connections"] < 100, 30)


@contextlib.contextmanager
def crowd(workload, address, count=1, some_fail=False):
    process = workload.start([PYTHON, HERE / "crowd.py", *address.split(":")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        made = Crowd(Lines(process))
        opened = made.do("open", count=count)
        assert opened["failed"] == 0 or some_fail
        made.size = opened["open"]
        yield made
    finally:
        process.kill()
        process.wait(5)


class Ends:
    """The connections that an agent has ended since this was made, as its log and its metrics tell it."""

    def __init__(self, agent):
        self._agent = agent
        self._logged = agent.log.stat().st_size
        self._counted = agent.metrics()

    def lines(self):
        with open(self._agent.log, "rb") as log:
            log.seek(self._logged)
            return [line for line in log.read().decode().splitlines() if "connection.closed" in line or "connection.rejected" in line]

    def wait_for(self, result, count=1):
        """Waits until so many have ended in this way; returns their lines."""
        waiting.wait_until(f"{count} connections to end with {result}", lambda: self.counted(result) >= count, 20)
        assert self.counted(result) == count
        return self.lines()

    def counted(self, result):
        name = f'kveil_connections_closed_total{{result="{result}"}}'
        return self._agent.metrics()[name] - self._counted[name]


def request(correlation, size=64):
    """One that is relayed as it is, of `size` bytes."""
    return wire.frame(LIST_OFFSETS, 1, bytes(size - 18), correlation)


class Beside:
    """A producer and a consumer that go on beside whatever a test does."""

    def __init__(self, producer, consumer):
        self._producer, self._consumer = producer, consumer
        self._sent = 0

    def seconds(self, count=20):
        """How long it took each of so many records to be acknowledged and to arrive, one after the other."""
        took = []
        for _ in range(count):
            message = Message(None, click(f"user-{self._sent % 3}", self._sent))
            begun = time.monotonic()
            self._producer.send(message)
            assert "offset" in self._producer.flush()
            assert self._consumer.next().message == message
            took.append(time.monotonic() - begun)
            self._sent += 1
        return took


@pytest.fixture(scope="module")
def beside(broker, agent, shop, analytics):
    name, app = "user-beside", Application(broker, shop)
    app.create_topic(name)
    with app.producing(name, "linger.ms=0") as producer, Application(broker, analytics).following(name) as consumer:
        made = Beside(producer, consumer)
        made.seconds(5)
        yield made


def undisturbed(before, during):
    """Generous, as the machine has more to do: what is meant to be seen is somebody who waits for others."""
    assert statistics.median(during) < 5 * statistics.median(before) + 0.2, (before, during)
    assert max(during) < max(before) + 3, (before, during)


# Strangers.

STRANGERS = [
    ("TLS", bytes.fromhex("160301020001000001fc0303"), "TLS, which this cluster's clientTls refuses", "client_tls"),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "HTTP"),
    ("PROXY protocol 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 9092\r\n", "the PROXY protocol, version 1"),
    ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), "the PROXY protocol, version 2"),
    ("2 GB", b"\x7f\xff\xff\xff\0\0\0\x07\0\0\0\1" + bytes(1000), "a request of 2147483647 bytes (allowed: 8 to 104857600)"),
    ("size -1", b"\xff\xff\xff\xff\0\0\0\x07\0\0\0\1", "a request of -1 bytes"),
]


@pytest.mark.parametrize("first_bytes, said, result", [(*stranger[1:], "not_kafka")[:3] for stranger in STRANGERS], ids=[stranger[0] for stranger in STRANGERS])
def test_a_stranger_is_reset_named_and_counted_and_the_broker_hears_nothing(agent, broker, shop, first_bytes, said, result):
    ends, complaints = Ends(agent), broker.log.read_bytes().count(b"InvalidReceiveException")
    with crowd(shop, broker.bootstrap) as one:
        one.do("send", bytes=first_bytes.hex())
        assert one.do("ended", wait=10) == {"open": 0, "ended": 0, "reset": 1}
    line, = ends.wait_for(result)
    assert re.search(rf'connection.closed id=\d+ client=[0-9.]+:\d+ broker={broker.bootstrap} .*workload=\S*shop .*"application: ', line), line
    assert said in line and "responseBytes=0" in line, line
    assert broker.log.read_bytes().count(b"InvalidReceiveException") == complaints


def test_clients_that_speak_tls_or_http_say_so(agent, broker, shop):
    ends = Ends(agent)
    # librdkafka says so, or only "Disconnected" when it sees the end of the connection before it has asked OpenSSL.
    for _ in range(5):
        kcat = shop.run(["kcat", "-L", "-m", "4", "-b", broker.bootstrap, "-X", "security.protocol=ssl"])
        assert kcat.returncode != 0, kcat
        if "SSL handshake failed" in kcat.stderr:
            break
    assert "SSL handshake failed" in kcat.stderr, kcat.stderr
    waiting.wait_until("the log to name TLS", lambda: any("TLS, which" in line for line in ends.lines()), 10)
    curl = shop.run(["curl", "--silent", "--show-error", "--max-time", "10", f"http://{broker.bootstrap}/"])
    assert curl.returncode == 56 and "reset by peer" in curl.stderr, curl
    waiting.wait_until("the log to name HTTP", lambda: any(line.endswith(': HTTP"') for line in ends.lines()), 10)


def test_frames_that_arrive_one_byte_at_a_time_are_served(app, agent, broker, shop, topic):
    name = topic("user")
    app.kcat_produce(name, [click("first")])
    sealed = wire.produce(name, wire.batch([(None, click("slow"), [])]))
    with crowd(shop, broker.bootstrap) as one:
        for frame in (sealed, wire.frame(FIND_COORDINATOR, 0, wire.string("group")), sealed):
            assert one.do("trickle", bytes=frame.hex(), pause=0.002) == {"sent": len(frame)}
            assert not one.do("frames", count=1)["ended"]
    assert app.kcat_consume(name) == [click("first"), click("slow"), click("slow")]
    assert b"secret" not in broker.stored_bytes(name)


# Silence and floods.

def test_thousands_of_half_open_connections_disturb_nobody(agent, shop, sink, beside):
    before = beside.seconds()
    with crowd(shop, sink, CROWD) as many:
        assert many.do("send", bytes=HALF_A_HEADER.hex()) == {"sent": CROWD}
        undisturbed(before, beside.seconds())
        assert agent.status()["connections"] >= CROWD
        assert agent.memory() - agent.memory_at_first < CROWD * MEMORY_OF_A_CONNECTION
        assert many.do("ended", wait=0)["open"] == CROWD


def test_thousands_of_idle_connections_take_little_memory(agent, shop, sink):
    wait_for_room(agent)
    with crowd(shop, sink, CROWD) as many:
        for correlation in range(2):
            assert many.do("send", bytes=request(correlation).hex()) == {"sent": CROWD}
            assert many.do("answers") == {"answered": CROWD}
        assert agent.status()["connections"] >= CROWD
        taken = agent.memory() - agent.memory_at_first
        print(f"{CROWD} idle connections take {taken / 1e6:.0f} MB of the agent's memory")
        assert taken < CROWD * MEMORY_OF_A_CONNECTION


def test_half_a_header_is_ended_by_the_stall_limit(impatient, sink):
    ends = Ends(impatient)
    with crowd(impatient.workload, sink, 5) as silent, crowd(impatient.workload, sink, 15) as some:
        some.do("send", bytes=HALF_A_HEADER.hex())
        assert some.do("ended", wait=15) == {"open": 0, "ended": 0, "reset": 15}
        assert silent.do("ended", wait=0) == {"open": 5, "ended": 0, "reset": 0}, "who has said nothing owes nothing"
    lines = ends.wait_for("stalled", 15)
    stalled = [line for line in lines if "agent: a message stood still for too long" in line]
    assert len(stalled) == 15 and re.search(r"id=\d+ client=[0-9.]+:\d+ .*requestBytes=0", stalled[0])


def test_a_pipeline_of_a_thousand_requests_is_answered_in_order(app, agent, broker, shop, topic, beside):
    """Some answers are the broker's, some are changed on their way, some are the agent's own."""
    name = topic("user")
    app.kcat_produce(name, [click("first")])
    good, bad = wire.batch([(None, click("piped"), [])]), wire.batch([(None, b"no JSON", [])])
    # In the place of each: what to ask. Metadata and ApiVersions are looked at, FindCoordinator is not.
    kinds = [lambda: wire.produce(name, good), lambda: wire.produce(name, bad), lambda: wire.frame(wire.API_VERSIONS, 0, b""),
             lambda: wire.frame(FIND_COORDINATOR, 0, wire.string("group")), lambda: wire.produce(name, bad),
             lambda: wire.frame(3, 1, (1).to_bytes(4, "big") + wire.string(name))]
    frames = [kinds[number % len(kinds)]() for number in range(1000)]
    frames = [frame[:8] + number.to_bytes(4, "big") + frame[12:] for number, frame in enumerate(frames)]
    before = beside.seconds(10)
    with crowd(shop, broker.bootstrap) as one:
        one.do("send", bytes=b"".join(frames).hex())
        one.begin("frames", count=1000)
        during = beside.seconds(10)
        answers = one.outcome()
    assert [int(start[:8], 16) for start in answers["frames"]] == list(range(1000))
    undisturbed(before, during)
    assert app.kcat_consume(name) == [click("first")] + [click("piped")] * len(frames[::len(kinds)])


TINY = bytes.fromhex("00000008" + "0002" + "0001" + "00000007")  # ListOffsets as a header alone: 12 bytes.


def test_requests_that_are_never_answered_take_bounded_memory(agent, shop, silent_sink, beside):
    """One connection pipelines what is twelve bytes of request and more than that for the agent to remember."""
    before = beside.seconds(10)
    agent.forget_peak_memory()
    memory = agent.memory()
    with crowd(shop, silent_sink, 20) as many:
        many.begin("flood", bytes=TINY.hex(), seconds=4)
        during = beside.seconds(10)
        waiting.wait_until("the agent to hold them back", lambda: agent.metrics()["kveil_connections_held_back"] == 20, 10)
        status = agent.status()
        assert [note["name"] for note in status["notes"]] == ["answersOwed"] and status["ready"] and not status["problems"]
        sent = many.outcome()["sent"]
    taken = agent.peak_memory() - memory
    print(f"{sent / 1e6:.1f} MB of requests without an answer took {taken / 1e6:.1f} MB")
    assert taken < 64 * MIB
    undisturbed(before, during)


def test_a_broker_that_never_answers_is_given_up_by_the_stall_limit(impatient, silent_sink):
    ends = Ends(impatient)
    impatient.forget_peak_memory()
    memory = impatient.memory()
    with crowd(impatient.workload, silent_sink, 3) as many:
        many.do("flood", bytes=TINY.hex(), seconds=4)
        assert many.do("ended", wait=10)["open"] == 0
    lines = ends.wait_for("stalled", 3)
    assert sum("the broker owes 4096 answers and gave none for too long" in line for line in lines) == 3
    assert impatient.peak_memory() - memory < 32 * MIB


# Consumers that do not read.

@pytest.fixture(scope="module")
def long_topic(broker, agent, shop):
    """55 records of 0.95 MB on a sealed topic."""
    name = "user-long"
    done = Application(broker, shop).kcat_produce(name, [click("long", number, text="x" * 950_000) for number in range(55)])
    assert done.returncode == 0, done.stderr
    return name


def fetch_all(name):
    """A Fetch request, version 4, that asks for all there is, which is more than a broker gives at once."""
    body = b"\xff\xff\xff\xff" + (500).to_bytes(4, "big") + (1).to_bytes(4, "big") + (100 * MIB).to_bytes(4, "big") + b"\0"
    body += (1).to_bytes(4, "big") + wire.string(name) + (1).to_bytes(4, "big") + bytes(4) + bytes(8) + (100 * MIB).to_bytes(4, "big")
    return wire.frame(wire.FETCH, wire.FETCH_VERSION, body)


def test_a_consumer_that_stops_in_the_middle_of_50_mib_holds_up_nobody_and_may_go_on(agent, broker, shop, long_topic, beside):
    before, ends = beside.seconds(), Ends(agent)
    agent.forget_peak_memory()
    memory = agent.memory()
    with crowd(shop, broker.bootstrap) as one:
        one.do("send", bytes=fetch_all(long_topic).hex())
        assert one.do("read", bytes=MIB) == {"read": MIB, "ended": False}
        undisturbed(before, beside.seconds())
        # The response as it came, what it became, and as much again for both being parsed.
        assert agent.peak_memory() - memory < 200 * MIB
        rest = one.do("read", bytes=48 * MIB)
        assert rest == {"read": 48 * MIB, "ended": False}
    ends.wait_for("served")


def test_a_consumer_that_does_not_go_on_is_ended_by_the_stall_limit(impatient, agent, broker, long_topic, beside):
    before, ends = beside.seconds(), Ends(impatient)
    impatient.forget_peak_memory()
    memory = impatient.memory()
    with crowd(impatient.workload, broker.bootstrap) as one:
        one.do("send", bytes=fetch_all(long_topic).hex())
        assert one.do("read", bytes=MIB) == {"read": MIB, "ended": False}
        line, = ends.wait_for("stalled")
        assert re.search(r'connection.closed id=\d+ client=.* reason="agent: a message stood still for too long"', line), line
        assert one.do("ended", wait=10)["reset"] == 1
    undisturbed(before, beside.seconds())
    assert impatient.peak_memory() - memory < 200 * MIB


def test_many_consumers_that_stop_are_ended_when_others_need_their_memory(site, broker, sink, agent, long_topic):
    """The agent has room for frames that are longer than a buffer, but for few of them at a time."""
    limits = {"totalMemory": "256MiB", "responseSize": "64MiB", "requestSize": "64MiB", "stallTimeout": "20s"}
    with another(site, broker, sink, agent, "crowded", **limits) as crowded, crowd(crowded.workload, broker.bootstrap, 8) as some:
        ends = Ends(crowded)
        some.do("send", bytes=fetch_all(long_topic).hex())
        waiting.wait_until("the memory to be used up", lambda: crowded.memory() > 150 * MIB, 30)
        assert len(Application(broker, crowded.workload).kcat_consume(long_topic)) == 55
        assert crowded.peak_memory() < 800 * MIB
        waiting.wait_until("those that stand still to be ended", lambda: ends.counted("stalled") > 0, 20)
        assert ends.counted("stalled") <= 8
        assert any("others waited for the memory it took" in line for line in ends.lines())


# Descriptors.

def test_without_descriptors_connections_are_reset_and_served_again_when_there_are_some(impatient, sink):
    """As when something else in the agent had taken them. What the listener does then: tests/unit/io/listener_test.cc."""
    ends, limits = Ends(impatient), resource.prlimit(impatient.pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(impatient.pid, resource.RLIMIT_NOFILE, (10, limits[1]))
        with crowd(impatient.workload, sink, 5, some_fail=True) as some:  # A reset may be seen by the connect.
            assert some.do("ended", wait=10)["open"] == 0
        waiting.wait_until("the agent to say so", lambda: len(ends.lines()) >= 5, 10)
    finally:
        resource.prlimit(impatient.pid, resource.RLIMIT_NOFILE, limits)
    said = re.compile(r"connection.rejected id=\d+ client=[0-9.]+:\d+ .* reason=.*Too many open files")
    assert all(said.search(line) for line in ends.lines()), ends.lines()
    with crowd(impatient.workload, sink, 5) as late:
        late.do("send", bytes=request(1).hex())
        assert late.do("answers") == {"answered": 5}


def test_no_more_connections_are_taken_than_there_are_descriptors_for(site, broker, sink, agent, monkeypatch):
    """`limits.connections` says 10,000."""
    wrapper = site.folder / "kveil-with-few-descriptors"
    wrapper.write_text('#!/bin/sh\nulimit -n 400 && exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource -- '
                       f'{places.program()} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("KVEIL_PROGRAM", str(wrapper))
    with another(site, broker, sink, agent, "few") as few:
        few.wait_for_log(r'limits.lowered connections=72 configured=10000 reason="RLIMIT_NOFILE is 400', 0)
        ends = Ends(few)
        with crowd(few.workload, sink, 100, some_fail=True) as many:  # A reset may be seen by the connect.
            many.do("send", bytes=request(1).hex())
            answered = many.do("answers")["answered"]
            assert answered == 58, "one workload's share of 72"
            lines = ends.wait_for("limit", 100 - answered)
            said = re.compile(r'connection.rejected id=\d+ client=[0-9.]+:\d+ broker=\S+ workload=\S*few reason="this workload has 58 connections, its share of limits.connections \(72\)"')
            assert sum(said.search(line) is not None for line in lines) == 100 - answered
            assert few.status()["problems"] == []


# Refusals of a part.

def test_a_request_of_which_one_partition_is_refused_passes_in_the_others(app, outside, broker, topic):
    name = topic("user")
    app.create_topic(name, 3)
    good = [wire.batch([(None, click("mixed", partition), [])]) for partition in range(3)]
    batches = [good[0], wire.batch([(None, b"no JSON: secret", [])]), good[2]]
    body = wire.string(None) + (-1).to_bytes(2, "big", signed=True) + (10_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + wire.string(name)
    body += (3).to_bytes(4, "big") + b"".join(
        partition.to_bytes(4, "big") + len(batch).to_bytes(4, "big") + batch for partition, batch in enumerate(batches))
    with app.raw() as connection:
        answer = exchange_when_led(connection, wire.frame(wire.PRODUCE, wire.PRODUCE_VERSION, body),
                                   lambda answer: NOT_LEADER in produce_errors(answer, name).values())
    assert produce_errors(answer, name) == {0: 0, 1: INVALID_RECORD, 2: 0}
    assert sorted(app.kcat_consume(name)) == [click("mixed", 0), click("mixed", 2)]


def produce_errors(answer, name):
    """The error code of each partition in a Produce response of version 8 for one topic."""
    at, errors = 12 + 2 + len(name), {}
    count, at = int.from_bytes(answer[at:at + 4], "big"), at + 4
    for _ in range(count):
        errors[int.from_bytes(answer[at:at + 4], "big")] = int.from_bytes(answer[at + 4:at + 6], "big")
        records, at = int.from_bytes(answer[at + 30:at + 34], "big"), at + 34
        for _ in range(records + 1):  # Each has a place and a text, the partition a text.
            at += 4 if _ < records else 0
            size = int.from_bytes(answer[at:at + 2], "big", signed=True)
            at += 2 + max(0, size)
    return errors


def test_java_and_kcat_see_which_records_of_a_mixed_request_were_refused(app, topic):
    name = topic("user")
    app.create_topic(name, 2)
    lines = "".join(json.dumps({**json.loads(record_line(name, Message(None, value))), "partition": partition}) + "\n"
                    for partition, value in [(0, click("java", 0)), (1, b"no JSON"), (0, click("java", 1))])
    # The wait joins both partitions into one request.
    answers = json_lines(app.run(clients.java("produce", app.broker.bootstrap, "linger.ms=500"), input=lines, timeout=90))
    assert [answer.get("error") for answer in answers] == [None, "InvalidRecordException", None]
    kcat = app.kcat_produce(name, [b"a:" + click("kcat", 0), b"d:no JSON", b"a:" + click("kcat", 1)], "-K", ":", "-X", "linger.ms=500",
                            "-X", "partitioner=consistent", "-v")  # CRC-32: not the same for both.
    assert kcat.stderr.count(b"Delivery failed for message: Broker: Broker failed to validate record") == 1, kcat.stderr
    assert sorted(app.kcat_consume(name)) == sorted(click(client, number) for client in ("java", "kcat") for number in range(2))
