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


def low_port():
    """A port below the range that the kernel gives to clients, free on the host now. A server that clients find again
    after it was stopped, or an agent, which listens in every namespace, must not meet a client's port by chance."""
    while True:
        port = random.randint(15000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def require_root(what):
    """Ends the script in its first line when it does not run as root."""
    if os.geteuid() != 0:
        raise SystemExit(f"{what} needs root: it makes network namespaces and cgroups and loads BPF programs")
