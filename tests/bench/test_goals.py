"""What scripts/goals makes of figures: no broker, no agent."""

import pathlib
import sys
import xml.etree.ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import goals  # noqa: E402
import goals_report  # noqa: E402
import segments  # noqa: E402
import throughput  # noqa: E402

PRODUCED = {path: goals.throughput("produce", 1024, 1, path, "speed") for path in ("direct", "topic")}


def run(figures, load=0.0, turns=3, failed=()):
    about = {"commit": "c0ffee", "turns": turns, "cores": 2, "cpu": "a CPU", "kernel": "6.1", "load": load}
    return {"about": about, "figures": figures, "memory": {}, "failed": list(failed)}


def verdict(*values, turns=None, **goal):
    made = goals.Goal(1, "a goal", goals.plain("figure") if None not in values else lambda _: list(values), 1.5, **goal)
    return made.result({"figure": list(values)}, turns or len(values)).verdict


def produced(direct, topic):
    return {PRODUCED["direct"]: direct, PRODUCED["topic"]: topic}


def row(text, goal="produce 1 KiB, clients: 1: throughput / direct"):
    return next(line for line in text.splitlines() if goal in line)


def test_a_ratio_is_of_the_same_turn():
    figures = produced([100, 200, 50], [90, 170, 47.5])
    (result,) = goals.results(figures, 3)
    assert (result.median, result.least, result.largest) == pytest.approx((0.9, 0.85, 0.95))


def test_a_turn_that_lacks_a_figure_is_an_error():
    with pytest.raises(ValueError):
        goals.results(produced([100, 200], [90]), 2)


@pytest.mark.parametrize("at_most, value, said",
                         [(True, 1.5, goals.MET), (True, 1.51, goals.MISSED), (False, 1.5, goals.MET), (False, 1.49, goals.MISSED)])
def test_the_limit_itself_meets_the_goal(at_most, value, said):
    assert verdict(value, value, value, at_most=at_most) == said


def test_only_what_every_turn_says_is_a_verdict():
    assert verdict(1.2, 1.3, 1.5) == goals.MET
    assert verdict(1.2, 1.3, 1.6) == verdict(1.4, 1.6, 1.7) == goals.UNDECIDED
    assert verdict(1.6, 1.7, 1.8) == goals.MISSED


def test_two_turns_are_too_few_for_a_verdict():
    assert verdict(1, 1) == goals.TOO_FEW


def test_a_failed_turn_leaves_the_goal_without_a_verdict():
    assert verdict(1, 1, 1, turns=4) == goals.INCOMPLETE


def test_one_turn_of_noise_leaves_the_goal_without_a_verdict():
    assert verdict(1, None, 1) == goals.NOT_MEASURABLE


def test_what_is_faster_with_the_agent_than_without_is_noise():
    assert verdict(1.06, 1.06, 1.06, at_most=False, plausible=(0, 1.05)) == goals.NOISE
    assert goals.NOISE in row(goals_report.markdown([run(produced([100] * 3, [120, 130, 140]))]))


def test_what_is_added_is_compared_without_what_was_there():
    compared = goals.added_ratio("topic", "peer", "direct")
    assert compared({"topic": [150], "peer": [300], "direct": [100]}) == [0.25]


def test_what_is_less_than_nothing_cannot_be_measured():
    compared = goals.added_ratio("topic", "peer", "direct")
    assert compared({"topic": [150, 90, 90], "peer": [100, 90, 150], "direct": [100, 100, 100]}) == [None, None, None]
    assert goals.difference("topic", "direct")({"topic": [90, 100], "direct": [100, 100]}) == [None, None]
    assert goals.ratio("topic", "direct")({"topic": [90], "direct": [0]}) == [None]


def test_the_plainest_relay_is_the_cheaper_one_of_each_turn():
    assert goals.to_least("a", ["b", "c"])({"a": [3, 3], "b": [1, 3], "c": [2, 2]}) == [3, 1.5]


