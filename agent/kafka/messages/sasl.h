// SaslHandshake (API 17) and SaslAuthenticate (API 36): SaslHandshakeRequest.json and its neighbours. The
// authentication bytes hold passwords and tokens: they may never be printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kafka/error_code.h"
#include "kafka/messages/description.h"

namespace kveil::kafka {

// What follows a handshake of version 0 are bare tokens without any header, until the exchange is done.
struct SaslHandshakeRequest {
  static constexpr std::string_view kName = "SaslHandshakeRequest";
  static constexpr ApiKey kApiKey = ApiKey::kSaslHandshake;
  static constexpr VersionRange kVersions = {0, 1};
  static constexpr int16_t kFirstVersionWithAuthenticate = 1;  // tokens travel in SaslAuthenticate (KIP-152)

  std::string_view mechanism;
  UnknownTaggedFields unknownTags;
};

struct SaslHandshakeResponse {
  static constexpr std::string_view kName = "SaslHandshakeResponse";
  static constexpr ApiKey kApiKey = ApiKey::kSaslHandshake;
  static constexpr VersionRange kVersions = {0, 1};

  ErrorCode errorCode = ErrorCode::kNone;
  std::vector<std::string_view> mechanisms;
  UnknownTaggedFields unknownTags;
};

struct SaslAuthenticateRequest {
  static constexpr std::string_view kName = "SaslAuthenticateRequest";
  static constexpr ApiKey kApiKey = ApiKey::kSaslAuthenticate;
  static constexpr VersionRange kVersions = {0, 2};

  Bytes authBytes;
  UnknownTaggedFields unknownTags;
};

struct SaslAuthenticateResponse {
  static constexpr std::string_view kName = "SaslAuthenticateResponse";
  static constexpr ApiKey kApiKey = ApiKey::kSaslAuthenticate;
  static constexpr VersionRange kVersions = {0, 2};

  ErrorCode errorCode = ErrorCode::kNone;
  std::optional<std::string_view> errorMessage;
  Bytes authBytes;
  int64_t sessionLifetimeMs = 0;  // from version 1 (KIP-368)
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, SaslHandshakeRequest>& m) {
  v.Field("mechanism", m.mechanism);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, SaslHandshakeResponse>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("mechanisms", m.mechanisms);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, SaslAuthenticateRequest>& m) {
  v.Field("authBytes", m.authBytes);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, SaslAuthenticateResponse>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("authBytes", m.authBytes);
  v.Field("sessionLifetimeMs", m.sessionLifetimeMs, {.since = 1});
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
