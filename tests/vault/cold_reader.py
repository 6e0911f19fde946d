"""A consumer of 100,000 users' records behind an agent that has just started: how long it takes to get their keys.

The root key is at Vault's real Transit engine, the registry a PostgreSQL with `fsync`. Prints medians, and ends with 1 when the agent asks
Vault more often than it may: once per 400 users, and a few times more."""

import argparse
import pathlib
import random
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts/lib")]
import clients  # noqa: E402
import places  # noqa: E402
import waiting  # noqa: E402
import workload as workloads  # noqa: E402
from agent import Agent  # noqa: E402
from broker import Broker  # noqa: E402
from postgres import Postgres  # noqa: E402
from vault import Vault  # noqa: E402

SIZE = 200  # Bytes of a value.
MOST_CALLS_BESIDES = 20
# The agent keeps what it has besides in /var/lib/kveil. Only the agent sees that.
OWN_STATE = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", 'mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/kveil && exec "$0" "$@"']
POLICY = [{"name": "cold", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": True}]}]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    places.require_root("tests/vault/cold_reader.py")
    waiting.end_on_signals()
    with workloads.Site("cold") as site, Vault(site.folder / "vault") as vault, Postgres(settings={"fsync": "on"}) as postgres, \
            Broker(site.address, site.folder / "broker", heap="1g", jvm=[]) as broker:
        keys = {**postgres.keys("unused"), "root": vault.root_key()}
        agent = Agent(site, broker, POLICY, keys=keys)
        agent.wrapper = OWN_STATE
        with agent:
            app, outside = site.workload("app"), site.workload("outside", below=site.elsewhere)
            produce(app, broker, site.folder / "values", arguments)
            turns = [turn(agent, app, outside, broker, arguments) for _ in range(arguments.turns)]
    names = ("direct", "keys cached", "cold")
    seconds = {name: [seconds[i] for seconds, _ in turns] for i, name in enumerate(names)}
    calls = max(calls for _, calls in turns)
    print(f"{arguments.records:,} records of {SIZE} B of {arguments.users:,} users, seconds (least, largest), of {arguments.turns} turns:")
    for name in names:
        print(f"  {name:<12}{statistics.median(seconds[name]):6.2f}   ({min(seconds[name]):.2f}, {max(seconds[name]):.2f})")
    print(f"calls of Vault since the agent's start: at most {calls}")
    return 1 if calls > arguments.users / 400 + MOST_CALLS_BESIDES else 0


def produce(app, broker, values, arguments):
    """Users at random, each at least once."""
    dice = random.Random(1)
    users = list(range(arguments.users)) + [dice.randrange(arguments.users) for _ in range(arguments.records - arguments.users)]
    dice.shuffle(users)
    with open(values, "w", encoding="ascii") as file:
        for user in users:
            start = f'{{"userid": "{user}", "text": "'
            file.write(f'{start}{"x" * (SIZE - len(start) - 2)}"}}\n')
    run(app, [*clients.kcat_produce(broker.bootstrap, "cold", "-X", "linger.ms=50"), "-l", str(values)])


def turn(agent, app, outside, broker, arguments):
    """Seconds of a reader directly, with cached keys, and of the first one after a start of the agent; and how often it called Vault."""
    agent.stop()
    agent.start()
    cold = consume(app, broker, arguments)
    calls = sum(value for name, value in agent.metrics().items() if name.startswith("kveil_root_key_calls_total"))
    warm = consume(app, broker, arguments)
    return (consume(outside, broker, arguments), warm, cold), int(calls)


def consume(workload, broker, arguments):
    command = ["kcat", "-C", "-q", "-m", "30", "-b", broker.bootstrap, "-t", "cold", "-o", "beginning", "-c", str(arguments.records)]
    begun = time.monotonic()
    run(workload, ["sh", "-c", 'exec "$@" > /dev/null', "sh", *command])
    return time.monotonic() - begun


def run(workload, command):
    done = workload.run(command, timeout=180)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:5])} ... ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (waiting.TimedOut, RuntimeError, subprocess.SubprocessError) as problem:
        sys.exit(f"tests/vault/cold_reader.py: {problem}")
