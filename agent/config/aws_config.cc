#include "config/aws_config.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/service_address.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestAlias = 249;  // without "alias/"
constexpr size_t kAccountDigits = 12;

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsLower(char c) { return absl::ascii_islower(static_cast<unsigned char>(c)); }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); }

template <typename Predicate>
bool HasOnly(std::string_view text, Predicate predicate) {
  return !text.empty() && std::all_of(text.begin(), text.end(), predicate);
}

// "eu-central-1", "us-gov-west-1".
bool IsRegion(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '-');
  return parts.size() >= 3 && HasOnly(parts.back(), IsDigit) && parts.back().size() <= 2 &&
         std::all_of(parts.begin(), parts.end() - 1, [](const std::string& part) { return HasOnly(part, IsLower); });
}

// A UUID, or a multi-Region key's "mrk-" and 32 digits.
bool IsKeyId(const std::string& text) {
  if (text.starts_with("mrk-")) return text.size() == 36 && HasOnly(std::string_view(text).substr(4), IsHex);
  const std::vector<std::string> parts = absl::StrSplit(text, '-');
  constexpr size_t kSizes[] = {8, 4, 4, 4, 12};
  return parts.size() == std::size(kSizes) &&
         std::equal(parts.begin(), parts.end(), std::begin(kSizes),
                    [](const std::string& part, size_t size) { return part.size() == size && HasOnly(part, IsHex); });
}

// Of AWS's own keys, "alias/aws/...", no program may use one for itself.
bool IsAlias(std::string_view text) {
  constexpr std::string_view kAlias = "alias/";
  if (!text.starts_with(kAlias)) return false;
  text.remove_prefix(kAlias.size());
  return text.size() <= kLongestAlias && !text.starts_with("aws/") && HasOnly(text, [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '_' || c == '-';
         });
}

bool IsPartition(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), '-');
  return parts.front() == "aws" &&
         std::all_of(parts.begin(), parts.end(), [](const std::string& part) { return HasOnly(part, IsLower); });
}

// "arn:aws:kms:REGION:ACCOUNT:key/ID", or with an alias. The region goes into `region`.
bool IsArn(const std::string& text, std::string& region) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() != 6 || parts[0] != "arn" || !IsPartition(parts[1]) || parts[2] != "kms") return false;
  if (!IsRegion(parts[3]) || parts[4].size() != kAccountDigits || !HasOnly(parts[4], IsDigit)) return false;
  region = parts[3];
  return IsAlias(parts[5]) || (parts[5].starts_with("key/") && IsKeyId(parts[5].substr(4)));
}

// https://docs.aws.amazon.com/general/latest/gr/kms.html, and the partitions of AWS's SDKs.
std::string Endpoint(std::string_view service, std::string_view region) {
  constexpr std::pair<std::string_view, std::string_view> kElsewhere[] = {
      {"cn-", "amazonaws.com.cn"},   {"eusc-", "amazonaws.eu"},      {"us-iso-", "c2s.ic.gov"},
      {"us-isob-", "sc2s.sgov.gov"}, {"eu-isoe-", "cloud.adc-e.uk"}, {"us-isof-", "csp.hci.ic.gov"},
  };
  std::string_view suffix = "amazonaws.com";
  for (const auto& [prefix, other] : kElsewhere) {
    if (region.starts_with(prefix)) suffix = other;
  }
  return StrCat("https://", service, ".", region, ".", suffix);
}

void ReadRegion(const JsonObject& object, AwsConfig& aws) {
  const std::optional<JsonValue> named = object.Require("region");
  if (!named) return;
  aws.region = named->String();
  if (!aws.region.empty() && !IsRegion(aws.region)) named->Expected("a region such as \"eu-central-1\"");
}

void ReadKey(const JsonObject& object, KeyNamedBy namedBy, AwsConfig& aws) {
  const std::optional<JsonValue> key = FindNamedKey(object, namedBy);
  if (namedBy == KeyNamedBy::kPolicy) return ReadRegion(object, aws);
  if (!key) return;
  aws.key = key->String();
  if (aws.key.empty()) return;
  const std::optional<JsonValue> region = object.Find("region");
  if (aws.key.starts_with("arn:")) {
    if (!IsArn(aws.key, aws.region)) {
      key->Expected("an ARN such as \"arn:aws:kms:eu-central-1:111122223333:key/ID\" or \"...:alias/NAME\"");
    } else if (region) {
      region->Error("expected no region beside an ARN, which names one");
    }
    return;
  }
  if (!IsKeyId(aws.key) && !IsAlias(aws.key)) {
    key->Expected("the ARN or the id of a key, or \"alias/NAME\" (none of AWS's own aliases)");
  }
  ReadRegion(object, aws);
}

}  // namespace

AwsConfig ReadAwsKms(const JsonValue& value, KeyNamedBy namedBy) {
  AwsConfig aws;
  const JsonObject object(value, {"key", "region", "endpoint", "stsEndpoint", "ca"});
  ReadKey(object, namedBy, aws);
  aws.endpoint = Endpoint("kms", aws.region);
  aws.stsEndpoint = Endpoint("sts", aws.region);
  if (const auto endpoint = object.Find("endpoint")) aws.endpoint = ReadServiceAddress(*endpoint, aws.endpoint);
  if (const auto sts = object.Find("stsEndpoint")) aws.stsEndpoint = ReadServiceAddress(*sts, aws.stsEndpoint);
  if (const auto ca = object.Find("ca")) aws.ca = ca->FilePath();
  return aws;
}

}  // namespace kveil::config
