// The record header `kveil`: one spelling for each envelope, whatever Kafka Connect made of it.
#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "fuzz.h"

namespace kveil::fuzz {
namespace {

void CheckAad(Bytes header, Input input) {
  header = header.first(std::min(header.size(), crypto::kMaxEnvelopeHeaderSize));
  const std::string_view topic = input.Line();
  crypto::TopicAad aad(topic);
  const Bytes built = aad.Of(header, input.rest());
  const ByteBuffer one(built.begin(), built.end());
  Check(aad.Of(header, std::nullopt) != Bytes(one), "a null key is bound as something else than any key");
  if (input.rest().empty()) return;
  crypto::TopicAad longer(StrCat(topic, AsText(input.rest().first(1))));
  Check(longer.Of(header, input.rest().subspan(1)) != Bytes(one), "no byte of the key can pass for one of the topic");
}

}  // namespace

void Run(Bytes input) {
  static ByteBuffer scratch;
  const Bytes value = crypto::RestoreEnvelopeHeader(input, scratch);
  const auto header = crypto::ParseEnvelopeHeader(value);
  CheckAad(value, Input(input));
  if (!header.ok()) {
    Check(header.status().message().find('\n') == absl::string_view::npos, "an error is one line");
    return;
  }
  uint8_t written[crypto::kMaxEnvelopeHeaderSize];
  const size_t size = crypto::WriteEnvelopeHeader(*header, written);
  Check(Bytes(written, size) == value, "a header that is read is written as the same bytes: there is one spelling");
  Check((header->flags & crypto::kFlagInlineKey) != 0 || size <= crypto::kMaxEnvelopeHeaderByIdSize,
        "a header without a key in it is short");
  const std::string base64 = absl::Base64Escape(ToAbsl(AsText(value)));
  static ByteBuffer again;
  Check(crypto::RestoreEnvelopeHeader(AsBytes(std::string_view(base64)), again) == value,
        "the base64 of a header is restored");
  const ByteBuffer plain(value.begin(), value.end());
  Check(crypto::RestoreEnvelopeHeader(plain, again) == value, "a header that was not changed stays as it is");
}

}  // namespace kveil::fuzz
