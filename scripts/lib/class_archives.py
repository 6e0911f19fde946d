"""Archives of classes that the JVM has read and checked before (class data sharing): with them a broker needs two thirds
of the processor time to start, and a client half. make_class_archives.py makes them; everything works without."""

import hashlib
import os
import pathlib
import shutil

import kafka_jars
import places


def path(name):
    """Where the archive "broker" or "clients" belongs: one for each JVM and each set of jars."""
    java = pathlib.Path(shutil.which("java")).resolve()
    origin = f"{java} {os.stat(java).st_mtime_ns} {kafka_jars.clients_class_path()}"
    return places.cache() / f"classes-{name}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}.jsa"


def options(name):
    """The JVM's options that make it use the archive, or none while there is no archive."""
    archive = path(name)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
