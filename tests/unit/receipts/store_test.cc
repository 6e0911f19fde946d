// The folder of receipts: what openssl says of them, and that nothing can be changed, taken out or cut off unseen.
#include "receipts/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::receipts {
namespace {

using evidence::ReadFile;
using evidence::Sha256Hex;
using evidence::SigningKey;
using evidence::WriteFile;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class StoreTest : public testing::Test {
 protected:
  StoreTest() {
    char path[] = "/tmp/kveil-receipts-XXXXXX";
    folder_ = mkdtemp(path);
    store_ = std::make_unique<Store>(folder_ + "/receipts");
    EXPECT_TRUE(store_->Prepare().ok()) << store_->Prepare();
  }
  ~StoreTest() override { std::filesystem::remove_all(folder_); }

  static Receipt SomeReceipt(uint64_t keys = 2) {
    Receipt receipt;
    receipt.registry = "0011";
    receipt.agent = "node-a:7";
    receipt.uid = 1000;
    receipt.reason = "request 38 \"of May\"";
    receipt.time = "2026-01-02T03:04:05Z";
    receipt.erasure = 12;
    receipt.users = {{{{"clicks", "ab12"}, {"orders", "cd34"}}, keys}};
    receipt.spread = {true, {{"node-a:7", "2026-01-02T03:04:06Z", {}}, {"node-b:9", {}, "2026-01-02T03:05:07Z"}}, {}};
    return receipt;
  }
  void Append(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto number = store_->Append(SomeReceipt(i));
      ASSERT_TRUE(number.ok()) << number.status();
    }
  }
  std::string PathOf(const std::string& name) const { return store_->folder() + "/" + name; }
  SigningKey Key() { return *SigningKey::FromPublicPem(*store_->PublicPem()); }
  Store::Verification Verify() { return *store_->VerifyAll(Key()); }
  void Replace(const std::string& name, const std::string& from, const std::string& to) {
    std::string text = *ReadFile(PathOf(name));
    ASSERT_NE(text.find(from), std::string::npos);
    text.replace(text.find(from), from.size(), to);
    ASSERT_TRUE(WriteFile(PathOf(name), text, 0600).ok());
  }

  std::string folder_;
  std::unique_ptr<Store> store_;
};

// openssl verifies them as all others.
TEST_F(StoreTest, SaysWhatIsIrrecoverableAndWhatWasGivenUp) {
  Receipt irrecoverable;
  irrecoverable.kind = Receipt::Kind::kIrrecoverable;
  irrecoverable.registry = "0011";
  irrecoverable.erasure = 38;
  irrecoverable.ended = {4, "2026-01-02T03:04:05Z", "root key file /root.key"};
  Receipt givenUp;
  givenUp.kind = Receipt::Kind::kGivenUp;
  givenUp.registry = "0011";
  givenUp.uid = 1000;
  givenUp.key = {"00ff", "topic", 3};
  for (const Receipt& receipt : {irrecoverable, givenUp}) ASSERT_TRUE(store_->Append(receipt).ok());
  const auto first = nlohmann::json::parse(store_->Read(1)->text),
             second = nlohmann::json::parse(store_->Read(2)->text);
  EXPECT_EQ(first["kind"], "irrecoverable");
  EXPECT_EQ(first["erasure"], 38);
  EXPECT_EQ(first["epoch"], 4);
  EXPECT_EQ(first["epochsBeforeDestroyed"], "2026-01-02T03:04:05Z");
  EXPECT_EQ(first["rootKey"], "root key file /root.key");
  EXPECT_FALSE(first.contains("uid")) << "nobody has asked";
  EXPECT_EQ(second["kind"], "givenUp");
  EXPECT_EQ(second["key"], nlohmann::json::parse(R"({"id": "00ff", "scope": "topic", "epoch": 3})"));
  EXPECT_FALSE(second.contains("erasure")) << "nobody was erased";
  EXPECT_EQ(IrrecoverableUpTo(store_->Read(1)->text, "0011"), 38);
  EXPECT_EQ(IrrecoverableUpTo(store_->Read(1)->text, "0012"), std::nullopt);
  EXPECT_EQ(IrrecoverableUpTo(store_->Read(2)->text, "0011"), std::nullopt);
  EXPECT_EQ(IrrecoverableUpTo("[]", "0011"), std::nullopt);
  WriteFile(folder_ + "/public.pem", *store_->PublicPem(), 0600).IgnoreError();
  EXPECT_EQ(system(("openssl pkeyutl -verify -pubin -inkey " + folder_ + "/public.pem -rawin -in " +
                    PathOf("00000001.json") + " -sigfile " + PathOf("00000001.sig") + " > /dev/null")
                       .c_str()),
            0);
}

