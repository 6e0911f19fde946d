#include "keys/root/wrapped_format.h"

#include <openssl/evp.h>

#include <array>
#include <cstdint>

#include "base/text.h"

namespace kveil::keys {
namespace {

constexpr size_t kCheckSize = 8;
constexpr size_t kLongestField = 512;

using Digest = std::array<uint8_t, 32>;
Digest CheckOf(std::string_view provider, Bytes header, Bytes context, Bytes rest) {
  ByteBuffer text;
  Append(text, AsBytes(StrCat("kveil ", provider, " 1")));
  text.push_back(0);
  Append(text, header);
  for (int shift = 24; shift >= 0; shift -= 8) text.push_back(static_cast<uint8_t>(context.size() >> shift));
  Append(text, context);
  Append(text, rest);
  Digest digest{};
  (void)EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

}  // namespace

absl::StatusOr<ByteBuffer> PackWrapped(std::string_view provider, absl::Span<const std::string_view> fields,
                                       Bytes context, Bytes rest) {
  ByteBuffer wrapped;
  Append(wrapped, AsBytes(provider));
  wrapped.push_back(0);
  for (const std::string_view field : fields) {
    if (field.size() > kLongestField || field.find('\0') != std::string_view::npos) {
      return absl::UnavailableError("its response makes no sense: the name of the key that it used cannot be kept");
    }
    Append(wrapped, AsBytes(field));
    wrapped.push_back(0);
  }
  const Digest check = CheckOf(provider, wrapped, context, rest);
  Append(wrapped, Bytes(check).first(kCheckSize));
  Append(wrapped, rest);
  return wrapped;
}

std::optional<WrappedParts> UnpackWrapped(std::string_view provider, size_t fields, Bytes wrapped, Bytes context) {
  const std::string_view text = AsText(wrapped);
  if (!text.starts_with(provider) || text.size() == provider.size() || text[provider.size()] != '\0') {
    return std::nullopt;
  }
  WrappedParts parts;
  size_t at = provider.size() + 1;
  for (size_t i = 0; i < fields; ++i) {
    const size_t length = text.substr(at, kLongestField + 1).find('\0');
    if (length == std::string_view::npos) return std::nullopt;
    parts.fields.push_back(text.substr(at, length));
    at += length + 1;
  }
  if (wrapped.size() - at < kCheckSize) return std::nullopt;
  parts.rest = wrapped.subspan(at + kCheckSize);
  const Digest check = CheckOf(provider, wrapped.subspan(0, at), context, parts.rest);
  if (wrapped.subspan(at, kCheckSize) != Bytes(check).first(kCheckSize)) return std::nullopt;
  return parts;
}

}  // namespace kveil::keys
