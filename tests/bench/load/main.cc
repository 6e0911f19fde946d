// kafka_load: what a Kafka cluster, or an agent in front of it, does under a load that is known exactly. Each
// subcommand prints one JSON object. The exit status is 1 when there were errors.
//
//   build/release/kafka_load latency --bootstrap HOST:PORT --topic T --rate 1000 --seconds 10 --size 1024
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "load/client.h"
#include "load/many_connections.h"
#include "load/open_loop.h"
#include "load/round_trips.h"

namespace kveil::load {
namespace {

using Json = nlohmann::ordered_json;

double Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

Json LatencyJson(const Histogram& histogram) {
  Json json;
  json["count"] = histogram.count();
  for (const auto& [name, part] :
       {std::pair("p10_us", 0.1), {"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p99_9_us", 0.999}}) {
    json[name] = Microseconds(histogram.Quantile(part));
  }
  json["max_us"] = Microseconds(histogram.max());
  return json;
}

// Prints the figures; the exit status.
int Print(Json json, const Errors& errors) {
  json["errors"] = errors.count;
  if (errors.count > 0) json["first_error"] = errors.first;
  std::cout << json.dump(2) << std::endl;
  return errors.count > 0 ? 1 : 0;
}

int Refuse(const absl::Status& status) {
  std::cerr << "kafka_load: " << status.message() << std::endl;
  return 1;
}

int Latency(const OpenLoopOptions& options) {
  const absl::StatusOr<OpenLoopResult> result = RunOpenLoop(options);
  if (!result.ok()) return Refuse(result.status());
  Json json = LatencyJson(result->produced);
  if (options.fetch) json["fetched"] = LatencyJson(result->fetched);
  return Print(std::move(json), result->errors);
}

int Ping(const PingOptions& options) {
  const absl::StatusOr<PingResult> result = RunPings(options);
  if (!result.ok()) return Refuse(result.status());
  return Print(LatencyJson(result->histogram), result->errors);
}

int Connections(const ManyConnectionsOptions& options) {
  const absl::StatusOr<ManyConnectionsResult> result = RunManyConnections(options);
  if (!result.ok()) return Refuse(result.status());
  const double bytes = static_cast<double>(result->batches) * static_cast<double>(options.size);
  Json json{{"open", options.open}, {"active", options.active}, {"open_seconds", result->openSeconds}};
  json["mb_per_s"] = bytes / 1e6 / options.seconds;
  json["batches_per_s"] = static_cast<double>(result->batches) / options.seconds;
  json["latency"] = LatencyJson(result->latency);
  return Print(std::move(json), result->errors);
}

int First(const SocketAddress& bootstrap) {
  const absl::StatusOr<FirstAnswer> first = MeasureFirstAnswer(bootstrap);
  if (!first.ok()) return Refuse(first.status());
  return Print({{"connect_us", Microseconds(first->connected)}, {"answer_us", Microseconds(first->answered)}}, {});
}

int Main(int argc, char** argv) {
  CLI::App app("Loads Kafka brokers and prints what came of it as JSON", "kafka_load");
  app.require_subcommand(1);
  std::string bootstrap, topic = "kafka-load";
  app.add_option("--bootstrap", bootstrap, "HOST:PORT of a broker")->required();
  app.fallthrough();
  const auto common = [&](CLI::App* command, size_t& size, int16_t& acks) {
    command->add_option("--topic", topic, "created unless it is there")->capture_default_str();
    command->add_option("--size", size, "bytes of a record's value")
        ->capture_default_str()
        ->check(CLI::Range(64, 1 << 20));
    command->add_option("--acks", acks, "-1 or 1")->capture_default_str()->check(CLI::IsMember({-1, 1}));
  };
  const auto timed = [](CLI::App* command, double& seconds, double& warmUp) {
    command->add_option("--seconds", seconds)->capture_default_str()->check(CLI::Range(0.1, 86'400.0));
    command->add_option("--warm-up", warmUp, "seconds that do not count")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 600.0));
  };

  OpenLoopOptions openLoop;
  auto* latency = app.add_subcommand("latency", "records due at fixed times, and how long each took from then on");
  common(latency, openLoop.size, openLoop.acks);
  timed(latency, openLoop.seconds, openLoop.warmUp);
  latency->add_option("--rate", openLoop.rate, "records per second")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e6));
  latency->add_option("--connections", openLoop.connections)->capture_default_str()->check(CLI::Range(1, 1000));
  latency->add_flag("--fetch", openLoop.fetch, "read the records, too: \"fetched\" is from due to read");

  PingOptions pings;
  int64_t pauseUs = pings.pause.count();
  auto* ping = app.add_subcommand("ping", "one record at a time");
  common(ping, pings.size, pings.acks);
  ping->add_option("--count", pings.count)->capture_default_str()->check(CLI::Range(1, 10'000'000));
  ping->add_option("--pause-us", pauseUs, "microseconds after each answer")
      ->capture_default_str()
      ->check(CLI::Range(0, 10'000'000));

  ManyConnectionsOptions many;
  auto* connections = app.add_subcommand("connections", "many connections, some of which produce as fast as they can");
  common(connections, many.size, many.acks);
  timed(connections, many.seconds, many.warmUp);
  connections->add_option("--open", many.open)->capture_default_str()->check(CLI::Range(1, 60'000));
  connections->add_option("--active", many.active, "of the open ones")
      ->capture_default_str()
      ->check(CLI::Range(1, 60'000));
  connections->add_option("--partitions", many.partitions)->capture_default_str()->check(CLI::Range(1, 1000));
  connections->add_option("--in-flight", many.inFlight, "requests of each active one")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));

  const auto* first = app.add_subcommand("first", "connect, and the answer to ApiVersions");
  CLI11_PARSE(app, argc, argv);

  const absl::StatusOr<SocketAddress> address = Resolve(bootstrap);
  if (!address.ok()) return Refuse(address.status());
  openLoop.bootstrap = pings.bootstrap = many.bootstrap = *address;
  openLoop.topic = pings.topic = many.topic = topic;
  pings.pause = std::chrono::microseconds(pauseUs);
  many.active = std::min(many.active, many.open);
  if (latency->parsed()) return Latency(openLoop);
  if (ping->parsed()) return Ping(pings);
  return first->parsed() ? First(*address) : Connections(many);
}

}  // namespace
}  // namespace kveil::load

int main(int argc, char** argv) { return kveil::load::Main(argc, argv); }
