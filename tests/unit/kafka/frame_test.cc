// Headers of requests and responses, the table of APIs, and frames as slices.
#include "kafka/frame.h"

#include <gtest/gtest.h>

#include <string>

#include "kafka/error_code.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {
namespace {

TEST(ApiTest, HeaderVersionsFollowTheMessageVersion) {
  const struct {
    ApiKey api;
    int16_t version;
    int request;
    int response;
  } cases[] = {{ApiKey::kProduce, 8, 1, 0},
               {ApiKey::kProduce, 9, 2, 1},
               {ApiKey::kFetch, 11, 1, 0},
               {ApiKey::kFetch, 12, 2, 1},
               {ApiKey::kMetadata, 8, 1, 0},
               {ApiKey::kMetadata, 9, 2, 1},
               {ApiKey::kApiVersions, 2, 1, 0},
               {ApiKey::kApiVersions, 3, 2, 0},
               {ApiKey::kSaslHandshake, 1, 1, 0},
               {ApiKey::kSaslAuthenticate, 2, 2, 1},
               {ApiKey::kShareFetch, 1, 2, 1},
               {ApiKey::kControlledShutdown, 0, 0, 0},
               {ApiKey::kUnregisterController, 0, 2, 1}};
  for (const auto& [api, version, request, response] : cases) {
    EXPECT_EQ(RequestHeaderVersion(api, version), request) << ApiName(api) << " " << version;
    EXPECT_EQ(ResponseHeaderVersion(api, version), response) << ApiName(api) << " " << version;
  }
  EXPECT_EQ(RequestHeaderVersion(static_cast<ApiKey>(95), 0), -1);
  EXPECT_EQ(ResponseHeaderVersion(static_cast<ApiKey>(-1), 0), -1);
  EXPECT_EQ(ApiName(ApiKey::kDescribeCluster), "DescribeCluster");
  EXPECT_EQ(LatestVersion(ApiKey::kFetch), 18);
}

TEST(ErrorCodeNamesTest, AreThoseOfTheProtocol) {
  EXPECT_EQ(ErrorName(ErrorCode::kUnknownServerError), "UNKNOWN_SERVER_ERROR");
  EXPECT_EQ(ErrorName(ErrorCode::kInvalidRecord), "INVALID_RECORD");
  EXPECT_EQ(static_cast<int>(ErrorCode::kInvalidRecord), 87);
  EXPECT_EQ(ErrorName(static_cast<ErrorCode>(9999)), "UNKNOWN");
}

TEST(TopicIdTextTest, IsKafkasOwnForm) {
  TopicId id;
  EXPECT_TRUE(id.IsZero());
  EXPECT_EQ(id.Text(), "AAAAAAAAAAAAAAAAAAAAAA");
  id.bytes[15] = 1;
  EXPECT_EQ(id.Text(), "AAAAAAAAAAAAAAAAAAAAAQ");
  EXPECT_FALSE(id.IsZero());
}

ByteBuffer Header(ApiKey api, int16_t version, std::optional<std::string_view> clientId) {
  FrameWriter writer;
  WriteRequestHeader(api, version, 77, clientId, writer);
  return writer.ToBuffer();
}

TEST(RequestHeaderTest, IsReadBackInEveryHeaderVersion) {
  const struct {
    ApiKey api;
    int16_t version;
    size_t size;
  } cases[] = {
      {ApiKey::kProduce, 8, 8 + 2 + 3}, {ApiKey::kProduce, 9, 8 + 2 + 3 + 1}, {ApiKey::kControlledShutdown, 0, 8}};
  for (const auto& [api, version, size] : cases) {
    ByteBuffer frame = Header(api, version, "app");
    frame.push_back(0xee);  // the body
    const auto header = ReadRequestHeader(frame);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->apiKey, api);
    EXPECT_EQ(header->version, version);
    EXPECT_EQ(header->correlationId, 77);
    EXPECT_EQ(header->size, size);
    EXPECT_EQ(header->clientId, size > 8 ? std::optional<std::string_view>("app") : std::nullopt);
  }
  EXPECT_EQ(ReadRequestHeader(Header(ApiKey::kFetch, 12, std::nullopt))->clientId, std::nullopt);
  EXPECT_EQ(ReadRequestHeader(Header(ApiKey::kFetch, 12, ""))->clientId, "");
}

