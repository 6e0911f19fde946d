"""Fetches Kafka's own tests, with what they need, through Maven once, and compiles the test beside this file; gives their
class path."""

import pathlib
import shutil
import subprocess
import sys

import kafka_jars

HERE = pathlib.Path(__file__).resolve().parent
NEWEST = {"3": "3.9.2", "4": "4.3.1"}


def class_path(version):
    """The class path of Kafka's tests of this version and those here, brokers, clients and JUnit's console launcher."""
    pom = HERE / f"kafka-{version.split('.')[0]}.xml"
    if not pom.is_file():
        raise SystemExit(f"no tests of Kafka {version}: there are {' and '.join(sorted(path.name for path in HERE.glob('kafka-*.xml')))}")
    kafka = f"{kafka_jars._made_once(f'suites-{version}', [pom], lambda to: _download(pom, version, to))}/*"
    sources = sorted(HERE.glob("*.java"))
    here = kafka_jars._made_once(f"suites-here-{version}", [pom, *sources], lambda to: kafka_jars._compile(sources, kafka, to))
    return f"{here}/clients.jar:{kafka}"


def _download(pom, version, to):
    print(f"fetching the tests of Kafka {version} through Maven (about 70 MB, once) ...", file=sys.stderr, flush=True)
    repository = to.with_suffix(".maven")
    done = subprocess.run(
        ["mvn", "--quiet", "--batch-mode", f"--file={pom}", f"-Dmaven.repo.local={repository}", f"-Dkafka.version={version}",
         "dependency:copy-dependencies", f"-DoutputDirectory={to}"],
        timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    shutil.rmtree(repository, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"mvn failed:\n{done.stdout}")
