// An agent that relays bytes and knows nothing of Kafka: the interception library with the smallest proxy around it.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "intercept/kernel/redirect.h"
#include "intercept/namespaces/namespaces.h"
#include "support/node.h"

namespace kveil::nettest {

// "192.0.2.0/24" and one range of ports.
config::Target MakeTarget(const std::string& network, uint8_t prefixLength, uint16_t first, uint16_t last,
                          const std::string& cluster = "main");

// A pin directory of this test program's own.
std::string UniquePinDirectory();

// Below `cgroup`; targets 192.0.2.0/24 and 2001:db8:77::/64, ports 9092-9094.
config::InterceptConfig MakeConfig(const Cgroup& cgroup);

// An agent that learns of namespaces from events alone, so that a test of events cannot be saved by the clock.
inline constexpr intercept::Namespaces::Options kNeverCompare = {.reconcileInterval = std::chrono::hours(1)};
// One for a test that waits for the clock.
inline constexpr intercept::Namespaces::Options kCompareOften = {.reconcileInterval = std::chrono::milliseconds(200)};

class TestAgent {
 public:
  explicit TestAgent(const config::InterceptConfig& config, const intercept::RedirectOptions& options = {},
                     intercept::Namespaces::Options namespacesOptions = kNeverCompare);
  ~TestAgent();  // leaves the pins, as an agent that ends does

  intercept::Redirect& redirect() { return *redirect_; }
  intercept::Namespaces& namespaces() { return *namespaces_; }
  std::vector<identity::Origin> Origins() const;  // of the connections relayed so far, probes aside
  identity::Origin LastOrigin() const;
  size_t strangers() const { return strangers_; }  // connections that had no origin, and were closed
  size_t released() const { return released_; }
  bool IsServed(uint64_t cookie) const;
  size_t open() const { return open_; }

 private:
  struct Served {
    std::vector<UniqueFd> listeners;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::vector<std::thread> connections;  // guarded by mutex
    std::mutex mutex;
  };
  void Accept(Served& served, int listener);
  void Relay(Served& served, UniqueFd client);
  void Close(Served& served);

  std::unique_ptr<intercept::Redirect> redirect_;
  mutable std::mutex mutex_;
  std::vector<identity::Origin> origins_;
  std::map<uint64_t, std::unique_ptr<Served>> served_;
  std::atomic<size_t> strangers_{0}, released_{0}, open_{0};
  std::vector<std::thread> closing_;
  std::unique_ptr<intercept::Namespaces> namespaces_;
};

// Takes the pins of a configuration away when a test ends.
class DetachAtEnd {
 public:
  explicit DetachAtEnd(config::InterceptConfig config) : config_(std::move(config)) {}
  ~DetachAtEnd() { (void)intercept::Redirect::Detach(config_); }

 private:
  config::InterceptConfig config_;
};

}  // namespace kveil::nettest
