#include "keys/root/pkcs11_token.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"

namespace kveil::keys {
namespace {

using pkcs11::NameOf;

bool IsAmong(ck_rv_t value, std::initializer_list<ck_rv_t> values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// What was opened is gone: the token was taken out or restarted, or somebody closed its sessions.
bool IsLost(ck_rv_t value) {
  return IsAmong(value, {CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT,
                         CKR_USER_NOT_LOGGED_IN, CKR_DEVICE_ERROR, CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID,
                         CKR_WRAPPING_KEY_HANDLE_INVALID, CKR_SLOT_ID_INVALID, CKR_CRYPTOKI_NOT_INITIALIZED});
}

bool IsAboutPin(ck_rv_t value) {
  return IsAmong(value, {CKR_PIN_INCORRECT, CKR_PIN_INVALID, CKR_PIN_LEN_RANGE, CKR_PIN_EXPIRED, CKR_PIN_LOCKED,
                         CKR_USER_PIN_NOT_INITIALIZED});
}

bool IsAboutKey(ck_rv_t value) {
  return IsAmong(value,
                 {CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_SIZE_RANGE, CKR_MECHANISM_INVALID,
                  CKR_MECHANISM_PARAM_INVALID, CKR_FUNCTION_NOT_SUPPORTED, CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
                  CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, CKR_TEMPLATE_INCONSISTENT, CKR_ATTRIBUTE_VALUE_INVALID});
}

absl::Status Failed(std::string_view call, ck_rv_t value) {
  return absl::UnavailableError(StrCat(call, " answers with ", NameOf(value)));
}

// Padded with spaces.
std::string LabelOf(const struct ck_token_info& info) {
  std::string label(reinterpret_cast<const char*>(info.label), sizeof info.label);
  label.resize(label.find_last_not_of(' ') + 1);
  return label;
}

absl::StatusOr<ck_slot_id_t> SlotOf(pkcs11::Module& module, const std::string& token) {
  unsigned long count = 0;
  if (const ck_rv_t value = module.C_GetSlotList(1, nullptr, &count); value != CKR_OK) {
    return Failed("C_GetSlotList", value);
  }
  std::vector<ck_slot_id_t> slots(count);
  if (const ck_rv_t value = module.C_GetSlotList(1, slots.data(), &count); value != CKR_OK) {
    return Failed("C_GetSlotList", value);
  }
  slots.resize(std::min<size_t>(slots.size(), count));
  std::vector<ck_slot_id_t> found;
  for (const ck_slot_id_t slot : slots) {
    struct ck_token_info info;
    if (module.C_GetTokenInfo(slot, &info) == CKR_OK && LabelOf(info) == token) found.push_back(slot);
  }
  if (found.size() > 1) return absl::FailedPreconditionError("several tokens have this label");
  // It may be back in a moment: nothing says whether it was ever there.
  if (found.empty()) return absl::UnavailableError("the token is not there");
  return found.front();
}

// What this process knows of a token's PIN, whichever root key in it asks.
struct KnownPins {
  Mutex mutex;  // held while one is tried: several root keys must not try the same
  crypto::SecretText accepted ABSL_GUARDED_BY(mutex);
  crypto::SecretText heldBack ABSL_GUARDED_BY(mutex);
  bool isRefused ABSL_GUARDED_BY(mutex) = false;  // the one held back; else the token's flags were in the way
};

KnownPins& PinsOf(const Pkcs11Options& options) {
  static Mutex mutex;
  static auto& known = *new std::map<std::pair<std::string, std::string>, KnownPins>;
  const MutexLock lock(mutex);
  return known[{options.module, options.token}];
}

}  // namespace

absl::Status MayTryPin(ck_flags_t flags) {
  if ((flags & CKF_USER_PIN_LOCKED) != 0) {
    return absl::PermissionDeniedError(
        "the token is locked, as wrong PINs were tried; its security officer can unlock it");
  }
  if ((flags & CKF_USER_PIN_FINAL_TRY) == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      "wrong PINs were tried, and one more would lock the token; log in once by other means, with the right PIN");
}

absl::Status CheckPkcs11Files(const Pkcs11Options& options) {
  RETURN_IF_ERROR(pkcs11::Load(options.module).status());
  return crypto::ReadSecret(options.pinFile).status();
}

Pkcs11Token::~Pkcs11Token() {
  const MutexLock lock(mutex_);
  if (isOpen_) (void)login_.module->C_CloseSession(session_);
}

Pkcs11Token::Outcome Pkcs11Token::Call(const Use& use, ck_flags_t flags) {
  Outcome outcome;
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (isStopping_) return {absl::UnavailableError("the agent is ending")};
    const absl::StatusOr<Login> login = GetLogin();
    if (!login.ok()) return {login.status()};
    outcome = CallOnce(*login, use, flags);
    if (!IsLost(outcome.value)) break;
    Forget(*login);
    outcome.status = Failed("the token", outcome.value);
  }
  return outcome;
}

Pkcs11Token::Outcome Pkcs11Token::CallOnce(const Login& login, const Use& use, ck_flags_t flags) {
  pkcs11::Module& module = *login.module;
  ck_session_handle_t session = 0;
  ck_rv_t value = module.C_OpenSession(login.slot, flags, nullptr, nullptr, &session);
  if (value != CKR_OK) return {Failed("C_OpenSession", value), value};
  // To whoever is not logged in, a token says that there is no key.
  struct ck_session_info info = {};
  value = module.C_GetSessionInfo(session, &info);
  const ck_state_t loggedIn = (flags & CKF_RW_SESSION) != 0 ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
  if (value == CKR_OK && info.state != loggedIn) value = CKR_USER_NOT_LOGGED_IN;
  Outcome outcome{Failed("C_GetSessionInfo", value), value};
  if (value == CKR_OK) outcome = use(module, session);
  (void)module.C_CloseSession(session);
  if (outcome.status.ok() && IsAboutKey(outcome.value)) {
    outcome.status = absl::FailedPreconditionError(StrCat("the key cannot be used: ", NameOf(outcome.value)));
  }
  return outcome;
}

absl::StatusOr<Pkcs11Token::Login> Pkcs11Token::GetLogin() {
  const MutexLock lock(mutex_);
  if (!isOpen_) RETURN_IF_ERROR(Open());
  return login_;
}

absl::Status Pkcs11Token::Open() {
  ASSIGN_OR_RETURN(login_.module, pkcs11::Load(options_.module));
  ASSIGN_OR_RETURN(login_.slot, SlotOf(*login_.module, options_.token));
  ck_session_handle_t session = 0;
  const ck_rv_t value = login_.module->C_OpenSession(login_.slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session);
  if (value != CKR_OK) return Failed("C_OpenSession", value);
  if (absl::Status status = EnterPin(session); !status.ok()) {
    (void)login_.module->C_CloseSession(session);
    return status;
  }
  session_ = session;
  isOpen_ = true;
  ++login_.number;
  return absl::OkStatus();
}

absl::Status Pkcs11Token::EnterPin(ck_session_handle_t session) {
  ASSIGN_OR_RETURN(crypto::SecretText pin, crypto::ReadSecret(options_.pinFile));
  KnownPins& pins = PinsOf(options_);
  const MutexLock lock(pins.mutex);
  if (pins.isRefused && pin == pins.heldBack) {
    return absl::PermissionDeniedError(StrCat("the PIN in ", options_.pinFile, " was refused; it is not tried again"));
  }
  struct ck_token_info info = {};
  if (const ck_rv_t value = login_.module->C_GetTokenInfo(login_.slot, &info); value != CKR_OK) {
    return Failed("C_GetTokenInfo", value);
  }
  RETURN_IF_ERROR(MayTryPin(info.flags));
  const bool isNew = pins.heldBack.empty() && pin != pins.accepted;
  if ((info.flags & CKF_USER_PIN_COUNT_LOW) != 0 && (isNew || pin == pins.heldBack)) {
    pins.heldBack = std::move(pin);
    return absl::PermissionDeniedError(
        StrCat("wrong PINs were tried at the token, perhaps the one in ", options_.pinFile,
               ", so it is not tried; change the file, or log in once by other means, with the right PIN"));
  }
  const ck_rv_t value =
      login_.module->C_Login(session, CKU_USER, reinterpret_cast<unsigned char*>(pin.data()), pin.size());
  if (value == CKR_USER_ALREADY_LOGGED_IN) return absl::OkStatus();  // which says nothing of this PIN
  if (value == CKR_OK) {
    pins.accepted = std::move(pin);
    pins.heldBack.clear();
    pins.isRefused = false;
    return absl::OkStatus();
  }
  if (!IsAboutPin(value)) return Failed("C_Login", value);
  pins.heldBack = std::move(pin);
  pins.isRefused = true;
  return absl::PermissionDeniedError(StrCat("the PIN in ", options_.pinFile, " is refused: ", NameOf(value)));
}

void Pkcs11Token::Forget(const Login& login) {
  const MutexLock lock(mutex_);
  if (!isOpen_ || login_.number != login.number) return;
  (void)login_.module->C_CloseSession(session_);
  isOpen_ = false;
}

}  // namespace kveil::keys
