"""docs/clients.md, from what a run found."""

import textwrap

import families
import places

DOCUMENT = places.REPOSITORY / "docs/clients.md"
WIDTH = 140
OK, ABSENT = "ok", "not in this client"

HEAD = """# Clients

How unmodified Kafka clients behave on topics that kveil seals, with one agent and a real broker. `tests/kafka/matrix/run` generates this
page from its results; do not edit it.
"""

TABLES = """## What was run

`ok`: the case ran and the result was correct. `ok *`: the same, with a remark below. `-`: the client does not have this feature. Anything
else is a failure.

Each case compares records exactly: key, value, headers, order, and that each arrives once. A client that the agent does not intercept
checks that the broker holds only sealed values. Each client both writes and reads. If a case needs a certain batch layout, the Java client
wrote the records.
"""

ABOUT_HIDDEN = """The hidden records are those of a user who was erased after they were produced. In each of these cases the consumer reads every visible
record once. The committed offset reaches the end, so the consumer lag is 0. At the end, the client waits and does not fetch the same batches
again and again (the agent's metrics show this). Then one more record is produced and read.
"""

ABOUT_REFUSALS = """Refusals use Kafka's own error codes. The test makes keys unreachable by holding the locks of the registry. Producers wait or retry,
consumers wait, and neither sees an error. When the keys are back, everything arrives once and in order.
"""

RUNNING = """## Run it

```
sudo tests/kafka/matrix/run                                    # everything, about 25 minutes; writes this page
sudo tests/kafka/matrix/run --client sarama --case rebalance   # a part
sudo tests/kafka/matrix/run --direct --client sarama           # bypasses the agent: is it the client itself?
```

It installs what it needs: Debian packages, then the clients in the versions that `tests/kafka/matrix/drivers` pins, into
`~/.cache/kveil` (`KVEIL_CACHE` moves it). See [its README](../tests/kafka/matrix/README.md).
"""

COMMON = [
    "The agent notices a new network namespace (a new pod) by its first connect to a broker, so that connect takes some milliseconds longer. "
    "Clients that try only once, such as kcat, succeed.",
    "If all records of a batch are hidden, it arrives as an empty control batch, as after a transaction. Clients skip it like a transaction "
    "marker.",
    "The agent refuses whole batches, not single records: all other records in the batch fail, too. The message says which record was the "
    "cause, if the client shows it.",
]

# By client: the cases that the remark is about, and the remark.
REMARKS = {
    "kcat": [
        ([], "It exits (`All broker connections are down: terminating`) as soon as its only bootstrap broker has refused one connection."),
        (["transactions"], "It commits at the end of its input. It cannot abort a transaction after it has sent records, so only committed "
                           "transactions were run."),
        (["empty-value"], "It skips empty lines, so an empty value needs a key."),
        ([], "librdkafka reads `read_committed` by default, and does not check the CRC of batches unless `check.crcs` is set."),
    ],
    "java-4.4": [],
    "java-2.8": [([], "Not idempotent by default. If a producer must neither lose nor duplicate records while a broker or the keys are away, "
                      "set `enable.idempotence=true`.")],
    "confluent-kafka": [([], "As with kcat, `check.crcs` is off by default.")],
    "kafka-python": [
        (["invalid-record"], "Its idempotent producer (the default) accepts no more records after a final refusal: each later record fails "
                             "with the same error. The same happens without kveil. Create a new producer, or set `enable_idempotence=False`, "
                             "which this case was run with."),
    ],
    "aiokafka": [
        (["invalid-record"], "It does not know the error code INVALID_RECORD: the application gets `UnknownError`. The same happens without kveil. "
                             "Later records continue to work."),
    ],
    "franz-go": [
        (["hidden-trailing"], "It commits the offset after the last record that the application got. So hidden records at the end of a "
                              "topic count in the group's consumer lag until a visible record follows, as transaction markers do. They are "
                              "not read again."),
    ],
    "sarama": [
        (["hidden-trailing"], "It commits what the application marks, which is the last record that the application got: see franz-go."),
    ],
    "kafkajs": [
        (["hidden-trailing"], "It commits the offset after the last record that the application got: see franz-go."),
        (["codecs-of-others"], "It has gzip built in; other codecs need plugins. Batches of sealed topics arrive uncompressed only if the response "
                               "then stays within what the client asked for (`maxBytes`, `maxBytesPerPartition`). Otherwise it needs the codec "
                               "of the batches, as it does for topics that are not sealed."),
    ],
    "kafka-go": [
        (["hidden-partial", "hidden-whole", "hidden-many", "hidden-singly", "hidden-trailing", "hidden-seek"],
         "It can handle neither gaps nor control batches: it reads again from an earlier offset, or hands the marker to the application. kveil "
         "recognizes it by its client id, `... (github.com/segmentio/kafka-go)`, and masks hidden records for it: they have an empty value and a "
         "header `kveil-hidden`. In these cases, each hidden record arrived once, masked. If the application sets its own client id "
         "(`Dialer.ClientID`, `Transport.ClientID`), give the topic `\"onErased\": \"mask\"`."),
        (["defaults"], "By default, its `Writer` does not wait for a response (`RequireNone`), so it never learns that a record was refused. Set "
                       "`RequiredAcks: kafka.RequireAll`."),
        (["invalid-record", "keys-produce"], "These cases were run with `RequireAll`."),
        (["empty-value", "mask"], "Its `Reader` returns empty values as `nil`, with or without kveil."),
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
        lines += ["", f"### {client}", "", *([item(text) for _, text in REMARKS[client]] or ["There is nothing to set, and nothing differs."])]
    return "\n".join(lines) + "\n"
