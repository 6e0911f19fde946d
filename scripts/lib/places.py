"""Where things are: the repository, the built program, the cache, the cgroup v2 mount, a port for a server."""

import os
import pathlib
import random
import socket

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def program():
    """The `kveil` program under test. KVEIL_PROGRAM names another build than the release one."""
    return pathlib.Path(os.environ.get("KVEIL_PROGRAM", REPOSITORY / "build/release/kveil"))


def cache():
    """The folder for downloads, outside the repository. KVEIL_CACHE moves it."""
    folder = pathlib.Path(os.environ.get("KVEIL_CACHE", pathlib.Path.home() / ".cache/kveil"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cgroup_mount():
    """The mount point of the cgroup v2 hierarchy, wherever this machine has it."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return pathlib.Path(where)
    raise RuntimeError("no cgroup v2 hierarchy is mounted (no line of type cgroup2 in /proc/mounts)")


_reserved = []  # Kept open: what reserves the ports that free_port gave.


def free_port(address="0.0.0.0"):
    """A port for a server at the address: free on the host now, and given to nobody else while this process runs. It is
    below the range that the kernel gives to clients, so that a server that starts later, or again, or that listens in
    every namespace as an agent does, does not meet a client's port by chance."""
    while True:
        port = random.randint(15000, 30000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0kveil-test-port-{port}")  # Gone with the process, however that ends.
            with socket.socket() as probe:
                probe.bind((address, port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port


def require_root(what):
    """Ends the script in its first line when it does not run as root."""
    if os.geteuid() != 0:
        raise SystemExit(f"{what} needs root: it makes network namespaces and cgroups and loads BPF programs")
