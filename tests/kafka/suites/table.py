"""What a run found, class by class: as text, and as JSON for programs."""

import json

import reports

SEALED, OPENED = "kveil_records_sealed_total", "kveil_records_opened_total"
TLS = 'kveil_client_tls_handshakes_total{resumed="no"}'
COLUMNS = ("Kafka", "class", "tests", "direct", "agent", "differ", "sealed", "opened", "s")


class Row:
    """One class. `wrong` has a line for each thing that must not be."""

    def __init__(self, version, class_name, direct, agent, seconds, explained):
        self.version, self.class_name, self.direct, self.agent, self.seconds = version, class_name, direct, agent, seconds
        self.differences = [(one, explained.reason(version, class_name, one))
                            for one in reports.differences(direct.outcomes, agent.outcomes)]
        self.wrong = [f"{version} {line}" for line in self._wrong(explained)]

    def _wrong(self, explained):
        name = self.class_name
        if not self.direct.outcomes:
            yield f"{name}: no test ran directly"
        for side, run in (("directly", self.direct), ("through the agent", self.agent)):
            if run.ended:
                yield f"{name}, {side}: {run.ended}"
        for one, reason in self.differences:
            if not reason:
                yield f"{name}.{one.method} [{one.variant}] {one.agent} through the agent: {_first_line(one.failure)}"
        found = [one for one, _ in self.differences]
        ran = {one.method for one in self.agent.outcomes.values()}
        yield from explained.outlived(self.version, name, found, ran, self.agent.metrics)
        yield from self._not_sealed(explained)

    def _not_sealed(self, explained):
        seen = self.agent.seen
        for metric in (SEALED, OPENED, *([TLS] if self.class_name.startswith("kveil.Ssl") else [])):
            if not self.agent.metrics.get(metric) and not explained.may_be_idle(self.version, self.class_name, metric):
                yield f"{self.class_name}: {metric} is 0"
        if self.agent.metrics.get(SEALED) and not seen.sealed:
            yield f"{self.class_name}: none of the {seen.segments} log segments that were kept holds a sealed record"
        for topic, count in sorted(seen.clear_by_topic.items()):
            if not explained.may_be_clear(self.version, self.class_name, topic):
                yield f"{self.class_name}: {count} records of {topic} lie in clear text at the brokers"

    @property
    def unsteady(self):
        """Tests that passed through the agent when they were tried again."""
        return [one for one in self.agent.outcomes.values() if one.state == reports.PASSED and one.first_failure]

    def cells(self):
        passed = [reports.count(run.outcomes, reports.PASSED) for run in (self.direct, self.agent)]
        return (self.version, self.class_name, len(self.direct.outcomes), *passed, len(self.differences),
                *(int(self.agent.metrics.get(name, 0)) for name in (SEALED, OPENED)), int(self.seconds))

    def as_text(self):
        seen = self.agent.seen
        lines = ["  ".join(f"{value}" for value in self.cells()),
                 f"  on disk: {seen.segments} segments, {seen.sealed} records sealed, {sum(seen.clear_by_topic.values())} in clear "
                 f"text, {seen.unread} batches not looked into"]
        lines += [f"  differs: {one.method} [{one.variant}] {one.agent}: {reason or 'UNEXPLAINED: ' + _first_line(one.failure)}"
                  for one, reason in self.differences]
        lines += [f"  passed when tried again: {one.method} [{one.variant}]: {_first_line(one.first_failure)}" for one in self.unsteady]
        return "\n".join(lines)

    def as_json(self):
        return {
            "version": self.version, "class": self.class_name, "seconds": round(self.seconds),
            "tests": len(self.direct.outcomes),
            "direct": _sums(self.direct), "agent": _sums(self.agent),
            "differences": [{**one._asdict(), "failure": _first_line(one.failure), "reason": reason} for one, reason in self.differences],
            "passedWhenTriedAgain": [f"{one.method} [{one.variant}]" for one in self.unsteady],
            "metrics": self.agent.metrics, "disk": self.agent.seen._asdict(), "wrong": self.wrong,
        }


def write(folder, rows):
    """Leaves result.json and result.txt in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    (folder / "result.txt").write_text(as_text(rows) + "\n", encoding="utf-8")


def as_text(rows):
    """The whole table, and below it each difference with its reason."""
    cells = [COLUMNS, *(tuple(map(str, row.cells())) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) if column < 2 else text.rjust(width)
                       for column, (text, width) in enumerate(zip(line, widths))).rstrip() for line in cells]
    for row in rows:
        lines += [f"{row.version} {row.class_name}.{one.method} [{one.variant}]: {reason or 'UNEXPLAINED: ' + _first_line(one.failure)}"
                  for one, reason in row.differences]
    return "\n".join(lines)


def _sums(run):
    return {state: reports.count(run.outcomes, state) for state in (reports.PASSED, reports.FAILED, reports.SKIPPED)}


def _first_line(text):
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "(no message)")
