"""Packets that get lost on their way to what runs inside of a workload's namespace, and back."""

import contextlib


@contextlib.contextmanager
def losing(workload, port, share):
    """That share of the packets to and from its TCP port, both ways; 1 is all of them. Connections stay."""
    chance = [] if share == 1 else ["-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}"]
    rules = [[chain, "-p", "tcp", side, str(port), *chance, "-j", "DROP"] for chain, side in (("INPUT", "--dport"), ("OUTPUT", "--sport"))]
    for rule in rules:
        _iptables(workload, "-A", rule)
    try:
        yield
    finally:
        for rule in rules:
            _iptables(workload, "-D", rule)


def _iptables(workload, what, rule):
    done = workload.run(["iptables", "-w", "10", what, *rule])
    if done.returncode:
        raise RuntimeError(f"iptables: {done.stderr.strip()}")
