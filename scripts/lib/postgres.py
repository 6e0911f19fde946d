"""A PostgreSQL server of the distribution's packages, for agents that share a registry."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import places
import waiting

START_LIMIT = 30  # Seconds.
USER = "kveil"


class Postgres:
    """One server on `address` and a Unix socket. `with Postgres() as postgres:` starts it and waits until it answers.

    Agents reach it by `postgres.keys(root_key)`, the `keys` of a configuration. Whoever can reach the port gets in without
    a password, so let `address` be one on loopback or inside of a namespace of the test's own. `netns` is the name of a
    network namespace to run it in. Everything it writes is below a temporary folder of its own."""

    def __init__(self, address="127.0.0.1", netns=None, settings=None):
        self.address = address
        self.netns = netns
        self.settings = settings or {}
        self.port = places.free_port()
        self.folder = None
        self._process = None

    def __enter__(self):
        try:
            self.make()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    @property
    def data(self):
        return self.folder / "data"

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def processes(self):
        """Those of the server, the first of which started the others."""
        children = pathlib.Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

    def connection_string(self, database=USER):
        return f"host={self.address} port={self.port} dbname={database} user={USER} sslmode=disable"

    def keys(self, root_key, database=USER):
        """The `keys` of an agent's configuration: this registry, and the root key that all its agents have."""
        return {"root": {"file": str(root_key)}, "registry": {"postgres": self.connection_string(database)}}

    def make(self):
        """Makes the server's files: a database user and a database, both named kveil."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kveil-postgres-"))
        user = pwd.getpwnam(unprivileged_user())
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run(_program("initdb"), "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8",
                  "--no-locale", f"--pgdata={self.data}")
        settings = {"listen_addresses": self.address, "port": self.port, "unix_socket_directories": self.folder,
                    "fsync": "off", **self.settings}
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with open(self.data / "pg_hba.conf", "w", encoding="utf-8") as file:
            file.write("local all all trust\nhost all all all trust\n")

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([*self._prefix(), _program("postgres"), "-D", self.data],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        waiting.wait_until("PostgreSQL to answer", self._answers, START_LIMIT)
        if not self.query(f"SELECT 1 FROM pg_database WHERE datname = '{USER}'", "postgres"):
            self.query(f"CREATE DATABASE {USER}", "postgres")

    def stop(self):
        """At once, as in a crash. What was committed is there when it is started again."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)
        self._process = None

    def kill(self):
        """SIGKILL of all its processes."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(20)
        self._process = None

    def remove(self):
        if self._process:
            self.stop()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def query(self, sql, database=USER):
        """The rows that a statement returns, each a list of texts. By the Unix socket, also into a namespace."""
        done = subprocess.run(
            ["psql", "-X", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port), "-U",
             USER, "-d", database, "-c", sql], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"PostgreSQL: {done.stderr.strip()}; {sql}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def _answers(self):
        if self._process.poll() is not None:
            log = (self.folder / "log").read_text(errors="replace").splitlines()[-15:]
            raise RuntimeError("PostgreSQL ended before it answered:\n" + "\n".join(log))
        return subprocess.run([_program("pg_isready"), "-q", "-h", self.folder, "-p", str(self.port)],
                              check=False).returncode == 0

    def _prefix(self):
        """Unprivileged, as it refuses root; gone when the test is killed."""
        enter = ["ip", "netns", "exec", self.netns] if self.netns else []
        user = unprivileged_user()
        return [*enter, "setpriv", "--pdeathsig", "QUIT", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]

    def _run(self, *command):
        subprocess.run([*self._prefix(), *command], check=True, stdout=subprocess.DEVNULL)


def _program(name):
    """Of the newest version that is installed; they are not on the path."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(path.split("/")[4]))
    if not found:
        raise RuntimeError("PostgreSQL is not installed; scripts/setup does that")
    return found[-1]


def unprivileged_user():
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"
