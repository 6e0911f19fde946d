// The driver of Kafka's own Java client. What a driver is told and answers: ../README.md. Settings are the client's own,
// except from.offset, from.time and fetch.bytes.

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Queue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Driver {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false, UTF_8);

  public static void main(String[] arguments) throws Exception {
    List<String> rest = new ArrayList<>(Arrays.asList(arguments));
    String command = rest.remove(0);
    if (command.equals("version")) {
      print(JSON.createObjectNode().put("version", version()));
      return;
    }
    Properties properties = new Properties();
    properties.put("bootstrap.servers", rest.remove(0));
    String topic = command.equals("follow") ? rest.remove(0) : null;
    for (String setting : rest) {
      String[] parts = setting.split("=", 2);
      properties.put(parts[0], parts[1]);
    }
    Object authority = properties.remove("ssl.ca.location");
    if (authority != null) {
      properties.put("ssl.truststore.type", "PEM");
      properties.put("ssl.truststore.location", authority);
    }
    if (topic == null) {
      produce(properties);
    } else {
      follow(topic, properties);
    }
  }

  private static String version() throws IOException {
    Properties found = new Properties();
    try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
      found.load(file);
    }
    return "kafka-clients " + found.getProperty("version");
  }

  private static void produce(Properties properties) throws Exception {
    properties.put("key.serializer", ByteArraySerializer.class.getName());
    properties.put("value.serializer", ByteArraySerializer.class.getName());
    Queue<Future<RecordMetadata>> sent = new ArrayDeque<>();
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties)) {
      if (properties.containsKey("transactional.id")) {
        producer.initTransactions();
      }
      BufferedReader input = new BufferedReader(new InputStreamReader(System.in, UTF_8));
      for (String line = input.readLine(); line != null; line = input.readLine()) {
        JsonNode node = JSON.readTree(line);
        switch (node.path("do").asText()) {
          case "begin" -> producer.beginTransaction();
          case "commit" -> producer.commitTransaction();
          case "abort" -> producer.abortTransaction();
          case "flush" -> {
            producer.flush();
            report(sent);
          }
          default -> sent.add(producer.send(record(node)));
        }
      }
      producer.flush();
      report(sent);
    }
  }

  private static ProducerRecord<byte[], byte[]> record(JsonNode node) throws IOException {
    Integer partition = node.hasNonNull("partition") ? node.get("partition").asInt() : null;
    Long timestamp = node.hasNonNull("timestamp") ? node.get("timestamp").asLong() : null;
    ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(node.get("topic").asText(), partition, timestamp,
        bytes(node.get("key")), bytes(node.get("value")));
    for (JsonNode header : node.path("headers")) {
      record.headers().add(header.get(0).asText(), bytes(header.get(1)));
    }
    return record;
  }

  private static void report(Queue<Future<RecordMetadata>> sent) throws Exception {
    while (!sent.isEmpty()) {
      try {
        RecordMetadata stored = sent.remove().get();
        print(JSON.createObjectNode().put("partition", stored.partition()).put("offset", stored.offset()));
      } catch (ExecutionException error) {
        print(error(error.getCause()));
      }
    }
  }

  private static void follow(String topic, Properties properties) throws Exception {
    properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
    properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
    properties.put("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", "false");
    Object bytes = properties.remove("fetch.bytes");
    if (bytes != null) {
      properties.put("max.partition.fetch.bytes", bytes);
      properties.put("fetch.max.bytes", bytes);
    }
    Object offset = properties.remove("from.offset");
    Object time = properties.remove("from.time");
    boolean group = properties.containsKey("group.id");
    AtomicBoolean closed = closedInput();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
      if (group) {
        consumer.subscribe(List.of(topic));
      } else {
        assign(consumer, topic, offset, time);
      }
      poll(consumer, group, closed);
    }
  }

  private static void assign(KafkaConsumer<byte[], byte[]> consumer, String topic, Object offset, Object time) {
    Map<TopicPartition, Long> times = new HashMap<>();
    for (PartitionInfo partition : consumer.partitionsFor(topic)) {
      times.put(new TopicPartition(topic, partition.partition()), time == null ? 0L : Long.parseLong(time.toString()));
    }
    consumer.assign(times.keySet());
    if (offset != null) {
      times.keySet().forEach(partition -> consumer.seek(partition, Long.parseLong(offset.toString())));
    } else if (time != null) {
      for (Map.Entry<TopicPartition, OffsetAndTimestamp> found : consumer.offsetsForTimes(times).entrySet()) {
        consumer.seek(found.getKey(), found.getValue().offset());
      }
    } else {
      consumer.seekToBeginning(times.keySet());
    }
  }

  private static void poll(KafkaConsumer<byte[], byte[]> consumer, boolean group, AtomicBoolean closed) {
    try {
      while (!closed.get()) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
        for (ConsumerRecord<byte[], byte[]> record : records) {
          OUT.println(describe(record));
        }
        OUT.flush();
        if (group && !records.isEmpty()) {
          consumer.commitSync();
        }
      }
      if (group) {
        consumer.commitSync();
      }
    } catch (RuntimeException error) {
      print(error(error));
    }
    ObjectNode end = JSON.createObjectNode();
    ObjectNode positions = end.putObject("end").putObject("position");
    for (TopicPartition partition : consumer.assignment()) {
      positions.put(Integer.toString(partition.partition()), consumer.position(partition));
    }
    print(end);
  }

  // The parent asks a following consumer to end by closing its standard input.
  private static AtomicBoolean closedInput() {
    AtomicBoolean closed = new AtomicBoolean();
    Thread watcher = new Thread(() -> {
      try {
        System.in.transferTo(OutputStream.nullOutputStream());
      } catch (IOException error) {
        // Unreadable is as good as closed.
      }
      closed.set(true);
    });
    watcher.setDaemon(true);
    watcher.start();
    return closed;
  }

  private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode answer = JSON.createObjectNode();
    answer.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
    answer.put("key", text(record.key())).put("value", text(record.value()));
    ArrayNode headers = answer.putArray("headers");
    for (Header header : record.headers()) {
      headers.addArray().add(header.key()).add(text(header.value()));
    }
    return answer;
  }

  private static ObjectNode error(Throwable error) {
    return JSON.createObjectNode().put("error", Errors.forException(error).code()).put("message", error.toString());
  }

  private static byte[] bytes(JsonNode node) {
    return node == null || node.isNull() ? null : Base64.getDecoder().decode(node.asText());
  }

  private static String text(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }

  private static void print(ObjectNode answer) {
    OUT.println(answer);
    OUT.flush();
  }
}