TEST_F(StoreTest, OpensslAloneVerifiesAReceipt) {
  Append(2);
  ASSERT_TRUE(WriteFile(folder_ + "/public.pem", *store_->PublicPem(), 0644).ok());
  const std::string verify = "openssl pkeyutl -verify -pubin -inkey " + folder_ + "/public.pem -rawin -in " +
                             PathOf("00000002.json") + " -sigfile " + PathOf("00000002.sig") + " > " + folder_ +
                             "/said 2>&1";
  EXPECT_EQ(system(verify.c_str()), 0) << *ReadFile(folder_ + "/said");
  Replace("00000002.json", "\"uid\": 1000", "\"uid\": 1001");
  EXPECT_NE(system(verify.c_str()), 0) << *ReadFile(folder_ + "/said");
}

TEST_F(StoreTest, AReceiptSaysWhatWasErasedByWhomAndWhoHasConfirmed) {
  Append(1);
  const auto receipt = nlohmann::json::parse(store_->Read(1)->text);
  EXPECT_EQ(receipt, nlohmann::json::parse(R"({"kveilReceipt": 1, "number": 1, "previous": "", "kind": "erasure",
      "time": "2026-01-02T03:04:05Z", "registry": "0011", "agent": "node-a:7", "uid": 1000,
      "reason": "request 38 \"of May\"", "erasure": 12,
      "users": [{"keys": 0, "keyspaces": [{"keyspace": "clicks", "pseudonym": "ab12"},
                                          {"keyspace": "orders", "pseudonym": "cd34"}]}],
      "spread": {"complete": true, "agents": [{"name": "node-a:7", "confirmed": "2026-01-02T03:04:06Z"},
                                              {"name": "node-b:9", "refusesFrom": "2026-01-02T03:05:07Z"}]}})"));
}

