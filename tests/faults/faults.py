"""What goes wrong. Each function does it to a `Place`, puts right what a supervisor or an operator would put right, and returns."""

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import time

import network
import waiting
from harness import Application
from place import full

FULL_FOR = 3  # Seconds.
CUT_OFF_FOR = 6
HOUR = 3600
JUMPS = [-365 * 24 * HOUR, -24 * HOUR, -HOUR, HOUR, 24 * HOUR, 365 * 24 * HOUR]


def agent_killed(place):
    place.agent.kill()
    place.agent.start()


def agent_killed_while_it_starts(place):
    place.agent.kill()
    for _ in range(3):
        place.agent.start(wait=False)
        time.sleep(random.uniform(0.0, 0.6))
        place.agent.kill()
    place.agent.start()


def agent_stopped(place):
    status = place.agent.stop()
    assert status == 0, f"the agent ended with status {status}"
    place.agent.start()


def agent_frozen(place):
    with frozen(place.agent.pid):
        time.sleep(random.uniform(0.5, 3))


def agent_refused_by_the_kernel(place):
    """System calls that make something fail half of the time."""
    _inject(place, "openat,socket,accept4,epoll_ctl,eventfd2,timerfd_create", "EMFILE")


def agent_without_memory(place):
    _inject(place, "mmap,mremap,mprotect", "ENOMEM")


def agent_without_room(place):
    """Its disk is full for a while, and somebody is erased meanwhile."""
    with full(place.disk):
        user_erased(place, besides=(1, 4))  # 4: done, and no receipt could be written.
        time.sleep(FULL_FOR)


def agent_clock_jumped(place):
    """There and back."""
    place.clock.shift(random.choice(JUMPS))
    time.sleep(random.uniform(0.5, 3))
    place.clock.shift(0)


def agent_started_with_a_wrong_clock(place):
    """It is put right a while after. An agent that believes no certificate of the registry ends."""
    place.may_end = True
    place.agent.stop()
    place.clock.shift(random.choice(JUMPS))
    place.agent.start(wait=False)
    time.sleep(random.uniform(0.5, 3))
    place.clock.shift(0)


def broker_killed(place):
    place.broker.kill()
    place.transactions.broker_was_killed()
    time.sleep(random.uniform(0, 1))
    place.broker.start()


def broker_frozen(place):
    with frozen(place.broker.pid):
        time.sleep(random.uniform(0.5, 3))


def broker_loses_packets(place):
    _lose_packets(place, place.broker)


def broker_cut_off(place):
    _cut_off(place, place.broker)


def registry_killed(place):
    place.registry.kill()
    time.sleep(random.uniform(0, 4))
    place.registry.start()


def agent_killed_while_the_registry_is_down(place):
    """It ends, and is started again until it finds the registry."""
    place.may_end = True
    place.registry.kill()
    _started_anew(place)
    place.registry.start()


def registry_loses_packets(place):
    _lose_packets(place, place.registry)


def registry_cut_off(place):
    _cut_off(place, place.registry)


def registry_frozen(place):
    with frozen(*place.registry.processes()):
        time.sleep(random.uniform(0.5, 6))


def registry_without_room(place):
    """Its disk is full for a while. PostgreSQL ends when it cannot write its log; then it is started again."""
    with full(place.registry.folder):
        time.sleep(FULL_FOR)
    if not place.registry.running:
        place.registry.start()


def key_service_killed(place):
    """The agent has what it needs, and looks from time to time."""
    place.key_service.stop()
    time.sleep(random.uniform(0, 4))
    place.key_service.start()


def agent_killed_while_the_key_service_is_down(place):
    """It waits for the key service, as it cannot open a key without."""
    place.key_service.stop()
    _started_anew(place)
    place.key_service.start()


def agent_killed_while_the_key_service_is_frozen(place):
    with frozen(place.key_service.pid):
        _started_anew(place)


def agent_killed_while_the_key_service_loses_packets(place):
    with network.losing(place.beyond, place.key_service.port, random.uniform(0.05, 0.5)):
        _started_anew(place)


