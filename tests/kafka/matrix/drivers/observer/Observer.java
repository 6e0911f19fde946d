// Looks at the broker for the matrix: it runs outside the agent's reach, so what it reads is what the broker has.
//
//   Observer BOOTSTRAP   answers each line of standard input with one line:
//     {"do": "create", "topic", "partitions", "compact"}   {}
//     {"do": "read", "topic"}                   {"records": [{"partition", "offset", "key", "value", "headers"}, ...]}
//     {"do": "ends", "topic"}                   {"offsets": {"0": 10}}
//     {"do": "committed", "topic", "group"}     {"offsets": {"0": 10}}
//     {"do": "members", "group"}                {"partitions": [how many each member of a stable group has]}

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class Observer {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final int LIMIT = 30; // Seconds.

  private final Admin admin;
  private final KafkaConsumer<byte[], byte[]> consumer;

  private Observer(String bootstrap) {
    admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap), new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  public static void main(String[] arguments) throws Exception {
    Observer observer = new Observer(arguments[0]);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      ObjectNode answer = JSON.createObjectNode();
      try {
        observer.answer(JSON.readTree(line), answer);
      } catch (Exception error) {
        answer.put("error", error.toString());
      }
      System.out.println(answer);
    }
  }

  private void answer(JsonNode request, ObjectNode answer) throws Exception {
    String topic = request.path("topic").asText();
    String group = request.path("group").asText();
    switch (request.get("do").asText()) {
      case "create" -> create(new NewTopic(topic, request.get("partitions").asInt(), (short) 1), request.get("compact").asBoolean());
      case "read" -> read(topic, answer.putArray("records"));
      case "ends" -> put(consumer.endOffsets(partitions(topic)), answer);
      case "committed" -> committed(topic, group, answer);
      case "members" -> members(group, answer.putArray("partitions"));
      default -> throw new IllegalArgumentException("unknown request " + request);
    }
  }

  private void create(NewTopic topic, boolean compact) throws Exception {
    topic.configs(compact ? Map.of("cleanup.policy", "compact") : Map.of());
    admin.createTopics(List.of(topic)).all().get(LIMIT, TimeUnit.SECONDS);
  }

  private List<TopicPartition> partitions(String topic) {
    return consumer.partitionsFor(topic).stream().map(found -> new TopicPartition(topic, found.partition())).toList();
  }

  private void read(String topic, ArrayNode records) {
    List<TopicPartition> partitions = partitions(topic);
    consumer.assign(partitions);
    consumer.seekToBeginning(partitions);
    Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
    long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT);
    while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
      if (System.nanoTime() > limit) {
        throw new IllegalStateException("could not read " + topic + " to its end in " + LIMIT + " s");
      }
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
        describe(record, records.addObject());
      }
    }
  }

  private static void describe(ConsumerRecord<byte[], byte[]> record, ObjectNode answer) {
    answer.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
    answer.put("key", text(record.key())).put("value", text(record.value()));
    ArrayNode headers = answer.putArray("headers");
    for (Header header : record.headers()) {
      headers.addArray().add(header.key()).add(text(header.value()));
    }
  }

  private static void put(Map<TopicPartition, Long> offsets, ObjectNode answer) {
    ObjectNode to = answer.putObject("offsets");
    offsets.forEach((partition, offset) -> to.put(Integer.toString(partition.partition()), offset));
  }

  private void committed(String topic, String group, ObjectNode answer) throws Exception {
    ObjectNode to = answer.putObject("offsets");
    for (Map.Entry<TopicPartition, OffsetAndMetadata> found : admin.listConsumerGroupOffsets(group)
             .partitionsToOffsetAndMetadata().get(LIMIT, TimeUnit.SECONDS).entrySet()) {
      if (found.getKey().topic().equals(topic) && found.getValue() != null) {
        to.put(Integer.toString(found.getKey().partition()), found.getValue().offset());
      }
    }
  }

  private void members(String group, ArrayNode answer) throws Exception {
    ConsumerGroupDescription description;
    try {
      description = admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get(LIMIT, TimeUnit.SECONDS);
    } catch (ExecutionException error) {
      if (error.getCause() instanceof GroupIdNotFoundException) {
        return; // Nobody has joined yet.
      }
      throw error;
    }
    if (description.groupState() == GroupState.STABLE) {
      for (MemberDescription member : description.members()) {
        answer.add(member.assignment().topicPartitions().size());
      }
    }
  }

  private static String text(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }
}
