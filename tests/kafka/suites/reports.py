"""JUnit's reports, and the comparison of a class's two runs."""

import collections
import re
import xml.etree.ElementTree

PASSED, FAILED, SKIPPED, MISSING = "passed", "failed", "skipped", "missing"

# `first_failure` is that of a test which passed when it was tried again.
Outcome = collections.namedtuple("Outcome", "id method selector variant state seconds failure first_failure", defaults=[""])
Difference = collections.namedtuple("Difference", "method variant direct agent failure")

# A variant's name holds what the test was called with, times and random names too; these are not the same twice.
NOT_THE_SAME_TWICE = re.compile(r"\d{10,}|@[0-9a-f]{5,}")
# What Kafka's cluster tests say of every listener, all the same.
LISTENERS = re.compile(r",? *(Broker|Controller)(SecurityProtocol=PLAINTEXT|ListenerName=ListenerName\(\w+\))")


def read(folder):
    """The outcomes in the reports below `folder`, by the id that JUnit gives a test."""
    outcomes = {}
    for report in sorted(folder.glob("TEST-*.xml")):
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            outcome = _outcome(case)
            outcomes[outcome.id] = outcome
    return outcomes


def _outcome(case):
    about = next((text.text for text in case.iter("system-out") if text.text and "unique-id:" in text.text), "")
    test_id = re.search(r"unique-id: (.*)", about)[1].strip()
    shown = re.search(r"display-name: (.*)", about)
    where = re.search(r"\[(?:test-template|method|test-factory):([^]]*(?:\[\][^]]*)*)\]", test_id)
    selector = where[1] if where else case.get("name")
    method = selector.split("(")[0]
    variant = _variant(shown[1].strip(), method) if shown and "invocation" in test_id else ""
    state, failure = _state(case)
    return Outcome(test_id, method, selector, variant, state, float(case.get("time") or 0), failure)


def _variant(shown, method):
    """What tells a test's invocations apart, out of what JUnit shows: `[2] quorum=kraft, ...`."""
    return NOT_THE_SAME_TWICE.sub("..", LISTENERS.sub("", re.sub(rf"^({method} *)?\[\d+\] *", "", shown))).strip()


def _state(case):
    for kind, state in (("failure", FAILED), ("error", FAILED), ("skipped", SKIPPED)):
        element = case.find(kind)
        if element is not None:
            return state, element.text or element.get("message") or element.get("type") or ""
    return PASSED, ""


def differences(direct, agent):
    """Tests that passed directly and did not through the agent."""
    return [Difference(one.method, one.variant, one.state, other.state if other else MISSING,
                       other.failure if other else "no report of this test")
            for test_id, one in sorted(direct.items())
            for other in [agent.get(test_id)]
            if one.state == PASSED and (other is None or other.state != PASSED)]


def count(outcomes, state):
    return sum(one.state == state for one in outcomes.values())


class Explained:
    """The differences that are known, from differences.json: which tests, and why they cannot do the same."""

    def __init__(self, entries):
        self._entries = entries

    def reason(self, version, class_name, difference):
        """Why this difference is right; None when nothing says so."""
        for entry in self._of(version, class_name):
            if any(_fits(test, entry, difference) for test in entry.get("tests", [])):
                return entry["reason"]
        return None

    def may_be_clear(self, version, class_name, topic):
        """Why records of this topic lie in clear text at the brokers; None when nothing says so."""
        for entry in self._of(version, class_name):
            if re.fullmatch(entry.get("clear", "$^"), topic):
                return entry["reason"]
        return None

    def may_be_idle(self, version, class_name, metric):
        """Why this counter stays 0 for this class; None when nothing says so."""
        return next((entry["reason"] for entry in self._of(version, class_name) if metric in entry.get("idle", [])), None)

    def outlived(self, version, class_name, found, tests, metrics):
        """Explanations, as text, of differences that did not happen though their test ran."""
        for entry in self._of(version, class_name):
            for test in entry.get("tests", []):
                if test in ("*", *tests) and not any(_fits(test, entry, one) for one in found):
                    yield f"{class_name}.{test} is explained in differences.json ({entry['reason']}), and passed"
            for metric in entry.get("idle", []):
                if metrics.get(metric):
                    yield f"{class_name}: {metric} is not 0, though differences.json says so ({entry['reason']})"

    def _of(self, version, class_name):
        for entry in self._entries:
            if class_name.split("#")[0] in entry["classes"] and any(version.startswith(one) for one in entry["versions"]):
                yield entry


def _fits(test, entry, difference):
    """Whether an entry's `test`, with its `variant`, means this difference."""
    return test in ("*", difference.method) and entry.get("variant", "") in difference.variant
