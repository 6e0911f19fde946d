// `kveil receipts`: what was erased, and whether the receipts are as they were written.
#include <iostream>

#include "base/text.h"
#include "cli/common.h"
#include "cli/reading_receipts.h"
#include "nlohmann/json.hpp"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::ordered_json;
using evidence::SigningKey;
using receipts::Store;

// Of one receipt, for people.
std::string Line(uint64_t number, const std::string& text) {
  const Json receipt = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!receipt.is_object()) return StrCat(number, "  is damaged");
  const auto textOf = [&](const char* name) {
    const auto found = receipt.find(name);
    return found != receipt.end() && found->is_string() ? found->get<std::string>() : std::string("?");
  };
  std::string line = StrCat(number, "  ", textOf("time"), "  ", textOf("kind"));
  if (receipt.contains("users")) {
    StrAppend(&line, "  ", receipt["users"].size(), " user(s)");
  } else if (receipt.contains("erasure") && receipt["erasure"].is_number()) {
    StrAppend(&line, "  of erasures up to ", receipt["erasure"].get<int64_t>());
  }
  if (receipt.contains("epochsBeforeDestroyed")) {
    StrAppend(&line, "  epochs before ", receipt.value("epoch", int64_t{0}), " destroyed ",
              textOf("epochsBeforeDestroyed"));
  }
  if (receipt.contains("key") && receipt["key"].is_object()) {
    StrAppend(&line, "  of a ", receipt["key"].value("scope", "?"), "  key ", receipt["key"].value("id", "?"));
  }
  if (receipt.contains("uid") && receipt["uid"].is_number()) {
    StrAppend(&line, "  asked by uid ", receipt["uid"].get<uint64_t>());
  }
  if (receipt.contains("spread") && receipt["spread"].is_object()) {
    const auto complete = receipt["spread"].find("complete");
    const bool isComplete = complete != receipt["spread"].end() && complete->is_boolean() && complete->get<bool>();
    StrAppend(&line, isComplete ? "  on all agents" : "  NOT on all agents");
  }
  if (receipt.contains("reason")) StrAppend(&line, "  ", textOf("reason"));
  return line;
}

int VerifyAll(const Store& store, const SigningKey& key, bool json) {
  const absl::StatusOr<Store::Verification> verification = store.VerifyAll(key);
  if (!verification.ok()) return Fail("receipts", verification.status());
  if (json) {
    std::cout << Json({{"receipts", verification->count},
                       {"last", verification->last},
                       {"faults", verification->faults}})
                     .dump(2)
              << "\n";
  } else {
    std::cout << verification->count << " receipt(s) in order";
    if (verification->count > 0) std::cout << ", the last with SHA-256 " << verification->last;
    std::cout << "\n";
    for (const std::string& fault : verification->faults) std::cout << "WRONG " << fault << "\n";
  }
  if (verification->faults.empty()) return 0;
  return Fail("receipts", "they are not as they were written");
}

}  // namespace

int RunReceiptsList(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<Store> store = OpenStore(common, options);
  if (!store.ok()) return Fail("receipts", store.status());
  const absl::StatusOr<uint64_t> count = store->ReadCount();
  if (!count.ok()) return Fail("receipts", count.status());
  Json all = Json::array();
  for (uint64_t number = 1; number <= *count; ++number) {
    const absl::StatusOr<Store::Stored> stored = store->Read(number);
    if (!stored.ok()) return Fail("receipts", StrCat(ToStd(stored.status().message()), "; kveil receipts verify"));
    if (common.json) {
      all.push_back(Json::parse(stored->text, nullptr, /*allow_exceptions=*/false));
    } else {
      std::cout << Line(number, stored->text) << "\n";
    }
  }
  if (common.json) std::cout << all.dump(2) << "\n";
  return 0;
}

int RunReceiptsShow(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<Store> store = OpenStore(common, options);
  if (!store.ok()) return Fail("receipts", store.status());
  const absl::StatusOr<Store::Stored> stored = store->Read(options.number);
  if (!stored.ok()) return Fail("receipts", stored.status());
  std::cout << stored->text;  // byte for byte what is signed
  return 0;
}

int RunReceiptsVerify(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<Store> store = OpenStore(common, options);
  if (!store.ok()) return Fail("receipts", store.status());
  const absl::StatusOr<SigningKey> key = ReadKey(*store, options);
  if (!key.ok()) return Fail("receipts", key.status());
  if (options.number == 0) return VerifyAll(*store, *key, common.json);
  if (const absl::Status status = store->VerifyOne(*key, options.number); !status.ok()) {
    return Fail("receipts", status);
  }
  std::cout << "receipt " << options.number << " is as it was signed\n";
  return 0;
}

int RunReceiptsKey(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<Store> store = OpenStore(common, options);
  if (!store.ok()) return Fail("receipts", store.status());
  const absl::StatusOr<std::string> pem = store->PublicPem();
  if (!pem.ok()) return Fail("receipts", pem.status());
  std::cout << *pem;
  return 0;
}

}  // namespace kveil::cli
