// A token of SoftHSM2 for tests: https://packages.debian.org/bookworm/softhsm2
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "base/text.h"
#include "keys/root/pkcs11_module.h"
#include "keys/root/pkcs11_options.h"

namespace kveil::keys {

// The module reads where its tokens are once per process: so there is one token for all tests of a program.
class SoftToken {
 public:
  static constexpr char kModule[] = "/usr/lib/softhsm/libsofthsm2.so";
  static constexpr char kLabel[] = "kveil test";
  static constexpr char kPin[] = "4321";

  static SoftToken& Get() {
    static SoftToken token;
    return token;
  }
  ~SoftToken() { std::filesystem::remove_all(folder_); }

  // A new AES-256 key that can do all that is needed and cannot be read, but for the attribute `wrong`.
  void MakeKey(std::string label, ck_attribute_type_t wrong = CKA_VENDOR_DEFINED, std::string id = "") {
    ck_object_class_t objectClass = CKO_SECRET_KEY;
    unsigned char yes = 1, no = 0;
    unsigned long size = 32;
    struct ck_attribute attributes[] = {{CKA_CLASS, &objectClass, sizeof objectClass},
                                        {CKA_TOKEN, &yes, 1},
                                        {CKA_PRIVATE, wrong == CKA_PRIVATE ? &no : &yes, 1},
                                        {CKA_SENSITIVE, wrong == CKA_SENSITIVE ? &no : &yes, 1},
                                        {CKA_EXTRACTABLE, wrong == CKA_EXTRACTABLE ? &yes : &no, 1},
                                        {CKA_ENCRYPT, wrong == CKA_ENCRYPT ? &no : &yes, 1},
                                        {CKA_DECRYPT, wrong == CKA_DECRYPT ? &no : &yes, 1},
                                        {CKA_WRAP, &yes, 1},
                                        {CKA_UNWRAP, &yes, 1},
                                        {CKA_VALUE_LEN, &size, sizeof size},
                                        {CKA_ID, id.data(), id.size()},
                                        {CKA_LABEL, label.data(), label.size()}};
    struct ck_mechanism mechanism = {CKM_AES_KEY_GEN, nullptr, 0};
    ck_object_handle_t key = 0;
    const ck_session_handle_t session = Open();
    EXPECT_EQ(module_->C_GenerateKey(session, &mechanism, attributes, std::size(attributes), &key), CKR_OK);
    module_->C_CloseSession(session);
  }
  // Any one with the label, or the one with this CKA_ID.
  void DeleteKey(std::string label, std::optional<std::string> id = std::nullopt) {
    const ck_session_handle_t session = Open();
    ck_object_handle_t keys[8];
    EXPECT_EQ(module_->C_DestroyObject(session, Find(session, keys, label, id) == 0 ? 0 : keys[0]), CKR_OK);
    module_->C_CloseSession(session);
  }
  size_t CountKeys(std::string label, std::optional<std::string> id = std::nullopt) {
    const ck_session_handle_t session = Open();
    ck_object_handle_t keys[8];
    const size_t count = Find(session, keys, label, id);
    module_->C_CloseSession(session);
    return count;
  }
  // What happens when somebody asks for a new key with this CKA_ID the next time, before the token makes it, and after.
  // What the first returns is the token's answer, if it is not CKR_OK. nullptr: nothing.
  void SetOnGenerate(std::function<ck_rv_t(const std::string& id)> before, std::function<void()> after = nullptr) {
    static ck_rv_t (*const real)(ck_session_handle_t, ck_mechanism*, ck_attribute*, unsigned long,
                                 ck_object_handle_t*) = module_->C_GenerateKey;
    static std::function<ck_rv_t(const std::string&)> happensBefore;
    static std::function<void()> happensAfter;
    happensBefore = std::move(before);
    happensAfter = std::move(after);
    const_cast<ck_function_list*>(module_)->C_GenerateKey = [](ck_session_handle_t session, ck_mechanism* mechanism,
                                                               ck_attribute* attributes, unsigned long count,
                                                               ck_object_handle_t* key) {
      const auto first = std::exchange(happensBefore, nullptr);  // they may make keys themselves
      const auto then = std::exchange(happensAfter, nullptr);
      const ck_attribute* id = attributes;
      while (id->type != CKA_ID) ++id;
      const std::string wanted(static_cast<const char*>(id->value), id->value_len);
      if (const ck_rv_t value = first ? first(wanted) : ck_rv_t{CKR_OK}; value != CKR_OK) return value;
      const ck_rv_t value = real(session, mechanism, attributes, count, key);
      if (then) then();
      return value;
    };
  }
  // The next look at what a key is fails.
  void FailNextLook() {
    static ck_rv_t (*const real)(ck_session_handle_t, ck_object_handle_t, ck_attribute*, unsigned long) =
        module_->C_GetAttributeValue;
    static bool isFailing = false;
    isFailing = true;
    const_cast<ck_function_list*>(module_)->C_GetAttributeValue = [](ck_session_handle_t session,
                                                                     ck_object_handle_t object,
                                                                     ck_attribute* attributes, unsigned long count) {
      return std::exchange(isFailing, false) ? ck_rv_t{CKR_FUNCTION_FAILED} : real(session, object, attributes, count);
    };
  }
  // The next attempt to decrypt or to unwrap fails, as when a token is short of memory for a moment.
  void FailOnce() {
    static ck_function_list real = *module_;
    static bool isFailing = false;
    isFailing = true;
    auto* const functions = const_cast<ck_function_list*>(module_);
    functions->C_DecryptInit = [](ck_session_handle_t session, ck_mechanism* mechanism, ck_object_handle_t key) {
      return std::exchange(isFailing, false) ? ck_rv_t{CKR_DEVICE_MEMORY} : real.C_DecryptInit(session, mechanism, key);
    };
    functions->C_UnwrapKey = [](ck_session_handle_t session, ck_mechanism* mechanism, ck_object_handle_t key,
                                unsigned char* wrapped, unsigned long size, ck_attribute* attributes,
                                unsigned long count, ck_object_handle_t* unwrapped) {
      return std::exchange(isFailing, false)
                 ? ck_rv_t{CKR_DEVICE_MEMORY}
                 : real.C_UnwrapKey(session, mechanism, key, wrapped, size, attributes, count, unwrapped);
    };
  }
  // As another program does, with a wrong one. Nobody may be logged in.
  void TryPin(std::string pin) {
    ck_session_handle_t session = 0;
    EXPECT_EQ(module_->C_OpenSession(slot_, CKF_SERIAL_SESSION, nullptr, nullptr, &session), CKR_OK);
    EXPECT_EQ(module_->C_Login(session, CKU_USER, reinterpret_cast<unsigned char*>(pin.data()), pin.size()),
              CKR_PIN_INCORRECT);
    module_->C_CloseSession(session);
  }
  // As when a token is taken out: every session and login in it ends.
  void CloseAllSessions() { EXPECT_EQ(module_->C_CloseAllSessions(slot_), CKR_OK); }

