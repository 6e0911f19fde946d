// The Java client of the tests: Kafka's own producer, consumer and admin, driven by JSON lines on standard input, answering
// with JSON lines on standard output. Keys, values and header values are base64 text or null, so that bytes stay exact.
//
//   Client produce      BOOTSTRAP [name=value ...]   input: {"topic", "partition"?, "key", "value", "headers": [[name, value]]},
//                                                    or {"do": "begin" | "commit" | "abort" | "flush"}
//                                                    output, in the order of the input: {"partition", "offset"} or {"error", "message"}
//   Client consume      BOOTSTRAP TOPIC [name=value ...]   from the beginning (or the group's offset) to the end as it is at the
//                                                    start, commits when there is a group, then {"end": {"position", "lag", "committed"}}
//   Client follow       BOOTSTRAP TOPIC [name=value ...]   as consume, but goes on until standard input is closed
//   Client create-topic BOOTSTRAP TOPIC[,TOPIC ...] PARTITIONS [name=value ...]   name=value: the topics' configuration
//   Client delete-topic BOOTSTRAP TOPIC[,TOPIC ...]

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
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
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Client {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false, UTF_8);

  public static void main(String[] arguments) throws Exception {
    List<String> rest = new ArrayList<>(Arrays.asList(arguments));
    String command = rest.remove(0);
    Properties properties = new Properties();
    properties.put("bootstrap.servers", rest.remove(0));
    switch (command) {
      case "produce" -> produce(with(properties, rest));
      case "consume", "follow" -> consume(rest.remove(0), command.equals("follow"), with(properties, rest));
      case "create-topic" -> createTopics(properties, rest);
      case "delete-topic" -> deleteTopics(properties, rest.remove(0));
      default -> throw new IllegalArgumentException("unknown command " + command);
    }
    OUT.flush();
  }

  private static Properties with(Properties properties, List<String> settings) {
    for (String setting : settings) {
      String[] parts = setting.split("=", 2);
      properties.put(parts[0], parts[1]);
    }
    return properties;
  }

  private static void produce(Properties properties) throws Exception {
    properties.put("key.serializer", ByteArraySerializer.class.getName());
    properties.put("value.serializer", ByteArraySerializer.class.getName());
    properties.putIfAbsent("delivery.timeout.ms", "40000");
    properties.putIfAbsent("request.timeout.ms", "15000");
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
          case "flush" -> producer.flush();
          default -> sent.add(producer.send(record(node)));
        }
        while (!sent.isEmpty() && sent.peek().isDone()) {
          report(sent.remove());
        }
      }
      producer.flush();
      while (!sent.isEmpty()) {
        report(sent.remove());
      }
    }
  }

  private static ProducerRecord<byte[], byte[]> record(JsonNode node) throws IOException {
    Integer partition = node.hasNonNull("partition") ? node.get("partition").asInt() : null;
    ProducerRecord<byte[], byte[]> record =
        new ProducerRecord<>(node.get("topic").asText(), partition, bytes(node.get("key")), bytes(node.get("value")));
    for (JsonNode header : node.path("headers")) {
      record.headers().add(header.get(0).asText(), bytes(header.get(1)));
    }
    return record;
  }

  private static void report(Future<RecordMetadata> result) throws Exception {
    ObjectNode answer = JSON.createObjectNode();
    try {
      answer.put("partition", result.get().partition()).put("offset", result.get().offset());
    } catch (ExecutionException error) {
      answer.put("error", error.getCause().getClass().getSimpleName()).put("message", error.getCause().getMessage());
    }
    print(answer);
  }

  private static void consume(String topic, boolean follow, Properties properties) throws Exception {
    properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
    properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
    properties.putIfAbsent("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", "false");
    boolean group = properties.containsKey("group.id");
    Duration limit = Duration.ofSeconds(Long.parseLong(properties.getOrDefault("limit.seconds", "30").toString()));
    properties.remove("limit.seconds");
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
      List<TopicPartition> partitions = new ArrayList<>();
      for (PartitionInfo partition : consumer.partitionsFor(topic)) {
        partitions.add(new TopicPartition(topic, partition.partition()));
      }
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      if (group) {
        consumer.subscribe(List.of(topic));
      } else {
        consumer.assign(partitions);
      }
      AtomicBoolean closed = follow ? closedInput() : new AtomicBoolean();
      long deadline = System.nanoTime() + limit.toNanos();
      while (follow ? !closed.get() : System.nanoTime() < deadline && !atEnd(consumer, ends)) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
          print(describe(record));
        }
        OUT.flush();
      }
      if (group) {
        consumer.commitSync();
      }
      print(summary(consumer, ends, group));
    }
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

  private static boolean atEnd(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends) {
    if (!consumer.assignment().equals(ends.keySet())) {
      return false;
    }
    for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
      if (consumer.position(end.getKey()) < end.getValue()) {
        return false;
      }
    }
    return true;
  }

  private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode answer = JSON.createObjectNode();
    answer.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
    answer.put("key", text(record.key())).put("value", text(record.value()));
    for (Header header : record.headers()) {
      answer.withArray("headers").addArray().add(header.key()).add(text(header.value()));
    }
    return answer;
  }

  private static ObjectNode summary(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends, boolean group) {
    ObjectNode end = JSON.createObjectNode();
    Map<TopicPartition, OffsetAndMetadata> committed = group ? consumer.committed(ends.keySet()) : new HashMap<>();
    end.put("complete", atEnd(consumer, ends));
    for (TopicPartition partition : ends.keySet()) {
      String number = Integer.toString(partition.partition());
      if (consumer.assignment().contains(partition)) {
        end.withObject("/position").put(number, consumer.position(partition));
        end.withObject("/lag").put(number, consumer.currentLag(partition).orElse(-1));
      }
      if (committed.get(partition) != null) {
        end.withObject("/committed").put(number, committed.get(partition).offset());
      }
    }
    ObjectNode answer = JSON.createObjectNode();
    answer.set("end", end);
    return answer;
  }

  private static void createTopics(Properties properties, List<String> rest) throws Exception {
    String[] names = rest.remove(0).split(",");
    int partitions = Integer.parseInt(rest.remove(0));
    Map<String, String> settings = new HashMap<>();
    with(new Properties(), rest).forEach((name, value) -> settings.put(name.toString(), value.toString()));
    try (Admin admin = Admin.create(properties)) {
      List<NewTopic> topics = Arrays.stream(names).map(name -> new NewTopic(name, partitions, (short) 1).configs(settings)).toList();
      admin.createTopics(topics).all().get();
    }
  }

  private static void deleteTopics(Properties properties, String names) throws Exception {
    try (Admin admin = Admin.create(properties)) {
      admin.deleteTopics(List.of(names.split(","))).all().get();
    }
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
