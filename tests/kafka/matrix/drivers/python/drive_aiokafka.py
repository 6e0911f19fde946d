"""The driver of aiokafka. Settings have the names that Kafka gives them, which aiokafka writes with underscores."""

import asyncio
import ssl
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

import lines

VALUES = {"true": True, "false": False, "none": None}


def own(settings):
    made = {name.replace(".", "_"): VALUES.get(value, int(value) if value.lstrip("-").isdigit() else value)
            for name, value in settings.own.items()}
    if "ssl_ca_location" in made:
        made["ssl_context"] = ssl.create_default_context(cafile=made.pop("ssl_ca_location"))
    return made


async def produce(settings):
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, **own(settings))
    await producer.start()
    sent = []
    orders = {"begin": producer.begin_transaction, "commit": producer.commit_transaction, "abort": producer.abort_transaction}
    told = lines.told()
    while (line := await asyncio.to_thread(next, told, None)) is not None:
        if line.get("do") == "flush":
            await report(producer, sent)
        elif "do" in line:
            await orders[line["do"]]()
        else:
            sent.append(await producer.send(line["topic"], line["value"], line["key"], line.get("partition"),
                                            headers=line["headers"]))
    await report(producer, sent)
    await producer.stop()


async def report(producer, sent):
    await producer.flush()
    for future in sent:
        try:
            stored = await future
            lines.answer(partition=stored.partition if stored else -1, offset=stored.offset if stored else -1)
        except KafkaError as error:
            answer_error(error)
    sent.clear()


async def follow(settings):
    closed = lines.input_closed()
    group = "group.id" in settings.own
    sizes = {"max_partition_fetch_bytes": settings.fetch_bytes, "fetch_max_bytes": settings.fetch_bytes} if settings.fetch_bytes else {}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False,
                                **sizes, **own(settings))
    await consumer.start()
    if group:
        consumer.subscribe([settings.topic])
    else:
        await seek(consumer, settings)
    while not closed.is_set():
        try:
            read = [record for records in (await consumer.getmany(timeout_ms=100)).values() for record in records]
        except KafkaError as error:
            answer_error(error)
            break
        for record in read:
            lines.answer_record(record.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
        if group and read:
            await consumer.commit()
    if group:
        await consumer.commit()
    lines.answer_end({partition.partition: await consumer.position(partition) for partition in consumer.assignment()})
    await consumer.stop()


async def seek(consumer, settings):
    await consumer._client.force_metadata_update()
    await consumer._client._wait_on_metadata(settings.topic)
    partitions = [TopicPartition(settings.topic, number) for number in consumer.partitions_for_topic(settings.topic)]
    consumer.assign(partitions)
    if settings.from_time is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, settings.from_time))
        for partition, start in found.items():
            consumer.seek(partition, start.offset)
    elif settings.from_offset is not None:
        for partition in partitions:
            consumer.seek(partition, settings.from_offset)
    else:
        await consumer.seek_to_beginning(*partitions)


def answer_error(error):
    lines.answer(error=getattr(error, "errno", -1), message=repr(error))


def main():
    command, settings = lines.arguments(sys.argv[1:])
    if command == "version":
        lines.answer_version("aiokafka")
    else:
        asyncio.run({"produce": produce, "follow": follow}[command](settings))


main()
