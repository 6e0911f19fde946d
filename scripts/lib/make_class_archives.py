#!/usr/bin/python3
"""Makes the archives of class_archives.py that are missing: starts a broker and a client, each of which leaves one at its
end. Says nothing."""

import fcntl
import pathlib
import subprocess
import tempfile

import class_archives
import clients
import places
from broker import Broker

RECORD = '{"topic": "topic", "key": null, "value": "YQ==", "headers": []}\n'


def main():
    with open(places.cache() / "class-archives.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all(class_archives.path(name).exists() for name in ("broker", "clients")):
            return
        # Beside their final places, so that they can be renamed.
        with tempfile.TemporaryDirectory(dir=places.cache(), prefix="class-archives-") as folder:
            left = {name: pathlib.Path(folder) / f"{name}.jsa" for name in ("broker", "clients")}
            with Broker("127.0.0.1", f"{folder}/data", jvm=[f"-XX:ArchiveClassesAtExit={left['broker']}"]) as broker:
                run(clients.java("produce", broker.bootstrap), RECORD)
                consume, *words = clients.java("consume", broker.bootstrap, "topic")
                run([consume, f"-XX:ArchiveClassesAtExit={left['clients']}", *words], "")
            for name, archive in left.items():
                archive.rename(class_archives.path(name))


def run(command, text):
    subprocess.run(command, input=text, text=True, timeout=120, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
