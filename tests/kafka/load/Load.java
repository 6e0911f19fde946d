// Many idempotent producers in one process, each with a topic of its own, as Kafka's own client has them by default (five
// requests in flight); then a consumer that checks what arrived.
//
//   Load produce BOOTSTRAP TOPIC-PREFIX PRODUCERS RECORDS-A-SECOND [name=value ...]
//       Sends until standard input ends, then waits for what is not answered. Record N of a producer holds the number N and
//       goes to partition N % 2. Most records are of a few users; every twentieth is of a user that nobody has seen before.
//   Load check BOOTSTRAP TOPIC-PREFIX PRODUCERS
//       Reads every topic to its end: in each partition every number exactly once and in order.
//
// Both print one JSON line a producer; `produce` first prints "sending" when each of them has had an answer.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Load {
  private static final int PARTITIONS = 2;
  private static final int PER_ROUND = 5;

  public static void main(String[] arguments) throws Exception {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", arguments[1]);
    int producers = Integer.parseInt(arguments[3]);
    if (arguments[0].equals("check")) {
      for (int i = 0; i < producers; ++i) {
        System.out.println(check(arguments[2] + i, properties));
      }
      return;
    }
    properties.put("linger.ms", "0");
    properties.put("batch.size", "1000");
    properties.put("buffer.memory", "16000000");
    for (int i = 5; i < arguments.length; ++i) {
      String[] parts = arguments[i].split("=", 2);
      properties.put(parts[0], parts[1]);
    }
    AtomicBoolean ended = new AtomicBoolean();
    List<Producing> all = new ArrayList<>();
    for (int i = 0; i < producers; ++i) {
      all.add(new Producing(arguments[2] + i, i, Integer.parseInt(arguments[4]), properties, ended));
    }
    all.forEach(Thread::start);
    for (Producing each : all) {
      each.awaitFirst();
    }
    System.out.println("sending");
    System.in.transferTo(java.io.OutputStream.nullOutputStream());
    ended.set(true);
    for (Producing each : all) {
      each.join();
      System.out.println(each.summary());
    }
  }

  private static final class Producing extends Thread {
    private final String topic;
    private final int index;
    private final long roundNanos;
    private final Properties properties;
    private final AtomicBoolean ended;
    private final AtomicLong acknowledged = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final AtomicReference<String> firstError = new AtomicReference<>("");
    private final CountDownLatch first = new CountDownLatch(1);
    private long sent;

    Producing(String topic, int index, int recordsASecond, Properties properties, AtomicBoolean ended) {
      this.topic = topic;
      this.index = index;
      this.roundNanos = 1_000_000_000L * PER_ROUND / recordsASecond;
      this.properties = properties;
      this.ended = ended;
    }

    @Override
    public void run() {
      try (KafkaProducer<byte[], byte[]> producer =
               new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
        long next = System.nanoTime();
        while (!ended.get()) {
          for (int i = 0; i < PER_ROUND; ++i) {
            producer.send(record(sent++), (metadata, error) -> {
              first.countDown();
              if (error == null) {
                acknowledged.incrementAndGet();
              } else {
                failed.incrementAndGet();
                firstError.compareAndSet("", error.getClass().getSimpleName());
              }
            });
          }
          next += roundNanos;
          long wait = next - System.nanoTime();
          if (wait > 0) {
            Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
          }
        }
        producer.flush();
      } catch (InterruptedException | RuntimeException error) {
        firstError.set(error.getClass().getSimpleName());
        failed.incrementAndGet();
      }
    }

    private ProducerRecord<byte[], byte[]> record(long number) {
      String user = number % 20 == 19 ? "new-" + topic + "-" + number : "user-" + (number + index) % 7;
      String value = "{\"userid\": \"" + user + "\", \"number\": " + number + "}";
      return new ProducerRecord<>(topic, (int) (number % PARTITIONS), null, value.getBytes(UTF_8));
    }

    void awaitFirst() throws InterruptedException {
      first.await();
    }

    String summary() {
      return "{\"topic\": \"" + topic + "\", \"sent\": " + sent + ", \"acknowledged\": " + acknowledged + ", \"failed\": " + failed
          + ", \"error\": \"" + firstError + "\"}";
    }
  }

  private static String check(String topic, Properties properties) {
    properties.put("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", "false");
    Map<Integer, Long> previous = new HashMap<>();
    Map<Integer, java.util.BitSet> seen = new HashMap<>();
    long read = 0, twice = 0, disorder = 0, highest = -1, position = 0;
    try (KafkaConsumer<byte[], byte[]> consumer =
             new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      for (int partition = 0; partition < PARTITIONS; ++partition) {
        TopicPartition place = new TopicPartition(topic, partition);
        consumer.assign(List.of(place));
        long end = consumer.endOffsets(List.of(place)).get(place);
        consumer.seekToBeginning(List.of(place));
        seen.put(partition, new java.util.BitSet());
        long limit = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        for (position = 0; position < end && System.nanoTime() < limit; position = consumer.position(place)) {
          for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
            long number = number(record.value());
            ++read;
            highest = Math.max(highest, number);
            twice += seen.get(partition).get((int) number) ? 1 : 0;
            disorder += number <= previous.getOrDefault(partition, -1L) ? 1 : 0;
            previous.put(partition, number);
            seen.get(partition).set((int) number);
          }
        }
      }
    }
    long lost = 0;
    for (long number = 0; number <= highest; ++number) {
      lost += seen.get((int) (number % PARTITIONS)).get((int) number) ? 0 : 1;
    }
    return "{\"topic\": \"" + topic + "\", \"read\": " + read + ", \"highest\": " + highest + ", \"lost\": " + lost + ", \"twice\": " + twice
        + ", \"disorder\": " + disorder + "}";
  }

  private static long number(byte[] value) {
    String text = new String(value, UTF_8);
    return Long.parseLong(text.substring(text.indexOf("\"number\": ") + 10, text.length() - 1));
  }
}