def policies_broken(place):
    """A file with an error: those in force stay."""
    place.agent.write_policy_text('{"topics": [{"prefix": "user-", ', "more.json")
    waiting.wait_until("status to tell of the policies", lambda: any(
        problem["name"] == "policies" for problem in place.agent.status()["problems"]), 30)
    (place.agent.policy_folder / "more.json").unlink()
    waiting.wait_until("the agent to be well again", lambda: not place.agent.status()["problems"], 30)


def policies_reloaded(place):
    for number in range(5):
        place.agent.write_policies([{"name": f"unused-{number}", "seal": {"scope": "topic"}}], "more.json")
        time.sleep(0.2)
    (place.agent.policy_folder / "more.json").unlink()


def torn_frames(place, connections=20):
    """Connections that end in the middle of a request, or send what is none."""
    produce = struct.pack(">hhih", 0, 9, 1, 4) + b"torn"
    for number in range(connections):
        with place.application.raw() as connection:
            if number % 2:
                connection.send(struct.pack(">i", 1000) + produce + os.urandom(random.randrange(900)))
            else:
                connection.send(os.urandom(random.randrange(1, 200)))


def workloads_come_and_go(place, count=10):
    """Each with a network namespace and a cgroup of its own, of which the agent has not heard before."""
    versions = struct.pack(">ihhih", 12, 18, 0, 1, 2) + b"me"  # ApiVersions
    for number in range(count):
        workload = place.site.workload(f"passing{number}")
        try:
            with Application(place.broker, workload).raw() as connection:
                answer = connection.exchange(versions)
                assert answer not in ("closed", "silent"), f"{connection.greeting}, then {answer}"
        finally:
            workload.remove()


def user_erased(place, besides=()):
    """A user of the past, whose records all consumers have read."""
    stream = place.users
    waiting.wait_until("a user of the past", lambda: stream.read and stream.read[-1] >= 300, 60)
    user = stream.user_of(random.randrange(stream.read[-1] - 200))
    # Agents that were killed a moment ago cannot confirm, and are bound to have dropped the key within a minute.
    erased = place.agent.kveil("erase", "--user", user, "--wait", "1")
    assert erased.returncode in (0, 3, *besides), erased.stderr
    if erased.returncode != 1:
        place.erased.add(user)


@contextlib.contextmanager
def frozen(*processes):
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _started_anew(place):
    place.agent.kill()
    place.agent.start(wait=False)
    time.sleep(random.uniform(0.2, 3))


def _lose_packets(place, part):
    with network.losing(place.beyond, part.port, random.uniform(0.05, 0.5)):
        time.sleep(random.uniform(1, 4))


def _cut_off(place, part):
    """Its packets and those to it get lost, and connections stay."""
    with network.losing(place.beyond, part.port, 1):
        time.sleep(random.uniform(0.5, CUT_OFF_FOR))


def _inject(place, calls, error):
    """Has every third of these calls of the agent fail, for two seconds. An agent may end for want of something."""
    place.may_end = True
    strace = shutil.which("strace")
    assert strace, "strace is not installed; scripts/setup does that"
    tracer = subprocess.Popen([strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
                               f"inject={calls}:error={error}:when=2+3", "-p", str(place.agent.pid)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end and place.agent.running:
            torn_frames(place, 2)  # New connections, so that it has something to do.
    finally:
        tracer.terminate()
        tracer.wait(10)


OF_THE_REGISTRY = [registry_killed, registry_frozen, registry_without_room, registry_loses_packets, registry_cut_off,
                   agent_killed_while_the_registry_is_down]
ALL = [agent_killed, agent_killed_while_it_starts, agent_stopped, agent_frozen, agent_refused_by_the_kernel, agent_without_memory,
       agent_without_room, agent_clock_jumped, agent_started_with_a_wrong_clock, broker_killed, broker_frozen, broker_loses_packets,
       broker_cut_off, *OF_THE_REGISTRY, key_service_killed, agent_killed_while_the_key_service_is_down,
       agent_killed_while_the_key_service_is_frozen, agent_killed_while_the_key_service_loses_packets, policies_broken, policies_reloaded,
       torn_frames, workloads_come_and_go, user_erased]