 private:
  size_t Find(ck_session_handle_t session, ck_object_handle_t (&keys)[8], std::string& label,
              std::optional<std::string>& id) {
    struct ck_attribute wanted[] = {{CKA_LABEL, label.data(), label.size()}, {CKA_ID, nullptr, 0}};
    if (id.has_value()) wanted[1].value = id->data(), wanted[1].value_len = id->size();
    unsigned long count = 0;
    EXPECT_EQ(module_->C_FindObjectsInit(session, wanted, id.has_value() ? 2 : 1), CKR_OK);
    EXPECT_EQ(module_->C_FindObjects(session, keys, std::size(keys), &count), CKR_OK);
    module_->C_FindObjectsFinal(session);
    return count;
  }

  SoftToken() {
    char pattern[] = "/tmp/kveil-token-XXXXXX";
    folder_ = mkdtemp(pattern);
    std::filesystem::create_directory(folder_ + "/tokens");
    std::ofstream(folder_ + "/conf") << "directories.tokendir = " << folder_ << "/tokens\nobjectstore.backend = file\n"
                                     << "log.level = ERROR\n";
    setenv("SOFTHSM2_CONF", (folder_ + "/conf").c_str(), 1);
    const auto module = pkcs11::Load(kModule);
    EXPECT_TRUE(module.ok()) << module.status();
    module_ = *module;
    unsigned long count = 1;
    EXPECT_EQ(module_->C_GetSlotList(1, &slot_, &count), CKR_OK);
    unsigned char label[32], officer[] = "0000", pin[] = "4321";
    memset(label, ' ', sizeof label);
    memcpy(label, kLabel, strlen(kLabel));
    EXPECT_EQ(module_->C_InitToken(slot_, officer, 4, label), CKR_OK);
    // An initialised token gets another slot.
    count = 1;
    EXPECT_EQ(module_->C_GetSlotList(1, &slot_, &count), CKR_OK);
    ck_session_handle_t session = 0;
    EXPECT_EQ(module_->C_OpenSession(slot_, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session), CKR_OK);
    EXPECT_EQ(module_->C_Login(session, CKU_SO, officer, 4), CKR_OK);
    EXPECT_EQ(module_->C_InitPIN(session, pin, 4), CKR_OK);
    EXPECT_EQ(module_->C_Logout(session), CKR_OK);
    module_->C_CloseSession(session);
  }

  ck_session_handle_t Open() {
    ck_session_handle_t session = 0;
    EXPECT_EQ(module_->C_OpenSession(slot_, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session), CKR_OK);
    unsigned char pin[] = "4321";
    const ck_rv_t value = module_->C_Login(session, CKU_USER, pin, 4);
    EXPECT_TRUE(value == CKR_OK || value == CKR_USER_ALREADY_LOGGED_IN) << pkcs11::NameOf(value);
    return session;
  }

  std::string folder_;
  pkcs11::Module* module_ = nullptr;
  ck_slot_id_t slot_ = 0;
};

}  // namespace kveil::keys
