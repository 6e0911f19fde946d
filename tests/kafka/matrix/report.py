"""docs/clients.md, from what a run found."""

import textwrap

import families
import places

DOCUMENT = places.REPOSITORY / "docs/clients.md"
WIDTH = 140
OK, ABSENT = "ok", "not in this client"

HEAD = """# Clients

What unmodified Kafka clients do on topics that kveil seals, through one agent and a real broker. This page is written by
`tests/kafka/matrix/run`, from what it saw; do not edit it.
"""

TABLES = """## What was run

`ok`: ran and was right. `ok *`: so, and there is a remark on it below. `-`: the client does not have this. Anything else is a failure.

In each case records are compared exactly (key, value, headers, order, each once), and a client outside the agent's reach has seen that the
broker holds nothing but sealed values. Each client writes and reads by itself; where records had to be laid out in batches, Java did it.
"""

ABOUT_HIDDEN = """The hidden records are those of a user who was erased after they were produced. In each of these cases the consumer reads every visible
record once, the committed offset reaches the end, so that the lag is 0, and at the end the client waits: it does not fetch the same batches
again and again (counted by the agent's metrics). Then one more record is produced, and read.
"""

ABOUT_REFUSALS = """What kveil refuses has Kafka's own codes. Keys are made unreachable by holding the locks of the registry: producers wait
or retry, consumers wait, neither sees an error, and when the keys are back everything arrives once and in order.
"""

RUNNING = """## Run it

```
sudo tests/kafka/matrix/run                                    # everything, about 25 minutes; writes this page
sudo tests/kafka/matrix/run --client sarama --case rebalance   # a part
sudo tests/kafka/matrix/run --direct --client sarama           # past the agent: is it the client's own way?
```

It installs what it needs by itself: Debian's packages, then the clients in the versions that `tests/kafka/matrix/drivers` pins, into
`~/.cache/kveil` (`KVEIL_CACHE` moves it). See [its README](../tests/kafka/matrix/README.md).
"""

COMMON = [
    "A new network namespace (a new pod) is noticed by its first connect to a broker, which is refused once. All clients here try again by "
    "themselves, only kcat does not: see there.",
    "A batch that is hidden as a whole comes as an empty control batch, as after a transaction. The clients pass over it as they pass over "
    "the markers of transactions.",
    "Refused is a batch, not a record: what else is in the batch fails with it. The message says which record it was, where the client shows "
    "that.",
]

# By client: the cases that the remark is about, and the remark.
REMARKS = {
    "kcat": [
        ([], "It ends (`All broker connections are down: terminating`) as soon as its only bootstrap broker has refused one connection, which "
             "is what a new network namespace meets first. Run it again."),
        (["transactions"], "It commits at the end of its input. It has no way to abort a transaction of which records have been sent; only "
                           "committed ones were run."),
        (["empty-value"], "It leaves out lines that are empty, so an empty value needs a key."),
        ([], "librdkafka reads `read_committed` by default, and does not check the CRC of batches unless `check.crcs` is set."),
    ],
    "java-4.4": [],
    "java-2.8": [([], "Not idempotent by default; where a producer is to lose and double nothing while a broker or the keys are away, set "
                      "`enable.idempotence=true`.")],
    "confluent-kafka": [([], "As for kcat: `check.crcs` is off by default.")],
    "kafka-python": [
        (["invalid-record"], "Its idempotent producer, the default, takes no more records after one was refused for good: each later one fails "
                             "with the same error. The same happens without kveil. Make a new producer, or set `enable_idempotence=False`, with "
                             "which this case was run."),
    ],
    "aiokafka": [
        (["invalid-record"], "It does not know the code INVALID_RECORD: the application gets `UnknownError`. The same happens without kveil. "
                             "Later records go on."),
    ],
    "franz-go": [
        (["hidden-trailing"], "It commits the offset behind the last record that the application got. While nothing visible follows, the hidden "
                              "records at the end of a topic stay in the group's lag, as transaction markers do; they are not read again."),
    ],
    "sarama": [
        (["hidden-trailing"], "It commits what the application marks, which is the last record that it got: as franz-go."),
    ],
    "kafkajs": [
        (["hidden-trailing"], "It commits the offset behind the last record that the application got: as franz-go."),
        (["codecs-of-others"], "Of the codecs it has gzip, others by plugins. What it reads from sealed topics it gets uncompressed, as long as a "
                               "response has no more than 32 MiB; from topics that are not sealed only what it has the codec for."),
    ],
    "kafka-go": [
        (["hidden-partial", "hidden-whole", "hidden-many", "hidden-singly", "hidden-trailing", "hidden-seek"],
         "It does not stand gaps, nor control batches: it reads again from an earlier offset, or hands the marker to the application. kveil knows "
         "it by its client id, `... (github.com/segmentio/kafka-go)`, and gives it hidden records masked: an empty value, and a header "
         "`kveil-hidden`. That is what these cases ran with: each hidden record arrives once, masked. Where the application sets a client id of "
         "its own (`Dialer.ClientID`, `Transport.ClientID`), give the topic `\"onErased\": \"mask\"`."),
        (["defaults"], "Its `Writer` does not wait for an answer by default (`RequireNone`): it never learns that a record was refused. Set "
                       "`RequiredAcks: kafka.RequireAll`."),
        (["invalid-record", "keys-produce"], "The refusals were run with `RequireAll`."),
        (["empty-value", "mask"], "Its `Reader` gives empty values as `nil`, with or without kveil."),
    ],
}


def write(versions, results, groups, broker):
    """`groups`: a title, an introduction and cases each. `results`: by client and case, what came of it."""
    clients = [client.name for client in families.ALL]
    parts = [HEAD, version_table(versions, broker), TABLES]
    for title, introduction, cases in groups:
        parts += [f"### {title}\n", *([introduction] if introduction else []), case_table(cases, clients, results)]
    failed = [f"- **{client}**, {case.title}: {results[client][case.name]}" for client in clients for _, _, cases in groups
              for case in cases if results[client][case.name] not in (OK, ABSENT)]
    if failed:
        parts.append("## Failures\n\n" + "\n".join(failed) + "\n")
    parts += [RUNNING, remarks(clients)]
    DOCUMENT.write_text("\n".join(parts), encoding="utf-8")


def version_table(versions, broker):
    rows = [f"| {client} | {version} |" for client, version in versions.items()]
    return "\n".join(["| client | version |", "| --- | --- |", *rows, f"| the broker | {broker} |"]) + "\n"


def case_table(cases, clients, results):
    lines = [f"| | {' | '.join(clients)} |", "| --- |" + " --- |" * len(clients)]
    lines += [f"| {case.title} | {' | '.join(cell(client, case, results[client][case.name]) for client in clients)} |" for case in cases]
    return "\n".join(lines) + "\n"


def cell(client, case, result):
    if result == ABSENT:
        return "-"
    if result != OK:
        return "**fails**"
    return "ok *" if any(case.name in cases for cases, _ in REMARKS[client]) else "ok"


def item(text):
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def remarks(clients):
    lines = ["## Remarks, client by client", "", *map(item, COMMON)]
    for client in clients:
        lines += ["", f"### {client}", "", *([item(text) for _, text in REMARKS[client]] or ["Nothing to set, nothing differs."])]
    return "\n".join(lines) + "\n"
