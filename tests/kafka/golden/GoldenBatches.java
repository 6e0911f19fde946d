// Kafka's own serializers as the measure for agent/kafka: writes messages and record batches, and judges batches.
//
//   GoldenVectors generate DIR SEED   writes DIR/headers, DIR/messages, DIR/batches
//   GoldenVectors verify DIR          reads DIR/rewritten, which golden_check made from DIR/batches
//
// Lines have tab-separated columns. Messages are random within their definition (common/message/*.json in the kafka-clients
// jar), for every version that it has; the same content is given as JSON, so that two mistakes in our reading and writing
// cannot make up for each other.

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.InputStream;
import java.io.PrintWriter;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

public class GoldenVectors {
  private static final String[] MESSAGES = {
    "ProduceRequest", "ProduceResponse", "FetchRequest", "FetchResponse", "ApiVersionsRequest", "ApiVersionsResponse",
    "MetadataRequest", "MetadataResponse", "FindCoordinatorResponse", "DescribeClusterResponse",
    "ShareFetchRequest", "ShareFetchResponse", "SaslHandshakeRequest", "SaslHandshakeResponse",
    "SaslAuthenticateRequest", "SaslAuthenticateResponse", "DescribeConfigsRequest", "DescribeConfigsResponse",
    "CreateTopicsResponse", "DescribeTopicPartitionsResponse",
  };
  private static final int MESSAGES_A_VERSION = 40;
  private static final int BATCHES_A_KIND = 6;
  private static final int UNSUPPORTED_VERSION = 35;
  private static final ObjectMapper JSON = JsonMapper.builder().configure(JsonParser.Feature.ALLOW_COMMENTS, true).build();

  private static Random random;

