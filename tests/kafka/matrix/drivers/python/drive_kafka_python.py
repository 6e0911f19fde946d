"""The driver of kafka-python. Settings have the names that Kafka gives them, which kafka-python writes with underscores."""

import collections
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

import lines

VALUES = {"true": True, "false": False, "none": None}


def own(settings):
    made = {name.replace(".", "_"): VALUES.get(value, int(value) if value.lstrip("-").isdigit() else value)
            for name, value in settings.own.items()}
    if "ssl_ca_location" in made:
        made["ssl_cafile"] = made.pop("ssl_ca_location")
    if "enable_idempotence" in made or "transactional_id" in made or "acks" not in made or made["acks"] == "all":
        return made
    return {**made, "enable_idempotence": False}  # It refuses other acks than all beside its default.


def produce(settings):
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, **own(settings))
    if "transactional.id" in settings.own:
        producer.init_transactions()
    sent = collections.deque()
    orders = {"begin": producer.begin_transaction, "commit": producer.commit_transaction, "abort": producer.abort_transaction}
    for told in lines.told():
        if told.get("do") == "flush":
            report(producer, sent)
        elif "do" in told:
            orders[told["do"]]()
        else:
            sent.append(producer.send(told["topic"], told["value"], told["key"], told["headers"], told.get("partition")))
    report(producer, sent)
    producer.close()


def report(producer, sent):
    producer.flush()
    for future in sent:
        try:
            stored = future.get(60)
            lines.answer(partition=stored.partition, offset=stored.offset)
        except KafkaError as error:
            answer_error(error)
    sent.clear()


def follow(settings):
    closed = lines.input_closed()
    group = "group.id" in settings.own
    sizes = {"max_partition_fetch_bytes": settings.fetch_bytes, "fetch_max_bytes": settings.fetch_bytes} if settings.fetch_bytes else {}
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False,
                             **sizes, **own(settings))
    if group:
        consumer.subscribe([settings.topic])
    else:
        seek(consumer, settings)
    while not closed.is_set():
        try:
            read = [record for records in consumer.poll(timeout_ms=100).values() for record in records]
        except KafkaError as error:
            answer_error(error)
            break
        for record in read:
            lines.answer_record(record.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
        if group and read:
            consumer.commit()
    if group:
        consumer.commit()
    lines.answer_end({partition.partition: consumer.position(partition) for partition in consumer.assignment()})
    consumer.close(autocommit=False)


def seek(consumer, settings):
    partitions = [TopicPartition(settings.topic, number) for number in consumer.partitions_for_topic(settings.topic)]
    consumer.assign(partitions)
    if settings.from_time is not None:
        for partition, found in consumer.offsets_for_times(dict.fromkeys(partitions, settings.from_time)).items():
            consumer.seek(partition, found.offset)
    elif settings.from_offset is not None:
        for partition in partitions:
            consumer.seek(partition, settings.from_offset)
    else:
        consumer.seek_to_beginning(*partitions)


def answer_error(error):
    lines.answer(error=getattr(error, "errno", -1), message=repr(error))


def main():
    command, settings = lines.arguments(sys.argv[1:])
    if command == "version":
        lines.answer_version("kafka-python")
    else:
        {"produce": produce, "follow": follow}[command](settings)


main()
