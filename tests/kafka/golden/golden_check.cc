// Holds agent/kafka against what GoldenMessages.java and GoldenBatches.java wrote with Kafka's own classes:
//   DIR/RELEASE/headers    request and response headers of every API and version: read and written alike
//   DIR/RELEASE/messages   decoded, compared with Java's JSON, and encoded again to the same bytes
//   DIR/batches            read, compared with Java's JSON; rewritten in every codec into DIR/rewritten, for Java to
//   judge
// Prints what it checked; exits with 1 when anything differs, or when there is a version of a message that no release
// has.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "base/bytes.h"
#include "base/text.h"
#include "json_visitor.h"
#include "kafka/batch_writer.h"
#include "kafka/frame.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_configs.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"
#include "kafka/messages/sasl.h"
#include "kafka/messages/share_acknowledge.h"
#include "kafka/messages/share_fetch.h"
#include "kafka/record_batch.h"
#include "kafka/varint.h"

namespace kveil::kafka::golden {
namespace {

using Columns = std::vector<std::string>;

constexpr size_t kUncompressedLimit = 64 << 20;

class Tally {
 public:
  void Check(bool right, const std::string& what) {
    ++checked_;
    if (right) return;
    if (++wrong_ <= 20) std::cerr << what.substr(0, 2000) << "\n";
  }
  // Prints the result; `least` guards against a check that found nothing to check.
  bool Report(std::string_view subject, size_t least) const {
    std::cout << subject << ": " << checked_ << " checked, " << wrong_ << " wrong\n";
    if (checked_ < least) std::cerr << subject << ": expected at least " << least << "\n";
    return wrong_ == 0 && checked_ >= least;
  }

 private:
  size_t checked_ = 0;
  size_t wrong_ = 0;
};

void ForEachLine(const std::string& path, const std::function<void(const Columns&)>& use) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) use(absl::StrSplit(line, '\t'));
}

std::vector<std::string> FoldersIn(const std::string& directory) {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.is_directory()) folders.push_back(entry.path().string());
  }
  return folders;
}

std::string FromHex(const std::string& hex) { return absl::HexStringToBytes(hex); }
std::string ToHex(Bytes bytes) { return absl::BytesToHexString(ToAbsl(AsText(bytes))); }
std::string ToHex(const FrameWriter& writer) { return ToHex(writer.ToBuffer()); }

// ------------------------------------------------------------------------------------------------------- headers

// Columns: api key, version, request and response header version, client id, then request and response header without
// tagged fields and with them.
void CheckHeader(const Columns& line, Tally& tally) {
  const auto api = static_cast<ApiKey>(std::stoi(line[0]));
  const auto version = static_cast<int16_t>(std::stoi(line[1]));
  const std::string name = StrCat("header of ", ApiName(api), " version ", version);
  tally.Check(RequestHeaderVersion(api, version) == std::stoi(line[2]), name + ": request header version");
  tally.Check(ResponseHeaderVersion(api, version) == std::stoi(line[3]), name + ": response header version");
  tally.Check(LatestVersion(api) >= version, name + ": newer than the latest known version");
  std::optional<std::string> clientId;
  if (line[4] != "-") clientId = FromHex(line[4]);
  const int32_t correlationId = version * 1000 + static_cast<int16_t>(api);
  FrameWriter writer;
  WriteRequestHeader(api, version, correlationId, clientId, writer);
  tally.Check(ToHex(writer) == line[5], name + ": request header is written as " + ToHex(writer) + ", not " + line[5]);
  writer.Clear();
  WriteResponseHeader(api, version, correlationId, writer);
  tally.Check(ToHex(writer) == line[6], name + ": response header is written as " + ToHex(writer) + ", not " + line[6]);
  for (const size_t column : {5, 7}) {
    const std::string request = FromHex(line[column]) + "body";
    const auto read = ReadRequestHeader(AsBytes(request));
    tally.Check(read.ok() && read->apiKey == api && read->version == version && read->correlationId == correlationId &&
                    read->clientId == clientId && read->size == request.size() - 4,
                name + ": request header is not read: " + line[column]);
    const std::string response = FromHex(line[column + 1]) + "body";
    const auto readResponse = ReadResponseHeader(AsBytes(response), api, version);
    tally.Check(
        readResponse.ok() && readResponse->correlationId == correlationId && readResponse->size == response.size() - 4,
        name + ": response header is not read: " + line[column + 1]);
  }
}

