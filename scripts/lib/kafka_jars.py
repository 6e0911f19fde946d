#!/usr/bin/python3
"""Fetches Kafka through Maven once, compiles the Java test clients once; gives class paths.

Run as a program it makes all ready and prints the class path of Kafka, or with --earlier-clients a line for each earlier
release: its version and the class path of its Java client. Maven is asked only when the cache does not hold what the poms
name, so that everything works offline afterwards."""

import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

import places

BROKER_POM = places.REPOSITORY / "tests/kafka/broker/pom.xml"
EARLIER_CLIENTS_POM = places.REPOSITORY / "tests/kafka/golden/pom.xml"
PEER_POM = places.REPOSITORY / "tests/kafka/peer/pom.xml"
PEER_SOURCES = places.REPOSITORY / "tests/kafka/peer"
CLIENT_SOURCES = places.REPOSITORY / "tests/kafka/clients"


def jars(version=None):
    """The folder with Kafka's jars, of the version that the pom names or of another one."""
    name = f"kafka-{version}" if version else "kafka"
    return _made_once(name, [BROKER_POM], lambda to: _download(to, version))


def class_path(version=None):
    """Kafka: broker, tools and Java client."""
    return f"{jars(version)}/*"


def earlier_clients():
    """Class paths of the Java clients of earlier releases, by version: their own classes, JSON and logging, no codecs."""
    folder = _made_once("earlier-clients", [EARLIER_CLIENTS_POM], _download_earlier_clients)
    shared = [str(jar) for pattern in ("jackson-*.jar", "slf4j-*.jar") for jar in sorted(jars().glob(pattern))]
    prefix = "kafka-clients-"
    return {jar.stem.removeprefix(prefix): ":".join([str(jar), *shared]) for jar in sorted(folder.glob(f"{prefix}*.jar"))}


def clients_class_path():
    """Kafka, and the compiled programs of tests/kafka/clients. In a jar: no class archive is made for a folder."""
    sources = sorted(CLIENT_SOURCES.glob("*.java"))
    kafka = class_path()
    return f"{_made_once('client-programs', [BROKER_POM, *sources], lambda to: _compile(sources, kafka, to))}/clients.jar:{kafka}"


def peer_class_path():
    """Kroxylicious, and the compiled program of tests/kafka/peer that starts it."""
    sources = sorted(PEER_SOURCES.glob("*.java"))
    folder = _made_once("peer", [PEER_POM, *sources], lambda to: _make_peer(sources, to))
    return f"{folder}/*"


def _made_once(name, sources, make):
    """The folder in the cache that `make` filled from `sources`; made anew when one of them changed."""
    digest = hashlib.sha256(b"".join(pathlib.Path(source).read_bytes() for source in sources)).hexdigest()[:12]
    ready = places.cache() / f"{name}-{digest}"
    if ready.is_dir():
        return ready
    with open(places.cache() / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_dir():
            unfinished = places.cache() / f"{name}-{digest}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(ready)
    return ready


def _download(to, version):
    print(f"fetching Kafka{f' {version}' if version else ''} through Maven (about 85 MB, once) ...", file=sys.stderr, flush=True)
    _maven(BROKER_POM, "dependency:copy-dependencies", to, *([f"-Dkafka.version={version}"] if version else []))


def _download_earlier_clients(to):
    print("fetching the Java clients of earlier Kafka releases through Maven (about 35 MB, once) ...", file=sys.stderr, flush=True)
    _maven(EARLIER_CLIENTS_POM, "dependency:copy", to)


def _make_peer(sources, to):
    print("fetching Kroxylicious through Maven (about 35 MB, once) ...", file=sys.stderr, flush=True)
    _maven(PEER_POM, "dependency:copy-dependencies", to)
    _compile(sources, f"{to}/*", to)


def _maven(pom, goal, to, *options):
    """Lets Maven copy what `pom` names into the folder `to`, by way of a repository of its own that is thrown away."""
    repository = to.with_suffix(".maven")
    _run(["mvn", "--quiet", "--batch-mode", f"--file={pom}", f"-Dmaven.repo.local={repository}", goal,
          f"-DoutputDirectory={to}", *options], 600)
    shutil.rmtree(repository, ignore_errors=True)


def _compile(sources, kafka, to):
    classes = to / "classes"
    _run(["javac", "-Xlint:all", "-Werror", "-Xlint:-processing", "-cp", kafka, "-d", str(classes), *map(str, sources)], 120)
    _run(["jar", "--create", f"--file={to / 'clients.jar'}", "-C", str(classes), "."], 120)


def _run(command, seconds):
    done = subprocess.run(command, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:1])} failed:\n{done.stdout}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--earlier-clients"]:
        for number, path in earlier_clients().items():
            print(number, path)
    else:
        clients_class_path()
        earlier_clients()
        print(class_path())
