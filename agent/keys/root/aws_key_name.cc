#include "keys/root/aws_key_name.h"

#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::keys {

std::optional<AwsArn> AwsArn::Parse(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(text), ':');
  if (parts.size() != 6 || parts[0] != "arn" || parts[2] != "kms") return std::nullopt;
  AwsArn arn{parts[1], parts[3], parts[4], parts[5]};
  if (arn.partition.empty() || arn.region.empty() || arn.account.empty()) return std::nullopt;
  if (!arn.isKey() && !arn.resource.starts_with("alias/")) return std::nullopt;
  return arn;
}

std::string AwsArn::Text() const { return StrCat("arn:", partition, ":kms:", region, ":", account, ":", resource); }

bool IsSameAwsKey(const AwsArn& one, const AwsArn& other) {
  return one.isKey() && one.partition == other.partition && one.account == other.account &&
         one.resource == other.resource && (one.region == other.region || one.isMultiRegion());
}

AwsKeyName::AwsKeyName(std::string name, std::string region)
    : name_(std::move(name)),
      region_(std::move(region)),
      arn_(AwsArn::Parse(name_)),
      isAlias_(arn_.has_value() ? !arn_->isKey() : name_.starts_with("alias/")) {}

bool AwsKeyName::Covers(const AwsArn& key, const std::optional<AwsArn>& target) const {
  if (!key.isKey()) return false;
  if (arn_.has_value() && !isAlias_) return IsSameAwsKey(key, *arn_);
  if (key.region != region_ && !key.isMultiRegion()) return false;
  if (!isAlias_) return key.resource == StrCat("key/", name_);
  return target.has_value() && key.partition == target->partition && key.account == target->account;
}

std::string AwsKeyName::ForDecrypt(const AwsArn& key) const {
  if (!isAlias_) return name_;
  AwsArn here = key;
  here.region = region_;
  return here.Text();
}

}  // namespace kveil::keys
