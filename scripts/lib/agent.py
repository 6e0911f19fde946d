"""The agent: its configuration, start, readiness, stop, CPU time and memory."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request

import places
import processes
import waiting

READY_LIMIT = 30  # Seconds from start to `kveil status` exiting 0.


class Agent:
    """One agent for one site. `with Agent(site, broker, policies) as agent:` starts it and waits until it is ready.

    `policies` is a list of topic policies, the objects in a policy file's `topics`. `changes` are merged over the
    configuration, object by object. Everything the agent writes is below the site's temporary folder; its BPF pins are in
    a BPF file system mounted there, so that unmounting it takes the last pin away. `program` is another `kveil` than the
    one under test. `keys` are those of the configuration, when the agent is to share keys with others; by default it has a
    root key and a registry of its own."""

    def __init__(self, site, broker, policies, changes=None, name="agent", program=None, keys=None):
        self.folder = site.folder / name
        self.pins = self.folder / "bpf"
        self.log = self.folder / "agent.log"
        self.config_file = self.folder / "agent.json"
        self.policy_folder = self.folder / "policies"
        self.registry = self.folder / "registry.db"
        self.root_key = self.folder / "root.key"
        self.metrics_address = f"127.0.0.1:{places.free_port()}"
        self.other_program = program
        self.wrapper = []  # A command line that runs the agent's.
        self._process = None
        self._mounted = False
        self.policy_folder.mkdir(parents=True)
        self.write_policies(policies)
        self.config = _merged({
            "intercept": {
                "cgroup": str(site.cgroup),
                "targets": [{"cluster": "main", "cidr": f"{broker.address}/32", "ports": str(broker.port)}],
                "listenPort": places.free_port(),
                "pinDirectory": str(self.pins / "kveil"),
            },
            "keys": keys or {"root": {"file": str(self.root_key)}, "registry": {"sqlite": str(self.registry)}},
            "policies": str(self.policy_folder),
            "admin": {"socket": str(self.folder / "admin.sock"), "metrics": self.metrics_address},
            "audit": {"folder": str(self.folder / "audit")},  # One agent's alone, also where agents share a registry.
        }, changes or {})
        self.write_config()

    @property
    def program(self):
        return self.other_program or places.program()

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def __enter__(self):
        try:
            self.mount_pins()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def write_config(self):
        self.config_file.write_text(json.dumps(self.config, indent=2), encoding="utf-8")

    def write_policies(self, topics, file="topics.json"):
        """Replaces one policy file as configuration management would: written beside it, then renamed over it."""
        self.write_policy_text(json.dumps({"topics": topics}, indent=2), file)

    def write_policy_text(self, text, file="topics.json"):
        fresh = self.policy_folder.parent / f"{file}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(self.policy_folder / file)

    def mount_pins(self):
        self.pins.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "bpf", "bpf", self.pins], check=True)
        self._mounted = True

    def start(self, wait=True):
        """Starts the agent and returns when `kveil status` exits 0; raises with the end of its log when it does not."""
        if not self.program.exists():
            raise RuntimeError(f"{self.program} is not built: cmake --preset release && cmake --build --preset release")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.wrapper, self.program, "agent", "--config", self.config_file],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if wait:
            try:
                waiting.wait_until("the agent to be ready (`kveil status` exits 0)", self._ready, READY_LIMIT)
            except Exception as error:
                raise RuntimeError(f"{error}; the end of {self.log}:\n{self.last_log_lines()}") from error

    def stop(self, seconds=30):
        """SIGTERM and the orderly way out. Returns the exit status."""
        return waiting.stop(self._process, "the agent", seconds)

    def kill(self):
        """SIGKILL: what a crash looks like to everybody else."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(5)

    def wait_for_exit(self, seconds):
        """The exit status of an agent that is expected to end by itself."""
        return self._process.wait(seconds)

    def remove(self):
        """Stops the agent and takes its BPF programs away."""
        if self._process:
            self.stop()
            self._process = None
        if self._mounted:
            self.kveil("detach")
            subprocess.run(["umount", self.pins], check=False)
            self._mounted = False

    def kveil(self, *arguments, timeout=30):
        """Runs a subcommand of `kveil` against this agent; returns the completed process with text output."""
        return subprocess.run([self.program, *arguments, "--config", self.config_file], timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def erase(self, user, keyspace=None):
        return self.kveil("erase", "--user", user, *(["--keyspace", keyspace] if keyspace else []))

    def status(self):
        """What `kveil status --json` says."""
        return json.loads(self.kveil("status", "--json").stdout)

    def metrics(self):
        """What its counters and gauges say now, by name with labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def probe(self, path):
        """The HTTP status of /readyz or /healthz."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}{path}", timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def log_size(self):
        """How long its log is now, for wait_for_log."""
        return len(self.log.read_text())

    def wait_for_log(self, pattern, behind, seconds=5):
        """Waits until a line of the log matches, of those behind that size of the log, and returns it. A line may come
        after what it tells of was seen and counted."""
        def found():
            return next((line for line in self.log.read_text()[behind:].splitlines() if re.search(pattern, line)), None)
        return waiting.wait_until(f'"{pattern}" in the agent\'s log', found, seconds)

    def cpu_seconds(self):
        """User and system time of the agent so far."""
        return processes.cpu_seconds(self.pid)

    def memory(self):
        """The resident set now, in bytes."""
        return processes.memory(self.pid)

    def peak_memory(self):
        """The largest resident set so far, in bytes; since `forget_peak_memory`, if that was called."""
        return processes.peak_memory(self.pid)

    def forget_peak_memory(self):
        processes.forget_peak_memory(self.pid)

    def last_log_lines(self, count=25):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:]) if self.log.exists() else "(no log)"

    def _ready(self):
        if not self.running:
            raise RuntimeError(f"the agent ended with status {self._process.returncode} before it was ready")
        return self.kveil("status").returncode == 0


def _merged(base, changes):
    result = dict(base)
    for name, value in changes.items():
        result[name] = _merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
    return result
