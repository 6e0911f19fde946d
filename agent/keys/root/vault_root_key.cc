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
  Answers answers;
  std::vector<vault::DecryptItem> items;
  std::vector<size_t> places;
  for (const WrappedKey& key : keys) {
    absl::StatusOr<vault::DecryptItem> item = ItemOf(key);
    answers.emplace_back(item.status().ok() ? absl::UnavailableError("") : item.status());
    if (!item.ok()) continue;
    places.push_back(answers.size() - 1);
    items.push_back(*item);
  }
  for (size_t first = 0; first < items.size(); first += kMostOfARequest) {
    const size_t count = std::min(kMostOfARequest, items.size() - first);
    absl::StatusOr<Answers> decrypted = Decrypt(absl::MakeSpan(items).subspan(first, count), deadline);
    for (size_t i = 0; i < count; ++i) {
      absl::StatusOr<crypto::SecretKey>& answer = answers[places[first + i]];
      if (!decrypted.ok()) {
        answer = decrypted.status();
        continue;
      }
      answer = std::move((*decrypted)[i]);
      if (answer.ok()) answer = KeyOf(keys[places[first + i]], *answer);
      if (!answer.ok()) answer = Named(answer.status());
    }
  }
  return answers;
}

absl::StatusOr<VaultRootKey::Answers> VaultRootKey::Decrypt(absl::Span<const vault::DecryptItem> items,
                                                            Deadline deadline) {
  absl::StatusOr<VaultSession::Answer> answer =
      session_->Call("POST", StrCat(path_, "decrypt/", key_), vault::DecryptRequest(items), deadline);
  if (!answer.ok()) return Named(answer.status());
  absl::StatusOr<Answers> answers = vault::ParseDecrypt(answer->body, items.size());
  if (answers.ok()) return answers;
  if (answer->status != 200) return Explain(*answer, deadline);
  // Whatever is wrong with the answer says nothing about the keys.
  return Named(absl::UnavailableError(StrCat(ToStd(answers.status().message()))));
}

std::vector<absl::StatusOr<ByteBuffer>> VaultRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  std::vector<absl::StatusOr<ByteBuffer>> answers;
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
    const absl::StatusOr<Ciphertexts> rewrapped = RewrapSome(absl::MakeSpan(items).subspan(first, count), deadline);
    for (size_t i = 0; i < count; ++i) {
      const size_t place = places[first + i];
      const absl::Status status = rewrapped.ok() ? (*rewrapped)[i].status() : rewrapped.status();
      if (status.ok()) {
        const Bytes check = keys[place].wrapped.subspan(Header().size() + kVersionSize, kSeedCheckSize);
        answers[place] = Wrapped(*(*rewrapped)[i], check);
      } else {
        answers[place] = rewrapped.ok() ? Named(status) : status;
      }
    }
  }
  return answers;
}

absl::StatusOr<VaultRootKey::Ciphertexts> VaultRootKey::RewrapSome(absl::Span<const vault::DecryptItem> items,
                                                                   Deadline deadline) {
  absl::StatusOr<VaultSession::Answer> answer =
      session_->Call("POST", StrCat(path_, "rewrap/", key_), vault::RewrapRequest(items), deadline);
  if (!answer.ok()) return Named(answer.status());
  absl::StatusOr<Ciphertexts> answers = vault::ParseRewrap(answer->body, items.size());
  if (answers.ok()) return answers;
  if (answer->status != 200) return Explain(*answer, deadline);
  return Named(absl::UnavailableError(answers.status().message()));
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
