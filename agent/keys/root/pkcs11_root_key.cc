#include "keys/root/pkcs11_root_key.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/root/bound_seed.h"
#include "keys/root/unwrap_each.h"
#include "keys/root/wrapped_format.h"

namespace kveil::keys {
namespace {

using pkcs11::Module;
using pkcs11::NameOf;

constexpr std::string_view kProvider = "pkcs11";
constexpr size_t kFields = 4;
const pkcs11::Choice kNewest;
constexpr size_t kNonceSize = 12;
constexpr size_t kTagSize = 16;
constexpr size_t kGcmSize = kNonceSize + crypto::SecretKey::kSize + kTagSize;
constexpr size_t kKeyWrapSize = crypto::SecretKey::kSize + 8;

struct ck_gcm_params GcmParameters(uint8_t* nonce) {
  return {nonce, kNonceSize, 8 * kNonceSize, nullptr, 0, 8 * kTagSize};
}

ck_rv_t EncryptGcm(Module& module, ck_session_handle_t session, ck_object_handle_t key, const crypto::SecretKey& seed,
                   ByteBuffer& wrapped) {
  wrapped.resize(kGcmSize);
  crypto::FillRandom(absl::MakeSpan(wrapped).first(kNonceSize));
  struct ck_gcm_params parameters = GcmParameters(wrapped.data());
  struct ck_mechanism mechanism = {CKM_AES_GCM, &parameters, sizeof parameters};
  if (const ck_rv_t value = module.C_EncryptInit(session, &mechanism, key); value != CKR_OK) return value;
  crypto::SecretKey plain = seed.Copy();  // the module takes no const
  unsigned long size = kGcmSize - kNonceSize;
  const ck_rv_t value =
      module.C_Encrypt(session, plain.writable().data(), crypto::SecretKey::kSize, wrapped.data() + kNonceSize, &size);
  return value == CKR_OK && size != kGcmSize - kNonceSize ? CKR_FUNCTION_FAILED : value;
}

ck_rv_t DecryptGcm(Module& module, ck_session_handle_t session, ck_object_handle_t key, ByteBuffer wrapped,
                   crypto::SecretKey& seed) {
  struct ck_gcm_params parameters = GcmParameters(wrapped.data());
  struct ck_mechanism mechanism = {CKM_AES_GCM, &parameters, sizeof parameters};
  if (const ck_rv_t value = module.C_DecryptInit(session, &mechanism, key); value != CKR_OK) return value;
  // Some want room for the tag.
  uint8_t plain[kGcmSize - kNonceSize];
  unsigned long size = sizeof plain;
  ck_rv_t value = module.C_Decrypt(session, wrapped.data() + kNonceSize, kGcmSize - kNonceSize, plain, &size);
  if (value == CKR_OK && size != crypto::SecretKey::kSize) value = CKR_FUNCTION_FAILED;
  if (value == CKR_OK) std::copy(plain, plain + size, seed.writable().begin());
  crypto::Wipe(absl::MakeSpan(plain));
  return value;
}

// A key that can be read is put into the session for a moment: that is what the token wraps.
ck_rv_t WrapRfc3394(Module& module, ck_session_handle_t session, ck_object_handle_t key, const crypto::SecretKey& seed,
                    ByteBuffer& wrapped) {
  crypto::SecretKey plain = seed.Copy();
  ck_object_class_t objectClass = CKO_SECRET_KEY;
  ck_key_type_t type = CKK_GENERIC_SECRET;
  unsigned char yes = 1, no = 0;
  struct ck_attribute attributes[] = {{CKA_CLASS, &objectClass, sizeof objectClass},
                                      {CKA_KEY_TYPE, &type, sizeof type},
                                      {CKA_TOKEN, &no, sizeof no},
                                      {CKA_SENSITIVE, &no, sizeof no},
                                      {CKA_EXTRACTABLE, &yes, sizeof yes},
                                      {CKA_VALUE, plain.writable().data(), crypto::SecretKey::kSize}};
  ck_object_handle_t object = 0;
  ck_rv_t value = module.C_CreateObject(session, attributes, std::size(attributes), &object);
  if (value != CKR_OK) return value;
  struct ck_mechanism mechanism = {CKM_AES_KEY_WRAP, nullptr, 0};
  wrapped.resize(kKeyWrapSize);
  unsigned long size = wrapped.size();
  value = module.C_WrapKey(session, &mechanism, key, object, wrapped.data(), &size);
  (void)module.C_DestroyObject(session, object);
  return value == CKR_OK && size != kKeyWrapSize ? CKR_FUNCTION_FAILED : value;
}

ck_rv_t UnwrapRfc3394(Module& module, ck_session_handle_t session, ck_object_handle_t key, ByteBuffer wrapped,
                      crypto::SecretKey& seed) {
  ck_object_class_t objectClass = CKO_SECRET_KEY;
  ck_key_type_t type = CKK_GENERIC_SECRET;
  unsigned char yes = 1, no = 0;
  struct ck_attribute attributes[] = {{CKA_CLASS, &objectClass, sizeof objectClass},
                                      {CKA_KEY_TYPE, &type, sizeof type},
                                      {CKA_TOKEN, &no, sizeof no},
                                      {CKA_SENSITIVE, &no, sizeof no},
                                      {CKA_EXTRACTABLE, &yes, sizeof yes}};
  struct ck_mechanism mechanism = {CKM_AES_KEY_WRAP, nullptr, 0};
  ck_object_handle_t object = 0;
  ck_rv_t value = module.C_UnwrapKey(session, &mechanism, key, wrapped.data(), wrapped.size(), attributes,
                                     std::size(attributes), &object);
  if (value != CKR_OK) return value;
  struct ck_attribute read = {CKA_VALUE, seed.writable().data(), crypto::SecretKey::kSize};
  value = module.C_GetAttributeValue(session, object, &read, 1);
  (void)module.C_DestroyObject(session, object);
  return value == CKR_OK && read.value_len != crypto::SecretKey::kSize ? CKR_FUNCTION_FAILED : value;
}

bool IsGcm(const Pkcs11Options& options) { return options.mechanism == Pkcs11Options::Mechanism::kAesGcm; }
std::string_view MechanismOf(const Pkcs11Options& options) { return IsGcm(options) ? "AES-GCM" : "AES-KEY-WRAP"; }
size_t SizeOfWrappedSeed(const Pkcs11Options& options) { return IsGcm(options) ? kGcmSize : kKeyWrapSize; }

// What is before the check in a key that was wrapped before keys had versions.
std::string OlderHeader(const Pkcs11Options& options) {
  std::string header;
  for (const std::string_view part : {kProvider, std::string_view(options.token), std::string_view(options.key)}) {
    header.append(part).push_back('\0');
  }
  header.push_back(IsGcm(options) ? '\1' : '\2');
  return header;
}

struct Parts {
  std::optional<std::string> id;  // nullopt: it was wrapped before keys had versions
  Bytes check, wrapped;
};
std::optional<Parts> Unpack(const Pkcs11Options& options, const RootKey::WrappedKey& key) {
  Parts parts;
  Bytes rest;
  if (const auto unpacked = UnpackWrapped(kProvider, kFields, key.wrapped, key.context)) {
    const std::vector<std::string_view>& fields = unpacked->fields;
    parts.id = absl::HexStringToBytes(ToAbsl(fields[2]));
    const std::string hex = absl::BytesToHexString(*parts.id);
    if (fields[0] != options.token || fields[1] != options.key || fields[2] != hex ||
        fields[3] != MechanismOf(options)) {
      return std::nullopt;
    }
    rest = unpacked->rest;
  } else {
    const std::string header = OlderHeader(options);
    if (!AsText(key.wrapped).starts_with(header)) return std::nullopt;
    rest = key.wrapped.subspan(header.size());
  }
  if (rest.size() != kSeedCheckSize + SizeOfWrappedSeed(options)) return std::nullopt;
  parts.check = rest.first(kSeedCheckSize);
  parts.wrapped = rest.subspan(kSeedCheckSize);
  return parts;
}

}  // namespace

Pkcs11RootKey::Pkcs11RootKey(const Pkcs11Options& options, std::shared_ptr<Pkcs11Token> token)
    : options_(options),
      name_(StrCat("PKCS#11 key ", options.key, " in token ", options.token)),
      token_(token != nullptr ? std::move(token) : std::make_shared<Pkcs11Token>(options)) {}

absl::Status Pkcs11RootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

absl::StatusOr<RootKey::DataKey> Pkcs11RootKey::GenerateDataKey(Bytes context, Deadline /*deadline*/) {
  const crypto::SecretKey seed = crypto::SecretKey::Random();
  absl::StatusOr<ByteBuffer> wrapped = Wrap(seed, context);
  if (!wrapped.ok()) return Named(wrapped.status());
  return DataKey{DataKeyOf(kProvider, seed, context), *std::move(wrapped)};
}

absl::StatusOr<ByteBuffer> Pkcs11RootKey::Wrap(const crypto::SecretKey& seed, Bytes context) {
  ASSIGN_OR_RETURN(const WrappedSeed wrapped, WrapSeed(seed, kNewest));
  ByteBuffer rest;
  const SeedCheck check = CheckOf(kProvider, seed, context);
  Append(rest, Bytes(check).first(kSeedCheckSize));
  Append(rest, wrapped.bytes);
  const std::string id = absl::BytesToHexString(wrapped.id);
  const std::string_view fields[] = {options_.token, options_.key, id, MechanismOf(options_)};
  return PackWrapped(kProvider, fields, context, rest);
}

std::vector<absl::StatusOr<crypto::SecretKey>> Pkcs11RootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                     Deadline deadline) {
  std::vector<absl::StatusOr<crypto::SecretKey>> answers;
  for (const WrappedKey& key : keys) {
    // What holds for the token, holds for the next one, too.
    absl::Status before = answers.empty() ? absl::OkStatus() : answers.back().status();
    if (std::chrono::steady_clock::now() >= deadline) before = Named(absl::UnavailableError("there is no time left"));
    if (absl::IsUnavailable(before) || absl::IsPermissionDenied(before)) {
      answers.emplace_back(before);
      continue;
    }
    const absl::StatusOr<crypto::SecretKey> seed = Unwrap(key, deadline);
    if (seed.ok()) {
      answers.emplace_back(DataKeyOf(kProvider, *seed, key.context));
    } else {
      answers.emplace_back(Named(seed.status()));
    }
  }
  return answers;
}