TEST_F(StoreTest, OnlyItsOwnerReadsTheKeyAndOneThatOthersReadIsNotUsed) {
  struct stat info;
  ASSERT_EQ(stat(PathOf("key.pem").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(stat(store_->folder().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  const std::string before = *store_->PublicPem();
  EXPECT_TRUE(store_->Prepare().ok());
  EXPECT_EQ(*store_->PublicPem(), before) << "a restart makes a new key";
  ASSERT_EQ(chmod(PathOf("key.pem").c_str(), 0640), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Append(SomeReceipt()).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Prepare()));
}

TEST_F(StoreTest, AreInOrderWhenNothingWasTouched) {
  EXPECT_THAT(Verify().faults, IsEmpty());
  Append(12);
  const Store::Verification verification = Verify();
  EXPECT_THAT(verification.faults, IsEmpty());
  EXPECT_EQ(verification.count, 12u);
  EXPECT_EQ(verification.last, Sha256Hex(store_->Read(12)->text));
  EXPECT_EQ(*store_->ReadCount(), 12u);
  EXPECT_TRUE(store_->VerifyOne(Key(), 7).ok());
}

TEST_F(StoreTest, FindsOneThatWasChangedReplacedTakenOutOrCutOff) {
  const auto faultsAfter = [&](const std::function<void()>& harm) {
    std::filesystem::remove_all(store_->folder());
    EXPECT_TRUE(store_->Prepare().ok());
    Append(5);
    harm();
    return Verify().faults;
  };
  const auto remove = [&](const std::string& name) { ASSERT_EQ(unlink(PathOf(name).c_str()), 0); };
  EXPECT_THAT(faultsAfter([&] { Replace("00000003.json", "request", "Request"); }),
              Contains(HasSubstr("receipt 3: its signature is wrong")));
  // With its signature, in the place of another.
  EXPECT_THAT(faultsAfter([&] {
                std::filesystem::copy_file(PathOf("00000002.json"), PathOf("00000004.json"),
                                           std::filesystem::copy_options::overwrite_existing);
                std::filesystem::copy_file(PathOf("00000002.sig"), PathOf("00000004.sig"),
                                           std::filesystem::copy_options::overwrite_existing);
              }),
              Contains(HasSubstr("receipt 4: it is number 2")));
  EXPECT_THAT(faultsAfter([&] { remove("00000002.json"); }), Contains(HasSubstr("receipt 2")));
  EXPECT_THAT(faultsAfter([&] { remove("00000002.sig"); }), Contains(HasSubstr("receipt 2")));
  EXPECT_THAT(faultsAfter([&] {
                remove("00000005.json");
                remove("00000005.sig");
              }),
              Contains(HasSubstr("receipt 5")));
  EXPECT_THAT(faultsAfter([&] { remove("head"); }), Not(IsEmpty()));
  EXPECT_THAT(faultsAfter([&] { Replace("head", "\n5 ", "\n4 "); }), Not(IsEmpty()));
}

TEST_F(StoreTest, FindsOneThatTookThePlaceOfAnotherAndIsSignedByTheSameKey) {
  Append(3);
  std::filesystem::copy(store_->folder(), folder_ + "/copy");
  Append(2);
  ASSERT_TRUE(Store(folder_ + "/copy").Append(SomeReceipt(99)).ok());
  for (const char* name : {"00000004.json", "00000004.sig"}) {
    std::filesystem::copy_file(folder_ + "/copy/" + name, PathOf(name),
                               std::filesystem::copy_options::overwrite_existing);
  }
  EXPECT_THAT(Verify().faults, Contains(HasSubstr("receipt 5: it does not follow the one before")));
}

TEST_F(StoreTest, OneInThePlaceOfAnotherIsNotThatReceipt) {
  Append(3);
  for (const std::string suffix : {".json", ".sig"}) {
    std::filesystem::copy_file(PathOf("00000001" + suffix), PathOf("00000002" + suffix),
                               std::filesystem::copy_options::overwrite_existing);
  }
  EXPECT_TRUE(store_->VerifyOne(Key(), 1).ok());
  EXPECT_FALSE(store_->VerifyOne(Key(), 2).ok());
}

// An erasure must not go on as if nothing had happened.
TEST_F(StoreTest, IsNotContinuedWhenItsHeadIsGone) {
  for (const uint64_t count : {0, 3}) {
    std::filesystem::remove_all(store_->folder());
    ASSERT_TRUE(store_->Prepare().ok());
    EXPECT_THAT(Verify().faults, IsEmpty());
    Append(count);
    // All of it, so that the folder looks like one that is new.
    for (uint64_t i = 1; i <= count; ++i) {
      ASSERT_EQ(unlink(PathOf("0000000" + std::to_string(i) + ".json").c_str()), 0);
      ASSERT_EQ(unlink(PathOf("0000000" + std::to_string(i) + ".sig").c_str()), 0);
    }
    ASSERT_EQ(unlink(PathOf("head").c_str()), 0);
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Append(SomeReceipt()).status()));
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Prepare())) << "after a restart";
    EXPECT_THAT(Verify().faults, Contains(HasSubstr("the head is missing")));
  }
}

TEST_F(StoreTest, IsNotContinuedWithANewKey) {
  Append(1);
  ASSERT_EQ(unlink(PathOf("key.pem").c_str()), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Append(SomeReceipt()).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Prepare()));
  for (const char* name : {"00000001.json", "00000001.sig"}) ASSERT_EQ(unlink(PathOf(name).c_str()), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Prepare())) << "its head says that there were receipts";
}

TEST_F(StoreTest, ACrashBetweenHeadAndKeyLeavesAFolderThatIsNew) {
  ASSERT_EQ(unlink(PathOf("key.pem").c_str()), 0);
  ASSERT_TRUE(store_->Prepare().ok());
  Append(1);
  EXPECT_THAT(Verify().faults, IsEmpty());
}

TEST_F(StoreTest, SaysHowManyThereWereWhenTheLastAreGone) {
  Append(3);
  for (const char* name : {"00000002.json", "00000003.json"}) ASSERT_EQ(unlink(PathOf(name).c_str()), 0);
  EXPECT_EQ(*store_->ReadCount(), 3u);
}

