// Kafka's own record batches as the measure for agent/kafka: writes batches, and judges those that agent/kafka wrote.
//
//   GoldenBatches generate DIR SEED   writes DIR/batches
//   GoldenBatches verify DIR          reads DIR/rewritten, which golden_check made from DIR/batches
//
// Lines have tab-separated columns; what is in a batch is given as JSON, too.

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

public class GoldenBatches {
  private static final int BATCHES_A_KIND = 6;
  private static final int LARGE_BATCHES = 2;  // they take most of the time
  private static final ObjectMapper JSON = new ObjectMapper();

  private static Random random;

  public static void main(String[] arguments) throws Exception {
    Path directory = Path.of(arguments[1]);
    if (arguments[0].equals("generate")) {
      random = new Random(Long.parseLong(arguments[2]));
      writeBatches(directory.resolve("batches"));
    } else {
      verifyBatches(directory);
    }
  }

  private static PrintWriter open(Path path) throws Exception {
    return new PrintWriter(Files.newBufferedWriter(path, StandardCharsets.UTF_8));
  }

  private static String hex(ByteBuffer bytes) {
    byte[] copy = new byte[bytes.remaining()];
    bytes.duplicate().get(copy);
    return HexFormat.of().formatHex(copy);
  }

  // number, kind, bytes (one batch), JSON of what Java reads in it (- for messages of magic 0 and 1).
  private static void writeBatches(Path path) throws Exception {
    try (PrintWriter out = open(path)) {
      int number = 0;
      for (CompressionType codec : CompressionType.values()) {
        for (String kind : List.of("plain", "idempotent", "transactional", "logAppendTime", "gaps", "large")) {
          for (int i = 0; i < (kind.equals("large") ? LARGE_BATCHES : BATCHES_A_KIND); i++) {
            writeBatch(out, number++, kind, randomBatch(codec, kind));
          }
        }
      }
      for (ControlRecordType type : List.of(ControlRecordType.COMMIT, ControlRecordType.ABORT)) {
        writeBatch(out, number++, "control", MemoryRecords.withEndTransactionMarker(700, 1_700_000_000_000L, 3, 42,
            (short) 5, new EndTransactionMarker(type, 9)));
      }
      for (byte magic : new byte[] {0, 1}) {
        for (CompressionType codec : List.of(CompressionType.NONE, CompressionType.GZIP)) {
          MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1000), magic, Compression.of(codec).build(),
              TimestampType.CREATE_TIME, 10);
          builder.append(1_700_000_000_000L, "key".getBytes(), "value".getBytes());
          out.println(number++ + "\tlegacy\t" + hex(builder.build().buffer()) + "\t-");
        }
      }
    }
  }

  private static void writeBatch(PrintWriter out, int number, String kind, MemoryRecords records) throws Exception {
    RecordBatch batch = onlyBatch(records.buffer());
    out.println(number + "\t" + kind + "\t" + hex(records.buffer()) + "\t" + JSON.writeValueAsString(describe(batch)));
  }

  private static MemoryRecords randomBatch(CompressionType codec, String kind) {
    boolean producer = kind.equals("idempotent") || kind.equals("transactional");
    boolean large = kind.equals("large");
    long baseOffset = random.nextInt(3) == 0 ? 0 : random.nextLong() >>> 2;
    TimestampType timestamps = kind.equals("logAppendTime") ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME;
    MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1000), RecordBatch.MAGIC_VALUE_V2,
        Compression.of(codec).build(), timestamps, baseOffset, 1_700_000_123_456L, producer ? random.nextInt(1 << 30) : -1,
        producer ? (short) random.nextInt(1000) : -1, producer ? random.nextInt(1 << 30) : -1,
        kind.equals("transactional"), random.nextInt(100));
    int count = large ? 3000 : 1 + random.nextInt(30);
    long timestamp = 1_700_000_000_000L;
    long offset = baseOffset;
    for (int i = 0; i < count; i++) {
      timestamp += random.nextInt(2000) - 500;
      byte[] key = random.nextInt(3) == 0 ? null : randomBytesUpTo(20);
      byte[] value = random.nextInt(8) == 0 ? null : (large ? "{\"userid\": 38, \"page\": \"/\"}".getBytes() : randomValueBytes());
      builder.appendWithOffset(offset, timestamp, key, value, randomHeaders());
      offset += kind.equals("gaps") ? 1 + random.nextInt(300) : 1;
    }
    return builder.build();
  }

  private static byte[] randomBytesUpTo(int size) {
    byte[] bytes = new byte[random.nextInt(size + 1)];
    random.nextBytes(bytes);
    return bytes;
  }

  private static byte[] randomValueBytes() {
    int[] sizes = {0, 1, 40, 62, 63, 64, 65, 200, 8190, 8192};
    byte[] bytes = new byte[sizes[random.nextInt(sizes.length)]];
    random.nextBytes(bytes);
    return bytes;
  }

  private static Header[] randomHeaders() {
    Header[] headers = new Header[random.nextInt(4)];
    for (int i = 0; i < headers.length; i++) {
      String key = random.nextInt(3) == 0 ? "kveil" : "h" + random.nextInt(3);
      headers[i] = new RecordHeader(key, random.nextInt(4) == 0 ? null : randomBytesUpTo(40));
    }
    return headers;
  }

  private static RecordBatch onlyBatch(ByteBuffer bytes) {
    RecordBatch only = null;
    int size = 0;
    for (MutableRecordBatch batch : MemoryRecords.readableRecords(bytes.duplicate()).batches()) {
      if (only != null) throw new IllegalStateException("more than one batch");
      batch.ensureValid();
      only = batch;
      size += batch.sizeInBytes();
    }
    if (only == null || size != bytes.remaining()) throw new IllegalStateException("not just one whole batch");
    return only;
  }

  private static String text(ByteBuffer bytes) {
    return bytes == null ? null : hex(bytes);
  }

  private static String text(byte[] bytes) {
    return bytes == null ? null : HexFormat.of().formatHex(bytes);
  }

  private static ObjectNode describe(RecordBatch batch) {
    ObjectNode node = JSON.createObjectNode();
    node.put("baseOffset", batch.baseOffset()).put("lastOffset", batch.lastOffset());
    node.put("partitionLeaderEpoch", batch.partitionLeaderEpoch()).put("maxTimestamp", batch.maxTimestamp());
    node.put("producerId", batch.producerId()).put("producerEpoch", batch.producerEpoch());
    node.put("baseSequence", batch.baseSequence()).put("codec", batch.compressionType().name);
    node.put("transactional", batch.isTransactional()).put("control", batch.isControlBatch());
    node.put("logAppendTime", batch.timestampType() == TimestampType.LOG_APPEND_TIME).put("count", batch.countOrNull());
    ArrayNode records = node.putArray("records");
    for (Record record : batch) {
      record.ensureValid();
      ObjectNode entry = records.addObject();
      entry.put("offset", record.offset()).put("timestamp", record.timestamp());
      entry.put("key", text(record.key())).put("value", text(record.value()));
      ArrayNode headers = entry.putArray("headers");
      for (Header header : record.headers()) headers.addArray().add(header.key()).add(text(header.value()));
    }
    return node;
  }

  // ------------------------------------------------------------------------------------------------------- verify

  // Columns of DIR/rewritten: number in DIR/batches, what was done, codec, bytes.
  private static void verifyBatches(Path directory) throws Exception {
    Map<Integer, ObjectNode> originals = new HashMap<>();
    for (String line : Files.readAllLines(directory.resolve("batches"))) {
      String[] columns = line.split("\t");
      if (!columns[3].equals("-")) originals.put(Integer.parseInt(columns[0]), (ObjectNode) JSON.readTree(columns[3]));
    }
    int checked = 0;
    int failed = 0;
    for (String line : Files.readAllLines(directory.resolve("rewritten"))) {
      String[] columns = line.split("\t");
      String problem = judge(originals.get(Integer.parseInt(columns[0])), columns[1], columns[2], columns[3]);
      checked++;
      if (problem == null) continue;
      if (failed++ < 20) System.err.println("batch " + columns[0] + ", " + columns[1] + " " + columns[2] + ": " + problem);
    }
    if (checked < originals.size()) throw new IllegalStateException("only " + checked + " batches to judge");
    System.out.println("Java read " + checked + " batches of ours, " + failed + " wrong");
    if (failed > 0) System.exit(1);
  }

  // What is wrong with the rewritten batch, or null.
  private static String judge(ObjectNode original, String what, String codec, String bytes) {
    ObjectNode expected = original.deepCopy();
    try {
      RecordBatch batch = onlyBatch(ByteBuffer.wrap(HexFormat.of().parseHex(bytes)));
      if (what.equals("filler")) {
        expectFiller(expected, batch);
      } else {
        expectRecords((ArrayNode) expected.get("records"), what);
        expected.put("codec", codec).put("count", expected.get("records").size());
      }
      // As text: Jackson tells an int from a long of the same value.
      String actual = describe(batch).toString();
      return actual.equals(expected.toString()) ? null : "Java reads " + shortened(actual) + " instead of " + shortened(expected.toString());
    } catch (Exception e) {
      return e.toString();
    }
  }

  private static String shortened(String text) {
    return text.length() > 2000 ? text.substring(0, 2000) + "..." : text;
  }

  // What golden_check did to the records.
  private static void expectRecords(ArrayNode records, String what) {
    for (int i = records.size() - 1; i >= 0; i--) {
      ObjectNode record = (ObjectNode) records.get(i);
      ArrayNode headers = (ArrayNode) record.get("headers");
      switch (what) {
        case "copied" -> { }
        case "sealed" -> {
          if (record.get("value").isNull()) continue;
          record.put("value", record.get("value").asText() + "ee".repeat(16));
          headers.addArray().add("kveil").add("ab".repeat(30));
        }
        case "opened" -> {
          if (record.get("value").isNull()) continue;
          int last = headers.size() - 1;
          while (last >= 0 && !headers.get(last).get(0).asText().equals("kveil")) last--;
          if (last >= 0) headers.remove(last);
        }
        case "thinned" -> {
          if (i % 3 == 1) records.remove(i);
        }
        default -> throw new IllegalArgumentException(what);
      }
    }
  }

  private static void expectFiller(ObjectNode expected, RecordBatch batch) {
    Record record = batch.iterator().next();
    if (ControlRecordType.parse(record.key()) != ControlRecordType.COMMIT) throw new IllegalStateException("not a commit marker");
    if (EndTransactionMarker.deserialize(record).controlType() != ControlRecordType.COMMIT) throw new IllegalStateException("bad marker");
    boolean logAppendTime = expected.get("logAppendTime").asBoolean();
    long firstTimestamp = logAppendTime ? expected.get("maxTimestamp").asLong() : record.timestamp();
    expected.put("producerId", -1L).put("producerEpoch", (short) -1).put("baseSequence", -1).put("codec", "none");
    expected.put("transactional", false).put("control", true).put("count", 1);
    ArrayNode records = expected.putArray("records");
    ObjectNode only = records.addObject();
    only.put("offset", expected.get("lastOffset").asLong()).put("timestamp", firstTimestamp);
    only.put("key", "00000001").put("value", "000000000000").putArray("headers");
  }
}
