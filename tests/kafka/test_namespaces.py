"""One agent, many network namespaces: each workload keeps its own address, and finds the broker at its own."""

import contextlib
import json
import os
import subprocess

import pytest

from harness import Application, Message, click, clicks

MANY = 50
ONE_SHOTS = int(os.environ.get("KVEIL_NAMESPACES", "8"))


def peers_of(broker):
    """The addresses that hold connections to the broker's port, by the broker's own socket table."""
    lines = subprocess.run(["ss", "-Htn", "state", "established", f"sport = :{broker.port}"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.splitlines()
    return {line.split()[-1].rsplit(":", 1)[0].replace("[::ffff:", "").rstrip("]") for line in lines}


def test_the_application_sees_the_brokers_address_and_its_own(app, on_host, broker):
    for application in (app, on_host):
        with application.raw() as connection:
            assert connection.greeting == ["connected", broker.address, application.workload.address]


def test_the_broker_sees_the_workloads_own_address(app, broker, topic):
    with app.producing(topic("topic")) as producer:
        producer.send(Message(None, b"x"))
        assert "offset" in producer.flush()
        assert app.workload.address in peers_of(broker)


def test_fifty_namespaces_at_once(site, broker, agent, app, topic):
    """All in one topic: everybody's records arrive, each connection comes from its workload's own address."""
    name = topic("user")
    app.create_topic(name)
    workloads = [site.workload(f"many{number}") for number in range(MANY)]
    try:
        with contextlib.ExitStack() as stack:
            for workload in workloads:
                connection = stack.enter_context(Application(broker, workload).raw())
                assert connection.greeting[:2] == ["connected", broker.address]
            running = [workload.start(["kcat", "-P", "-q", "-b", broker.bootstrap, "-t", name], stdin=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True) for workload in workloads]
            for workload, process in zip(workloads, running):
                _, errors = process.communicate(click(workload.name).decode() + "\n", timeout=60)
                assert process.returncode == 0, errors
            assert {workload.address for workload in workloads} <= peers_of(broker)
        assert sorted(app.kcat_consume(name)) == sorted(click(workload.name) for workload in workloads)
    finally:
        for workload in workloads:
            workload.remove()


def test_kcat_that_is_the_first_program_of_its_namespace_produces(site, broker, agent, app, topic):
    """It tries once, and gives up when its only bootstrap broker refuses the connection."""
    name = topic("user")
    app.create_topic(name)
    workloads = [site.workload(f"oneshot{number}") for number in range(ONE_SHOTS)]
    try:
        for workload in workloads:
            running = workload.start(["kcat", "-P", "-q", "-b", broker.bootstrap, "-t", name], stdin=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
            _, errors = running.communicate(click(workload.name).decode() + "\n", timeout=60)
            assert running.returncode == 0, errors
        assert sorted(app.kcat_consume(name)) == sorted(click(workload.name) for workload in workloads)
        held = json.loads(agent.kveil("status", "--json").stdout)["heldConnects"]
        assert held["released"] > 0
    finally:
        for workload in workloads:
            workload.remove()


def test_a_namespace_that_comes_back_is_served_again(site, broker, agent, topic):
    name = topic("topic")
    for turn in range(3):
        workload = site.workload("comesback")
        try:
            application = Application(broker, workload)
            with application.raw() as connection:
                assert connection.greeting[0] == "connected"
            assert "offset" in application.produce(name, [Message(None, b"%d" % turn)])[0]
            assert application.values(name) == [b"%d" % number for number in range(turn + 1)]
        finally:
            workload.remove()


@pytest.mark.parametrize("protected", [True, False])
def test_connections_to_anything_else_are_untouched(app, site, broker, protected):
    """UDP, and TCP to a port that is no target, go where they were sent."""
    script = ("import socket, sys\n"
              "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
              "s.connect((sys.argv[1], int(sys.argv[2])))\n"
              "print(s.getpeername()[0], s.getpeername()[1])\n")
    port = broker.port if protected else 9
    assert app.run(["/usr/bin/python3", "-c", script, broker.address, str(port)]).split() == [broker.address, str(port)]


def test_clients_in_the_hosts_namespace_are_served_by_their_cgroup(on_host, outside, topic):
    name = topic("user")
    on_host.produce(name, clicks(1, 3))
    assert on_host.values(name) == [message.value for message in clicks(1, 3)]
    assert all(b"secret" not in record.message.value for record in outside.consume(name).records)