// ------------------------------------------------------------------------------------------------------ messages

// What Kafka 2.8 calls a field of this message otherwise than Kafka 4.4.
using Renames = std::map<std::string, std::string>;

void Rename(nlohmann::json& json, const Renames& renames) {
  if (json.is_array()) {
    for (nlohmann::json& element : json) Rename(element, renames);
  }
  if (!json.is_object()) return;
  nlohmann::json renamed = nlohmann::json::object();
  for (auto& [name, value] : json.items()) {
    Rename(value, renames);
    const auto found = renames.find(name);
    renamed[found == renames.end() ? name : found->second] = std::move(value);
  }
  json = std::move(renamed);
}

// Columns: message, version, bytes, JSON.
template <class Message>
void CheckMessage(int16_t version, const Columns& line, const Renames& renames, Tally& tally) {
  const std::string bytes = FromHex(line[2]);
  const std::string name = StrCat(Message::kName, " version ", version);
  const auto message = Decode<Message>(AsBytes(bytes), version);
  tally.Check(message.ok(), name + ": " + std::string(message.status().message()) + " in " + line[2]);
  if (!message.ok()) return;
  FrameWriter writer;
  Encode(*message, version, writer);
  tally.Check(writer.ToBuffer() == ByteBuffer(bytes.begin(), bytes.end()),
              name + ": written as " + ToHex(writer) + ", not " + line[2]);
  nlohmann::json ours;
  JsonVisitor visitor(ours, version);
  Describe(visitor, *message);
  nlohmann::json theirs = nlohmann::json::parse(line[3]);
  Rename(theirs, renames);
  tally.Check(ours == theirs, name + ": read as " + ours.dump() + ", not " + line[3]);
}

struct MessageCheck {
  void (*check)(int16_t version, const Columns& line, const Renames& renames, Tally& tally);
  VersionRange versions;
  Renames renames;
};

template <class Message>
std::pair<const std::string, MessageCheck> CheckOf(Renames renames = {}) {
  return {std::string(Message::kName), {CheckMessage<Message>, Message::kVersions, std::move(renames)}};
}

const std::map<std::string, MessageCheck>& MessageChecks() {
  static const std::map<std::string, MessageCheck> checks = {
      CheckOf<ProduceRequest>(),
      CheckOf<ProduceResponse>(),
      CheckOf<FetchRequest>(),
      CheckOf<FetchResponse>({{"partitionResponses", "partitions"},
                              {"partition", "partitionIndex"},
                              {"recordSetSizeInBytes", "recordsSizeInBytes"},
                              {"recordSet", "records"}}),
      CheckOf<ApiVersionsRequest>(),
      CheckOf<ApiVersionsResponse>(),
      CheckOf<MetadataRequest>(),
      CheckOf<MetadataResponse>(),
      CheckOf<FindCoordinatorResponse>(),
      CheckOf<DescribeClusterResponse>(),
      CheckOf<ShareFetchRequest>(),
      CheckOf<ShareFetchResponse>(),
      CheckOf<ShareAcknowledgeRequest>(),
      CheckOf<ShareAcknowledgeResponse>(),
      CheckOf<SaslHandshakeRequest>(),
      CheckOf<SaslHandshakeResponse>(),
      CheckOf<SaslAuthenticateRequest>(),
      CheckOf<SaslAuthenticateResponse>(),
      CheckOf<DescribeConfigsRequest>(),
      CheckOf<DescribeConfigsResponse>(),
      CheckOf<CreateTopicsResponse>(),
      CheckOf<DescribeTopicPartitionsResponse>(),
  };
  return checks;
}

