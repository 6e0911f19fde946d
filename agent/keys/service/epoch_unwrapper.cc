#include "keys/service/epoch_unwrapper.h"

#include <utility>

namespace kveil::keys {
namespace {

// Nobody waits for it. A provider that takes longer is as good as one that is out.
constexpr std::chrono::seconds kPatience{10};

}  // namespace

EpochUnwrapper::EpochUnwrapper(RootKey& root, RegistryKeys::Owner owner) : root_(root), owner_(std::move(owner)) {
  if (root_.isRemote()) thread_ = std::thread([this] { Run(); });
}

EpochUnwrapper::~EpochUnwrapper() {
  {
    const MutexLock lock(mutex_);
    isStopping_ = true;
  }
  changed_.notify_one();
  root_.Stop();
  if (thread_.joinable()) thread_.join();
}

void EpochUnwrapper::Begin(std::vector<Registry::Epoch> rows, uint64_t opening) {
  Question question{std::move(rows), opening};
  if (!root_.isRemote()) {
    Answer answer = Ask(question);
    const MutexLock lock(mutex_);
    answer_ = std::move(answer);
    return;
  }
  {
    const MutexLock lock(mutex_);
    question_ = std::move(question);
  }
  changed_.notify_one();
}

bool EpochUnwrapper::isBusy() const {
  const MutexLock lock(mutex_);
  return question_.has_value();
}

std::optional<EpochUnwrapper::Answer> EpochUnwrapper::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(answer_, std::nullopt);
}

EpochUnwrapper::Answer EpochUnwrapper::Ask(const Question& question) {
  return {RegistryKeys::UnwrapEpochs(root_, owner_, question.rows, std::chrono::steady_clock::now() + kPatience),
          question.opening};
}

void EpochUnwrapper::Run() {
  for (;;) {
    Question question;
    {
      const MutexLock lock(mutex_);
      while (!question_.has_value() && !isStopping_) changed_.wait(mutex_);
      if (isStopping_) return;
      question = *question_;
    }
    Answer answer = Ask(question);
    const MutexLock lock(mutex_);
    answer_ = std::move(answer);
    question_.reset();
  }
}

}  // namespace kveil::keys