TEST_F(StoreTest, GoesOnAfterACrashAtAnyStepOfAnAppend) {
  Append(2);
  const std::string head = *ReadFile(PathOf("head"));
  Append(1);
  // The receipt was written, and its head was not.
  ASSERT_TRUE(WriteFile(PathOf("head"), head, 0600).ok());
  EXPECT_THAT(Verify().faults, IsEmpty());
  Append(1);
  EXPECT_EQ(Verify().count, 4u);
  EXPECT_THAT(Verify().faults, IsEmpty());
  // The receipt was written, and its signature was not.
  const std::string later = *ReadFile(PathOf("head"));
  Append(1);
  ASSERT_TRUE(WriteFile(PathOf("head"), later, 0600).ok());
  ASSERT_EQ(unlink(PathOf("00000005.sig").c_str()), 0);
  Append(1);
  EXPECT_EQ(Verify().count, 5u);
  EXPECT_THAT(Verify().faults, IsEmpty());
}

TEST_F(StoreTest, ACrashLeavesNoReceiptWithoutItsSignature) {
  // What cannot be written: a folder stands where the file is to be made.
  ASSERT_EQ(mkdir(PathOf("00000001.json.new").c_str(), 0700), 0);
  EXPECT_FALSE(store_->Append(SomeReceipt()).ok());
  EXPECT_TRUE(std::filesystem::exists(PathOf("00000001.sig")));
  EXPECT_THAT(Verify().faults, IsEmpty());
  ASSERT_EQ(rmdir(PathOf("00000001.json.new").c_str()), 0);
  ASSERT_EQ(mkdir(PathOf("00000001.sig.new").c_str(), 0700), 0);
  EXPECT_FALSE(store_->Append(SomeReceipt()).ok());
  EXPECT_FALSE(std::filesystem::exists(PathOf("00000001.json")));
  EXPECT_THAT(Verify().faults, IsEmpty());
  ASSERT_EQ(rmdir(PathOf("00000001.sig.new").c_str()), 0);
  Append(1);
  EXPECT_EQ(Verify().count, 1u);
}

// A process that is stopped in the middle of an append keeps the lock.
TEST_F(StoreTest, AnAppendSaysWhoStandsInItsWayAndReadingNeedsNoLock) {
  Append(2);
  const std::string lock = PathOf("lock");
  const pid_t holder = fork();
  if (holder == 0) {
    if (flock(open(lock.c_str(), O_RDWR), LOCK_EX) != 0) _exit(1);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(holder, &status, WUNTRACED), holder);
  ASSERT_TRUE(WIFSTOPPED(status));
  const Store impatient(store_->folder(), std::chrono::milliseconds(100));
  const auto number = impatient.Append(SomeReceipt());
  EXPECT_TRUE(absl::IsUnavailable(number.status())) << number.status();
  EXPECT_NE(number.status().message().find("process " + std::to_string(holder)), std::string::npos) << number.status();
  EXPECT_TRUE(absl::IsUnavailable(impatient.Prepare()));
  EXPECT_EQ(Verify().count, 2u);
  EXPECT_THAT(Verify().faults, IsEmpty());
  kill(holder, SIGKILL);
  waitpid(holder, &status, 0);
  EXPECT_TRUE(impatient.Append(SomeReceipt()).ok());
}

TEST_F(StoreTest, WhatIsAppendedWhileItIsVerifiedIsInOrder) {
  std::thread writer([this] {
    for (int i = 0; i < 40; ++i) EXPECT_TRUE(Store(store_->folder()).Append(SomeReceipt()).ok());
  });
  for (uint64_t count = 0; count < 40;) {
    const Store::Verification verification = Verify();
    EXPECT_THAT(verification.faults, IsEmpty());
    EXPECT_GE(verification.count, count);
    if (HasFailure()) break;
    count = verification.count;
  }
  writer.join();
}

TEST_F(StoreTest, ManyWritersAtOnceGiveOneChain) {
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([this] {
      const Store own(store_->folder());
      for (int i = 0; i < 10; ++i) EXPECT_TRUE(own.Append(SomeReceipt()).ok());
    });
  }
  for (std::thread& writer : writers) writer.join();
  const Store::Verification verification = Verify();
  EXPECT_EQ(verification.count, 40u);
  EXPECT_THAT(verification.faults, IsEmpty());
}

}  // namespace
}  // namespace kveil::receipts
