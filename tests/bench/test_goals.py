"""What scripts/goals makes of figures: no broker, no agent."""

import math
import pathlib
import sys
import xml.etree.ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import goals  # noqa: E402
import goals_report  # noqa: E402

PRODUCED = {path: goals.throughput("produce", 1024, 1, path, "speed") for path in ("direct", "topic")}


def run(figures, load=0.0):
    about = {"commit": "c0ffee", "turns": 3, "cores": 2, "cpu": "a CPU", "kernel": "6.1", "load": load}
    return {"about": about, "figures": figures, "memory": {}}


def produced(direct, topic):
    return {PRODUCED["direct"]: direct, PRODUCED["topic"]: topic}


def row(text, goal="produce 1 KiB, clients: 1: throughput / direct"):
    return next(line for line in text.splitlines() if goal in line)


def test_a_ratio_is_of_the_same_turn():
    figures = produced([100, 200, 50], [90, 170, 47.5])
    (result,) = goals.results(figures)
    assert (result.median, result.least, result.largest) == pytest.approx((0.9, 0.85, 0.95))


def test_a_turn_that_lacks_a_figure_is_an_error():
    with pytest.raises(ValueError):
        goals.results(produced([100, 200], [90]))


@pytest.mark.parametrize("at_most, value, met", [(True, 1.5, True), (True, 1.51, False), (False, 1.5, True), (False, 1.49, False)])
def test_the_limit_itself_meets_the_goal(at_most, value, met):
    goal = goals.Goal(1, "a goal", goals.plain("figure"), 1.5, at_most=at_most)
    assert goal.result({"figure": [value]}).met == met


def test_what_is_added_is_compared_without_what_was_there():
    compared = goals.added_ratio("topic", "peer", "direct")
    assert compared({"topic": [150], "peer": [300], "direct": [100]}) == [0.25]


def test_a_share_of_what_adds_nothing_is_noise():
    compared = goals.added_ratio("topic", "peer", "direct")
    assert compared({"topic": [150, 90, 90, 150], "peer": [100, 90, 150, 90], "direct": [100] * 4}) == [math.inf] * 4


def test_noise_neither_meets_nor_misses_a_goal():
    figures = {goals.latency(1000, path, "p50"): [value] for path, value in (("topic", 90), ("peer", 150), ("direct", 100))}
    assert "| noise (noise to noise) | lost in noise |" in row(goals_report.markdown([run(figures)]), "1,000 records/s, p50 /")
    assert "p50" not in goals_report.plots(run(figures))["goals.svg"][1]


def test_the_plainest_relay_is_the_cheaper_one_of_each_turn():
    assert goals.to_least("a", ["b", "c"])({"a": [3, 3], "b": [1, 3], "c": [2, 2]}) == [3, 1.5]


def test_no_two_goals_have_the_same_name():
    names = [goal.what for goal in goals.GOALS]
    assert len(names) == len(set(names))


def test_the_table_says_what_was_met_and_what_was_not():
    assert "at least 0.90 | 0.95 (0.95 to 0.95) | met |" in row(goals_report.markdown([run(produced([100], [95]))]))
    assert "0.80 (0.80 to 0.80) | **missed** |" in row(goals_report.markdown([run(produced([100], [80]))]))


def test_two_runs_that_disagree_are_shown_as_such():
    text = goals_report.markdown([run(produced([100], [95])), run(produced([100], [80]))])
    assert "0.95 (0.95 to 0.95) | 0.80 (0.80 to 0.80) | **not in every run** |" in row(text)


def test_goals_without_figures_are_named_below_the_table():
    text = goals_report.markdown([run(produced([100], [95]))])
    assert "first connection after the agent's start" in row(text, "Not measured: ")
    assert "produce 1 KiB, clients: 1: throughput" not in row(text, "Not measured: ")


def test_a_busy_machine_is_named():
    assert "others used the machine" in goals_report.markdown([run({}, load=3.2)])
    assert "others used the machine" not in goals_report.markdown([run({}, load=0.2)])


def test_only_the_section_of_the_document_is_replaced():
    document = f"before\n{goals_report.BEGIN}\nold\n{goals_report.END}\nafter\n"
    once = goals_report.rewritten(document, "new\n")
    assert once == f"before\n{goals_report.BEGIN}\n\nnew\n\n{goals_report.END}\nafter\n"
    assert goals_report.rewritten(once, "new\n") == once
    with pytest.raises(RuntimeError):
        goals_report.rewritten("no marks", "new\n")


def test_bars_show_how_much_of_the_goal_a_figure_takes():
    for topic, shown, colour in ((45, ">2<", "#c0392b"), (100, ">0.90<", "#2e7d4f")):  # Of a throughput of at least 0.9.
        picture = goals_report.plots(run(produced([100], [topic])))["goals.svg"][1]
        texts = [element.text for element in xml.etree.ElementTree.fromstring(picture).iter() if element.text]
        assert any("produce 1 KiB" in text for text in texts)
        assert shown in picture and colour in picture
