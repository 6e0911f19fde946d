// Many idempotent producers in one process, as Kafka's own client has them by default (five requests in flight); then a
// consumer that checks what arrived.
//
//   Load produce BOOTSTRAP TOPIC-PREFIX TOPICS RECORDS-A-SECOND [name=value ...]
//       One producer a topic sends until standard input ends, then waits for what is not answered. Lines of input:
//         fresh    one more producer a topic, a new run; the broker knows nothing of it, and would take any of its batches for
//                  the first
//         settle   those end
//       Record N of a producer holds the number N and goes to partition N % 2. Most records are of a few users; the first and
//       every twentieth after it are of a user that nobody has seen before.
//   Load check BOOTSTRAP TOPIC-PREFIX TOPICS
//       Reads every topic to its end: of each run, in each partition every number exactly once and in order.
//
// Both print one JSON line a topic and run; `produce` first prints "sending" when each has had an answer.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
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
  private static final int FEWEST = 50;  // of a producer that is ended when it has hardly begun

  public static void main(String[] arguments) throws Exception {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", arguments[1]);
    int producers = Integer.parseInt(arguments[3]);
    if (arguments[0].equals("check")) {
      for (int i = 0; i < producers; ++i) {
        check(arguments[2] + i, properties);
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
    int rate = Integer.parseInt(arguments[4]);
    List<Producing> all = new ArrayList<>();
    start(0, arguments[2], producers, rate, properties, all);
    for (Producing each : all) {
      each.awaitFirst();
    }
    System.out.println("sending");
    int run = 0;
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      if (line.equals("fresh")) {
        start(++run, arguments[2], producers, rate, properties, all);
      } else {
        all.stream().filter(each -> each.run > 0).forEach(each -> each.ended = true);
      }
    }
    all.forEach(each -> each.ended = true);
    for (Producing each : all) {
      each.join();
      System.out.println(each.summary());
    }
  }

  private static void start(int run, String prefix, int count, int rate, Properties properties, List<Producing> all) {
    for (int i = 0; i < count; ++i) {
      Producing each = new Producing(prefix + i, run, rate, properties);
      all.add(each);
      each.start();
    }
  }

  private static final class Producing extends Thread {
    private final String topic;
    private final int run;
    private final long roundNanos;
    private final Properties properties;
    private volatile boolean ended;
    private final AtomicLong acknowledged = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final AtomicReference<String> firstError = new AtomicReference<>("");
    private final CountDownLatch first = new CountDownLatch(1);
    private long sent;

    Producing(String topic, int run, int recordsASecond, Properties properties) {
      this.topic = topic;
      this.run = run;
      this.roundNanos = 1_000_000_000L * PER_ROUND / recordsASecond;
      this.properties = properties;
    }

    @Override
    public void run() {
      try (KafkaProducer<byte[], byte[]> producer =
               new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
        long next = System.nanoTime();
        while (!ended || sent < FEWEST) {
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
      String user = number % 20 == 0 ? "new-" + topic + "-" + run + "-" + number : "user-" + number % 7;
      String value = "{\"userid\": \"" + user + "\", \"run\": " + run + ", \"number\": " + number + "}";
      return new ProducerRecord<>(topic, (int) (number % PARTITIONS), null, value.getBytes(UTF_8));
    }

    void awaitFirst() throws InterruptedException {
      first.await();
    }

    String summary() {
      return "{\"topic\": \"" + topic + "\", \"run\": " + run + ", \"sent\": " + sent + ", \"acknowledged\": " + acknowledged + ", \"failed\": " + failed
          + ", \"error\": \"" + firstError + "\"}";
    }
  }

  // What was read of one run.
  private static final class Seen {
    private final List<BitSet> numbers = List.of(new BitSet(), new BitSet());
    private final long[] previous = {-1, -1};
    private long read;
    private long twice;
    private long disorder;
    private long highest = -1;

    void add(int partition, long number) {
      ++read;
      highest = Math.max(highest, number);
      twice += numbers.get(partition).get((int) number) ? 1 : 0;
      disorder += number <= previous[partition] ? 1 : 0;
      previous[partition] = number;
      numbers.get(partition).set((int) number);
    }

    String summary(String topic, int run) {
      long lost = highest + 1 - numbers.get(0).cardinality() - numbers.get(1).cardinality();
      return "{\"topic\": \"" + topic + "\", \"run\": " + run + ", \"read\": " + read + ", \"highest\": " + highest + ", \"lost\": "
          + lost + ", \"twice\": " + twice + ", \"disorder\": " + disorder + "}";
    }
  }

  private static void check(String topic, Properties properties) {
    properties.put("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", "false");
    Map<Integer, Seen> runs = new TreeMap<>();
    try (KafkaConsumer<byte[], byte[]> consumer =
             new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      for (int partition = 0; partition < PARTITIONS; ++partition) {
        TopicPartition place = new TopicPartition(topic, partition);
        consumer.assign(List.of(place));
        long end = consumer.endOffsets(List.of(place)).get(place);
        consumer.seekToBeginning(List.of(place));
        long limit = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (consumer.position(place) < end && System.nanoTime() < limit) {
          for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
            String text = new String(record.value(), UTF_8);
            runs.computeIfAbsent((int) number(text, "run"), run -> new Seen()).add(partition, number(text, "number"));
          }
        }
      }
    }
    runs.forEach((run, seen) -> System.out.println(seen.summary(topic, run)));
  }

  private static long number(String text, String name) {
    int from = text.indexOf("\"" + name + "\": ") + name.length() + 4;
    int to = from;
    while (Character.isDigit(text.charAt(to))) {
      ++to;
    }
    return Long.parseLong(text.substring(from, to));
  }
}
