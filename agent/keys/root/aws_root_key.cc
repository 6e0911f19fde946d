#include "keys/root/aws_root_key.h"

#include <openssl/evp.h>

#include <array>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/root/aws_messages.h"
#include "keys/root/unwrap_each.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kProvider("awsKms\0", 7);
constexpr std::string_view kCheckLabel("kveil awsKms 1\0", 15);
constexpr size_t kCheckSize = 8;
constexpr size_t kLongestArn = 512;
constexpr size_t kLongestCiphertext = 6144;  // that Decrypt takes

using Digest = std::array<uint8_t, 32>;
Digest CheckOf(std::string_view arn, Bytes ciphertext) {
  ByteBuffer text;
  Append(text, AsBytes(kCheckLabel));
  Append(text, AsBytes(arn));
  text.push_back(0);
  Append(text, ciphertext);
  Digest digest{};
  (void)EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

ByteBuffer Wrapped(std::string_view arn, Bytes ciphertext) {
  ByteBuffer wrapped;
  Append(wrapped, AsBytes(kProvider));
  Append(wrapped, AsBytes(arn));
  wrapped.push_back(0);
  Append(wrapped, Bytes(CheckOf(arn, ciphertext)).first(kCheckSize));
  Append(wrapped, ciphertext);
  return wrapped;
}

struct Parts {
  AwsArn arn;
  Bytes ciphertext;
};
std::optional<Parts> Unpack(Bytes wrapped) {
  std::string_view rest = AsText(wrapped);
  if (!rest.starts_with(kProvider)) return std::nullopt;
  rest.remove_prefix(kProvider.size());
  const size_t end = rest.substr(0, kLongestArn).find('\0');
  if (end == std::string_view::npos || rest.size() - end - 1 <= kCheckSize) return std::nullopt;
  const std::string_view arn = rest.substr(0, end);
  const Bytes check = AsBytes(rest.substr(end + 1, kCheckSize));
  const Bytes ciphertext = AsBytes(rest.substr(end + 1 + kCheckSize));
  if (ciphertext.size() > kLongestCiphertext) return std::nullopt;
  if (check != Bytes(CheckOf(arn, ciphertext)).first(kCheckSize)) return std::nullopt;
  std::optional<AwsArn> parsed = AwsArn::Parse(arn);
  if (!parsed.has_value()) return std::nullopt;
  return Parts{*std::move(parsed), ciphertext};
}

}  // namespace

AwsRootKey::AwsRootKey(const AwsOptions& options, std::shared_ptr<AwsSession> session)
    : key_(options.key, options.region),
      name_(StrCat("AWS KMS key ", options.key, " in ", options.region)),
      session_(session != nullptr ? std::move(session) : std::make_shared<AwsSession>(options)) {}

absl::Status AwsRootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

absl::StatusOr<RootKey::DataKey> AwsRootKey::GenerateDataKey(Bytes context, Deadline deadline) {
  const absl::StatusOr<crypto::SecretText> body =
      session_->Call("GenerateDataKey", aws::DataKeyRequest(key_.text(), context), deadline);
  if (!body.ok()) return Named(body.status());
  absl::StatusOr<aws::DataKeyAnswer> made = aws::ParseDataKey(*body);
  if (!made.ok()) return Named(made.status());
  absl::StatusOr<ByteBuffer> wrapped = WrappedBy(made->wrappedBy, made->ciphertext);
  if (!wrapped.ok()) return Named(wrapped.status());
  return DataKey{std::move(made->key), *std::move(wrapped)};
}

// Of an alias, whichever key it leads to at this moment.
absl::StatusOr<ByteBuffer> AwsRootKey::WrappedBy(const AwsArn& key, const ByteBuffer& ciphertext) {
  if (!key_.Covers(key, key)) return absl::UnavailableError(StrCat("another key was used: ", key.Text()));
  if (ciphertext.size() > kLongestCiphertext) return absl::UnavailableError("its ciphertext is too long");
  RETURN_IF_ERROR(Bind(key));
  return Wrapped(key.Text(), ciphertext);
}

std::vector<absl::StatusOr<crypto::SecretKey>> AwsRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                  Deadline deadline) {
  return UnwrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<crypto::SecretKey> {
    absl::StatusOr<crypto::SecretKey> unwrapped = UnwrapOne(key, deadline);
    if (!unwrapped.ok()) return Named(unwrapped.status());
    return unwrapped;
  });
}