std::vector<absl::StatusOr<ByteBuffer>> Pkcs11RootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  return RewrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<ByteBuffer> {
    if (std::chrono::steady_clock::now() >= deadline) return Named(absl::UnavailableError("there is no time left"));
    const absl::StatusOr<crypto::SecretKey> seed = Unwrap(key, deadline);
    if (!seed.ok()) return Named(seed.status());
    absl::StatusOr<ByteBuffer> rewrapped = Wrap(*seed, key.context);
    if (!rewrapped.ok()) return Named(rewrapped.status());
    return rewrapped;
  });
}

std::string Pkcs11RootKey::VersionOf(const WrappedKey& key) const {
  const std::optional<Parts> parts = Unpack(options_, key);
  return parts.has_value() && parts->id.has_value() ? pkcs11::NameOfId(*parts->id) : "";
}

absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::Unwrap(const WrappedKey& key, Deadline deadline) {
  const std::optional<Parts> parts = Unpack(options_, key);
  if (!parts.has_value()) {
    return absl::DataLossError("a key was wrapped by another one or for another purpose, or is damaged");
  }
  return parts->id.has_value() ? UnwrapBy(*parts->id, parts->wrapped, parts->check, key.context)
                               : UnwrapOlder(parts->wrapped, parts->check, key.context, deadline);
}

