// Messages as guards read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kafka/messages/description.h"
#include "observe/metrics.h"
#include "proxy/interceptor.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// The verdict on a request in a version that its guard does not read. Counts a refused record if the API carries
// records.
proxy::RequestVerdict CloseOnVersion(const kafka::RequestHeader& header, observe::Metrics& metrics);

// The verdict on a request that cannot be decoded, for the reason that Decode gives. Counts like CloseOnVersion.
proxy::RequestVerdict CloseOnMalformed(kafka::ApiKey api, const absl::Status& status, observe::Metrics& metrics);

// An error: no broker has a topic with such a name. Names have a bound because what is remembered and logged of topics
// holds them. `use` begins the message, "Fetch of".
absl::Status CheckTopicName(std::string_view use, std::string_view name);

// A request or response that has been decoded, or the verdict that closes the connection because it cannot be:
//
//   Decoded<kafka::FetchRequest> decoded(request, output, shared_.metrics);
//   if (!decoded.ok()) co_return decoded.Close();
//
// Its memory counts against the worker's budget while it lives. The message refers to the bytes of the frame.
template <class Message>
class Decoded {
  static constexpr bool kIsRequest = Message::kName.ends_with("Request");
  using Frame = std::conditional_t<kIsRequest, proxy::RequestFrame, proxy::ResponseFrame>;
  using Verdict = std::conditional_t<kIsRequest, proxy::RequestVerdict, proxy::ResponseVerdict>;

 public:
  Decoded(const Frame& frame, const proxy::FrameOutput& output, observe::Metrics& metrics)
      : frame_(frame),
        metrics_(metrics),
        message_(kafka::Decode<Message>(frame.body, VersionOf(frame), &bytes_)),
        memory_(output.arena.budget(), bytes_) {}

  bool ok() const { return message_.ok(); }
  // Call it once, if not ok().
  Verdict Close() const {
    if constexpr (!kIsRequest) {
      return Verdict::Close(std::string(message_.status().message()));
    } else {
      if (!Message::kVersions.Contains(VersionOf(frame_))) return CloseOnVersion(frame_.header, metrics_);
      return CloseOnMalformed(Message::kApiKey, message_.status(), metrics_);
    }
  }

  Message& operator*() { return *message_; }
  Message* operator->() { return &*message_; }

 private:
  static int16_t VersionOf(const Frame& frame) {
    if constexpr (kIsRequest) return frame.header.version;
    if constexpr (!kIsRequest) return frame.version;
  }

  const Frame& frame_;
  observe::Metrics& metrics_;
  size_t bytes_ = 0;
  absl::StatusOr<Message> message_;
  proxy::MemoryInUse memory_;
};

}  // namespace kveil::guard
