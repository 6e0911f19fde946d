"""How the agent is operated: its capabilities, its signals, its log, and what `kveil status` says when it cannot do its work."""

import contextlib
import hmac
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import types

import pytest

import places
import waiting
import wire
from agent import Agent
from bundle_server import BundleServer
from certificates import Authority
from conftest import POLICIES, numbers

HERE = pathlib.Path(__file__).parent
PYTHON = "/usr/bin/python3"
LIST_OFFSETS = 2  # Nobody in the agent wants it.
MINIMAL = "+sys_admin,+sys_ptrace,+dac_read_search"


@contextlib.contextmanager
def run_sink(site, *manner):
    port = places.free_port(site.address)
    process = subprocess.Popen([PYTHON, HERE / "sink.py", site.address, str(port), *manner], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listens\n"
    yield types.SimpleNamespace(address=site.address, port=port)
    process.kill()
    process.wait(5)


@pytest.fixture(scope="module")
def sink(site):
    """Answers every request, which is all that these tests need of a broker."""
    with run_sink(site) as made:
        yield made


@pytest.fixture
def workload(site):
    made = site.workload(f"operated{next(numbers)}", below=site.elsewhere)
    yield made
    made.remove()


@pytest.fixture
def make_agent(site, sink, workload):
    """An agent of its own for `workload`, not started yet."""
    with contextlib.ExitStack() as stack:
        def make(broker=sink, **limits):
            agent = Agent(site, broker, POLICIES, {"intercept": {"cgroup": str(workload.cgroup)}, "limits": limits},
                          name=f"{workload.name}-agent")
            agent.mount_pins()
            stack.callback(agent.remove)
            return agent
        yield make


def problems(agent):
    """What `kveil status` says is wrong, by name; nothing while the agent does not answer yet."""
    said = agent.kveil("status", "--json").stdout
    return {problem["name"]: problem["message"] for problem in json.loads(said)["problems"]} if said else {}


def exchange(workload, sink):
    """Whether a request of the workload's is answered."""
    program = ("import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); "
               "s.sendall(bytes.fromhex(sys.argv[3])); print(len(s.recv(100)))")
    done = workload.run([PYTHON, "-c", program, sink.address, str(sink.port), wire.frame(LIST_OFFSETS, 1, b"").hex()])
    return done.stdout == "8\n"


def with_capabilities(agent, monkeypatch, capabilities):
    """The agent's program runs with nothing but these."""
    wrapper = agent.folder / "kveil-with-capabilities"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --bounding-set=-all,{capabilities} --inh-caps=-all -- {places.program()} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("KVEIL_PROGRAM", str(wrapper))


def test_three_capabilities_are_enough(make_agent, workload, sink, monkeypatch):
    agent = make_agent()
    with_capabilities(agent, monkeypatch, MINIMAL)
    agent.start()
    assert exchange(workload, sink)
    line = agent.wait_for_log("connection.closed", 0)
    assert f"workload=/{workload.cgroup.relative_to(places.cgroup_mount())}" in line, line
    status = agent.status()
    assert status["problems"] == [] and status["notes"] == [], status  # Also no "notHeld".
    assert agent.stop() == 0


@pytest.mark.parametrize("missing", MINIMAL.replace("+", "").split(","))
def test_a_missing_capability_is_named_before_anything_is_attached(make_agent, monkeypatch, missing):
    agent = make_agent()
    with_capabilities(agent, monkeypatch, ",".join(name for name in MINIMAL.split(",") if name != f"+{missing}"))
    agent.start(wait=False)
    assert agent.wait_for_exit(10) == 1
    assert f"needs CAP_{missing.upper()}, which this process does not have" in agent.log.read_text()
    assert not (agent.pins / "kveil").exists()


def test_an_agent_that_cannot_know_its_pods_is_not_ready(make_agent):
    """Its pods would be nobody to the rules that name them."""
    token = "not-a-token"
    agent = make_agent()
    (agent.folder / "token").write_text(token)
    agent.config["kubernetes"] = {"node": "node1", "apiServer": f"http://127.0.0.1:{places.free_port()}",
                                  "tokenFile": str(agent.folder / "token")}
    agent.write_config()
    agent.start(wait=False)
    problem = waiting.wait_until("the problem with the API server", lambda: problems(agent).get("pods"), 20)
    assert "the Kubernetes API server http://127.0.0.1:" in problem and token not in agent.log.read_text(), problem
    assert not agent.status()["ready"] and agent.kveil("status", "--ready").returncode == 1


def test_rules_about_pods_need_a_cluster(make_agent):
    agent = make_agent()
    agent.start()
    agent.write_policies([{"name": "t", "seal": {"scope": "topic"}, "read": [{"workload": {"namespace": "shop"}}]}])
    problem = waiting.wait_until("the problem with the rules", lambda: problems(agent).get("pods"), 20)
    assert "no section `kubernetes`" in problem
    assert agent.kveil("status", "--ready").returncode == 0


def test_a_cgroup_that_is_removed_comes_back(make_agent, workload, sink):
    agent = make_agent()
    agent.start()
    agents_own = workload.cgroup / "kveil-agent"
    for process in (agents_own / "cgroup.procs").read_text().split():  # They hold it.
        os.kill(int(process), signal.SIGKILL)
    waiting.wait_until("the cgroup to be empty", lambda: not (agents_own / "cgroup.procs").read_text().split(), 5)
    agents_own.rmdir()
    waiting.wait_until("the cgroup to be there again", agents_own.exists, 10)
    waiting.wait_until("status to be well", lambda: agent.kveil("status").returncode == 0, 10)
    assert exchange(workload, sink)


def wrong_with(agent):
    """What status says is wrong, by name, if the agent is not ready."""
    status = agent.status()
    return {} if status["ready"] else {problem["name"]: problem["message"] for problem in status["problems"]}


def bpftool(*arguments):
    done = subprocess.run(["bpftool", "-j", *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def test_a_kernel_half_that_works_no_more_is_noticed(make_agent, workload, sink):
    """All programs are attached and pinned, but know of no listener."""
    agent = make_agent()
    agent.start()
    assert exchange(workload, sink)
    listening = ["pinned", next((agent.pins / "kveil").glob("map_*_listening"))]
    entries = bpftool("map", "dump", *listening)
    for entry in entries:
        bpftool("map", "delete", *listening, "key", *entry["key"])
    waiting.wait_until("status to say so", lambda: "probe" in wrong_with(agent), 15)
    wrong = wrong_with(agent)
    assert wrong.keys() == {"probe"} and "was not redirected to the agent: Connection refused" in wrong["probe"]
    waiting.wait_until("the gauge to say so", lambda: agent.metrics()["kveil_ready"] == 0, 5)
    for entry in entries:
        bpftool("map", "update", *listening, "key", *entry["key"], "value", *entry["value"])
    waiting.wait_until("status to be well", lambda: agent.kveil("status").returncode == 0, 5)
    assert exchange(workload, sink)


def test_a_root_key_that_is_not_the_agents_is_noticed(make_agent, workload, sink):
    agent = make_agent()
    agent.start()
    own = agent.root_key.read_bytes()
    key = os.urandom(32)
    other = f"kveil root key 1\n{key.hex()} {hmac.digest(key, b'kveil root check 1', 'sha256')[:8].hex()}\n".encode()
    for content, reason in [(other, "holds another key than the one in use"),
                            (own[:-20] + bytes(20), "is damaged"), (own[:50], "is damaged")]:
        agent.root_key.write_bytes(content)
        waiting.wait_until("status to say so", lambda: wrong_with(agent).keys() == {"keyService", "keys"}, 5)
        assert reason in wrong_with(agent)["keyService"]
        assert (agent.probe("/readyz"), agent.probe("/healthz")) == (503, 200)
        agent.root_key.write_bytes(own)
        waiting.wait_until("status to be well", lambda: agent.kveil("status").returncode == 0, 5)
        assert agent.probe("/readyz") == 200
    assert exchange(workload, sink)


def test_one_process_cannot_make_the_node_unwell(make_agent, workload, sink):
    """It makes a network namespace without 127.0.0.1, for which nobody needs a privilege."""
    agent = make_agent()
    agent.start()
    hostile = workload.start(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-rn", "sh", "-c",
                              "ip link set lo up; ip addr flush dev lo; exec sleep 99"])
    try:
        def notes():
            return {note["name"]: note["message"] for note in agent.status()["notes"]}
        waiting.wait_until("the note", lambda: "127.0.0.1 is not there" in notes().get("namespaces", ""), 60)
        assert f"process {hostile.pid}:" in notes()["namespaces"]
        assert agent.status()["ready"] and agent.status()["problems"] == []
        assert agent.kveil("status").returncode == 0
        assert exchange(workload, sink)
    finally:
        hostile.kill()
        hostile.wait(5)


def test_asking_for_the_status_does_not_make_the_agent_look_at_itself_more_often(make_agent):
    agent = make_agent()
    agent.start()

    def faults_of_children():  # Each probe of its own is a child process that it waits for.
        return int(pathlib.Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()[8])
    begin, seen = time.monotonic(), [faults_of_children()]
    for _ in range(50):
        agent.status()
        seen.append(faults_of_children())
    probes = sum(before != after for before, after in zip(seen, seen[1:]))
    assert probes <= (time.monotonic() - begin) / 5 + 1


def test_descriptors_that_run_out_are_a_problem(make_agent, workload, sink):
    agent = make_agent(connections=100)
    agent.start()
    open_now = len(list(pathlib.Path(f"/proc/{agent.pid}/fd").iterdir()))
    subprocess.run(["prlimit", f"--pid={agent.pid}", f"--nofile={open_now + 8}:"], check=True)
    waiting.wait_until("status to say so", lambda: not agent.status()["ready"], 10)
    assert [problem["name"] for problem in agent.status()["problems"]] == ["descriptors"]
    subprocess.run(["prlimit", f"--pid={agent.pid}", f"--nofile={open_now + 200}:"], check=True)
    waiting.wait_until("status to be well", lambda: agent.kveil("status").returncode == 0, 10)
    assert exchange(workload, sink)


def test_older_connections_that_cannot_be_reset_are_a_problem(make_agent, workload, sink):
    """They may go on in clear text."""
    agent = make_agent()
    agent.config["intercept"]["existing"] = "reset"
    agent.write_config()
    agent.wrapper = [PYTHON, HERE / "forbid.py", "sock_diag"]
    agent.start(wait=False)
    waiting.wait_until("the agent to be ready", lambda: agent.kveil("status").stdout.startswith("kveil ") and agent.status()["ready"], 15)
    problem, = agent.status()["problems"]
    assert problem["name"] == "existing" and "could not be reset" in problem["message"]
    assert exchange(workload, sink)


def test_the_capability_to_reset_is_asked_for_before_anything_is_attached(make_agent, monkeypatch):
    agent = make_agent()
    agent.config["intercept"]["existing"] = "reset"
    agent.write_config()
    with_capabilities(agent, monkeypatch, MINIMAL)
    agent.start(wait=False)
    assert agent.wait_for_exit(10) == 1
    assert 'intercept.existing "reset" needs CAP_NET_ADMIN, which this process does not have' in agent.log.read_text()
    assert not (agent.pins / "kveil").exists()


# Makes sockets in a namespace in which no process stays, and connects them one after the other.
LOST = """
import ctypes, os, socket, sys, time
home = os.open("/proc/self/ns/net", os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x40000000) == 0
sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(100)]
assert libc.setns(home, 0x40000000) == 0
for one in sockets:
    one.connect_ex((sys.argv[1], int(sys.argv[2])))
    time.sleep(0.2)
"""


def test_a_namespace_that_is_not_found_is_told(make_agent, workload, sink):
    agent = make_agent()
    agent.start()
    lost = workload.start([PYTHON, "-c", LOST, sink.address, str(sink.port)])
    try:
        def notes():
            return {note["name"]: note["message"] for note in agent.status()["notes"]}
        waiting.wait_until("the note", lambda: "unserved" in notes(), 20, every=0.5)
        assert f"connects of process {lost.pid} are refused: its network namespace is not found" in notes()["unserved"]
        assert agent.kveil("status").returncode == 0
        assert exchange(workload, sink)
    finally:
        lost.kill()
        lost.wait(5)


# Binds every port that it may, in eight processes, as descriptors are few; then it says so.
TAKE_PORTS = """
import os, resource, signal, socket
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
done, says = os.pipe()
for share in range(8):
    if os.fork() == 0:
        kept = []
        for port in range(1024 + share * 8064, 1024 + (share + 1) * 8064):
            kept.append(socket.socket())
            kept[-1].bind(("0.0.0.0", port))
        os.write(says, b"x")
        signal.pause()
for _ in range(8):
    assert os.read(done, 1) == b"x"
print("taken", flush=True)
signal.pause()
"""


def test_a_process_that_has_taken_all_ports_does_not_keep_the_agent_from_starting(make_agent, workload, sink):
    """The agent is in a network namespace of its own here, beside that process."""
    unprivileged = 'ip link set lo up; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
    greedy = subprocess.Popen(["unshare", "-n", "sh", "-c", unprivileged, "sh", PYTHON, "-c", TAKE_PORTS], stdout=subprocess.PIPE,
                              text=True, start_new_session=True)
    try:
        assert greedy.stdout.readline() == "taken\n"
        agent = make_agent()
        agent.wrapper = ["nsenter", f"--net=/proc/{greedy.pid}/ns/net"]
        agent.start(wait=False)
        waiting.wait_until("the agent to be ready", lambda: agent.kveil("status").stdout.startswith("kveil ") and agent.status()["ready"], 15)
        assert [problem["name"] for problem in agent.status()["problems"]] == ["metrics"]
        assert exchange(workload, sink)
    finally:
        os.killpg(greedy.pid, signal.SIGKILL)
        greedy.wait(5)


def test_hangup_reads_the_configuration_anew(make_agent, workload, sink):
    agent = make_agent()
    agent.start()
    agent.config["log"] = {"level": "error"}
    agent.write_config()
    os.kill(agent.pid, signal.SIGHUP)
    before = None

    def is_silent():
        nonlocal before
        assert exchange(workload, sink)
        now, before_now = agent.log.stat().st_size, before
        before = now
        return now == before_now
    waiting.wait_until("info lines not to be written any more", is_silent, 10)
    agent.config_file.write_text("{")
    os.kill(agent.pid, signal.SIGHUP)
    waiting.wait_until("the wrong file to be refused", lambda: "agent.reloadRefused" in agent.log.read_text(), 10)
    agent.write_config()
    assert agent.running and exchange(workload, sink)


def test_policies_are_pulled_and_outlive_their_server(make_agent, site, workload, sink):
    """The agent starts without any, follows what the server has, and is killed and started again while it is gone."""
    agent = make_agent()
    authority = Authority(site.folder / "bundles", "company")
    (agent.folder / "token").write_text("s3cret")
    assert agent.kveil("policy", "keygen", agent.folder / "policies.key").returncode == 0

    def bundle(version):
        done = agent.kveil("policy", "sign", "--key", agent.folder / "policies.key", "--version", str(version), agent.policy_folder)
        assert done.returncode == 0, done.stderr
        packed = agent.kveil("policy", "pack", agent.policy_folder, agent.folder / "fleet.bundle")
        assert packed.returncode == 0, packed.stderr
        return (agent.folder / "fleet.bundle").read_bytes()

    def version():
        return agent.status()["policies"]["version"]

    with BundleServer(authority.issue("policies", ["127.0.0.1"]), "s3cret") as server:
        agent.config["policies"] = {"trustedKeys": ["policies.key.pub"], "pull": {
            "url": server.url, "ca": str(authority.ca), "tokenFile": "token", "interval": "5s"}}
        agent.write_config()
        server.answering.clear()
        agent.start(wait=False)
        waiting.wait_until("the server to be asked", lambda: server.asked, 20)
        assert exchange(workload, sink)  # Nothing was ever protected here, so nobody is cut off.
        begun = time.monotonic()
        assert agent.stop() == 1 and time.monotonic() - begun < 15
        assert "the request was ended" in agent.log.read_text() and "redirect.attached" not in agent.log.read_text()
        server.answering.set()
        server.bundle = b"not yet"
        agent.start(wait=False)
        assert agent.wait_for_exit(20) == 1
        assert "is no bundle of policies" in agent.log.read_text().splitlines()[-1]
        server.bundle = bundle(1)
        agent.start()
        assert version() == 1 and exchange(workload, sink)
        waiting.wait_until("the server to be asked whether anything has changed", lambda: server.answers.get(304), 20)
        agent.write_policies([*POLICIES, {"name": "later", "seal": {"scope": "topic"}, "read": []}])
        server.bundle = bundle(2)
        waiting.wait_until("the other policies to be in force", lambda: version() == 2, 20)
        assert server.answers[200] == 3 and agent.status()["problems"] == []
    agent.kill()
    agent.start(wait=False)
    problem = waiting.wait_until("the server to be missed", lambda: problems(agent).get("policies.pull"), 20)
    assert server.url in problem and "the policies from before stay in force" in problem, problem
    waiting.wait_until("the agent to be ready", lambda: agent.kveil("status", "--ready").returncode == 0, 20)
    assert version() == 2 and exchange(workload, sink)


def test_a_log_that_nobody_reads_stops_nobody(make_agent, workload, sink):
    agent = make_agent(drainTimeout="1s")
    os.mkfifo(agent.log)
    reader = os.open(agent.log, os.O_RDONLY | os.O_NONBLOCK)
    agent.last_log_lines = lambda *_: "(a pipe)"
    agent.start()
    port = agent.config["intercept"]["listenPort"]
    rejected = 'kveil_connections_closed_total{result="no_origin"}'
    for _ in range(3000):  # Each would be a line; they do not fit the pipe.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as straight:
            straight.settimeout(5)
            straight.recv(1)
    assert agent.metrics()[rejected] == 3000
    assert exchange(workload, sink)
    begun = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - begun < 5
    text = os.read(reader, 1 << 20).decode()
    os.close(reader)
    assert len(re.findall("connection.rejected", text)) > 100


@pytest.fixture
def silent_name_server():
    """Its address. It hears every question and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((f"127.{os.getpid() % 250 + 1}.77.1", 53))
        yield server.getsockname()[0]


def test_a_name_server_that_does_not_answer_holds_up_no_end(make_agent, site, workload, silent_name_server, monkeypatch):
    with run_sink(site, "broker.nowhere.example") as named:
        agent = make_agent(named, drainTimeout="1s")
        (agent.folder / "resolv.conf").write_text(f"nameserver {silent_name_server}\noptions timeout:5 attempts:2\n")
        elsewhere = f"mount --bind {agent.folder}/resolv.conf /etc/resolv.conf && exec"
        wrapper = agent.folder / "kveil-elsewhere"
        wrapper.write_text(f"#!/bin/sh\nexec unshare -m sh -c '{elsewhere} {places.program()} \"$@\"' sh \"$@\"\n")
        wrapper.chmod(0o755)
        monkeypatch.setenv("KVEIL_PROGRAM", str(wrapper))
        agent.start()
        program = ("import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); "
                   "s.sendall(bytes.fromhex(sys.argv[3])); print('asked', flush=True); s.recv(100)")
        metadata = wire.frame(3, 1, (0).to_bytes(4, "big"))
        asking = workload.start(["unshare", "-m", "sh", "-c", f'{elsewhere} "$@"', "sh", PYTHON, "-c", program, named.address,
                                 str(named.port), metadata.hex()], stdout=subprocess.PIPE, text=True)
        try:
            assert asking.stdout.readline() == "asked\n"
            time.sleep(0.5)  # The answer has come, and the name is being looked for.
            assert asking.poll() is None, "the agent waits for the name server"
            begun = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - begun < 4
        finally:
            asking.kill()
            asking.wait(5)
