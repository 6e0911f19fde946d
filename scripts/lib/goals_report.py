"""What scripts/goals has measured, as Markdown for docs/performance.md and as SVG.

A run is {"about": {...}, "figures": {...}, "memory": {path: bytes}, "failed": [text]}; goals.py says what the figures are."""

import html
import statistics

import goals

PATHS = {"direct": "direct", "forwarded": "kveil, forwarding", "topic": "kveil, topic scope", "user": "kveil, user scope",
         "unsealed-peer": "Kroxylicious, forwarding", "peer": "Kroxylicious, topic keys"}
BEGIN, END = "<!-- scripts/goals writes what follows -->", "<!-- up to here -->"

COLOURS = {goals.MET: "#2e7d4f", goals.MISSED: "#c0392b"}
UNDECIDED = "#8a8f94"


def markdown(runs, plots=()):
    """The section, of one run or several; `plots` are the paths of pictures, from where the text lies."""
    lines = [*_about(runs), ""]
    lines += _goals_table(runs)
    for index, run in enumerate(runs):
        if run["failed"]:
            lines += ["", f"**Failed{_of_run(index, runs)}**, and not in the table:", ""]
            lines += [f"- {_one_line(failure)}" for failure in run["failed"]]
    if len(runs) > 1:
        lines += ["", "What follows is of run 1."]
    lines += ["", *(f"![{title}]({path})" for title, path in plots)]
    for quantity, unit, title in (("speed", "MB/s", "Throughput"), ("cpu", "s/GB", "CPU seconds per GB of values, of what lies between clients and broker")):
        lines += ["", *_paths_table(runs[0]["figures"], quantity, f"{title}, {unit}")]
    lines += ["", *_latency_table(runs[0]["figures"])]
    if runs[0]["memory"]:
        lines += ["", "Peak memory: " + ", ".join(f"{PATHS[path]} {size / 1e6:.0f} MB" for path, size in runs[0]["memory"].items()) + "."]
    return "\n".join(lines) + "\n"


def _of_run(index, runs):
    return f" in run {index + 1}" if len(runs) > 1 else ""


def _one_line(text):
    return text.splitlines()[0][:300]


def rewritten(text, section):
    """The document with its section between the two marks replaced."""
    before, mark, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise RuntimeError(f"the document has no lines \"{BEGIN}\" and \"{END}\"")
    return f"{before}{BEGIN}\n\n{section}\n{END}{after}"


def _about(runs):
    for index, run in enumerate(runs):
        about = run["about"]
        busy = f"; **others used the machine** before: {about['load']:.1f} programs ran on average" if about["load"] > 0.5 else ""
        if "others" in about:
            busy += f"; others, kernel threads included, used {about['others']:.2f} cores meanwhile"
        if "java" in about:
            busy += f"; Kroxylicious runs on Java {about['java']}"
        if goals.CROWD in run["figures"]:
            busy += f"; many connections are {min(run['figures'][goals.CROWD]):,}"
        name = f"Run {index + 1}: commit" if len(runs) > 1 else "Commit"
        machine = f"{about['cores']} cores ({about['cpu']}), Linux {about['kernel']}"
        yield f"{'- ' if len(runs) > 1 else ''}{name} {about['commit']}, turns: {about['turns']}, {machine}{busy}."


def _goals_table(runs):
    by_goal = {}
    for index, run in enumerate(runs):
        for result in goals.results(run["figures"], run["about"]["turns"]):
            by_goal.setdefault(result.goal, {})[index] = result
    columns = ["measured"] if len(runs) == 1 else [f"run {index + 1}" for index in range(len(runs))]
    yield f"| | | goal | {' | '.join(columns)} | |"
    yield "| --- " * (len(columns) + 4) + "|"
    for goal in goals.GOALS:
        of_runs = by_goal.get(goal)
        if of_runs:
            cells = [of_runs[index].text if index in of_runs else "" for index in range(len(runs))]
            yield f"| {goal.number} | {goal.what} | {goal.text} | {' | '.join(cells)} | {_verdict(of_runs, len(runs))} |"
    missing = sorted({goal.number for goal in goals.GOALS if goal not in by_goal})
    if missing:
        yield ""
        yield "Not measured: " + "; ".join(goal.what for goal in goals.GOALS if goal not in by_goal) + "."


