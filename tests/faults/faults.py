"""What goes wrong. Each function does it to a `Place`, puts right what a supervisor or an operator would put right, and returns."""

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import time

import waiting

FULL_FOR = 3  # Seconds.


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


def broker_killed(place):
    place.broker.kill()
    time.sleep(random.uniform(0, 1))
    place.broker.start()


def broker_frozen(place):
    with frozen(place.broker.pid):
        time.sleep(random.uniform(0.5, 3))


def registry_crashed(place):
    place.registry.stop()
    time.sleep(random.uniform(0, 4))
    place.registry.start()


def registry_frozen(place):
    with frozen(*place.registry.processes()):
        time.sleep(random.uniform(0.5, 6))


def registry_without_room(place):
    """Its disk is full for a while. PostgreSQL ends when it cannot write its log; then it is started again."""
    stuffing = place.registry.folder / "stuffing"
    with contextlib.suppress(OSError):
        with open(stuffing, "wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
    time.sleep(FULL_FOR)
    stuffing.unlink()
    if not place.registry.running:
        place.registry.start()


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


def user_erased(place):
    """A user of the past, whose records all consumers have read."""
    stream = place.users
    waiting.wait_until("a user of the past", lambda: stream.read and stream.read[-1] >= 300, 60)
    user = stream.user_of(random.randrange(stream.read[-1] - 200))
    # Agents that were killed a moment ago cannot confirm, and are bound to have dropped the key within a minute.
    erased = place.agent.kveil("erase", "--user", user, "--wait", "1")
    assert erased.returncode in (0, 3), erased.stderr
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


def _inject(place, calls, error):
    """Has every third of these calls of the agent fail, for two seconds. An agent that ends is started again."""
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
    if not place.agent.running:
        place.ended.append(f"{error}")
        place.agent.start()


ALL = [agent_killed, agent_killed_while_it_starts, agent_stopped, agent_frozen, agent_refused_by_the_kernel, agent_without_memory,
       broker_killed, broker_frozen, registry_crashed, registry_frozen, registry_without_room, policies_broken, policies_reloaded,
       torn_frames, user_erased]
