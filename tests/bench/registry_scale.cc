// Many users in one registry, and many agents at it, by the key service alone: scripts/scale runs this and prints
// tables.
//
//   registry_scale fill FIRST COUNT              makes the keys of users FIRST to FIRST + COUNT
//   registry_scale read USERS COUNT SIZE         finds COUNT keys of USERS, drawn at random, SIZE at a time
//   registry_scale agents USERS COUNT SET SECONDS  COUNT agents, each of which uses SET of USERS for as long
//
// Which registry it is comes from the environment: KVEIL_SCALE_SQLITE, a file, or KVEIL_SCALE_POSTGRES, "FOLDER PORT"
// of a server's Unix socket; and KVEIL_SCALE_ROOT, the root key's file. Prints one line of JSON.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "keys/cache/key_cache.h"
#include "keys/service/key_service.h"

namespace kveil::keys {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;

constexpr std::chrono::seconds kCacheTtl{
    10};  // the shortest that makes sense: numbers per second grow with 1 / cacheTtl

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "registry_scale: %s\n", why.c_str());
  std::exit(1);
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

KeyServiceOptions Options() {
  KeyServiceOptions options;
  options.root.file = Variable("KVEIL_SCALE_ROOT");
  options.registry.sqlite = Variable("KVEIL_SCALE_SQLITE");
  if (const std::string server = Variable("KVEIL_SCALE_POSTGRES"); !server.empty()) {
    const size_t space = server.find(' ');
    if (space == std::string::npos) Die("KVEIL_SCALE_POSTGRES is not \"FOLDER PORT\"");
    PostgresOptions& postgres = options.registry.postgres.emplace();
    postgres.servers.push_back({server.substr(0, space), "", server.substr(space + 1)});
    postgres.parameters = {{"dbname", "kveil"}, {"user", "kveil"}};
  }
  options.cacheTtl = kCacheTtl;
  options.newUsersPerSecond = 1'000'000'000;
  return options;
}

std::unique_ptr<KeyService> Open(const std::string& name) {
  KeyServiceOptions options = Options();
  options.agentName = name;
  absl::StatusOr<std::unique_ptr<KeyService>> service = KeyService::Open(std::move(options));
  if (!service.ok()) Die(service.status().ToString());
  return *std::move(service);
}

std::string UserName(uint64_t number) { return "user-" + std::to_string(number); }

FetchResult Ask(KeyService& service, Misses misses) {
  std::promise<FetchResult> promise;
  service.Fetch(std::move(misses), "scale", [&](FetchResult result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

double Seconds(Clock::time_point since) { return duration<double>(Clock::now() - since).count(); }

double ProcessSeconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void Fill(uint64_t first, uint64_t count) {
  const auto service = Open("fill");
  const auto start = Clock::now();
  for (uint64_t next = first; next < first + count;) {
    Misses misses;
    while (next < first + count && misses.size() < kMostKeysOfAFetch) {
      misses.scopes.emplace_back(Scope::kUser, "clicks", UserName(next++));
    }
    const FetchResult result = Ask(*service, std::move(misses));
    if (!result.status.ok()) Die(result.status.ToString());
  }
  std::printf("{\"seconds\": %.3f}\n", Seconds(start));
}

void Read(uint64_t users, uint64_t count, uint64_t size) {
  const auto service = Open("read");
  std::mt19937_64 random(1);
  const auto start = Clock::now();
  for (uint64_t done = 0; done < count; done += size) {
    Misses misses;
    for (uint64_t i = 0; i < size; ++i) misses.scopes.emplace_back(Scope::kUser, "clicks", UserName(random() % users));
    const FetchResult result = Ask(*service, std::move(misses));
    if (!result.status.ok() || result.scopes.size() != size) Die(result.status.ToString());
  }
  std::printf("{\"seconds\": %.3f}\n", Seconds(start));
}

// A worker that seals for every user of its set about a hundred times within cacheTtl.
void Work(KeyService& service, uint64_t users, uint64_t set, uint64_t seed, const std::atomic<bool>& isOver) {
  KeyCache cache(service);
  std::mt19937_64 random(seed);
  std::vector<std::string> names;
  for (uint64_t i = 0; i < set; ++i) names.push_back(UserName(random() % users));
  while (!isOver) {
    cache.Refresh();
    Misses misses;
    for (const std::string& name : names) {
      if (misses.size() == kMostKeysOfAFetch) break;
      const ScopeName scope{Scope::kUser, "clicks", name};
      if (cache.FindForSealing(scope) == nullptr) misses.scopes.emplace_back(scope);
    }
    if (misses.empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kCacheTtl) / 100);
    } else if (absl::Status status = cache.Deliver(Ask(service, std::move(misses))); !status.ok()) {
      Die(status.ToString());
    }
  }
}

void RunAgents(uint64_t users, uint64_t count, uint64_t set, uint64_t seconds) {
  std::vector<std::unique_ptr<KeyService>> services;
  for (uint64_t i = 0; i < count; ++i) services.push_back(Open("agent-" + std::to_string(i)));
  std::atomic<bool> isOver = false;
  std::vector<std::thread> workers;
  for (uint64_t i = 0; set > 0 && i < count; ++i) {
    workers.emplace_back([&, i] { Work(*services[i], users, set, i, isOver); });
  }
  std::printf("running\n");
  std::fflush(stdout);
  const double before = ProcessSeconds();
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  std::printf("{\"cpu\": %.3f, \"cacheTtl\": %d}\n", ProcessSeconds() - before, static_cast<int>(kCacheTtl.count()));
  std::fflush(stdout);
  isOver = true;
  for (std::thread& worker : workers) worker.join();
}

uint64_t Number(const char* text) {
  char* end = nullptr;
  const uint64_t number = std::strtoull(text, &end, 10);
  if (*text == '\0' || *end != '\0') Die(std::string(text) + " is not a number");
  return number;
}

void Main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "";
  std::vector<uint64_t> numbers;
  for (int i = 2; i < count; ++i) numbers.push_back(Number(arguments[i]));
  if (command == "fill" && numbers.size() == 2) return Fill(numbers[0], numbers[1]);
  if (command == "read" && numbers.size() == 3) return Read(numbers[0], numbers[1], numbers[2]);
  if (command == "agents" && numbers.size() == 4) return RunAgents(numbers[0], numbers[1], numbers[2], numbers[3]);
  Die("fill FIRST COUNT, read USERS COUNT SIZE, or agents USERS COUNT SET SECONDS");
}

}  // namespace
}  // namespace kveil::keys

int main(int count, char** arguments) { kveil::keys::Main(count, arguments); }
