"""The goals for speed, and what comes of the figures that scripts/goals has taken: arithmetic alone.

Figures are lists by name, one number a turn: {"produce/1024/1/topic/speed": [203.1, 198.7, ...]}. `throughput(...)` and the other
functions below give the names. A goal's formula makes one number a turn of them, as what is compared was measured in the same turn."""

import dataclasses
import math
import statistics
import typing

PRODUCE_AND_FETCH = ("produce", "fetch")
SIZES = (1024, 100)
RATES = (1_000, 20_000)
USERS = (1, 10, 1_000, 100_000)
FRAMES = {  # As relay_bench names them.
    "200B_w1_c1": "200 B, one at a time",
    "16KiB_w5_c1": "16 KiB",
    "128KiB_w5_c1": "128 KiB",
    "128KiB_w5_c8": "128 KiB, 8 connections",
    "16KiB_w5_c32": "16 KiB, 32 connections",
}


def throughput(what, size, clients, path, quantity):
    """`what` is produce or fetch; `quantity` is speed, in MB/s, or cpu, in seconds per GB."""
    return f"{what}/{size}/{clients}/{path}/{quantity}"


def latency(rate, path, quantile):
    """Microseconds from when a record was due to its acknowledgement."""
    return f"latency/{rate}/{path}/{quantile}"


def ping(path, quantile):
    """Microseconds of a round trip."""
    return f"ping/{path}/{quantile}"


def sealing(what, users):
    """Nanoseconds per record, in process: `what` is Seal or Open; `users` of a batch are "topic", a number, or "one" in each batch."""
    return f"sealing/{what}/{users}"


def relay(way, frames):
    """CPU seconds per GB of a relay in process; `way` as in relay_bench."""
    return f"relay/{way}/{frames}"


def crowd(quantity, which):
    """`quantity` is speed, in MB/s, or memory, in bytes; `which` is few, active or many connections."""
    return f"crowd/{quantity}/{which}"


def codec(what, name):
    """How often the CPU of the codec alone; `what` is seal or open."""
    return f"codec/{what}/{name}"


MANY = 10_000  # Connections.
CROWD = "crowd/connections"  # How many they were: MANY, unless the machine has no descriptors for so many.
FIRST_CONNECTION = "first"  # Milliseconds from connecting to the first answer, after the agent is ready.

LEAST_TURNS = 3  # With fewer, a spread says nothing.
MET, MISSED, UNDECIDED = "met", "**missed**", "within the spread"
TOO_FEW, NOT_MEASURABLE, NOISE, INCOMPLETE = "too few turns", "not measurable", "noise", "**incomplete**"
FEWER = f"not with {MANY:,}"


@dataclasses.dataclass(frozen=True)
class Goal:
    """`limit` is the largest figure that meets it, or the smallest if not `at_most`. `formula` takes the figures of all names, and gives one
    value a turn. A median that is not `plausible` is noise: nothing between is faster than without it."""
    number: int
    what: str
    formula: typing.Callable
    limit: float
    unit: str = ""
    at_most: bool = True
    plausible: tuple = (-math.inf, math.inf)
    of_many: bool = False  # Not met with fewer connections than MANY.

    @property
    def text(self):
        return f"{'at most' if self.at_most else 'at least'} {shown(self.limit)}{self.unit and ' ' + self.unit}"

    def result(self, figures, turns):
        """The Result of a run of so many turns, or None when a figure that it takes was not measured."""
        try:
            values = self.formula(figures)
        except KeyError:
            return None
        return Result(self, values, turns, self.of_many and min(figures.get(CROWD, [0])) < MANY)

    def is_met_by(self, value):
        return value <= self.limit if self.at_most else value >= self.limit


@dataclasses.dataclass(frozen=True)
class Result:
    """`values` has one for each turn that did not fail, None where noise is larger than what was to be measured; `turns` is how many
    turns there were to be."""
    goal: Goal
    values: list
    turns: int
    is_of_too_few: bool = False

    @property
    def measured(self):
        return [value for value in self.values if value is not None]

    @property
    def median(self):
        return statistics.median(self.measured)

    @property
    def least(self):
        return min(self.measured)

    @property
    def largest(self):
        return max(self.measured)

    @property
    def verdict(self):
        """MET only if the worst turn meets the goal, MISSED only if the best one does not."""
        if len(self.values) < self.turns:
            return INCOMPLETE
        if self.turns < LEAST_TURNS:
            return TOO_FEW
        if len(self.measured) < self.turns:
            return NOT_MEASURABLE
        if not self.goal.plausible[0] <= self.median <= self.goal.plausible[1]:
            return NOISE
        met = {self.goal.is_met_by(value) for value in self.measured}
        return UNDECIDED if len(met) > 1 else MISSED if True not in met else FEWER if self.is_of_too_few else MET

    @property
    def text(self):
        of = f", {len(self.measured)} of {self.turns} turns" if len(self.measured) < self.turns else ""
        return (f"{shown(self.median)} ({shown(self.least)} to {shown(self.largest)})" if self.measured else "no figure") + of


def shown(value):
    """Two digits behind the point for what is small, none for what is large."""
    return f"{value:,.0f}" if abs(value) >= 20 or value == round(value) else f"{value:.2f}"