// The check says which version it is. What one of the others is refused for says nothing of this key.
absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::UnwrapOlder(Bytes wrapped, Bytes check, Bytes context,
                                                             Deadline deadline) {
  std::vector<std::string> ids;
  const Pkcs11Token::Outcome found =
      token_->Call([&](Module& module, ck_session_handle_t session) -> Pkcs11Token::Outcome {
        ck_rv_t value = CKR_OK;
        absl::StatusOr<std::vector<std::string>> all = pkcs11::FindIds(module, session, options_.key, value);
        if (all.ok()) ids = *std::move(all);
        return {all.status(), value};
      });
  RETURN_IF_ERROR(found.status);
  absl::Status refused =
      absl::DataLossError("a key is damaged, or what has wrapped it is not among the keys with this label");
  for (const std::string& id : ids) {
    if (std::chrono::steady_clock::now() >= deadline) return absl::UnavailableError("there is no time left");
    absl::StatusOr<crypto::SecretKey> seed = UnwrapBy(id, wrapped, check, context);
    if (seed.ok()) return seed;
    if (!absl::IsDataLoss(seed.status())) refused = seed.status();
    if (absl::IsUnavailable(refused) || absl::IsPermissionDenied(refused)) break;  // that holds for the next one, too
  }
  return refused;
}

absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::UnwrapBy(const std::string& id, Bytes wrapped, Bytes check,
                                                          Bytes context) {
  ck_rv_t value = CKR_OK;
  absl::StatusOr<crypto::SecretKey> seed = UnwrapSeed(wrapped, id, value);
  if (!seed.ok() && value != CKR_OK && !absl::IsFailedPrecondition(seed.status())) {
    // Tokens do not agree on what they return for damage, and SoftHSM returns CKR_GENERAL_ERROR. If the key works, and
    // it is not just that it works again, it is not the key.
    RETURN_IF_ERROR(Probe(id));
    value = CKR_OK;
    seed = UnwrapSeed(wrapped, id, value);
    if (value != CKR_OK && !absl::IsFailedPrecondition(seed.status())) {
      return absl::DataLossError(
          StrCat("a key is damaged, or was wrapped by another one of this name: ", NameOf(value)));
    }
  }
  if (!seed.ok()) return seed.status();
  if (crypto::EqualInConstantTime(check, Bytes(CheckOf(kProvider, *seed, context)).first(kSeedCheckSize))) {
    return seed;
  }
  return absl::DataLossError("a key is damaged, or was wrapped for another purpose");
}

Pkcs11Token::Outcome Pkcs11RootKey::CallWith(const pkcs11::Choice& choice, const Use& use) {
  return token_->Call([&](Module& module, ck_session_handle_t session) -> Pkcs11Token::Outcome {
    ck_rv_t value = CKR_OK;
    const absl::StatusOr<pkcs11::Version> version = pkcs11::FindVersion(module, session, options_.key, choice, value);
    if (!version.ok()) return {version.status(), value};
    return {absl::OkStatus(), use(module, session, *version)};
  });
}

absl::StatusOr<Pkcs11RootKey::WrappedSeed> Pkcs11RootKey::WrapSeed(const crypto::SecretKey& seed,
                                                                   const pkcs11::Choice& choice) {
  WrappedSeed wrapped;
  const auto wrap = IsGcm(options_) ? EncryptGcm : WrapRfc3394;
  const Pkcs11Token::Outcome outcome =
      CallWith(choice, [&](Module& module, ck_session_handle_t session, const pkcs11::Version& version) {
        wrapped.id = version.id;
        return wrap(module, session, version.key, seed, wrapped.bytes);
      });
  RETURN_IF_ERROR(outcome.status);
  if (outcome.value != CKR_OK) return absl::UnavailableError(StrCat("wrapping fails: ", NameOf(outcome.value)));
  return wrapped;
}

absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::UnwrapSeed(Bytes wrapped, const pkcs11::Choice& choice,
                                                            ck_rv_t& value) {
  crypto::SecretKey seed;
  const auto unwrap = IsGcm(options_) ? DecryptGcm : UnwrapRfc3394;
  const Pkcs11Token::Outcome outcome =
      CallWith(choice, [&](Module& module, ck_session_handle_t session, const pkcs11::Version& version) {
        ByteBuffer copy;
        Append(copy, wrapped);
        return unwrap(module, session, version.key, std::move(copy), seed);
      });
  RETURN_IF_ERROR(outcome.status);
  value = outcome.value;
  if (value != CKR_OK) return absl::UnavailableError(StrCat("unwrapping fails: ", NameOf(value)));
  return seed;
}

absl::StatusOr<std::string> Pkcs11RootKey::MakeVersion() {
  std::string last, id;
  const Pkcs11Token::Outcome newest =
      token_->Call([&](Module& module, ck_session_handle_t session) -> Pkcs11Token::Outcome {
        ck_rv_t value = CKR_OK;
        absl::StatusOr<std::string> found = pkcs11::FindLastId(module, session, options_.key, value);
        if (found.ok()) last = *std::move(found);
        return {found.status(), value};
      });
  if (!newest.status.ok()) return Named(newest.status);
  id = pkcs11::IdAfter(last);
  const absl::Status made =
      token_
          ->CallToWrite([&](Module& module, ck_session_handle_t session) -> Pkcs11Token::Outcome {
            ck_rv_t value = CKR_OK;
            id = pkcs11::IdAfter(last);  // another one at each attempt: the first may have made a key
            return {pkcs11::MakeVersion(module, session, options_.key, id, !IsGcm(options_), value), value};
          })
          .status;
  if (made.ok()) return pkcs11::NameOfId(id);
  if (absl::IsUnknown(made)) {
    return Named(absl::UnavailableError(
        StrCat("the token has made the next key, with ", pkcs11::NameOfId(id),
               ", and does not say whether it can be read out: ", ToStd(made.message()),
               ". Agents that find that it can refuse it. Do not delete it: they may have wrapped by it")));
  }
  return Named(absl::FailedPreconditionError(
      StrCat("the token does not make the next key: ", ToStd(made.message()),
             absl::IsUnavailable(made) ? ". Try it again, or make it" : ". Make it",
             " by the token's own tools: an AES key of 256 bits with this label and ", pkcs11::NameOfId(id),
             ", private, sensitive and not extractable. Agents use it as soon as it is there")));
}

absl::StatusOr<std::string> MakePkcs11Version(const Pkcs11Options& options) {
  Pkcs11RootKey key(options);
  ASSIGN_OR_RETURN(const std::string version, key.MakeVersion());
  return StrCat(key.name(), ": ", version);
}

absl::Status Pkcs11RootKey::Probe(const pkcs11::Choice& choice) {
  const crypto::SecretKey seed = crypto::SecretKey::Random();
  ASSIGN_OR_RETURN(const WrappedSeed wrapped, WrapSeed(seed, choice));
  ck_rv_t value = CKR_OK;
  // By the same one, also where a newer one is made meanwhile.
  ASSIGN_OR_RETURN(const crypto::SecretKey unwrapped, UnwrapSeed(wrapped.bytes, wrapped.id, value));
  return unwrapped.Equals(seed) ? absl::OkStatus() : absl::UnavailableError("does not unwrap what it wraps");
}

absl::Status Pkcs11RootKey::Check(Deadline /*deadline*/) {
  const absl::Status works = Probe(kNewest);
  return works.ok() ? works : Named(works);
}

}  // namespace kveil::keys
