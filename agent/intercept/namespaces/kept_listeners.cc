#include "intercept/namespaces/kept_listeners.h"

#include <sys/socket.h>

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::intercept {
namespace {

constexpr std::string_view kPrefix = "listener";

// "listener-CGROUP-COOKIE-FAMILY", each a decimal number.
struct Name {
  uint64_t cgroupId = 0, netnsCookie = 0;
  int family = 0;
};

bool Parse(const std::string& text, Name& name) {
  const std::vector<std::string> parts = absl::StrSplit(text, '-');
  return parts.size() == 4 && parts[0] == kPrefix && absl::SimpleAtoi(parts[1], &name.cgroupId) &&
         absl::SimpleAtoi(parts[2], &name.netnsCookie) && absl::SimpleAtoi(parts[3], &name.family);
}

template <typename Value>
bool HasOption(int fd, int option, Value wanted) {
  Value value{};
  socklen_t size = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && size == sizeof(value) && value == wanted;
}

// The name alone proves nothing: whoever starts the agent may have given it anything.
bool IsListenerOf(int fd, const Name& name) {
  return HasOption(fd, SO_ACCEPTCONN, 1) && HasOption(fd, SO_DOMAIN, name.family) &&
         HasOption(fd, SO_NETNS_COOKIE, name.netnsCookie);
}

}  // namespace

KeptListeners::KeptListeners(DescriptorStore* store, uint64_t cgroupId) : store_(store), cgroupId_(cgroupId) {
  if (store_ == nullptr) return;
  for (KeptDescriptor& kept : store_->TakeKept()) {
    Name name;
    const bool isOurs = Parse(kept.name, name) && name.cgroupId == cgroupId_ && IsListenerOf(kept.fd.get(), name);
    if (!isOurs || (name.family != AF_INET && name.family != AF_INET6)) {
      store_->Forget(kept.name);
      continue;
    }
    Listeners& listeners = earlier_[name.netnsCookie];
    (name.family == AF_INET ? listeners.v4 : listeners.v6) = std::move(kept.fd);
    keptNames_.insert(kept.name);
  }
}

std::string KeptListeners::NameOf(uint64_t netnsCookie, int family) const {
  return StrCat(std::string(kPrefix), "-", cgroupId_, "-", netnsCookie, "-", family);
}

Listeners KeptListeners::Take(uint64_t netnsCookie) {
  const auto found = earlier_.find(netnsCookie);
  if (found == earlier_.end()) return {};
  Listeners listeners = std::move(found->second);
  earlier_.erase(found);
  return listeners;
}

void KeptListeners::Keep(uint64_t netnsCookie, const Listeners& listeners) {
  if (store_ == nullptr) return;
  for (const auto& [fd, family] : {std::pair(&listeners.v4, AF_INET), std::pair(&listeners.v6, AF_INET6)}) {
    if (!fd->valid()) continue;
    std::string name = NameOf(netnsCookie, family);
    if (keptNames_.contains(name) || !store_->Keep(name, fd->get())) continue;
    keptNames_.insert(std::move(name));
  }
}

void KeptListeners::Forget(uint64_t netnsCookie) {
  if (store_ == nullptr) return;
  earlier_.erase(netnsCookie);
  for (const int family : {AF_INET, AF_INET6}) {
    const std::string name = NameOf(netnsCookie, family);
    if (keptNames_.erase(name) > 0) store_->Forget(name);
  }
}

void KeptListeners::ForgetUnless(absl::FunctionRef<bool(uint64_t netnsCookie)> isInUse) {
  std::vector<uint64_t> unused;
  for (const auto& [cookie, listeners] : earlier_) {
    if (!isInUse(cookie)) unused.push_back(cookie);
  }
  for (const uint64_t cookie : unused) Forget(cookie);
}

}  // namespace kveil::intercept
