// tests/vectors/registry-v1.sql, which version 0.1.0 made, opened by this version: every key in it is found as it was.
#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "absl/strings/escaping.h"
#include "key_fixture.h"
#include "source_dir.h"

namespace kveil::keys {
namespace {

constexpr char kRootKey[] =
    "kveil root key 1\n"
    "70323a3761bd269f4f4ae16cf11c3ba94bf6abce75eb9587fdca55e8a68d6416 5f8cc7ad1e9514c0\n";

struct Known {
  ScopeName name;
  const char* id;
  const char* key;
};
// In window 675 of 30 days.
const Known kActive[] = {
    {{Scope::kUser, "clicks", "38"},
     "898765dcb2dc7030205fc02614929744",
     "e159fd6fa1b98314055f70c0a6a5e7deb45c432535e3856943a4096ba3e518ce"},
    {{Scope::kUser, "orders", "38"},
     "9bf6238e46dbc5a29cc3ac6433f83050",
     "1c428a48dda971c4210f8cabf3040e063c68aab9cd61f7ec5b0d63ed646d57aa"},
    {{Scope::kTopic, "main", "orders"},
     "09798280b86d04831c873686d440fded",
     "2d7ebf88f812c6ef6d50fa013d3cceed4c879dae8d7543e754a97581b10257e7"},
    {{Scope::kCluster, "", "main"},
     "c0c8bb2dd4eba76dd566de999844c876",
     "acb042574b24451ff08c2aea7ad87dc12d022e9866f0ac9bf28a5bf92791b87d"},
};
// User 39 in clicks: the key that was erased, and the throw-away key of a late record.
constexpr const char* kErasedIds[] = {"2c6d66c7505a0e51df99500f2d6ad646", "9948ae9e4190dbe7d50592699a2e5d0f"};
// Of the first key's id, under the salt 00 01 .. 0b: tells that the registry secret is the same.
constexpr char kMaskedId[] = "03866672bda258141e803d612a5a3ceb";

template <typename Bytes>
std::string Hex(const Bytes& bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

crypto::KeyId Id(const char* hex) {
  const std::string bytes = absl::HexStringToBytes(hex);
  crypto::KeyId id;
  std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  return id;
}

class RegistryVectorTest : public KeyTest {
 protected:
  RegistryVectorTest() {
    wallMillis_ = 1'750'000'000'000;
    WriteFile(keyFile(), kRootKey);
    EXPECT_EQ(chmod(keyFile().c_str(), 0600), 0);
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    char* error = nullptr;
    const std::string sql = ReadFile(KVEIL_SOURCE_DIR "/tests/vectors/registry-v1.sql");
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(database);
  }
};

TEST_F(RegistryVectorTest, GivesTheKeysThatItGaveWhenItWasMade) {
  auto service = Open();
  ASSERT_NE(service, nullptr);
  Misses misses;
  for (const Known& known : kActive) misses.scopes.emplace_back(known.name);
  for (const Known& known : kActive) misses.ids.push_back(Id(known.id));
  FetchResult result = Ask(*service, std::move(misses));
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.scopes.size(), std::size(kActive));
  ASSERT_EQ(result.ids.size(), std::size(kActive));
  for (size_t i = 0; i < std::size(kActive); ++i) {
    EXPECT_EQ(Hex(result.scopes[i].key.id.bytes), kActive[i].id);
    EXPECT_EQ(Hex(result.scopes[i].key.key.bytes()), kActive[i].key);
    EXPECT_EQ(result.ids[i].state, FetchResult::IdState::kReady);
    EXPECT_EQ(Hex(result.ids[i].key.key.bytes()), kActive[i].key);
    EXPECT_EQ(result.ids[i].key.scope, kActive[i].name.scope);
  }
}

// Keys that are made now are wrapped in another way, and shorter.
TEST_F(RegistryVectorTest, GivesThemAfterATurnToo) {
  auto service = Open();
  ASSERT_NE(service, nullptr);
  Misses misses;
  misses.scopes.emplace_back(User("a new one"));
  const FetchResult made = Ask(*service, misses);
  ASSERT_TRUE(made.status.ok()) << made.status;
  ASSERT_EQ(made.scopes.size(), 1u);
  for (const Known& known : kActive) misses.scopes.emplace_back(known.name);
  ASSERT_TRUE(service->TurnEpochs().ok());
  ASSERT_TRUE(Eventually([&] {
    const auto epochs = service->ListEpochs(/*withKeys=*/false);
    if (!epochs.ok() || epochs->epochs.back().number != 2) return false;
    for (const KeyService::EpochInfo& one : epochs->epochs) {
      if (one.state == KeyService::EpochState::kComing || one.state == KeyService::EpochState::kEnding) return false;
    }
    return true;
  })) << service->health();
  const FetchResult result = Ask(*service, std::move(misses));
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.scopes.size(), 1 + std::size(kActive));
  EXPECT_TRUE(result.scopes[0].key.key.Equals(made.scopes[0].key.key));
  for (size_t i = 0; i < std::size(kActive); ++i) {
    EXPECT_EQ(Hex(result.scopes[i + 1].key.id.bytes), kActive[i].id);
    EXPECT_EQ(Hex(result.scopes[i + 1].key.key.bytes()), kActive[i].key);
  }
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  std::string sizes;
  const auto note = [](void* to, int, char** columns, char**) {
    *static_cast<std::string*>(to) += std::string(columns[0]) + ' ';
    return 0;
  };
  sqlite3_exec(database, "SELECT length(wrappedKey) FROM keyRows WHERE state = 1 AND epoch = 2 ORDER BY 1", note,
               &sizes, nullptr);
  sqlite3_close(database);
  EXPECT_EQ(sizes, "32 60 60 60 60 ");
}

TEST_F(RegistryVectorTest, KnowsWhoWasErasedAndMasksAsBefore) {
  auto service = Open();
  ASSERT_NE(service, nullptr);
  Misses misses;
  for (const char* id : kErasedIds) misses.ids.push_back(Id(id));
  misses.scopes.emplace_back(User("39"));
  FetchResult result = Ask(*service, std::move(misses));
  ASSERT_TRUE(result.status.ok()) << result.status;
  for (const FetchResult::ById& found : result.ids) EXPECT_EQ(found.state, FetchResult::IdState::kErased);
  EXPECT_TRUE(result.scopes.at(0).key.erasedSubject);
  EXPECT_EQ(ErasedBefore(service->Erase("clicks", "39").status()), absl::FromUnixSeconds(1'750'000'000));
  crypto::Salt salt;
  for (size_t i = 0; i < salt.bytes.size(); ++i) salt.bytes[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(Hex(service->NewMask().Mask(Id(kActive[0].id), salt).bytes), kMaskedId);
}

}  // namespace
}  // namespace kveil::keys