TEST(RequestHeaderTest, TagsOfTheSectionAreSkipped) {
  ByteBuffer frame = Header(ApiKey::kFetch, 12, "a");
  frame.back() = 2;
  for (const uint8_t byte : {5, 3, 0, 0, 0, 200, 1, 0}) frame.push_back(byte);
  const auto header = ReadRequestHeader(frame);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->size, frame.size());
}

TEST(RequestHeaderTest, OfAnUnknownApiStopsAfterTheFixedFields) {
  FrameWriter writer;
  writer.Int(int16_t{1000});
  writer.Int(int16_t{4});
  writer.Int(int32_t{9});
  writer.Int(int16_t{-7});  // whatever comes is not looked at
  const auto header = ReadRequestHeader(writer.ToBuffer());
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->size, kFixedRequestHeaderSize);
  EXPECT_FALSE(IsKnown(header->apiKey));
}

TEST(RequestHeaderTest, CutShortAnywhereAsksForMore) {
  ByteBuffer frame = Header(ApiKey::kFetch, 12, "application");
  frame.back() = 1;
  for (const uint8_t byte : {5, 3, 0, 0, 0}) frame.push_back(byte);
  for (size_t size = 0; size < frame.size(); ++size) {
    EXPECT_EQ(ReadRequestHeader(Bytes(frame.data(), size)).status().code(), absl::StatusCode::kOutOfRange) << size;
  }
  EXPECT_TRUE(ReadRequestHeader(frame).ok());
}

TEST(RequestHeaderTest, NonsenseIsRefused) {
  ByteBuffer negativeVersion = Header(ApiKey::kFetch, -1, "a");
  EXPECT_EQ(ReadRequestHeader(negativeVersion).status().code(), absl::StatusCode::kInvalidArgument);
  ByteBuffer negativeClientId = Header(ApiKey::kFetch, 4, std::nullopt);
  negativeClientId[9] = 0xfe;
  EXPECT_EQ(ReadRequestHeader(negativeClientId).status().code(), absl::StatusCode::kInvalidArgument);
  ByteBuffer hugeTag = Header(ApiKey::kFetch, 12, "a");
  hugeTag.back() = 1;
  for (const uint8_t byte : {0, 0xff, 0xff, 0xff, 0xff, 0x0f}) hugeTag.push_back(byte);
  EXPECT_EQ(ReadRequestHeader(hugeTag).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ResponseHeaderTest, OfApiVersionsNeverHasTags) {
  FrameWriter writer;
  WriteResponseHeader(ApiKey::kApiVersions, 4, 5, writer);
  EXPECT_EQ(writer.size(), 4u);
  writer.Clear();
  WriteResponseHeader(ApiKey::kFetch, 12, 5, writer);
  EXPECT_EQ(writer.size(), 5u);
  const auto header = ReadResponseHeader(writer.ToBuffer(), ApiKey::kFetch, 12);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->correlationId, 5);
  EXPECT_EQ(header->size, 5u);
}

TEST(FrameWriterTest, LongFieldsAreReferredToAndShortOnesCopied) {
  const ByteBuffer records(4096, 0xab);
  FrameWriter writer;
  writer.BeginFrame();
  writer.Int(int32_t{1});
  writer.Append(Bytes(records));
  writer.Append(Bytes(records).first(FrameWriter::kReferenceThreshold - 1));
  writer.FinishFrame();
  const auto slices = writer.Slices();
  ASSERT_EQ(slices.size(), 3u);
  EXPECT_EQ(slices[1].iov_base, records.data());
  EXPECT_EQ(writer.size(), 4 + 4 + 4096 + FrameWriter::kReferenceThreshold - 1);
}

TEST(FrameWriterTest, EveryFrameHasItsOwnLength) {
  const ByteBuffer records(1000, 1);
  FrameWriter writer;
  for (const size_t size : {1000, 20}) {
    writer.BeginFrame();
    writer.Append(Bytes(records).first(size));
    writer.FinishFrame();
  }
  const ByteBuffer bytes = writer.ToBuffer();
  ASSERT_EQ(bytes.size(), 4 + 1000 + 4 + 20u);
  EXPECT_EQ(LoadBigEndian<int32_t>(bytes.data()), 1000);
  EXPECT_EQ(LoadBigEndian<int32_t>(bytes.data() + 1004), 20);
  writer.Clear();
  EXPECT_TRUE(writer.empty());
  EXPECT_TRUE(writer.Slices().empty());
}

}  // namespace
}  // namespace kveil::kafka
