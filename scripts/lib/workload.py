"""Network namespaces on a bridge of their own, cgroups of their own, and commands run inside both.

    with Site("demo") as site:                       # a bridge in the host's namespace, a cgroup
        shop = site.workload("shop")                 # a namespace on the bridge and a cgroup below the site's
        batch = site.workload("batch", own_namespace=False)   # the host's namespace, a cgroup of its own
        shop.run(["kcat", ...])

Every name holds the process id, so that two runs do not meet; what a killed run left behind is swept by the next one."""

import ipaddress
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import places
import waiting

PREFIX = "kveil"
BRIDGE_ADDRESS = "02:00:00:00:00:01"


class Site:
    """The place of one run: address range, bridge, cgroups, temporary folder. Its end removes all of them.

    `site.cgroup` is what the agent is to intercept; `site.elsewhere` lies beside it. `site.address` is the host's address on
    the bridge, where the broker belongs: outside both, reachable from every namespace."""

    def __init__(self, name):
        # Slices, as systemd has them above its units.
        self._root = places.cgroup_mount() / f"{PREFIX}-{name}-{os.getpid()}.slice"
        self.cgroup = self._root / "node.slice"
        self.elsewhere = self._root / "elsewhere.slice"
        self.bridge = f"kv{os.getpid()}"
        self.folder = None
        self._workloads = {}
        self._hosts = None
        self._numbers = itertools.count()

    def __enter__(self):
        sweep()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-"))
        try:
            for cgroup in (self._root, self.cgroup, self.elsewhere):
                cgroup.mkdir()
            network = _free_network()
            self._hosts = network.hosts()
            self.address = str(next(self._hosts))
            # With an address of its own: otherwise the bridge takes the lowest of its ports', and each change of it is a
            # black hole for neighbours that know the former one.
            _ip(f"link add {self.bridge} address {BRIDGE_ADDRESS} type bridge\naddr add {self.address}/{network.prefixlen} dev {self.bridge}\n"
                f"link set {self.bridge} up\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for workload in list(self._workloads.values()):
            workload.remove()
        remove_cgroup(self._root)
        _try_ip(f"link del {self.bridge}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def workload(self, name, own_namespace=True, below=None):
        """A new workload in a cgroup `below` the given one, by default site.cgroup. With own_namespace it has an address of
        its own on the bridge, otherwise it is on the host."""
        address = str(next(self._hosts)) if own_namespace else None
        return Workload(self, name, address, next(self._numbers), below or self.cgroup)

    def second_address(self):
        """Another address of the host on the bridge."""
        address = str(next(self._hosts))
        _ip(f"addr add {address}/16 dev {self.bridge}\n")
        return address

    def remember(self, workload):
        self._workloads[workload.name] = workload

    def forget(self, workload):
        self._workloads.pop(workload.name, None)


class Workload:
    """Commands started here are in the workload's cgroup and namespace, as an application on a node would be."""

    def __init__(self, site, name, address, number, below):
        self.site = site
        self.name = name
        self.address = address or site.address
        self.cgroup = below / name
        self.namespace = f"{PREFIX}{os.getpid()}-{name}" if address else None
        self._link = f"kv{os.getpid()}-{number}"
        self._resident = None
        site.remember(self)
        self.cgroup.mkdir()
        if self.namespace:
            _ip(f"netns add {self.namespace}\n"
                f"link add {self._link} type veth peer name eth0 netns {self.namespace}\n"
                f"link set {self._link} master {site.bridge} up\n")
            _ip(f"addr add {address}/16 dev eth0\nlink set eth0 up\nlink set lo up\n"
                f"route add default via {site.address}\n", self.namespace)
        # A workload is more than its current connection: this process stays, as a service's or a pod's own does.
        self._resident = self.start(["sleep", "infinity"], stdin=subprocess.DEVNULL)
        waiting.wait_until(f"the workload {name} to run", self._runs, 5, every=0.005)

    def _runs(self):
        return pathlib.Path(f"/proc/{self._resident.pid}/comm").read_text() == "sleep\n"

    def command(self, command):
        """The same command, so wrapped that it runs inside this workload."""
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "--"] if self.namespace else []
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.cgroup), *inside, *map(str, command)]

    def run(self, command, timeout=60, **options):
        """As subprocess.run, inside the workload, with text unless `text=False`. Nothing it starts outlives the timeout."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "check": False, **options}
        return subprocess.run(self.command(command), timeout=timeout, **options)

    def start(self, command, **options):
        """As subprocess.Popen, inside the workload."""
        return subprocess.Popen(self.command(command), **{"text": True, **options})

    def remove(self):
        """Ends what runs inside, then takes cgroup, link and namespace away."""
        remove_cgroup(self.cgroup)
        if self._resident:
            self._resident.wait(5)
        if self.namespace:
            _try_ip(f"link del {self._link}")
            _try_ip(f"netns del {self.namespace}")
        self.site.forget(self)


def remove_cgroup(cgroup):
    """Kills every process below `cgroup` and removes it with all its children."""
    if not cgroup.is_dir():
        return
    for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True) + [cgroup]:
        for _ in range(100):
            for pid in _processes(folder):
                _kill(pid)
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.02)


def sweep():
    """Removes what runs left behind that were killed before they could clean up."""
    for cgroup in places.cgroup_mount().glob(f"{PREFIX}-*-*.slice"):
        if _is_gone(cgroup.name.removesuffix(".slice").rsplit("-", 1)[1]):
            remove_cgroup(cgroup)
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        if name.startswith(PREFIX) and _is_gone(name[len(PREFIX):].split("-")[0]):
            _try_ip(f"netns del {name}")
    for link in os.listdir("/sys/class/net"):
        if link.startswith("kv") and _is_gone(link[2:].split("-")[0]):
            _try_ip(f"link del {link}")
    _sweep_folders()


def _sweep_folders():
    """Temporary folders, and what is mounted below them: an agent's pins go with their file system."""
    mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}-*-*"):
        if not _is_gone(folder.name.split("-")[1]):
            continue
        for mount in sorted((path for path in mounts if path.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _is_gone(pid):
    return pid.isdigit() and not os.path.exists(f"/proc/{pid}")


def _processes(cgroup):
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _free_network():
    """A /16 of 10.0.0.0/8 that no route of this machine touches."""
    routes = json.loads(subprocess.run(["ip", "-4", "-j", "route", "show", "table", "all"], stdout=subprocess.PIPE,
                                       check=True).stdout or "[]")
    taken = [ipaddress.ip_network(route["dst"], strict=False) for route in routes
             if route["dst"] not in ("default", "0.0.0.0/0")]
    for step in range(100):
        candidate = ipaddress.ip_network(f"10.{100 + (os.getpid() + step) % 100}.0.0/16")
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise RuntimeError("no /16 of 10.100.0.0-10.199.0.0 is free of routes on this machine")


def _ip(lines, namespace=None):
    """Runs lines of `ip` commands in one go."""
    command = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip: {done.stdout.strip()}")


def _try_ip(line):
    subprocess.run(["ip", *line.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
