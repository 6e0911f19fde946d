"""A Debian 12 with its own systemd as process 1, in namespaces of its own.

    with Tree(packages) as tree, Machine(site, tree) as machine:
        machine.run("systemctl", "start", "kveil")

The tree is made once by debootstrap and kept in the cache; each machine has an overlay on it, which goes away with it."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess

import places
import waiting
from workload import remove_cgroup

RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
BASE = ["systemd", "systemd-sysv", "dbus", "init-system-helpers", "iproute2", "kcat", "procps"]
BOOT_LIMIT = 60  # Seconds.
MAKE_LIMIT = 900

# Runs as the first process of the new pid namespace, in the machine's cgroup, and becomes its systemd.
BOOT = r"""
set -e
root=$1
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"; done
mknod -m 666 "$root/dev/tty" c 5 0
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o nosuid,nodev tmpfs "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
cd "$root"
mkdir -p run/host
pivot_root . run/host
umount -l run/host
mount --make-rshared /
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio --inh-caps=-all -- /lib/systemd/systemd --log-target=journal < /dev/null
"""


class Tree:
    """A debootstrap tree with these packages and what they need, from the cache or made."""

    def __init__(self, packages):
        wanted = sorted({*BASE, *packages})
        self.name = f"{RELEASE}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
        self.folder = places.cache() / "systemd" / self.name
        self._wanted = wanted

    def make(self):
        """Nothing if it is there. An interrupted one is made anew."""
        if self.folder.is_dir():
            return
        unfinished = self.folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        _check(["debootstrap", "--variant=minbase", f"--include={','.join(self._wanted)}", RELEASE, unfinished, MIRROR],
               "debootstrap", MAKE_LIMIT)
        for path in (unfinished / "var/cache/apt/archives").glob("*.deb"):
            path.unlink()
        (unfinished / "etc/machine-id").write_text("")
        # Nothing here waits for a console or for the network.
        for unit in ("console-getty.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer"):
            (unfinished / "etc/systemd/system" / unit).unlink(missing_ok=True)
            (unfinished / "etc/systemd/system" / unit).symlink_to("/dev/null")
        unfinished.rename(self.folder)


class Machine:
    """A machine of a site, on its bridge. `boot` and `power_off` may be called several times: what it has written stays.
    Its end takes everything away."""

    def __init__(self, site, tree, name="machine"):
        self._workload = site.workload(name)
        self._folder = site.folder / f"{name}-disk"
        self._tree = tree
        self._starter = None
        self._init = None
        self.root = self._folder / "root"

    @property
    def address(self):
        return self._workload.address

    def __enter__(self):
        for folder in ("upper", "work", "root"):
            (self._folder / folder).mkdir(parents=True)
        try:
            self.mount()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.power_off()
        subprocess.run(["umount", "--lazy", self.root], check=False, stderr=subprocess.DEVNULL)
        self._workload.remove()

    def mount(self):
        _check(["mount", "-t", "overlay", "overlay", "-o",
                f"lowerdir={self._tree.folder},upperdir={self._folder}/upper,workdir={self._folder}/work", self.root], "mount", 10)

    def boot(self):
        """Starts systemd, and returns when it has started everything."""
        cgroup = self._workload.cgroup / "boot"
        remove_cgroup(cgroup)
        cgroup.mkdir()
        inside = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh",
                  "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "--",
                  "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=kveil-test", "sh", "-c", BOOT, "sh", str(self.root)]
        log = open(self._folder / "boot.log", "ab")  # pylint: disable=consider-using-with
        self._starter = self._workload.start(inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self._init = waiting.wait_until("systemd to be started", self._first_process, 10)
        (cgroup / "shell").mkdir()
        # The one that waits for it is no process of the machine.
        (self._workload.cgroup / "cgroup.procs").write_text(str(self._starter.pid))
        waiting.wait_until("systemd to have booted", self._has_booted, BOOT_LIMIT, every=0.2)

    def power_off(self):
        """Orderly, as `systemctl poweroff` does it."""
        if self._starter is None:
            return
        if self._init is not None and self._starter.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGRTMIN + 4)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._starter.wait(60)
        if self._starter.poll() is None:
            self._starter.kill()  # --kill-child ends the machine with it
            self._starter.wait(10)
            print("the machine did not power off within 60 s and was killed", flush=True)
        self._starter = self._init = None

    def command(self, *command):
        """The same command, so wrapped that it runs inside, in a cgroup of its own as a login's would be."""
        return ["nsenter", "--target", str(self._init), "--mount", "--root", "--pid", "--uts", "--ipc", "--net", "--cgroup",
                "--", "env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
                "DEBIAN_FRONTEND=noninteractive", "sh", "-c", 'echo $$ > /sys/fs/cgroup/shell/cgroup.procs && exec "$@"', "sh",
                *map(str, command)]

    def run(self, *command, status=0, timeout=120, text=None):
        """Runs a command as root of the machine, and returns what it wrote. `status` None: any exit status will do."""
        done = subprocess.run(self.command(*command), timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False, **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}))
        if status is not None and done.returncode != status:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with status {done.returncode}, not {status}:\n{done.stdout}")
        return done.stdout

    def write(self, path, text, mode=0o644):
        """A file of the machine's."""
        inside = self.root / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text, encoding="utf-8")
        inside.chmod(mode)

    def property(self, unit, name):
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def journal(self, unit):
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")

    def host_pid(self, pid):
        """A process of the machine as the host numbers it."""
        for path in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                numbers = next(line.split()[1:] for line in path.read_text().splitlines() if line.startswith("NSpid:"))
                if len(numbers) > 1 and numbers[-1] == str(pid) and os.stat(path.parent / "ns/pid").st_ino == self._pid_namespace():
                    return int(numbers[0])
        raise RuntimeError(f"no process {pid} in the machine")

    def boot_log(self):
        return (self._folder / "boot.log").read_text(errors="replace")

    def _pid_namespace(self):
        return os.stat(f"/proc/{self._init}/ns/pid").st_ino

    def _first_process(self):
        if self._starter.poll() is not None:
            raise RuntimeError(f"the machine ended before it had booted:\n{self.boot_log()}")
        children = pathlib.Path(f"/proc/{self._starter.pid}/task/{self._starter.pid}/children").read_text().split()
        for child in children:
            if pathlib.Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        return None

    def _has_booted(self):
        if self._starter.poll() is not None:
            raise RuntimeError(f"the machine ended before it had booted:\n{self.boot_log()}")
        said = subprocess.run(self.command("systemctl", "is-system-running"), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=20).stdout.strip()
        return said in ("running", "degraded")


def _check(command, what, limit):
    done = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=limit, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n" + "\n".join(done.stdout.splitlines()[-20:]))
