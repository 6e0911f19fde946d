"""The driver of confluent-kafka, Confluent's Python client on librdkafka. Settings are librdkafka's own."""

import collections
import sys

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

import lines

LIMIT = 30  # Seconds for one question to the cluster.


def produce(settings):
    producer = Producer({"bootstrap.servers": settings.bootstrap, **settings.own})
    if "transactional.id" in settings.own:
        producer.init_transactions(LIMIT)
    sent = collections.deque()
    orders = {"begin": producer.begin_transaction, "commit": producer.commit_transaction, "abort": producer.abort_transaction}
    for told in lines.told():
        if told.get("do") == "flush":
            report(producer, sent)
        elif "do" in told:
            orders[told["do"]]()
        else:
            send(producer, sent, told)
        producer.poll(0)
    report(producer, sent)


def send(producer, sent, record):
    result = []
    where = {"partition": record["partition"]} if record.get("partition") is not None else {}
    while True:
        try:
            producer.produce(record["topic"], key=record["key"], value=record["value"], headers=record["headers"],
                             on_delivery=lambda error, message: result.append((error, message)), **where)
            break
        except BufferError:
            producer.poll(0.1)
    sent.append(result)


def report(producer, sent):
    producer.flush()
    for result in sent:
        (error, message), = result
        if error:
            lines.answer(error=error.code(), message=error.str())
        else:
            lines.answer(partition=message.partition(), offset=message.offset() if message.offset() is not None else -1)
    sent.clear()


def follow(settings):
    closed = lines.input_closed()
    group = "group.id" in settings.own
    sizes = {"max.partition.fetch.bytes": settings.fetch_bytes} if settings.fetch_bytes else {}
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "none", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, **sizes, **settings.own})
    if group:
        consumer.subscribe([settings.topic])
    else:
        consumer.assign(starts(consumer, settings))
    while not closed.is_set():
        messages = consumer.consume(500, 0.1)
        for message in messages:
            if message.error():
                lines.answer(error=message.error().code(), message=message.error().str())
            else:
                lines.answer_record(message.partition(), message.offset(), message.timestamp()[1], message.key(),
                                    message.value(), message.headers() or [])
        if group and messages:
            commit(consumer)
    if group:
        commit(consumer)
    lines.answer_end({found.partition: found.offset for found in consumer.position(consumer.assignment())})
    consumer.close()


def starts(consumer, settings):
    partitions = consumer.list_topics(settings.topic, timeout=LIMIT).topics[settings.topic].partitions
    if settings.from_time is not None:
        return consumer.offsets_for_times([TopicPartition(settings.topic, number, settings.from_time)
                                           for number in partitions], timeout=LIMIT)
    offset = confluent_kafka.OFFSET_BEGINNING if settings.from_offset is None else settings.from_offset
    return [TopicPartition(settings.topic, number, offset) for number in partitions]


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != confluent_kafka.KafkaError._NO_OFFSET:  # Nothing was read since the last commit.
            raise


def main():
    command, settings = lines.arguments(sys.argv[1:])
    if command == "version":
        lines.answer(version=f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}")
    else:
        {"produce": produce, "follow": follow}[command](settings)


main()
