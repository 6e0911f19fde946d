#!/usr/bin/python3
"""Fetches Kafka through Maven once, compiles the Java test clients once; gives class paths.

Run as a program it makes both ready and prints the class path of Kafka. Maven is asked only when the cache does not hold
what the pom names, so that everything works offline afterwards."""

import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

import places

BROKER_POM = places.REPOSITORY / "tests/kafka/broker/pom.xml"
CLIENT_SOURCES = places.REPOSITORY / "tests/kafka/clients"


def jars(version=None):
    """The folder with Kafka's jars, of the version that the pom names or of another one."""
    name = f"kafka-{version}" if version else "kafka"
    return _made_once(name, [BROKER_POM], lambda to: _download(to, version))


def class_path(version=None):
    """Kafka: broker, tools and Java client."""
    return f"{jars(version)}/*"


def clients_class_path():
    """Kafka, and the compiled programs of tests/kafka/clients."""
    sources = sorted(CLIENT_SOURCES.glob("*.java"))
    kafka = class_path()
    return f"{_made_once('clients', [BROKER_POM, *sources], lambda to: _compile(sources, kafka, to))}:{kafka}"


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
    repository = to.with_suffix(".maven")
    _run(["mvn", "--quiet", "--batch-mode", f"--file={BROKER_POM}", f"-Dmaven.repo.local={repository}",
          "dependency:copy-dependencies", f"-DoutputDirectory={to}", *([f"-Dkafka.version={version}"] if version else [])], 600)
    shutil.rmtree(repository, ignore_errors=True)


def _compile(sources, kafka, to):
    _run(["javac", "-Xlint:all", "-Werror", "-Xlint:-processing", "-cp", kafka, "-d", str(to), *map(str, sources)], 120)


def _run(command, seconds):
    done = subprocess.run(command, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:1])} failed:\n{done.stdout}")


if __name__ == "__main__":
    clients_class_path()
    print(class_path())
