#include "keys/names/key_names.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsLower(char c) { return absl::ascii_islower(static_cast<unsigned char>(c)); }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); }

template <typename Predicate>
bool HasOnly(std::string_view text, size_t longest, Predicate predicate) {
  return !text.empty() && text.size() <= longest && std::all_of(text.begin(), text.end(), predicate);
}

constexpr size_t kLongest = 1024;

bool IsAwsKeyId(std::string_view text) {
  if (text.starts_with("mrk-")) return text.size() == 36 && HasOnly(text.substr(4), kLongest, IsHex);
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), '-');
  constexpr size_t kSizes[] = {8, 4, 4, 4, 12};
  return parts.size() == std::size(kSizes) &&
         std::equal(parts.begin(), parts.end(), std::begin(kSizes), [](const std::string& part, size_t size) {
           return part.size() == size && HasOnly(part, size, IsHex);
         });
}

bool IsAwsAlias(std::string_view text) {
  constexpr std::string_view kAlias = "alias/";
  constexpr size_t kLongestAlias = 249;  // without "alias/"
  if (!text.starts_with(kAlias)) return false;
  text.remove_prefix(kAlias.size());
  return !text.starts_with("aws/") &&
         HasOnly(text, kLongestAlias, [](char c) { return IsAlnum(c) || c == '/' || c == '_' || c == '-'; });
}

bool IsAwsPartition(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), '-');
  return parts.front() == "aws" && std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
           return HasOnly(part, kLongest, IsLower);
         });
}

}  // namespace

bool IsVaultKeyName(std::string_view text) {
  constexpr size_t kLongestKey = 128;
  return HasOnly(text, kLongestKey, [](char c) { return IsAlnum(c) || c == '_' || c == '-' || c == '.'; }) &&
         (IsAlnum(text.front()) || text.front() == '_');
}

bool IsAwsRegion(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), '-');
  return parts.size() >= 3 && HasOnly(parts.back(), 2, IsDigit) &&
         std::all_of(parts.begin(), parts.end() - 1,
                     [](const std::string& part) { return HasOnly(part, kLongest, IsLower); });
}

bool IsAwsKeyArn(std::string_view text) {
  constexpr size_t kAccountDigits = 12;
  if (text.size() > kLongest) return false;
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), ':');
  if (parts.size() != 6 || parts[0] != "arn" || !IsAwsPartition(parts[1]) || parts[2] != "kms") return false;
  if (!IsAwsRegion(parts[3]) || parts[4].size() != kAccountDigits || !HasOnly(parts[4], kAccountDigits, IsDigit)) {
    return false;
  }
  return IsAwsAlias(parts[5]) || (parts[5].starts_with("key/") && IsAwsKeyId(std::string_view(parts[5]).substr(4)));
}

bool IsAwsKeyName(std::string_view text) {
  return text.size() <= kLongest && (IsAwsKeyArn(text) || IsAwsKeyId(text) || IsAwsAlias(text));
}

bool IsAzureKeyName(std::string_view text) {
  constexpr size_t kLongestKey = 127;
  return HasOnly(text, kLongestKey, [](char c) { return IsAlnum(c) || c == '-'; });
}

// A project may be one of a domain, "example.com:project".
bool IsGcpKeyName(std::string_view text) {
  constexpr size_t kLongestProject = 100, kLongestName = 63;
  if (text.size() > kLongest) return false;
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), '/');
  const auto isName = [](char c) { return IsAlnum(c) || c == '_' || c == '-'; };
  return parts.size() == 8 && parts[0] == "projects" &&
         HasOnly(parts[1], kLongestProject,
                 [](char c) { return IsLower(c) || IsDigit(c) || c == '.' || c == ':' || c == '-'; }) &&
         parts[2] == "locations" &&
         HasOnly(parts[3], kLongestName, [](char c) { return IsLower(c) || IsDigit(c) || c == '-'; }) &&
         parts[4] == "keyRings" && HasOnly(parts[5], kLongestName, isName) && parts[6] == "cryptoKeys" &&
         HasOnly(parts[7], kLongestName, isName);
}

bool IsPkcs11KeyName(std::string_view text) {
  constexpr size_t kLongestKey = 128;
  return !text.empty() && text.size() <= kLongestKey;
}

}  // namespace kveil::keys
