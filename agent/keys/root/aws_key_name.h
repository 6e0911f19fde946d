// How keys of AWS KMS are named: by ARN, by id, by alias.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kveil::keys {

// "arn:PARTITION:kms:REGION:ACCOUNT:key/ID", or with "alias/NAME" at its end.
struct AwsArn {
  std::string partition;
  std::string region;
  std::string account;
  std::string resource;

  static std::optional<AwsArn> Parse(std::string_view text);
  std::string Text() const;

  bool isKey() const { return resource.starts_with("key/"); }
  // A multi-Region key has the same id and the same material in several regions, and an ARN in each.
  bool isMultiRegion() const { return resource.starts_with("key/mrk-"); }
};

// Whether two ARNs of keys name the same key material.
bool IsSameAwsKey(const AwsArn& one, const AwsArn& other);

// The key that the configuration names.
class AwsKeyName {
 public:
  // `name` as in AwsOptions::key.
  AwsKeyName(std::string name, std::string region);

  const std::string& text() const { return name_; }
  // An alias can be moved to another key.
  bool isAlias() const { return isAlias_; }
  // Whether a key with this ARN may have wrapped what this key's registry holds: it is this key. Of an alias: it is in
  // the account and region of `target`, the key to which the alias leads now, as it may have led there before. Nobody
  // without rights in that account can have keys there.
  bool Covers(const AwsArn& key, const std::optional<AwsArn>& target) const;
  // What Decrypt is told for what a key that is covered has wrapped. Of an alias, the key itself: AWS would refuse what
  // was wrapped before the alias was moved.
  std::string ForDecrypt(const AwsArn& key) const;

 private:
  const std::string name_;
  const std::string region_;
  const std::optional<AwsArn> arn_;
  const bool isAlias_;
};

}  // namespace kveil::keys
