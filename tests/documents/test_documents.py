"""What docs/ and README.md show must hold: JSON that somebody copies is good, commands exist with their options, links lead somewhere."""

import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import textwrap

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("KVEIL_PROGRAM", REPOSITORY / "build/release/kveil")
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
INTERCEPT = {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]}
# JSON of others: a role of AWS and of Azure, a line of the audit trail, a manifest of signed policies.
OTHERS = [{"Version", "Statement"}, {"Name", "IsCustom"}, {"seq", "previous"}, {"type", "version", "created", "files"}]


def blocks(document):
    """(line, language, text) of each fenced block."""
    lines, begin = document.read_text(encoding="utf-8").splitlines(), None
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"\s*```(\w*)", line)
        if fence and begin is None:
            begin, language = number + 1, fence[1]
        elif fence:
            yield begin, language, textwrap.dedent("\n".join(lines[begin:number]))
            begin = None


def place(document, line):
    return f"{document.relative_to(REPOSITORY)}:{line}"


EXAMPLES = [pytest.param(text, id=place(document, line)) for document in DOCUMENTS for line, language, text in blocks(document)
            if language == "json"]


def kveil(*arguments, folder=None):
    return subprocess.run([PROGRAM, *arguments], cwd=folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, check=False)


def test_there_are_examples():
    assert len(EXAMPLES) >= 35


@pytest.mark.parametrize("text", EXAMPLES)
def test_json_is_good(text, tmp_path):
    """As a policy or a configuration. Parts of them are put where they belong."""
    shown = json.loads(f"{{{text}}}" if text.startswith('"') else text)
    if any(keys <= shown.keys() for keys in OTHERS):
        return
    if "name" in shown:
        shown = {"topics": [shown]}
    file = tmp_path / "shown.json"
    if "topics" in shown:
        for users in re.findall(r'"usersFrom": "([^"]+)"', text):
            (tmp_path / users).write_text("38\n", encoding="utf-8")
        file.write_text(json.dumps(shown), encoding="utf-8")
        done = kveil("policy", "check", file)
    else:
        if "clientTls" in shown:
            shown = {"clusters": {"main": {"tls": {}, **shown}}}
        file.write_text(json.dumps({"intercept": INTERCEPT, **shown}), encoding="utf-8")
        done = kveil("config", "show", "--config", file)
    assert done.returncode == 0, done.stdout


def commands(document):
    """(line, words, whether all of it is there) of each `kveil ...`: in blocks as somebody types them, in the text perhaps only its name."""
    for first, _, text in blocks(document):
        joined = re.sub(r"\\\n\s*", " ", text)
        for typed in re.findall(r"(?m)^(?:\$ |.*&& )?(kveil(?: [a-z-]+)+(?: .*)?)$", joined):
            if not re.match(r"kveil[a-z -]*:", typed):  # what one has said
                yield first, shlex.split(re.split(r" [|>] ", typed)[0], comments=True), True
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines()):
        for typed in re.findall(r"`(kveil [a-z][^`]*)`", line):
            if not typed.startswith("kveil root key "):  # the first line of that file
                yield number + 1, typed.split(" | ")[0].split(), False


@functools.cache
def help_of(path):
    return kveil(*path, "--help").stdout


def fault_of(words):
    """What the program does not know of a command line."""
    path = ()
    for word in words[1:]:
        below = re.findall(r"(?m)^  ([a-z-]+)  ", help_of(path).lower().partition("subcommands:")[2])
        if not below:
            break
        if word not in below:
            return f'"{word}" is none of {", ".join(below)}'
        path += (word,)
    options = set(re.findall(r"--[a-z-]+", help_of(path)))
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"no option {unknown}" if unknown else None


def typed_fault_of(words, folder):
    """The same by running it. Without a configuration it does nothing, but has read its command line."""
    if words[1] == "fdstore":  # has none, and would stay
        return None
    typed = [word for word in words[1:] if word != "--check"]
    said = kveil(*typed, *([] if "--config" in typed else ["--config", "none.json"]), folder=folder).stdout
    return said if said.endswith("(kveil --help)\n") else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_commands_are_known(document, tmp_path):
    faults = []
    for line, words, is_whole in commands(document):
        fault = fault_of(words) or (is_whole and typed_fault_of(words, tmp_path))
        if fault:
            faults.append(f"{place(document, line)}: {' '.join(words)}: {fault}")
    assert not faults


def test_log_events_are_documented():
    sources = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "agent").glob("**/*.cc"))
    logged = set(re.findall(r'\blog::[A-Z]\w*\(\s*"([a-z]\w*(?:\.\w+)+)"', sources))
    table = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8").partition("\n## Log\n")[2].partition("\n## ")[0]
    assert len(logged) > 80
    assert not logged - set(re.findall(r"`([\w.]+)`", table))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_named_files_are_there(document):
    named = re.findall(r"`((?:agent|bpf|cmake|kubernetes|packaging|policies|scripts|systemd|tests)/[\w./-]*\w)[ `]", document.read_text(encoding="utf-8"))
    assert not [path for path in named if not (REPOSITORY / path).exists()]


def test_named_tests_are_there():
    sources = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "tests/unit").glob("**/*.cc"))
    there = set(re.findall(r"\bTEST(?:_[FP])?\((\w+), (\w+)\)", sources))
    named = set(re.findall(r"`(\w+Test)\.(\w+)`", (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")))
    assert len(named) >= 20
    assert not named - there


def anchors(document):
    """As GitHub makes them of headings, and those that the text names itself."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```", "", document.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ +(.*)$", text)
    return set(re.findall(r'<a id="([^"]+)">', text)) | {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-") for heading in headings}


EVERY_DOCUMENT = sorted([*REPOSITORY.glob("*.md"), *(document for folder in REPOSITORY.glob("[!.]*/") if folder.name != "build"
                                                      for document in folder.glob("**/*.md"))])


@pytest.mark.parametrize("document", EVERY_DOCUMENT, ids=lambda document: str(document.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    faults = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        to = document.parent / path if path else document
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            faults.append(target)
    assert not faults
