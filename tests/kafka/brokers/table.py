"""The table in docs/kafka-compatibility.md, between two markers: a row a check, a column a release."""

import checks
import places
from release import RELEASES

PAGE = places.REPOSITORY / "docs/kafka-compatibility.md"
BEGIN = "<!-- written by tests/kafka/brokers/run -->\n"
END = "<!-- end -->"
ABSENT = "-"


def write(release, outcome):
    """Replaces the column of a release; the others stay."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    present, after = rest.split(END)
    cells = _cells(present)
    titles = [check.title for check in (*checks.ON_ONE_BROKER, *checks.ON_A_CLUSTER)]
    for title in titles:
        cells[title, release] = ABSENT if title not in outcome else "**failed**" if outcome[title] else "passed"
    rows = [["", *RELEASES], ["--"] * (len(RELEASES) + 1)]
    rows += [[title, *(cells.get((title, column), ABSENT) for column in RELEASES)] for title in titles]
    PAGE.write_text(f"{before}{BEGIN}{''.join(_line(row) for row in rows)}{END}{after}", encoding="utf-8")


def _line(row):
    return f"| {' | '.join(row)} |\n"


def _cells(text):
    """What the table says now, by title and release."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {(row[0], release): cell for row in rows[2:] for release, cell in zip(rows[0][1:], row[1:])}
