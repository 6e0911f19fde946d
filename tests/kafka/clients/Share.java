// A member of a share group (KIP-932), with Kafka's own client; answers with JSON lines as Client.java does.
//
//   Share BOOTSTRAP GROUP TOPIC COUNT [name=value ...]   reads and accepts until COUNT records came or nothing more comes for
//                                                        `idle.seconds` (40); the group reads from the beginning.
//                                                        At an error of poll(): {"error"}, and the end

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class Share {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false, UTF_8);

  public static void main(String[] arguments) throws Exception {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", arguments[0]);
    properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
    properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
    for (int i = 4; i < arguments.length; ++i) {
      String[] parts = arguments[i].split("=", 2);
      properties.put(parts[0], parts[1]);
    }
    Duration idle = Duration.ofSeconds(Long.parseLong(properties.getOrDefault("idle.seconds", "40").toString()));
    properties.remove("idle.seconds");
    readFromTheBeginning(arguments[0], arguments[1]);
    properties.put("group.id", arguments[1]);
    read(properties, arguments[2], Integer.parseInt(arguments[3]), idle);
    OUT.flush();
  }

  private static void readFromTheBeginning(String bootstrap, String group) throws Exception {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", bootstrap);
    try (Admin admin = Admin.create(properties)) {
      AlterConfigOp earliest =
          new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
      ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
      admin.incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all().get();
    }
  }

  private static void read(Properties properties, String topic, int count, Duration idle) {
    int had = 0;
    try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(properties)) {
      consumer.subscribe(List.of(topic));
      long deadline = System.nanoTime() + idle.toNanos();
      while (had < count && System.nanoTime() < deadline) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          OUT.println(describe(record));
          ++had;
          deadline = System.nanoTime() + idle.toNanos();
        }
      }
      consumer.commitSync();
    } catch (KafkaException error) {
      OUT.println(JSON.createObjectNode().put("error", error.getClass().getSimpleName()));
    }
  }

  private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode answer = JSON.createObjectNode();
    answer.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
    answer.put("key", text(record.key())).put("value", text(record.value()));
    answer.put("deliveryCount", record.deliveryCount().orElse((short) 0));
    for (Header header : record.headers()) {
      answer.withArray("headers").addArray().add(header.key()).add(text(header.value()));
    }
    return answer;
  }

  private static String text(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }
}