std::vector<absl::StatusOr<ByteBuffer>> AwsRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  return RewrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<ByteBuffer> {
    absl::StatusOr<ByteBuffer> rewrapped = RewrapOne(key, deadline);
    if (!rewrapped.ok()) return Named(rewrapped.status());
    return rewrapped;
  });
}

absl::StatusOr<ByteBuffer> AwsRootKey::RewrapOne(const WrappedKey& key, Deadline deadline) {
  const std::optional<Parts> parts = Unpack(key.wrapped);
  RETURN_IF_ERROR(CheckParts(parts.has_value() ? &parts->arn : nullptr, deadline));
  ASSIGN_OR_RETURN(
      const crypto::SecretText body,
      session_->Call("ReEncrypt",
                     aws::ReEncryptRequest(key_.ForDecrypt(parts->arn), key_.text(), parts->ciphertext, key.context),
                     deadline));
  ASSIGN_OR_RETURN(const aws::ReEncryptAnswer answer, aws::ParseReEncrypt(body));
  return WrappedBy(answer.wrappedBy, answer.ciphertext);
}

std::string AwsRootKey::VersionOf(const WrappedKey& key) const {
  const std::optional<Parts> parts = Unpack(key.wrapped);
  return parts.has_value() ? parts->arn.Text() : "";
}

absl::Status AwsRootKey::CheckParts(const AwsArn* wrappedBy, Deadline deadline) {
  if (wrappedBy == nullptr) return absl::DataLossError("a key was wrapped by another provider, or is damaged");
  ASSIGN_OR_RETURN(const std::optional<AwsArn> target, Target(deadline));
  if (key_.Covers(*wrappedBy, target)) return absl::OkStatus();
  return absl::DataLossError(StrCat("a key was wrapped by another one, ", wrappedBy->Text()));
}

absl::StatusOr<crypto::SecretKey> AwsRootKey::UnwrapOne(const WrappedKey& key, Deadline deadline) {
  const std::optional<Parts> parts = Unpack(key.wrapped);
  RETURN_IF_ERROR(CheckParts(parts.has_value() ? &parts->arn : nullptr, deadline));
  ASSIGN_OR_RETURN(
      const crypto::SecretText body,
      session_->Call("Decrypt", aws::DecryptRequest(key_.ForDecrypt(parts->arn), parts->ciphertext, key.context),
                     deadline));
  ASSIGN_OR_RETURN(aws::DecryptAnswer answer, aws::ParseDecrypt(body));
  if (!IsSameAwsKey(answer.wrappedBy, parts->arn)) {
    return absl::UnavailableError(StrCat("another key was used: ", answer.wrappedBy.Text()));
  }
  return std::move(answer.key);
}

absl::Status AwsRootKey::Bind(const AwsArn& used) {
  const MutexLock lock(mutex_);
  if (target_.has_value() && (used.account != target_->account || used.partition != target_->partition)) {
    return absl::FailedPreconditionError(StrCat("the credentials are of another account now: the key is ", used.Text(),
                                                " there, and was ", target_->Text(),
                                                "; name it by its ARN, or put the credentials right"));
  }
  target_ = used;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<AwsArn>> AwsRootKey::Target(Deadline deadline) {
  if (!key_.isAlias()) return std::optional<AwsArn>();
  {
    const MutexLock lock(mutex_);
    if (target_.has_value()) return target_;
  }
  ASSIGN_OR_RETURN(AwsArn arn, Describe(deadline));
  return std::optional<AwsArn>(std::move(arn));
}

absl::StatusOr<AwsArn> AwsRootKey::Describe(Deadline deadline) {
  ASSIGN_OR_RETURN(const crypto::SecretText body,
                   session_->Call("DescribeKey", aws::DescribeRequest(key_.text()), deadline));
  ASSIGN_OR_RETURN(AwsArn arn, aws::ParseDescription(body));
  if (!key_.Covers(arn, arn)) return absl::UnavailableError(StrCat("another key was described: ", arn.Text()));
  RETURN_IF_ERROR(Bind(arn));
  return arn;
}

absl::Status AwsRootKey::Check(Deadline deadline) {
  const absl::StatusOr<AwsArn> described = Describe(deadline);
  return described.ok() ? absl::OkStatus() : Named(described.status());
}

}  // namespace kveil::keys
