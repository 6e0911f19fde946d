"""One run of a test class: directly, or with its JVM in an intercepted cgroup."""

import collections
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import types

import disk
import reports
from agent import Agent
from certificates import Authority

# As Kafka's own build starts its tests.
OPEN = ["java.lang", "java.lang.invoke", "java.nio", "java.nio.file", "java.util", "java.util.concurrent",
        "java.util.regex", "java.util.stream"]
JAVA = ["java", "-ea", "-Xss4m", "-XX:+UseSerialGC", "-Djava.awt.headless=true",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPEN),
        "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED"]
LAUNCHER = ["org.junit.platform.console.ConsoleLauncher", "execute", "--disable-banner", "--disable-ansi-colors",
            "--details=testfeed", "--config=junit.jupiter.extensions.autodetection.enabled=true",
            "--include-classname=.*"]

# All that the JVM's brokers, controllers and clients say to each other goes to this address; see `run`.
LOCALHOST = "127.0.0.2"
# But for listeners with TLS of the tests beside this file, whose name and address these are.
TLS_NAME, TLS_ADDRESS = "brokers.test", "127.0.0.3"
EVERY_PORT = "1024-65535"
# 127.0.0.1 needs a name, too: JVMs look for one, and there is no DNS in the namespaces.
HOSTS = f"{LOCALHOST} localhost {os.uname().nodename}\n{TLS_ADDRESS} {TLS_NAME}\n127.0.0.1 loopback"
# Runs a command with these hosts, in mounts of its own. The agent stays in the host's, as its BPF file system has to.
WITH_HOSTS = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /mnt && echo "$0" > /mnt/hosts && '
              'mount --bind /mnt/hosts /etc/hosts && umount -l /mnt && exec "$@"', HOSTS]
EVERY_TOPIC = [{"pattern": ".*", "seal": {"scope": "topic"}, "read": [{"any": True}]}]

# What came of a class on one side; `metrics` and `seen` are the agent's side's alone.
Run = collections.namedtuple("Run", "outcomes ended metrics seen")


class Certificates:
    """Of one authority: what brokers with TLS show, and what the agent shows in their place."""

    def __init__(self, folder):
        self.folder = folder
        authority = Authority(folder, "suites")
        self.authority = authority.ca
        authority.issue("broker", [TLS_NAME, TLS_ADDRESS])
        self.front = authority.issue("front", [TLS_NAME, TLS_ADDRESS])
        pathlib.Path(f"{self.front}.key").chmod(0o600)


class Direct:
    """Classes run in `workload`, which no agent intercepts."""

    name = "direct"

    def __init__(self, workload, options, folder, certificates):
        self._workload, self._options, self._folder, self._certificates = workload, options, folder, certificates

    def run(self, class_name):
        """Runs the class, or the one method of it; what failed in it gets another try, that alone."""
        where = self._folder / class_name / self.name
        shutil.rmtree(where, ignore_errors=True)
        kind = "method" if "#" in class_name else "class"
        run = self._once(class_name, [f"--select-{kind}={class_name}"], where / "1")
        for number in range(2, self._options.tries + 1):
            failed = sorted({one.selector for one in run.outcomes.values() if one.state == reports.FAILED})
            if not failed:
                break
            again = self._once(class_name, [f"--select-method={class_name.split('#')[0]}#{one}" for one in failed], where / str(number))
            run = _merged(run, again)
        return run

    def _once(self, class_name, selected, where):
        where.mkdir(parents=True)
        return Run(*self._java(selected, where), {}, None)

    def _java(self, selected, where):
        scratch = where / "tmp"
        scratch.mkdir()
        command = [*WITH_HOSTS, *JAVA, f"-Xmx{self._options.heap}", f"-Djava.io.tmpdir={scratch}",
                   f"-Dkveil.suites.certificates={self._certificates.folder}", f"-Dkveil.suites.tlsName={TLS_NAME}",
                   "-cp", self._options.class_path, *LAUNCHER,
                   f"--config=junit.jupiter.execution.timeout.testable.method.default={self._options.test_limit} s",
                   f"--reports-dir={where}", *selected]
        with open(where / "output", "wb") as output:
            process = self._workload.start(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=where)
            ended = _wait(process, self._options.class_limit)
        shutil.rmtree(scratch, ignore_errors=True)
        outcomes = reports.read(where)
        return outcomes, ended or (None if outcomes else "the JVM ended without a report")


class ThroughAgent(Direct):
    """Classes run in `workload`, whose every connection goes through an agent that seals every topic."""

    name = "agent"

    def __init__(self, site, *arguments):
        super().__init__(*arguments)
        self._site = site

    def _once(self, class_name, selected, where):
        where.mkdir(parents=True)
        everything = types.SimpleNamespace(address=LOCALHOST, port=EVERY_PORT)
        name = f"agent-{len(list(self._site.folder.glob('agent-*')))}"
        kept = self._site.folder / f"kept-{name}"
        with Agent(self._site, everything, EVERY_TOPIC, self._with_tls(), name=name) as agent:
            try:
                with disk.Keeper(where / "tmp", kept):
                    outcomes, ended = self._java(selected, where)
                metrics = read_metrics(agent) if agent.running else {}
                ended = ended if agent.running else f"the agent ended; {ended or ''}"
            finally:
                with contextlib.suppress(OSError):
                    shutil.copy(agent.log, where / "agent.log")
        seen = disk.look(kept)
        if not self._options.keep_segments:
            shutil.rmtree(kept)
        return Run(outcomes, ended, metrics, seen)

    def _with_tls(self):
        """The configuration's part about listeners with TLS: the agent ends TLS of both sides."""
        shown = {"certificate": f"{self._certificates.front}.crt", "key": f"{self._certificates.front}.key"}
        return {
            "intercept": {"targets": [{"cluster": name, "cidr": f"{address}/32", "ports": EVERY_PORT}
                                      for name, address in (("main", LOCALHOST), ("tls", TLS_ADDRESS))]},
            "clusters": {"main": {}, "tls": {"tls": {"ca": str(self._certificates.authority)},
                                             "clientTls": {"terminate": {"certificates": [shown]}}}},
        }


def read_metrics(agent):
    """The agent's counters that are not 0, by name with labels."""
    return {name: value for name, value in agent.metrics().items() if value}


def _wait(process, limit):
    """None when the JVM ended by itself in time, otherwise what became of it. At the limit it says where it hangs."""
    try:
        status = process.wait(limit)
        return None if status in (0, 1) else f"the JVM ended with status {status}"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        return f"not finished after {limit} s"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def _merged(first, again):
    """What was tried again replaces what had failed; what was counted adds up."""
    outcomes = dict(first.outcomes)
    for test_id, outcome in again.outcomes.items():
        before = outcomes.get(test_id)
        if before and before.state == reports.FAILED:
            outcomes[test_id] = outcome._replace(first_failure=before.failure)
    metrics = {name: first.metrics.get(name, 0) + again.metrics.get(name, 0) for name in {**first.metrics, **again.metrics}}
    return Run(outcomes, first.ended or again.ended, metrics, first.seen and disk.together(first.seen, again.seen))