  public static void main(String[] arguments) throws Exception {
    Path directory = Path.of(arguments[1]);
    if (arguments[0].equals("generate")) {
      random = new Random(Long.parseLong(arguments[2]));
      writeHeaders(directory.resolve("headers"));
      writeMessages(directory.resolve("messages"));
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

  private static ByteBuffer serialize(Message message, short version) {
    return MessageUtil.toByteBufferAccessor(message, version).buffer();
  }

  // ------------------------------------------------------------------------------------------------------ headers

  // api key, version, request header version, response header version, client id as hex (- for null), request header,
  // response header, the same two with tagged fields.
  private static void writeHeaders(Path path) throws Exception {
    String[] clientIds = {null, "", "an application", "x".repeat(300)};
    try (PrintWriter out = open(path)) {
      for (ApiKeys api : ApiKeys.values()) {
        if (!api.hasValidVersion()) continue;
        for (short version = api.oldestVersion(); version <= api.latestVersion(true); version++) {
          short requestVersion = api.requestHeaderVersion(version);
          short responseVersion = api.responseHeaderVersion(version);
          String clientId = clientIds[random.nextInt(clientIds.length)];
          RequestHeaderData request = new RequestHeaderData().setRequestApiKey(api.id).setRequestApiVersion(version);
          request.setCorrelationId(version * 1000 + api.id).setClientId(clientId);
          ResponseHeaderData response = new ResponseHeaderData().setCorrelationId(version * 1000 + api.id);
          String plain = hex(serialize(request, requestVersion)) + "\t" + hex(serialize(response, responseVersion));
          if (requestVersion >= 2) request.unknownTaggedFields().addAll(unknownFields());
          if (responseVersion >= 1) response.unknownTaggedFields().addAll(unknownFields());
          String tagged = hex(serialize(request, requestVersion)) + "\t" + hex(serialize(response, responseVersion));
          String client = clientId == null ? "-" : HexFormat.of().formatHex(clientId.getBytes(StandardCharsets.UTF_8));
          out.println(api.id + "\t" + version + "\t" + requestVersion + "\t" + responseVersion + "\t" + client + "\t" + plain
              + "\t" + tagged);
        }
      }
    }
  }

  // ----------------------------------------------------------------------------------------------------- messages

  // How much of a random message is null, empty or left at its default.
  private enum Filling { DEFAULTS, NULLS, FULL, RANDOM }

  // message, version, bytes, JSON.
  private static void writeMessages(Path path) throws Exception {
    try (PrintWriter out = open(path)) {
      for (String name : MESSAGES) {
        JsonNode definition = definition(name);
        Range versions = Range.of(definition.get("validVersions").asText());
        Range flexible = Range.of(definition.get("flexibleVersions").asText());
        Class<?> converter = Class.forName("org.apache.kafka.common.message." + name + "DataJsonConverter");
        var read = converter.getMethod("read", JsonNode.class, short.class);
        var write = converter.getMethod("write", Class.forName("org.apache.kafka.common.message." + name + "Data"),
            short.class, boolean.class);
        for (int version = versions.from; version <= versions.to; version++) {
          for (int i = 0; i < MESSAGES_A_VERSION; i++) {
            Filling filling = i < 3 ? Filling.values()[i] : Filling.RANDOM;
            Map<String, JsonNode> structs = new HashMap<>();
            JsonNode content = randomStruct(definition.get("fields"), structs, version, filling);
            if (name.equals("ApiVersionsResponse") && content.get("errorCode").asInt() == UNSUPPORTED_VERSION) {
              ((ObjectNode) content).put("errorCode", 0);  // would make it a version 0 body
            }
            Message message = (Message) read.invoke(null, content, (short) version);
            if (flexible.contains(version) && filling != Filling.DEFAULTS) addUnknownFields(message, content);
            String json = JSON.writeValueAsString(write.invoke(null, message, (short) version, false));
            out.println(name + "\t" + version + "\t" + hex(serialize(message, (short) version)) + "\t" + json);
          }
        }
      }
    }
  }

  private static JsonNode definition(String name) throws Exception {
    try (InputStream in = GoldenVectors.class.getClassLoader().getResourceAsStream("common/message/" + name + ".json")) {
      return JSON.readTree(Objects.requireNonNull(in, name));
    }
  }

  private record Range(int from, int to) {
    static Range of(String text) {
      if (text.equals("none")) return new Range(0, -1);
      if (text.endsWith("+")) return new Range(Integer.parseInt(text.substring(0, text.length() - 1)), Short.MAX_VALUE);
      String[] ends = text.split("-");
      return new Range(Integer.parseInt(ends[0]), Integer.parseInt(ends[ends.length - 1]));
    }

    boolean contains(int version) {
      return version >= from && version <= to;
    }
  }

  private static Range range(JsonNode field, String name) {
    return Range.of(field.has(name) ? field.get(name).asText() : "none");
  }

  private static JsonNode randomStruct(JsonNode fields, Map<String, JsonNode> structs, int version, Filling filling) {
    ObjectNode struct = JSON.createObjectNode();
    for (JsonNode field : fields) {
      if (!range(field, "versions").contains(version)) continue;
      boolean tagged = range(field, "taggedVersions").contains(version);
      if (tagged && (filling == Filling.DEFAULTS || filling == Filling.NULLS)) continue;
      if (tagged && filling == Filling.RANDOM && random.nextBoolean()) continue;
      String name = field.get("name").asText();
      String key = Character.toLowerCase(name.charAt(0)) + name.substring(1);
      struct.set(key, randomValue(field, field.get("type").asText(), structs, version, filling));
    }
    return struct;
  }

  private static JsonNode randomValue(JsonNode field, String type, Map<String, JsonNode> structs, int version,
      Filling filling) {
    if (range(field, "nullableVersions").contains(version)) {
      if (filling == Filling.NULLS || (filling == Filling.RANDOM && random.nextInt(4) == 0)) return JSON.nullNode();
    }
    if (type.startsWith("[]")) {
      ArrayNode array = JSON.createArrayNode();
      int count = switch (filling) {
        case DEFAULTS -> 0;
        case RANDOM -> random.nextInt(40) == 0 ? 130 : random.nextInt(4);  // 130: a count of two varint bytes
        default -> 2;
      };
      for (int i = 0; i < count; i++) {
        array.add(randomElement(field, type.substring(2), structs, version, count > 10 ? Filling.DEFAULTS : filling));
      }
      return array;
    }
    return randomElement(field, type, structs, version, filling);
  }

  private static JsonNode randomElement(JsonNode field, String type, Map<String, JsonNode> structs, int version,
      Filling filling) {
    boolean zero = filling == Filling.DEFAULTS;
    return switch (type) {
      case "bool" -> JSON.getNodeFactory().booleanNode(!zero && random.nextBoolean());
      case "int8" -> JSON.getNodeFactory().numberNode(zero ? 0 : (byte) random.nextInt());
      case "int16" -> JSON.getNodeFactory().numberNode(zero ? 0 : (short) random.nextInt());
      case "int32" -> JSON.getNodeFactory().numberNode(zero ? 0 : random.nextInt());
      case "int64" -> JSON.getNodeFactory().numberNode(zero ? 0L : random.nextLong());
      case "uuid" -> JSON.getNodeFactory().textNode((zero ? Uuid.ZERO_UUID : randomUuid()).toString());
      case "string" -> JSON.getNodeFactory().textNode(zero ? "" : randomText());
      case "records", "bytes" -> JSON.getNodeFactory().binaryNode(zero ? new byte[0] : randomBytes());
      default -> {
        if (field.has("fields")) structs.put(type, field.get("fields"));
        yield randomStruct(Objects.requireNonNull(structs.get(type), type), structs, version, filling);
      }
    };
  }

  private static Uuid randomUuid() {
    return new Uuid(random.nextLong(), random.nextLong());
  }

  private static String randomText() {
    int[] sizes = {0, 1, 9, 126, 127, 128, 700};
    int size = sizes[random.nextInt(sizes.length)];
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < size; i++) text.appendCodePoint(random.nextInt(30) == 0 ? 0x20ac : 'a' + random.nextInt(26));
    return text.toString();
  }

  private static byte[] randomBytes() {
    int[] sizes = {0, 1, 61, 126, 127, 128, 500, 511, 512, 513, 3000, 17000};
    byte[] bytes = new byte[sizes[random.nextInt(sizes.length)]];
    random.nextBytes(bytes);
    return bytes;
  }

  private static List<RawTaggedField> unknownFields() {
    List<RawTaggedField> fields = new ArrayList<>();
    // Known tags are 0 to 3 today.
    int[] tags = {4, 5, 127, 128, 300, 1_000_000};
    for (int tag : tags) {
      if (random.nextInt(3) == 0) fields.add(new RawTaggedField(tag, randomBytesUpTo(300)));
    }
    return fields;
  }

  // Adds unknown tagged fields to the message and to every struct in it that `content` has: the others do not exist in its
  // version.
  private static void addUnknownFields(Message message, JsonNode content) throws Exception {
    if (random.nextInt(3) == 0) message.unknownTaggedFields().addAll(unknownFields());
    for (Field field : message.getClass().getDeclaredFields()) {
      JsonNode member = content.get(field.getName());
      if (Modifier.isStatic(field.getModifiers()) || member == null) continue;
      field.setAccessible(true);
      Object value = field.get(message);
      if (value instanceof Message nested) addUnknownFields(nested, member);
      if (value instanceof Collection<?> elements) {
        int i = 0;
        for (Object element : elements) {
          if (element instanceof Message nested) addUnknownFields(nested, member.get(i++));
        }
      }
    }
  }

  // ------------------------------------------------------------------------------------------------------ batches

  // number, kind, bytes (one batch), JSON of what Java reads in it (- for messages of magic 0 and 1).
  private static void writeBatches(Path path) throws Exception {
    try (PrintWriter out = open(path)) {
      int number = 0;
      for (CompressionType codec : CompressionType.values()) {
        for (String kind : List.of("plain", "idempotent", "transactional", "logAppendTime", "gaps", "large")) {
          for (int i = 0; i < BATCHES_A_KIND; i++) {
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
          for (int j = headers.size() - 1; j >= 0; j--) {
            if (headers.get(j).get(0).asText().equals("kveil")) headers.remove(j);
          }
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
