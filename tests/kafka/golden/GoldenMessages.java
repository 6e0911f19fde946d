// Kafka's own serializers as the measure for agent/kafka/messages: random messages and headers of every version that the
// kafka-clients jar on the class path knows.
//
//   GoldenMessages DIR SEED   writes DIR/headers and DIR/messages
//
// Lines have tab-separated columns. Messages are random within their definition (common/message/*.json in the jar), for every
// version that it has; the same content is given as JSON, so that two mistakes in our reading and writing cannot make up for
// each other. Only what the jars from 2.8 on have in common is used here.

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
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.RawTaggedField;

public class GoldenMessages {
  private static final String[] MESSAGES = {
    "ProduceRequest", "ProduceResponse", "FetchRequest", "FetchResponse", "ApiVersionsRequest", "ApiVersionsResponse",
    "MetadataRequest", "MetadataResponse", "FindCoordinatorResponse", "DescribeClusterResponse",
    "ShareFetchRequest", "ShareFetchResponse", "SaslHandshakeRequest", "SaslHandshakeResponse",
    "SaslAuthenticateRequest", "SaslAuthenticateResponse", "DescribeConfigsRequest", "DescribeConfigsResponse",
    "CreateTopicsResponse", "DescribeTopicPartitionsResponse", "ShareAcknowledgeRequest", "ShareAcknowledgeResponse",
  };
  private static final int MESSAGES_A_VERSION = 25;
  private static final int UNSUPPORTED_VERSION = 35;
  private static final ObjectMapper JSON = JsonMapper.builder().configure(JsonParser.Feature.ALLOW_COMMENTS, true).build();

  private static Random random;

  public static void main(String[] arguments) throws Exception {
    Path directory = Path.of(arguments[0]);
    random = new Random(Long.parseLong(arguments[1]));
    writeHeaders(directory.resolve("headers"));
    writeMessages(directory.resolve("messages"));
  }

  private static PrintWriter open(Path path) throws Exception {
    return new PrintWriter(Files.newBufferedWriter(path, StandardCharsets.UTF_8));
  }

  private static String hex(ByteBuffer bytes) {
    return HexFormat.of().formatHex(bytes.array(), bytes.position(), bytes.limit());
  }

  private static ByteBuffer serialize(Message message, short version) {
    ObjectSerializationCache cache = new ObjectSerializationCache();
    ByteBuffer bytes = ByteBuffer.allocate(message.size(cache, version));
    message.write(new ByteBufferAccessor(bytes), cache, version);
    return bytes.flip();
  }

  // ------------------------------------------------------------------------------------------------------ headers

  // api key, version, request header version, response header version, client id as hex (- for null), request header,
  // response header, the same two with tagged fields.
  private static void writeHeaders(Path path) throws Exception {
    String[] clientIds = {null, "", "an application", "x".repeat(300)};
    try (PrintWriter out = open(path)) {
      for (ApiKeys api : ApiKeys.values()) {
        Range versions = Range.of(definition(api.name + "Request").get("validVersions").asText());
        for (short version = (short) versions.from; version <= versions.to; version++) {
          short requestVersion = api.requestHeaderVersion(version);
          short responseVersion = api.responseHeaderVersion(version);
          // A header of version 0 has no client id.
          String clientId = requestVersion == 0 ? null : clientIds[random.nextInt(clientIds.length)];
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
        if (definition == null) continue;  // younger than this jar
        Range versions = Range.of(definition.get("validVersions").asText());
        Range flexible = range(definition, "flexibleVersions");
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

  // Null where this jar has none.
  private static JsonNode definition(String name) throws Exception {
    try (InputStream in = GoldenMessages.class.getClassLoader().getResourceAsStream("common/message/" + name + ".json")) {
      return in == null ? null : JSON.readTree(in);
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

  private static byte[] randomBytesUpTo(int size) {
    byte[] bytes = new byte[random.nextInt(size + 1)];
    random.nextBytes(bytes);
    return bytes;
  }
}
