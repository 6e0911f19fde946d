#include "keys/root/pkcs11_versions.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret.h"

namespace kveil::keys::pkcs11 {
namespace {

constexpr size_t kMostVersions = 64;
constexpr size_t kLongestId = 64;

absl::Status Failed(std::string_view call, ck_rv_t value) {
  return absl::UnavailableError(StrCat(call, " answers with ", NameOf(value)));
}

std::string_view NumberOf(std::string_view id) {
  const size_t first = id.find_first_not_of('\0');
  return first == std::string_view::npos ? std::string_view() : id.substr(first);
}
bool IsLess(const Version& one, const Version& other) {
  const std::string_view a = NumberOf(one.id), b = NumberOf(other.id);
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

// C_FindObjectsFinal whatever comes before it.
absl::StatusOr<std::vector<ck_object_handle_t>> FindKeys(Module& module, ck_session_handle_t session, std::string label,
                                                         ck_rv_t& value) {
  ck_object_class_t objectClass = CKO_SECRET_KEY;
  ck_key_type_t type = CKK_AES;
  unsigned char isOnToken = 1;
  struct ck_attribute wanted[] = {{CKA_CLASS, &objectClass, sizeof objectClass},
                                  {CKA_KEY_TYPE, &type, sizeof type},
                                  {CKA_TOKEN, &isOnToken, sizeof isOnToken},
                                  {CKA_LABEL, label.data(), label.size()}};
  value = module.C_FindObjectsInit(session, wanted, std::size(wanted));
  if (value != CKR_OK) return Failed("C_FindObjectsInit", value);
  std::vector<ck_object_handle_t> keys;
  unsigned long count = 0;
  do {
    ck_object_handle_t some[kMostVersions];
    count = 0;
    value = module.C_FindObjects(session, some, std::size(some), &count);
    if (value == CKR_OK) keys.insert(keys.end(), some, some + std::min(count, std::size(some)));
  } while (value == CKR_OK && count > 0 && keys.size() <= kMostVersions);
  (void)module.C_FindObjectsFinal(session);
  if (value != CKR_OK) return Failed("C_FindObjects", value);
  if (keys.empty()) return absl::FailedPreconditionError("there is no such AES key: it was deleted, or never made");
  if (keys.size() > kMostVersions) {
    return absl::FailedPreconditionError(
        StrCat("more than ", kMostVersions, " AES keys have this label; delete those that nothing needs any more"));
  }
  return keys;
}

absl::StatusOr<std::string> IdOf(Module& module, ck_session_handle_t session, ck_object_handle_t key, ck_rv_t& value) {
  struct ck_attribute read = {CKA_ID, nullptr, 0};
  value = module.C_GetAttributeValue(session, key, &read, 1);
  if (value == CKR_ATTRIBUTE_TYPE_INVALID) value = CKR_OK, read.value_len = 0;  // a token that knows no CKA_ID
  if (value != CKR_OK) return Failed("C_GetAttributeValue", value);
  if (read.value_len > kLongestId) {
    return absl::FailedPreconditionError(
        StrCat("an AES key with this label has a CKA_ID of more than ", kLongestId, " bytes"));
  }
  std::string id(read.value_len, '\0');
  if (id.empty()) return id;
  read.value = id.data();
  value = module.C_GetAttributeValue(session, key, &read, 1);
  if (value != CKR_OK) return Failed("C_GetAttributeValue", value);
  return id;
}

// From the oldest to the newest.
absl::StatusOr<std::vector<Version>> FindVersions(Module& module, ck_session_handle_t session, const std::string& label,
                                                  ck_rv_t& value) {
  ASSIGN_OR_RETURN(const std::vector<ck_object_handle_t> keys, FindKeys(module, session, label, value));
  std::vector<Version> versions;
  for (const ck_object_handle_t key : keys) {
    ASSIGN_OR_RETURN(std::string id, IdOf(module, session, key, value));
    versions.push_back({key, std::move(id)});
  }
  std::sort(versions.begin(), versions.end(), IsLess);
  return versions;
}

absl::Status CheckIsKept(Module& module, ck_session_handle_t session, ck_object_handle_t key, ck_rv_t& value) {
  unsigned char isPrivate = 0, isSensitive = 0, isExtractable = 1;
  struct ck_attribute read[] = {{CKA_PRIVATE, &isPrivate, sizeof isPrivate},
                                {CKA_SENSITIVE, &isSensitive, sizeof isSensitive},
                                {CKA_EXTRACTABLE, &isExtractable, sizeof isExtractable}};
  value = module.C_GetAttributeValue(session, key, read, std::size(read));
  if (value != CKR_OK) return Failed("C_GetAttributeValue", value);
  if (isPrivate != 0 && isSensitive != 0 && isExtractable == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the key can be read out of the token: it has to be private and sensitive, and not extractable");
}

}  // namespace

absl::StatusOr<Version> FindVersion(Module& module, ck_session_handle_t session, std::string label,
                                    const Choice& choice, ck_rv_t& value) {
  ASSIGN_OR_RETURN(const std::vector<Version> versions, FindVersions(module, session, std::move(label), value));
  auto chosen = versions.end() - 1;
  if (choice.has_value()) {
    chosen = std::find_if(versions.begin(), versions.end(), [&](const Version& one) { return one.id == *choice; });
  }
  if (chosen == versions.end()) {
    return absl::FailedPreconditionError(
        StrCat("there is no AES key with this label and ", NameOfId(*choice), ": it was deleted, or never made"));
  }
  // 01 and 0001 are one number.
  if (const auto [first, last] = std::equal_range(versions.begin(), versions.end(), *chosen, IsLess);
      last - first > 1) {
    return absl::FailedPreconditionError(StrCat("several AES keys have this label and ", NameOfId(chosen->id)));
  }
  RETURN_IF_ERROR(CheckIsKept(module, session, chosen->key, value));
  return *chosen;
}

absl::StatusOr<std::vector<std::string>> FindIds(Module& module, ck_session_handle_t session, std::string label,
                                                 ck_rv_t& value) {
  ASSIGN_OR_RETURN(const std::vector<Version> versions, FindVersions(module, session, label, value));
  std::vector<std::string> ids;
  for (const Version& version : versions) ids.push_back(version.id);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::StatusOr<std::string> FindLastId(Module& module, ck_session_handle_t session, std::string label, ck_rv_t& value) {
  ASSIGN_OR_RETURN(const std::vector<ck_object_handle_t> keys, FindKeys(module, session, label, value));
  if (keys.size() == kMostVersions) {
    return absl::FailedPreconditionError(StrCat(
        kMostVersions, " AES keys have this label, which is the most; delete those that nothing needs any more"));
  }
  ASSIGN_OR_RETURN(Version newest, FindVersion(module, session, std::move(label), std::nullopt, value));
  if (newest.id.size() == kLongestId && newest.id.front() == '\xff') {
    return absl::FailedPreconditionError("there is no room for a greater CKA_ID than that of the newest key");
  }
  return std::move(newest.id);
}

std::string IdAfter(std::string id) {
  uint8_t random[4];
  crypto::FillRandom(absl::MakeSpan(random));
  uint64_t more = 0;
  for (const uint8_t byte : random) more = more << 8 | byte;
  more += 1;
  for (size_t i = id.size(); i-- > 0; more >>= 8) {
    more += static_cast<unsigned char>(id[i]);
    id[i] = static_cast<char>(more & 0xff);
  }
  for (; more != 0; more >>= 8) id.insert(id.begin(), static_cast<char>(more & 0xff));
  return id;
}

std::string NameOfId(std::string_view id) {
  return id.empty() ? "no CKA_ID" : StrCat("CKA_ID ", absl::BytesToHexString(ToAbsl(id)));
}

absl::Status MakeVersion(Module& module, ck_session_handle_t session, std::string label, std::string id, bool isToWrap,
                         ck_rv_t& value) {
  ck_object_class_t objectClass = CKO_SECRET_KEY;
  ck_key_type_t type = CKK_AES;
  unsigned long size = 32;
  unsigned char yes = 1, no = 0;
  struct ck_attribute attributes[] = {{CKA_CLASS, &objectClass, sizeof objectClass},
                                      {CKA_KEY_TYPE, &type, sizeof type},
                                      {CKA_VALUE_LEN, &size, sizeof size},
                                      {CKA_TOKEN, &yes, sizeof yes},
                                      {CKA_PRIVATE, &yes, sizeof yes},
                                      {CKA_SENSITIVE, &yes, sizeof yes},
                                      {CKA_EXTRACTABLE, &no, sizeof no},
                                      {isToWrap ? CKA_WRAP : CKA_ENCRYPT, &yes, sizeof yes},
                                      {isToWrap ? CKA_UNWRAP : CKA_DECRYPT, &yes, sizeof yes},
                                      {CKA_LABEL, label.data(), label.size()},
                                      {CKA_ID, id.data(), id.size()}};
  struct ck_mechanism mechanism = {CKM_AES_KEY_GEN, nullptr, 0};
  ck_object_handle_t key = 0;
  value = module.C_GenerateKey(session, &mechanism, attributes, std::size(attributes), &key);
  if (value != CKR_OK) return absl::FailedPreconditionError(NameOf(value));
  ck_rv_t looked = CKR_OK;
  const absl::Status isKept = CheckIsKept(module, session, key, looked);
  if (looked != CKR_OK) return absl::UnknownError(isKept.message());
  if (!isKept.ok()) (void)module.C_DestroyObject(session, key);
  return isKept;
}

}  // namespace kveil::keys::pkcs11
