"""What the brokers of a test wrote to their disks.

The tests delete their brokers' folders as soon as they end. `Keeper` gives every log segment a second name while it is
there, so that its last content can be read afterwards. `look` then counts what is sealed in it and what is not."""

import collections
import contextlib
import os
import re
import struct
import threading
import zlib

import segments

EVERY = 0.15  # Seconds between two looks. A test's brokers live for some seconds.
DEPTH = 4     # <tmpdir>/kafka-123/broker_0_data0/topic-0/00000000000000000000.log
PARTITION = re.compile(r"(?P<topic>.+)-\d+")
SEGMENT = re.compile(r"\d{20}\.log")
CALLS_OF_ZSTD = 200  # Each batch of this codec costs a process.

Seen = collections.namedtuple("Seen", "segments sealed clear_by_topic unread")


class Keeper:
    """`with Keeper(watched, kept):` keeps what appears below `watched` while the block runs."""

    def __init__(self, watched, kept):
        self._watched, self._kept = watched, kept
        self._known = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._kept.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while not self._ended.wait(EVERY):
            self._keep(self._watched, DEPTH)

    def _keep(self, folder, depth):
        with contextlib.suppress(OSError):  # Gone meanwhile.
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False) and depth and not entry.name.startswith("__"):
                    self._keep(entry.path, depth - 1)
                elif SEGMENT.fullmatch(entry.name):
                    self._link(folder, entry)

    def _link(self, folder, entry):
        partition = PARTITION.fullmatch(os.path.basename(folder))
        if not partition or entry.inode() in self._known:
            return
        os.link(entry.path, self._kept / f"{partition['topic']}@{len(self._known)}.log")
        self._known.add(entry.inode())


def look(kept):
    """Counts the records in what was kept: those with an envelope, those with a value and none, and batches that this
    reader does not understand (codecs that Python lacks, old formats)."""
    count = sealed = unread = 0
    clear = collections.Counter()
    zstd_left = CALLS_OF_ZSTD
    for path in sorted(kept.glob("*.log")):
        count += 1
        topic = path.name.rsplit("@", 1)[0]
        try:
            for batch in segments.batches(path):
                if segments.is_control(batch):
                    continue
                zstd_left -= segments.codec(batch) == "zstd"
                if segments.codec(batch) not in ("none", "gzip", "zstd") or zstd_left < 0:
                    unread += 1
                    continue
                for record in segments._records_of(path, batch):
                    if any(name == "kveil" for name, _ in record.headers):
                        sealed += 1
                    elif record.value is not None:
                        clear[topic] += 1
        except (ValueError, IndexError, struct.error, zlib.error, EOFError):
            unread += 1
    return Seen(count, sealed, dict(clear), unread)


def together(one, other):
    """What two looks saw."""
    return Seen(one.segments + other.segments, one.sealed + other.sealed,
                dict(collections.Counter(one.clear_by_topic) + collections.Counter(other.clear_by_topic)),
                one.unread + other.unread)