def _verdict(of_runs, count):
    """What all runs say, or each."""
    verdicts = [of_runs[index].verdict if index in of_runs else "not measured" for index in range(count)]
    return verdicts[0] if len(set(verdicts)) == 1 else "; ".join(verdicts)


def _paths_table(figures, quantity, title):
    columns = [path for path in PATHS if any(goals.throughput(what, size, clients, path, quantity) in figures for what in goals.PRODUCE_AND_FETCH
                                             for size in goals.SIZES for clients in (1, 8)) and not (path == "direct" and quantity == "cpu")]
    if not columns:
        return
    yield f"| {title} | {' | '.join(PATHS[path] for path in columns)} |"
    yield "| --- " * (len(columns) + 1) + "|"
    for clients in (1, 8):
        for what in goals.PRODUCE_AND_FETCH:
            for size in goals.SIZES:
                cells = [_median(figures, goals.throughput(what, size, clients, path, quantity)) for path in columns]
                if any(cells):
                    yield f"| {what} {goals.size_name(size)}, clients: {clients} | {' | '.join(cells)} |"


def _latency_table(figures):
    rows = [(f"{rate:,} records/s", lambda path, quantile, rate=rate: goals.latency(rate, path, quantile)) for rate in goals.RATES]
    rows.append(("one record at a time", goals.ping))
    rows = [(name, [f"{_median(figures, of(path, 'p50'))} / {_median(figures, of(path, 'p99'))}" for path in ("direct", "topic", "peer")])
            for name, of in rows if of("direct", "p50") in figures]
    if not rows:
        return
    yield f"| p50 / p99, µs | {' | '.join(PATHS[path] for path in ('direct', 'topic', 'peer'))} |"
    yield "| --- " * 4 + "|"
    for name, cells in rows:
        yield f"| {name} | {' | '.join(cells)} |"


def _median(figures, name):
    return goals.shown(statistics.median(figures[name])) if figures.get(name) else ""


def plots(run):
    """Pictures by file name: a title and the SVG text."""
    of_goals = [(f"{result.goal.number}: {result.goal.what}", *_share_of_limit(result), COLOURS.get(result.verdict, UNDECIDED))
                for result in goals.results(run["figures"], run["about"]["turns"]) if result.measured]
    cpu = []
    for what in goals.PRODUCE_AND_FETCH:
        for size in goals.SIZES:
            for path, name in PATHS.items():
                values = run["figures"].get(goals.throughput(what, size, 1, path, "cpu"))
                if values and path != "direct":
                    cpu.append((f"{what} {goals.size_name(size)}: {name}", statistics.median(values), min(values), max(values), UNDECIDED))
    return {"goals.svg": ("Each figure as a share of its goal: up to 1 is met; grey without a verdict", bars(of_goals, "share of the goal", mark=1.0)),
            "goals-cpu.svg": ("CPU seconds per GB, one client", bars(cpu, "CPU seconds per GB, one client"))}


def _share_of_limit(result):
    """Median, least and largest, so that up to 1 meets the goal."""
    if result.goal.at_most:
        return [value / result.goal.limit for value in (result.median, result.least, result.largest)]
    return [result.goal.limit / max(value, 1e-9) for value in (result.median, result.largest, result.least)]


def bars(rows, unit, mark=None):
    """A horizontal bar a row (name, median, least, largest, colour), with a line from least to largest, and one across all at `mark`. What is
    too long for the picture is cut off, its number is not."""
    left, width, height, top = 560, 420, 20, 34
    largest = max([2.5 * mark] if mark else [row[3] for row in rows] or [1])
    scale = width / largest

    def x(value):
        return left + max(0.0, min(value, largest)) * scale
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 70} {top + height * len(rows) + 8}" '
             'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="20" font-weight="bold">{html.escape(unit)}</text>']
    for index, (name, median, least, most, colour) in enumerate(rows):
        y = top + height * index
        lines.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
                     f'<rect x="{left}" y="{y + 3}" width="{x(median) - left:.1f}" height="{height - 8}" fill="{colour}"/>'
                     f'<path d="M{x(least):.1f} {y + 9}H{x(most):.1f}" stroke="black" stroke-width="2"/>'
                     f'<text x="{left + width + 6}" y="{y + 13}">{goals.shown(median)}</text>')
    if mark:
        lines.append(f'<path d="M{x(mark):.1f} {top - 6}V{top + height * len(rows)}" stroke="#333" stroke-dasharray="4 3"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"