def test_no_two_goals_have_the_same_name():
    names = [goal.what for goal in goals.GOALS]
    assert len(names) == len(set(names))


def test_the_table_says_what_was_met_and_what_was_not():
    assert "at least 0.90 | 0.95 (0.94 to 0.96) | met |" in row(goals_report.markdown([run(produced([100] * 3, [94, 95, 96]))]))
    assert "0.80 (0.80 to 0.80) | **missed** |" in row(goals_report.markdown([run(produced([100] * 3, [80] * 3))]))


def test_failed_turns_are_in_the_row_and_below_the_table():
    text = goals_report.markdown([run(produced([100], [95]), failed=["turn 2, throughput: TimedOut\nand more"])])
    assert "0.95 (0.95 to 0.95), 1 of 3 turns | **incomplete** |" in row(text)
    assert row(text, "TimedOut") == "- turn 2, throughput: TimedOut"


def test_a_row_of_noise_alone_has_no_figure():
    added = {goals.ping(path, "p50"): [100] * 3 for path in ("topic", "direct")}
    text = goals_report.markdown([run(added)])
    assert "| no figure, 0 of 3 turns | not measurable |" in row(text, "round trip of an unloaded produce, p50")
    assert "round trip" not in goals_report.plots(run(added))["goals.svg"][1]


def test_two_runs_that_disagree_are_shown_as_such():
    text = goals_report.markdown([run(produced([100] * 3, [95] * 3)), run(produced([100] * 3, [80] * 3)), run({})])
    assert "0.95 (0.95 to 0.95) | 0.80 (0.80 to 0.80) |  | met; **missed**; not measured |" in row(text)


def test_goals_without_figures_are_named_below_the_table():
    text = goals_report.markdown([run(produced([100], [95]))])
    assert "first connection after the agent is ready" in row(text, "Not measured: ")
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
    for topic, shown, colour in ([45] * 3, ">2<", "#c0392b"), ([100] * 3, ">0.90<", "#2e7d4f"), ([45, 100, 100], ">0.90<", goals_report.UNDECIDED):
        picture = goals_report.plots(run(produced([100] * 3, topic)))["goals.svg"][1]
        texts = [element.text for element in xml.etree.ElementTree.fromstring(picture).iter() if element.text]
        assert any("produce 1 KiB" in text for text in texts)
        assert shown in picture and colour in picture


def test_a_goal_for_many_connections_is_not_met_by_fewer():
    for connections, said in ((goals.MANY, goals.MET), (goals.MANY - 1, goals.FEWER)):
        figures = {goals.CROWD: [connections] * 3, goals.crowd("memory", "many"): [200e6] * 3}
        assert row(goals_report.markdown([run(figures)]), "the agent's memory").endswith(f"| {said} |")


def test_what_others_used_of_the_machine_is_named():
    measured = run({})
    measured["about"] |= {"others": 0.31, "java": "25.0.1"}
    assert "used 0.31 cores meanwhile; Kroxylicious runs on Java 25.0.1" in goals_report.markdown([measured])


def test_speed_is_of_all_clients_from_the_first_past_its_warm_up_to_the_last():
    early, late = [(0, 10), (1000, 10), (2000, 10)], [(1500, 10), (3000, 10), (5000, 20)]
    assert throughput.rate([early], 10) == 10
    assert throughput.rate([early, late], 10) == pytest.approx(50 / 4)
    with pytest.raises(RuntimeError):
        throughput.rate([early], 30)
    with pytest.raises(RuntimeError):
        throughput.rate([[(5, 10)]])


def test_batches_tell_when_they_were_appended(tmp_path):
    def batch(latest, count):
        return segments.HEADER.pack(0, segments.HEADER.size - 12 + 5, 0, 2, 0, 8, 0, 0, latest, -1, -1, -1, count) + b"12345"
    (tmp_path / "log").write_bytes(batch(1700, 3) + batch(1800, 4) + bytes(100))
    assert segments.appended(tmp_path / "log") == [(1700, 3), (1800, 4)]
