#include "config/aws_config.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/service_address.h"
#include "keys/names/key_names.h"

namespace kveil::config {
namespace {

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
  if (!aws.region.empty() && !keys::IsAwsRegion(aws.region)) named->Expected("a region such as \"eu-central-1\"");
}

void ReadKey(const JsonObject& object, KeyNamedBy namedBy, AwsConfig& aws) {
  const std::optional<JsonValue> key = FindNamedKey(object, namedBy);
  if (namedBy == KeyNamedBy::kPolicy) return ReadRegion(object, aws);
  if (!key) return;
  aws.key = key->String();
  if (aws.key.empty()) return;
  const std::optional<JsonValue> region = object.Find("region");
  if (aws.key.starts_with("arn:")) {
    if (keys::IsAwsKeyArn(aws.key)) {
      aws.region = std::vector<std::string>(absl::StrSplit(aws.key, ':'))[3];
      if (region) region->Error("expected no region beside an ARN, which names one");
    } else {
      key->Expected("an ARN such as \"arn:aws:kms:eu-central-1:111122223333:key/ID\" or \"...:alias/NAME\"");
    }
    return;
  }
  if (!keys::IsAwsKeyName(aws.key)) {
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