// Every version that the agent reads has to be in one of the releases.
void CheckMessages(const std::vector<std::string>& releases, Tally& tally) {
  std::map<std::string, std::set<int16_t>> seen;
  for (const std::string& release : releases) {
    ForEachLine(release + "/messages", [&](const Columns& line) {
      const auto check = MessageChecks().find(line[0]);
      if (check == MessageChecks().end()) return tally.Check(false, "no check for " + line[0]);
      const auto version = static_cast<int16_t>(std::stoi(line[1]));
      seen[line[0]].insert(version);
      check->second.check(version, line, check->second.renames, tally);
    });
  }
  for (const auto& [name, check] : MessageChecks()) {
    for (int16_t version = check.versions.min; version <= check.versions.max; ++version) {
      tally.Check(seen[name].contains(version), StrCat(name, " version ", version, " is in no release"));
    }
  }
}

// ------------------------------------------------------------------------------------------------------- batches

nlohmann::json HexOrNull(const std::optional<Bytes>& bytes) {
  return bytes.has_value() ? nlohmann::json(ToHex(*bytes)) : nlohmann::json(nullptr);
}

nlohmann::json DescribeRecord(const RecordView& record, const BatchHeader& batch) {
  const uint8_t* cursor = record.timestampDelta.data();
  int64_t delta = 0;
  if (!ReadVarlong(cursor, cursor + record.timestampDelta.size(), delta)) return "bad timestamp delta";
  nlohmann::json headers = nlohmann::json::array();
  HeaderReader reader(record);
  for (HeaderView header; reader.Next(header);) {
    headers.push_back(nlohmann::json::array({std::string(header.key), HexOrNull(header.value)}));
  }
  if (!reader.status().ok()) return std::string(reader.status().message());
  return {{"offset", batch.baseOffset + record.offsetDelta},
          {"timestamp", batch.isLogAppendTime() ? batch.maxTimestamp : batch.baseTimestamp + delta},
          {"key", HexOrNull(record.key)},
          {"value", HexOrNull(record.value)},
          {"headers", headers}};
}

nlohmann::json DescribeBatch(const BatchHeader& header, Bytes records) {
  nlohmann::json list = nlohmann::json::array();
  RecordReader reader(records, header.count);
  for (RecordView record; reader.Next(record);) list.push_back(DescribeRecord(record, header));
  if (!reader.status().ok()) return std::string(reader.status().message());
  return {{"baseOffset", header.baseOffset},
          {"lastOffset", header.lastOffset()},
          {"partitionLeaderEpoch", header.partitionLeaderEpoch},
          {"maxTimestamp", header.maxTimestamp},
          {"producerId", header.producerId},
          {"producerEpoch", header.producerEpoch},
          {"baseSequence", header.baseSequence},
          {"codec", std::string(CodecName(header.codec()))},
          {"transactional", header.isTransactional()},
          {"control", header.isControl()},
          {"logAppendTime", header.isLogAppendTime()},
          {"count", header.count},
          {"records", list}};
}

// Removes the last header with the envelope's name, if there is one.
HeaderEdit WithoutEnvelope(const RecordView& record) {
  HeaderEdit edit = HeaderEdit::Keep();
  HeaderReader headers(record);
  for (HeaderView header; headers.Next(header);) {
    if (header.key == "kveil") edit = HeaderEdit::Remove(header.whole);
  }
  return edit;
}

