#include "keys/root/pkcs11_root_key.h"

#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/root/bound_seed.h"

namespace kveil::keys {
namespace {

using pkcs11::Module;
using pkcs11::NameOf;

constexpr std::string_view kProvider = "pkcs11";
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

}  // namespace

Pkcs11RootKey::Pkcs11RootKey(const Pkcs11Options& options, std::shared_ptr<Pkcs11Token> token)
    : options_(options),
      name_(StrCat("PKCS#11 key ", options.key, " in token ", options.token)),
      token_(token != nullptr ? std::move(token) : std::make_shared<Pkcs11Token>(options)) {}

absl::Status Pkcs11RootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

ByteBuffer Pkcs11RootKey::Header() const {
  ByteBuffer header;
  for (const std::string_view part : {kProvider, std::string_view(options_.token), std::string_view(options_.key)}) {
    Append(header, AsBytes(part));
    header.push_back(0);
  }
  header.push_back(options_.mechanism == Pkcs11Options::Mechanism::kAesGcm ? 1 : 2);
  return header;
}

absl::StatusOr<RootKey::DataKey> Pkcs11RootKey::GenerateDataKey(Bytes context, Deadline /*deadline*/) {
  const crypto::SecretKey seed = crypto::SecretKey::Random();
  const absl::StatusOr<ByteBuffer> wrapped = WrapSeed(seed);
  if (!wrapped.ok()) return Named(wrapped.status());
  DataKey result{DataKeyOf(kProvider, seed, context), Header()};
  Append(result.wrapped, Bytes(CheckOf(kProvider, seed, context)).first(kSeedCheckSize));
  Append(result.wrapped, *wrapped);
  return result;
}

std::vector<absl::StatusOr<crypto::SecretKey>> Pkcs11RootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                     Deadline deadline) {
  std::vector<absl::StatusOr<crypto::SecretKey>> answers;
  for (const WrappedKey& key : keys) {
    // What holds for the token, holds for the next one, too.
    absl::Status before = answers.empty() ? absl::OkStatus() : answers.back().status();
    if (std::chrono::steady_clock::now() >= deadline) before = Named(absl::UnavailableError("there is no time left"));
    if (!before.ok() && !absl::IsDataLoss(before)) {
      answers.emplace_back(before);
      continue;
    }
    absl::StatusOr<crypto::SecretKey> answer = UnwrapOne(key);
    answers.push_back(answer.ok() ? std::move(answer) : Named(answer.status()));
  }
  return answers;
}

absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::UnwrapOne(const WrappedKey& key) {
  const ByteBuffer header = Header();
  const size_t size = options_.mechanism == Pkcs11Options::Mechanism::kAesGcm ? kGcmSize : kKeyWrapSize;
  if (key.wrapped.size() != header.size() + kSeedCheckSize + size ||
      key.wrapped.first(header.size()) != Bytes(header)) {
    return absl::DataLossError("a key was wrapped by another one, or is damaged");
  }
  const Bytes check = key.wrapped.subspan(header.size(), kSeedCheckSize);
  const Bytes wrapped = key.wrapped.subspan(header.size() + kSeedCheckSize);
  ck_rv_t value = CKR_OK;
  absl::StatusOr<crypto::SecretKey> seed = UnwrapSeed(wrapped, value);
  if (!seed.ok() && value != CKR_OK && !absl::IsFailedPrecondition(seed.status())) {
    // Tokens do not agree on what they return for damage, and SoftHSM returns CKR_GENERAL_ERROR. If the key works, and
    // it is not just that it works again, it is not the key.
    RETURN_IF_ERROR(Probe());
    value = CKR_OK;
    seed = UnwrapSeed(wrapped, value);
    if (value != CKR_OK && !absl::IsFailedPrecondition(seed.status())) {
      return absl::DataLossError(
          StrCat("a key is damaged, or was wrapped by another one of this name: ", NameOf(value)));
    }
  }
  if (!seed.ok()) return seed.status();
  if (crypto::EqualInConstantTime(check, Bytes(CheckOf(kProvider, *seed, key.context)).first(kSeedCheckSize))) {
    return DataKeyOf(kProvider, *seed, key.context);
  }
  return absl::DataLossError("a key is damaged, or was wrapped for another purpose");
}

absl::StatusOr<ByteBuffer> Pkcs11RootKey::WrapSeed(const crypto::SecretKey& seed) {
  ByteBuffer wrapped;
  const auto wrap = options_.mechanism == Pkcs11Options::Mechanism::kAesGcm ? EncryptGcm : WrapRfc3394;
  const Pkcs11Token::Outcome outcome =
      token_->Call(options_.key, [&](Module& module, ck_session_handle_t session, ck_object_handle_t key) {
        return wrap(module, session, key, seed, wrapped);
      });
  RETURN_IF_ERROR(outcome.status);
  if (outcome.value != CKR_OK) return absl::UnavailableError(StrCat("wrapping fails: ", NameOf(outcome.value)));
  return wrapped;
}

absl::StatusOr<crypto::SecretKey> Pkcs11RootKey::UnwrapSeed(Bytes wrapped, ck_rv_t& value) {
  crypto::SecretKey seed;
  const auto unwrap = options_.mechanism == Pkcs11Options::Mechanism::kAesGcm ? DecryptGcm : UnwrapRfc3394;
  const Pkcs11Token::Outcome outcome =
      token_->Call(options_.key, [&](Module& module, ck_session_handle_t session, ck_object_handle_t key) {
        ByteBuffer copy;
        Append(copy, wrapped);
        return unwrap(module, session, key, std::move(copy), seed);
      });
  RETURN_IF_ERROR(outcome.status);
  value = outcome.value;
  if (value != CKR_OK) return absl::UnavailableError(StrCat("unwrapping fails: ", NameOf(value)));
  return seed;
}

absl::Status Pkcs11RootKey::Probe() {
  const crypto::SecretKey seed = crypto::SecretKey::Random();
  ASSIGN_OR_RETURN(const ByteBuffer wrapped, WrapSeed(seed));
  ck_rv_t value = CKR_OK;
  ASSIGN_OR_RETURN(const crypto::SecretKey unwrapped, UnwrapSeed(wrapped, value));
  return unwrapped.Equals(seed) ? absl::OkStatus() : absl::UnavailableError("does not unwrap what it wraps");
}

absl::Status Pkcs11RootKey::Check(Deadline /*deadline*/) {
  const absl::Status works = Probe();
  return works.ok() ? works : Named(works);
}

}  // namespace kveil::keys
