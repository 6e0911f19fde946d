#include "keys/root/vault_root_key.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "keys/root/bound_seed.h"
#include "keys/root/vault_messages.h"

namespace kveil::keys {
namespace {

// OpenBao takes no more than 1,000 strings in a request, and an item has two and a name.
constexpr size_t kMostOfARequest = 400;
constexpr size_t kVersionSize = 4;
constexpr size_t kLongestCiphertext = 1024;

}  // namespace

VaultRootKey::VaultRootKey(const VaultOptions& options, std::shared_ptr<VaultSession> session)
    : path_(StrCat(options.mount, "/")),
      key_(options.key),
      name_(StrCat("Vault key ", options.mount, "/", options.key, " at ", options.address)),
      session_(session != nullptr ? std::move(session) : std::make_shared<VaultSession>(options)) {}

absl::Status VaultRootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

ByteBuffer VaultRootKey::Header() const {
  ByteBuffer header;
  Append(header, AsBytes("vault"));
  header.push_back(0);
  Append(header, AsBytes(path_));
  Append(header, AsBytes(key_));
  header.push_back(0);
  return header;
}

absl::StatusOr<RootKey::DataKey> VaultRootKey::GenerateDataKey(Bytes context, Deadline deadline) {
  absl::StatusOr<VaultSession::Answer> answer =
      session_->Call("POST", StrCat(path_, "datakey/plaintext/", key_), vault::DataKeyRequest(), deadline);
  if (!answer.ok()) return Named(answer.status());
  if (answer->status != 200) return Explain(*answer, deadline);
  absl::StatusOr<vault::DataKeyAnswer> made = vault::ParseDataKey(answer->body);
  if (!made.ok()) return Named(made.status());
  const SeedCheck check = CheckOf("vault", made->key, context);
  return DataKey{DataKeyOf("vault", made->key, context), Wrapped(made->ciphertext, Bytes(check).first(kSeedCheckSize))};
}

ByteBuffer VaultRootKey::Wrapped(const vault::Ciphertext& ciphertext, Bytes check) const {
  ByteBuffer wrapped = Header();
  for (int shift = 24; shift >= 0; shift -= 8) wrapped.push_back(static_cast<uint8_t>(ciphertext.version >> shift));
  Append(wrapped, check);
  Append(wrapped, ciphertext.bytes);
  return wrapped;
}

absl::StatusOr<vault::DecryptItem> VaultRootKey::ItemOf(const WrappedKey& key) const {
  const ByteBuffer header = Header();
  const absl::Status foreign = Named(absl::DataLossError("a key was wrapped by another one, or is damaged"));
  const size_t before = header.size() + kVersionSize + kSeedCheckSize;
  if (key.wrapped.size() < before || key.wrapped.size() > before + kLongestCiphertext ||
      key.wrapped.subspan(0, header.size()) != Bytes(header)) {
    return foreign;
  }
  vault::DecryptItem item;
  for (const uint8_t byte : key.wrapped.subspan(header.size(), kVersionSize)) item.version = item.version << 8 | byte;
  if (item.version == 0) return foreign;
  item.ciphertext = key.wrapped.subspan(before);
  return item;
}

absl::StatusOr<crypto::SecretKey> VaultRootKey::KeyOf(const WrappedKey& key, const crypto::SecretKey& seed) const {
  const Bytes check = key.wrapped.subspan(Header().size() + kVersionSize, kSeedCheckSize);
  if (crypto::EqualInConstantTime(check, Bytes(CheckOf("vault", seed, key.context)).first(kSeedCheckSize))) {
    return DataKeyOf("vault", seed, key.context);
  }
  return absl::DataLossError("a key is damaged, or was wrapped for another purpose");
}

std::vector<absl::StatusOr<crypto::SecretKey>> VaultRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                    Deadline deadline) {
  return AskOfEach<crypto::SecretKey, crypto::SecretKey>(
      keys, {"decrypt/", vault::DecryptRequest, vault::ParseDecrypt},
      [this](const WrappedKey& key, const crypto::SecretKey& seed) { return KeyOf(key, seed); }, deadline);
}

