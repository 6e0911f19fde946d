"""What an agent holds, in its process and in the kernel, counted before and after."""

import json
import os
import pathlib
import subprocess

# How many more are no leak: connections that clients open beside those that they had, or that have just ended.
SPARE = {"descriptors": 12, "threads": 2, "map entries": 64, "MiB of memory": 96}


def holdings(agent, cgroup):
    """Numbers by name."""
    process = pathlib.Path(f"/proc/{agent.pid}")
    pins = list((agent.pins / "kveil").iterdir())
    tables = [pin for pin in pins if pin.name.startswith("map_") and "hash" in _bpftool("map", "show", "pinned", str(pin))["type"]]
    return {
        "descriptors": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
        "MiB of memory": agent.memory() >> 20,
        "pins": len(pins),
        "programs": len(_bpftool("cgroup", "show", str(cgroup))),
        "map entries": sum(len(_bpftool("map", "dump", "pinned", str(each))) for each in tables),
    }


def grown(before, now):
    """What there is more of than before, a line each."""
    return [f"{now[name]} {name}, {before[name]} before" for name in before if now[name] > before[name] + SPARE.get(name, 0)]


def _bpftool(*arguments):
    done = subprocess.run(["bpftool", "-j", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