def ratio(above, below):
    return lambda figures: [divided(a, b) for a, b in zip(figures[above], figures[below], strict=True)]


def difference(larger, smaller):
    return lambda figures: [added(a, b) for a, b in zip(figures[larger], figures[smaller], strict=True)]


def added_ratio(one, other, without):
    """What `one` adds to `without`, as a share of what `other` adds."""
    return lambda figures: [divided(added(a, c), added(b, c)) for a, b, c in zip(figures[one], figures[other], figures[without], strict=True)]


def to_least(name, others):
    """How often the least of the others."""
    return lambda figures: [divided(a, min(rest)) for a, *rest in zip(figures[name], *(figures[other] for other in others), strict=True)]


def plain(name, divisor=1):
    return lambda figures: [value / divisor for value in figures[name]]


def added(with_it, without):
    """None when nothing was added, or less than nothing: then noise is larger than what was to be measured."""
    return with_it - without if with_it > without else None


def divided(above, below):
    """None when one of the two is."""
    return None if above is None or not below else above / below


def results(figures, turns):
    """Of all goals for which there are figures, in order."""
    return [result for result in (goal.result(figures, turns) for goal in GOALS) if result]


def size_name(size):
    return "1 KiB" if size == 1024 else f"{size} B"


def _people(users):
    return "1 user" if users == 1 else f"{users:,} users"


def _goals():
    both = [(what, size) for what in PRODUCE_AND_FETCH for size in SIZES]
    for users in (*USERS, "one"):
        for what in ("Seal", "Open"):
            who = "a user for each batch" if users == "one" else _people(users)
            yield Goal(1, f"{what.lower()} 100 B, {who}, in process: CPU of user scope / topic scope",
                       ratio(sealing(what, users), sealing(what, "topic")), 1.5)
    for what, size in both:
        yield Goal(1, f"{what} {size_name(size)}, 1,000 users: the agent's CPU, user scope / topic scope",
                   ratio(throughput(what, size, 1, "user", "cpu"), throughput(what, size, 1, "topic", "cpu")), 1.5, plausible=(0.95, math.inf))

    for what in PRODUCE_AND_FETCH:
        yield Goal(2, f"{what} 100 B: the agent's CPU", plain(throughput(what, 100, 1, "topic", "cpu")), 1.4, "s/GB")
    for what in PRODUCE_AND_FETCH:
        yield Goal(2, f"{what} 1 KiB: the agent's CPU above forwarding",
                   difference(throughput(what, 1024, 1, "topic", "cpu"), throughput(what, 1024, 1, "forwarded", "cpu")), 0.3, "s/GB")
    for what, size in both:
        yield Goal(2, f"{what} {size_name(size)}, forwarded: CPU / Kroxylicious' without its filter",
                   ratio(throughput(what, size, 1, "forwarded", "cpu"), throughput(what, size, 1, "unsealed-peer", "cpu")), 0.5)
    for frames, name in FRAMES.items():
        yield Goal(2, f"forwarding frames of {name}, in process: CPU / that of the plainest relay",
                   to_least(relay("Proxy", frames), [relay("Relay", frames), relay("Epoll", frames)]), 1.5)

    for clients, share in ((1, 1 / 6), (8, 1 / 10)):
        for what, size in both:
            yield Goal(3, f"{what} {size_name(size)}, clients: {clients}: CPU / Kroxylicious'",
                       ratio(throughput(what, size, clients, "topic", "cpu"), throughput(what, size, clients, "peer", "cpu")), share)
    for rate in RATES:
        for quantile in ("p50", "p99"):
            yield Goal(3, f"added latency at {rate:,} records/s, {quantile} / Kroxylicious'",
                       added_ratio(*(latency(rate, path, quantile) for path in ("topic", "peer", "direct"))), 0.5)

    limits = {("produce", 1024): 0.9, ("produce", 100): 0.85, ("fetch", 1024): 0.85, ("fetch", 100): 0.75}
    for clients in (1, 8):
        for what, size in both:
            yield Goal(4, f"{what} {size_name(size)}, clients: {clients}: throughput / direct",
                       ratio(throughput(what, size, clients, "topic", "speed"), throughput(what, size, clients, "direct", "speed")),
                       limits[what, size], at_most=False, plausible=(0, 1.05))

    for quantile, limit in (("p50", 40), ("p99", 100)):
        yield Goal(5, f"added to the round trip of an unloaded produce, {quantile}", difference(ping("topic", quantile), ping("direct", quantile)),
                   limit, "µs")

    for which, others in (("few", "50, all active"), ("active", "500, all active")):
        yield Goal(6, f"many connections, 500 of them active: throughput / that of {others}",
                   ratio(crowd("speed", "many"), crowd("speed", which)), 0.9, at_most=False, of_many=True)
    yield Goal(6, "many connections, 500 of them active: the agent's memory", plain(crowd("memory", "many"), 1e6), 400, "MB", of_many=True)
    yield Goal(6, "first connection after the agent is ready", plain(FIRST_CONNECTION), 50, "ms")

    for name in ("lz4", "zstd"):
        for what in ("seal", "open"):
            yield Goal(7, f"{what} {name} batches: CPU / that of the codec alone", plain(codec(what, name)), 1.5)


GOALS = list(_goals())
