// The core of the key service without its thread: turn by turn, by a test's clocks.
#include "keys/service/service_core.h"

#include "direct_wire.h"
#include "key_fixture.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ServiceCoreTest : public KeyTest {
 protected:
  ServiceCoreTest() {
    shared_->now = [this] { return absl::FromUnixMillis(serverMillis_); };
  }

  KeyServiceOptions SharedOptions() {
    KeyServiceOptions options = Options();
    options.timerNow = options.steadyNow;
    options.registry = {};
    options.registry.open = [this](bool mustExist, Registry::Deadline deadline) {
      return SimulatedRegistry::Open(std::make_unique<DirectWire>(shared_), mustExist, deadline);
    };
    return options;
  }
  std::unique_ptr<ServiceCore> OpenCore() {
    auto keyring = Keyring::Open(SharedOptions());
    EXPECT_TRUE(keyring.ok()) << keyring.status();
    return keyring.ok() ? std::make_unique<ServiceCore>(SharedOptions(), *std::move(keyring)) : nullptr;
  }
  void Run(ServiceCore& core, seconds time) {
    constexpr milliseconds kStep{50};
    for (milliseconds past{0}; past < time; past += kStep) {
      Advance(kStep);
      serverMillis_ += kStep.count();
      core.Turn(nullptr, {});
    }
  }
  std::vector<int64_t> Epochs() {
    const MutexLock lock(shared_->mutex);
    std::vector<int64_t> numbers;
    for (const Registry::Epoch& epoch : shared_->tables.ReadEpochs(false, serverMillis_)) {
      numbers.push_back(epoch.number);
    }
    return numbers;
  }
  // As it has told the others.
  int64_t EpochOfAgent(std::string_view name) {
    const MutexLock lock(shared_->mutex);
    for (const Registry::Agent& agent : shared_->tables.ReadAgents(serverMillis_)) {
      if (agent.name == name) return agent.epoch;
    }
    return 0;
  }
  // An agent that has ended without saying so, and has never known another epoch than the first.
  void NoteDeadAgent() {
    const MutexLock lock(shared_->mutex);
    shared_->tables.NoteAgent({{9}, "dead", seconds(60), 0, {}, 1}, serverMillis_);
  }

  const std::shared_ptr<SharedTables> shared_ = std::make_shared<SharedTables>();
  int64_t serverMillis_ = 1'750'000'000'000;
};

TEST_F(ServiceCoreTest, ATurnWaitsForAnAgentUntilItIsSilent) {
  const auto core = OpenCore();
  NoteDeadAgent();
  ASSERT_TRUE(core->TurnEpochs().ok());
  Run(*core, seconds(8));
  EXPECT_EQ(Epochs(), (std::vector<int64_t>{1, 2}));
  Run(*core, seconds(8));
  EXPECT_EQ(Epochs(), std::vector<int64_t>{2});
}

// Found by the simulation: the turn waited until the server's clock was back where it had been.
TEST_F(ServiceCoreTest, ATurnWaitsForNobodyWhoWasSeenBeforeTheServersClockWasSetBack) {
  const auto core = OpenCore();
  NoteDeadAgent();
  serverMillis_ -= 20 * 60 * 1000;
  ASSERT_TRUE(core->TurnEpochs().ok());
  Run(*core, seconds(20));
  EXPECT_EQ(Epochs(), std::vector<int64_t>{2});
}

// Found by the simulation: the next epoch has the number of the one that was lost, and its keys looked damaged.
TEST_F(ServiceCoreTest, AnEpochThatIsLostInAFailoverIsForgotten) {
  const auto core = OpenCore();
  RegistryTables before;
  {
    const MutexLock lock(shared_->mutex);
    before = shared_->tables;
  }
  NoteDeadAgent();  // the epoch is not used yet
  ASSERT_TRUE(core->TurnEpochs().ok());
  Run(*core, seconds(5));
  EXPECT_EQ(EpochOfAgent(core->self().agent), 2);
  {
    const MutexLock lock(shared_->mutex);
    shared_->tables = before;
    ++shared_->tables.file;
  }
  Run(*core, seconds(5));
  EXPECT_EQ(Epochs(), std::vector<int64_t>{1});
  EXPECT_EQ(EpochOfAgent(core->self().agent), 1);
}

}  // namespace
}  // namespace kveil::keys
