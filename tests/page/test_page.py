"""The web page of a real agent in headless Chromium."""

import contextlib
import html.parser
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka")]
import waiting  # noqa: E402
import workload as workloads  # noqa: E402
from agent import Agent  # noqa: E402
from broker import Broker  # noqa: E402
from harness import Application, click, Message  # noqa: E402

TOPIC = "clicks"
HOSTILE = "<img src=x onerror=document.title='hacked'>"
POLICY = [{"name": TOPIC, "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": True}]}]
WINDOW = "--window-size=1100,700"


class Page(html.parser.HTMLParser):
    """The texts of a document by the id of their element, the heights of its plots' points, and its elements by name."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.plots, self.names = {}, {}, {}
        self._ids, self._plot = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names[tag] = self.names.get(tag, 0) + 1
        self._plot = attrs.get("data-plot", self._plot)
        if tag == "polyline":
            points = attrs.get("points", "").split()
            self.plots.setdefault(self._plot, []).append([float(point.split(",")[1]) for point in points])
        if tag not in ("meta", "link", "line", "polyline", "img"):
            self._ids.append(attrs.get("id"))

    def handle_endtag(self, tag):
        if tag not in ("line", "polyline"):
            self._ids.pop()

    def handle_data(self, data):
        for name in filter(None, self._ids):
            self.texts[name] = self.texts.get(name, "") + data


@pytest.fixture(scope="module")
def site():
    with workloads.Site("page") as made:
        yield made


@pytest.fixture(scope="module")
def broker(site):
    with Broker(site.address, site.folder / "broker") as started:
        yield started


@pytest.fixture(scope="module")
def agent(site, broker):
    made = Agent(site, broker, POLICY)
    made.config["admin"]["page"] = "connections"
    made.write_config()
    with made as started:
        yield started


@contextlib.contextmanager
def traffic(app):
    """Writes and reads, until the end."""
    ends = threading.Event()
    with app.following(TOPIC, f"client.id={HOSTILE}") as consumer, app.producing(TOPIC, f"client.id={HOSTILE}") as producer:
        def write():
            number = 0
            while not ends.wait(0.01):
                producer.send(Message(None, click(number % 50, number)))
                producer.flush()
                number += 1
        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert consumer.next() is not None
            yield
        finally:
            ends.set()
            thread.join(60)


def browse(site, url, *options):
    """What headless Chromium prints, and what it says on its way. Its clock runs as fast as the answers come."""
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert program, "install Debian's chromium-headless-shell"
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", WINDOW, f"--user-data-dir={site.folder / 'browser'}",
         "--virtual-time-budget=120000", "--enable-logging=stderr", *options, url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_the_page_draws_what_the_agent_does(site, broker, agent):
    app = Application(broker, site.workload("shop.service"))
    app.create_topic(TOPIC)
    url = f"http://{agent.metrics_address}/"
    with traffic(app):
        waiting.wait_until("a user's key to be erased", lambda: agent.erase("7").returncode == 0, 30)
        text, said = browse(site, url, "--dump-dom")
        picture = os.environ.get("KVEIL_PAGE_SCREENSHOT")
        if picture:
            browse(site, url, f"--screenshot={picture}")
    page = Page(text)
    assert page.texts["state"] == "ready"
    assert "<title>kveil</title>" in text and "img" not in page.names, "the client id has become markup"
    assert HOSTILE in page.texts["rows"] and "shop.service" in page.texts["rows"], page.texts
    assert set(page.plots) == {"Connections", "Throughput", "Records", "Records denied", "Other refusals", "Erasures"}
    assert all(len(heights) >= 10 for lines in page.plots.values() for heights in lines), page.plots
    assert all(len(set(heights)) > 1 for heights in page.plots["Records"] + page.plots["Throughput"]), "nothing moves"
    assert "since the start 1" in page.texts["plots"], page.texts["plots"]
    for word in ("Content Security Policy", "Uncaught", "Refused"):
        assert word not in said, said


def test_a_page_without_an_agent_says_so(site):
    text, _ = browse(site, (HERE.parents[1] / "agent/observe/page/index.html").as_uri(), "--dump-dom", "--allow-file-access-from-files")
    assert Page(text).texts["state"] == "The agent does not answer"
