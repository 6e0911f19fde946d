"""kcat and the Java client as command lines, to be run inside a workload or, outside the agent's reach, by subprocess."""

import class_archives
import kafka_jars


def kcat_produce(bootstrap, topic, *options):
    """Every line of standard input becomes a record."""
    return ["kcat", "-P", "-q", "-m", "30", "-b", bootstrap, "-t", topic, *options]


def kcat_consume(bootstrap, topic, *options):
    """Every record from the beginning to the end as it is now, then ends by itself."""
    return ["kcat", "-C", "-q", "-e", "-m", "30", "-b", bootstrap, "-t", topic, "-o", "beginning", *options]


def java(command, bootstrap, *arguments):
    """The program tests/kafka/clients/Client.java: see its first lines."""
    return _java("Client", command, bootstrap, *arguments)


def java_share(bootstrap, group, topic, count, *settings):
    """The program tests/kafka/clients/Share.java: see its first lines."""
    return _java("Share", bootstrap, group, topic, str(count), *settings)


def _java(*arguments):
    return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *class_archives.options("clients"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", kafka_jars.clients_class_path(), *arguments]


def performance_produce(bootstrap, topic, payloads, records, warmup, batch_size, *settings):
    """Kafka's own producer benchmark, as fast as it goes: `records` values taken from the lines of a file, after `warmup`
    others that do not count."""
    return ["java", "-Xmx512m", *class_archives.options("clients"), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", kafka_jars.clients_class_path(), "org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", bootstrap, "--topic", topic,
            "--payload-file", str(payloads), "--num-records", str(records + warmup), "--warmup-records", str(warmup),
            "--throughput", "-1", "--producer-props", f"batch.size={batch_size}", *settings]