// What is done to a batch; GoldenBatches.java expects just this.
void RewriteRecord(std::string_view what, const RecordView& record, int index, BatchWriter& writer) {
  static const ByteBuffer envelope(30, 0xab);
  constexpr size_t kTagSize = 16;
  if (what == "sealed" && record.value.has_value()) {
    uint8_t* value = writer.AddRecord(record, record.value->size() + kTagSize, HeaderEdit::Append("kveil", envelope));
    std::copy(record.value->begin(), record.value->end(), value);
    std::memset(value + record.value->size(), 0xee, kTagSize);
  } else if (what == "opened" && record.value.has_value()) {
    uint8_t* value = writer.AddRecord(record, record.value->size(), WithoutEnvelope(record));
    std::copy(record.value->begin(), record.value->end(), value);
  } else if (what != "thinned" || index % 3 != 1) {  // copied, a null value, or thinned
    writer.CopyRecord(record);
  }
}

void Rewrite(const std::string& number, const BatchHeader& header, Bytes records, std::ofstream& out, Tally& tally) {
  BatchWriter writer;
  for (const std::string what : {"copied", "sealed", "opened", "thinned"}) {
    for (const Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
      ByteBuffer rewritten;
      writer.Begin(header, rewritten);
      RecordReader reader(records, header.count);
      RecordView record;
      for (int index = 0; reader.Next(record); ++index) RewriteRecord(what, record, index, writer);
      const absl::Status status = writer.Finish(codec);
      tally.Check(status.ok(), StrCat("batch ", number, ": ", status.ToString()));
      out << number << "\t" << what << "\t" << CodecName(codec) << "\t" << ToHex(rewritten) << "\n";
    }
  }
  out << number << "\tfiller\tnone\t" << ToHex(MakeControlFiller(header)) << "\n";
}

// Columns: number, kind, bytes, JSON.
void CheckBatch(const Columns& line, std::ofstream& rewritten, Tally& tally) {
  const std::string bytes = FromHex(line[2]);
  const std::string name = StrCat("batch ", line[0], " (", line[1], ")");
  BatchReader reader(AsBytes(bytes));
  BatchView batch;
  const bool whole = reader.Next(batch) == BatchReader::Result::kBatch && reader.rest().empty();
  tally.Check(whole, name + ": not read as one batch");
  if (!whole) return;
  tally.Check(batch.isLegacy() == (line[1] == "legacy"), name + ": magic");
  if (batch.isLegacy()) return;
  tally.Check(CheckCrc(batch).ok(), name + ": CRC");
  ByteBuffer scratch;
  const auto records = UncompressedRecords(batch, kUncompressedLimit, scratch);
  tally.Check(records.ok(), name + ": " + std::string(records.status().message()));
  if (!records.ok()) return;
  const nlohmann::json ours = DescribeBatch(batch.header, *records);
  tally.Check(ours == nlohmann::json::parse(line[3]), name + ": read as " + ours.dump() + ", not " + line[3]);
  if (!batch.header.isControl()) Rewrite(line[0], batch.header, *records, rewritten, tally);
}

bool Run(const std::string& directory) {
  const std::vector<std::string> releases = FoldersIn(directory);
  Tally headers;
  for (const std::string& release : releases) {
    ForEachLine(release + "/headers", [&](const Columns& line) { CheckHeader(line, headers); });
  }
  Tally messages;
  CheckMessages(releases, messages);
  Tally batches;
  std::ofstream rewritten(directory + "/rewritten");
  ForEachLine(directory + "/batches", [&](const Columns& line) { CheckBatch(line, rewritten, batches); });
  const bool headersRight = headers.Report("headers", 4 * 1000);
  const bool messagesRight = messages.Report("messages", 4 * 3000);
  const bool batchesRight = batches.Report("batches", 500);
  return headersRight && messagesRight && batchesRight && rewritten.flush().good();
}

}  // namespace
}  // namespace kveil::kafka::golden

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: golden_check DIR\n";
    return 2;
  }
  return kveil::kafka::golden::Run(argv[1]) ? 0 : 1;
}
