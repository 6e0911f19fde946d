"""Produces topics and fetches them, as fast as it goes: speed, and the CPU of what lies between the clients and the broker.

Produce is Kafka's own producer benchmark, uncompressed, acks=all; fetch is kcat reading a topic from its beginning to its end. Speed is
what all clients together got through from the first of them to the last, without their start: see `rate`."""

import collections
import concurrent.futures
import contextlib
import random
import string
import subprocess
import time

import clients
import peer as peers
import segments

# How many records one run takes, and how many before them only warm the client up.
RECORDS = {1024: (400_000, 40_000), 100: (2_500_000, 250_000)}
BATCH_SIZE = 131072  # Bytes: as a producer has them that is set up for throughput.
BROKER = {"log.segment.delete.delay.ms": "100", "log.message.timestamp.type": "LogAppendTime"}  # Its settings: times are those of the broker.
LIMIT = 600  # Seconds for one client; 1-10 are usual.

Figure = collections.namedtuple("Figure", "speed cpu")  # MB/s; CPU seconds per GB of values, of what lies between

# A way to the broker: the workload that the clients run in, what they are told to connect to, the Agent or the Peer between, and what
# Kafka's producer and kcat are told besides.
Way = collections.namedtuple("Way", "workload bootstrap between producer_settings kcat_options", defaults=[None, (), ()])


def payloads(folder, size):
    """A file with lines of exactly `size` bytes: JSON objects with a user's id, 1 to 1,000 at random, and random letters."""
    path = folder / f"payloads-{size}"
    if not path.exists():
        dice = random.Random(size)
        lines = []
        for _ in range(2000):
            start = f'{{"userid": "{dice.randint(1, 1000)}", "text": "'
            lines.append(start + "".join(dice.choices(string.ascii_letters, k=size - len(start) - 2)) + '"}')
        path.write_text("\n".join(lines))
    return path


@contextlib.contextmanager
def topics(broker, names, partitions=1):
    """These topics are there within the block, of so many partitions each."""
    names = list(names)
    _run(clients.java("create-topic", broker.bootstrap, ",".join(names), str(partitions)))
    try:
        yield
    finally:
        _run(clients.java("delete-topic", broker.bootstrap, ",".join(names)))


def produce(broker, way, into, file, size, batch_size=BATCH_SIZE):
    """Fills each of the topics `into` from a file of `payloads`, all at once. The broker has the settings BROKER."""
    records, warmup = _share(into, size)
    settings = [batch_size, *way.producer_settings]
    cpu = _cpu_seconds(way)
    _run_all(way, [clients.performance_produce(way.bootstrap, topic, file, records, warmup, *settings) for topic in into])
    cpu = _cpu_seconds(way) - cpu
    appends = [[append for path in broker.segment_files(topic) for append in segments.appended(path)] for topic in into]
    return Figure(rate(appends, warmup) * size / 1e6, cpu / (count(into, size) * size / 1e9))


def fetch(way, topics_, size):
    """Reads each of the topics that `produce` has filled, all at once. Ends at the last record: waiting for the broker to say that there
    are no more takes half a second. kcat writes a point per record."""
    each = sum(_share(topics_, size))
    commands = [["timeout", str(LIMIT), "kcat", "-C", "-q", "-b", way.bootstrap, "-t", topic, "-o", "beginning", "-c", str(each), "-f", ".",
                 *way.kcat_options] for topic in topics_]
    cpu = _cpu_seconds(way)
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        arrivals = list(pool.map(lambda command: _arrivals(way, command, each), commands))
    cpu = _cpu_seconds(way) - cpu
    return Figure(rate(arrivals) * size / 1e6, cpu / (count(topics_, size) * size / 1e9))


def rate(progress, warmup=0):
    """Records per second of all clients together, from when the first of them is past its warm-up to the last record of the last. `progress`
    has a list for each client: milliseconds, and how many records were through by then beside those before."""
    def past_warmup(steps):
        through = 0
        for at, records in steps:
            through += records
            if through > warmup:
                return at
        raise RuntimeError(f"a client ended after {through} records, within its warm-up")
    begun = min(map(past_warmup, progress))
    ended = max(steps[-1][0] for steps in progress)
    if ended <= begun:
        raise RuntimeError("too few records to take the time of")
    return sum(records for steps in progress for at, records in steps if at > begun) / ((ended - begun) / 1e3)


def count(topics_, size):
    """How many records `produce` writes into the topics, those to warm up included."""
    return sum(_share(topics_, size)) * len(topics_)


def _arrivals(way, command, expected):
    """The progress of one kcat, which writes one byte per record, in pieces of some thousand."""
    arrived = []
    with way.workload.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False, bufsize=0) as process:
        while read := process.stdout.read(1 << 16):
            arrived.append((time.monotonic() * 1e3, len(read)))
        said = process.stderr.read().decode(errors="replace")
    through = sum(records for _, records in arrived)
    if process.returncode or through != expected:
        raise RuntimeError(f"kcat ended with status {process.returncode} after {through} of {expected} records: {said}")
    return arrived


def check_sealed(broker, topic, by):
    """A benchmark of an agent that the connections do not pass through would be worth nothing. `by` is the header that each record at the
    broker has to have, or None for none."""
    names = {name for name, _ in next(segments.records(broker.segment_files(topic)[0])).headers}
    found = names & {"kveil", peers.HEADER}
    if found != ({by} if by else set()):
        raise RuntimeError(f"the records of {topic} are sealed at the broker by {found or 'nobody'}, not by {by or 'nobody'}")


def _share(topics_, size):
    """How many records each of the topics gets, and how many before them to warm up."""
    return [count // len(topics_) for count in RECORDS[size]]


def _cpu_seconds(way):
    return way.between.cpu_seconds() if way.between else 0.0


def _run(command, run=subprocess.run):
    done = run(command, timeout=LIMIT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ... ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _run_all(way, commands):
    """Runs them beside each other in the way's workload; what each prints."""
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: _run(command, way.workload.run), commands))