std::vector<absl::StatusOr<ByteBuffer>> VaultRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  return AskOfEach<ByteBuffer, vault::Ciphertext>(
      keys, {"rewrap/", vault::RewrapRequest, vault::ParseRewrap},
      [this](const WrappedKey& key, const vault::Ciphertext& ciphertext) {
        return Wrapped(ciphertext, key.wrapped.subspan(Header().size() + kVersionSize, kSeedCheckSize));
      },
      deadline);
}

template <typename Answer, typename Item>
std::vector<absl::StatusOr<Answer>> VaultRootKey::AskOfEach(
    absl::Span<const WrappedKey> keys, const Batch<Item>& batch,
    absl::FunctionRef<absl::StatusOr<Answer>(const WrappedKey&, const Item&)> answerOf, Deadline deadline) {
  std::vector<absl::StatusOr<Answer>> answers;
  std::vector<vault::DecryptItem> items;
  std::vector<size_t> places;
  for (const WrappedKey& key : keys) {
    const absl::StatusOr<vault::DecryptItem> item = ItemOf(key);
    answers.emplace_back(item.ok() ? absl::UnavailableError("") : item.status());
    if (!item.ok()) continue;
    places.push_back(answers.size() - 1);
    items.push_back(*item);
  }
  for (size_t first = 0; first < items.size(); first += kMostOfARequest) {
    const size_t count = std::min(kMostOfARequest, items.size() - first);
    const absl::StatusOr<std::vector<absl::StatusOr<Item>>> given =
        AskOfSome(absl::MakeSpan(items).subspan(first, count), batch, deadline);
    for (size_t i = 0; i < count; ++i) {
      absl::StatusOr<Answer>& answer = answers[places[first + i]];
      if (!given.ok()) {
        answer = given.status();
        continue;
      }
      const absl::StatusOr<Item>& item = (*given)[i];
      answer = item.ok() ? answerOf(keys[places[first + i]], *item) : item.status();
      if (!answer.ok()) answer = Named(answer.status());
    }
  }
  return answers;
}

template <typename Item>
absl::StatusOr<std::vector<absl::StatusOr<Item>>> VaultRootKey::AskOfSome(absl::Span<const vault::DecryptItem> items,
                                                                          const Batch<Item>& batch, Deadline deadline) {
  absl::StatusOr<VaultSession::Answer> answer =
      session_->Call("POST", StrCat(path_, batch.operation, key_), batch.request(items), deadline);
  if (!answer.ok()) return Named(answer.status());
  absl::StatusOr<std::vector<absl::StatusOr<Item>>> given = batch.parse(answer->body, items.size());
  if (given.ok()) return given;
  if (answer->status != 200) return Explain(*answer, deadline);
  // Whatever is wrong with the answer says nothing about the keys.
  return Named(absl::UnavailableError(given.status().message()));
}

std::string VaultRootKey::VersionOf(const WrappedKey& key) const {
  const absl::StatusOr<vault::DecryptItem> item = ItemOf(key);
  return item.ok() ? StrCat("version ", item->version) : "";
}

absl::Status VaultRootKey::Explain(const VaultSession::Answer& answer, Deadline deadline) {
  RETURN_IF_ERROR(Check(deadline));
  return Named(
      absl::FailedPreconditionError(StrCat("answers with HTTP ", answer.status, vault::ErrorsOf(answer.body))));
}

absl::Status VaultRootKey::Check(Deadline deadline) {
  const absl::StatusOr<VaultSession::Answer> answer = session_->Call("GET", StrCat(path_, "keys/", key_), {}, deadline);
  if (!answer.ok()) return Named(answer.status());
  if (answer->status == 404) {
    return Named(absl::FailedPreconditionError(
        StrCat("there is no such key: it was deleted, or never made", vault::ErrorsOf(answer->body))));
  }
  if (answer->status != 200) {
    return Named(
        absl::FailedPreconditionError(StrCat("answers with HTTP ", answer->status, vault::ErrorsOf(answer->body))));
  }
  const absl::Status able = vault::ParseKey(answer->body);
  return able.ok() ? able : Named(able);
}

}  // namespace kveil::keys
