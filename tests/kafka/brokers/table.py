"""The table in docs/kafka-compatibility.md, between two markers."""

import checks
import places
from release import RELEASES

PAGE = places.REPOSITORY / "docs/kafka-compatibility.md"
BEGIN = "<!-- written by tests/kafka/brokers/run -->"
END = "<!-- end -->"


def write(results):
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{_table(results)}{END}{after}", encoding="utf-8")


def _table(results):
    titles = [check.title for check in (*checks.ON_ONE_BROKER, *checks.ON_A_CLUSTER)]
    lines = [["Kafka", *RELEASES], ["--"] * (len(RELEASES) + 1)]
    lines += [[title, *(_cell(results[release], title) for release in RELEASES)] for title in titles]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(outcome, title):
    if title not in outcome:
        return "-"
    return "**failed**" if outcome[title] else "passed"
