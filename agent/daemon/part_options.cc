#include "daemon/part_options.h"

#include <algorithm>
#include <thread>

namespace kveil::daemon {
namespace {

unsigned WorkerCount(const config::AgentConfig& config) {
  return config.workers != 0 ? config.workers : std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

guard::GuardLimits GuardLimitsOf(const config::AgentConfig& config) {
  guard::GuardLimits limits;
  limits.batchSize = config.limits.batchSize;
  limits.batchUsers = config.limits.batchUsers;
  // Besides records, a response has some bytes for each partition.
  limits.fetchBytes = config.limits.responseSize - config.limits.responseSize / 16;
  limits.keyTimeout = config.limits.keyTimeout;
  return limits;
}

proxy::Server::Options ServerOptionsOf(const config::AgentConfig& config) {
  proxy::Server::Options options;
  options.workers = WorkerCount(config);
  options.receiveBuffers = config.limits.receiveBuffers;
  const size_t share = config.limits.totalMemory / options.workers;
  // A worker has one batch in work at a time: as it came, decompressed, and what it becomes.
  options.frameMemory = share - std::min(2 * config.limits.batchSize, share / 4);
  options.connections = config.limits.connections;
  options.drainTimeout = config.limits.drainTimeout;
  if (config.kubernetes.has_value()) options.identityTimeout = config.kubernetes->identityTimeout;
  options.limits.requestFrame = config.limits.requestSize;
  options.limits.responseFrame = config.limits.responseSize;
  options.limits.connectTimeout = config.limits.connectTimeout;
  options.limits.stallTimeout = config.limits.stallTimeout;
  options.limits.hoardTimeout = config.limits.stallTimeout / 10;
  options.limits.idleTimeout = config.limits.idleTimeout;
  return options;
}

kafka_client::Options ClientOf(const config::KafkaClientConfig& connection, const std::string& topic, const char* event,
                               intercept::Redirect& redirect) {
  return {.connection = connection, .topic = topic, .event = event, .tagAsOwn = [&redirect](int fd) {
            return redirect.TagAsOwn(fd).ok();
          }};
}

consents::TopicFollowerOptions FollowerOptionsOf(const config::ConsentTopicConfig& topic,
                                                 intercept::Redirect& redirect) {
  consents::TopicFollowerOptions options;
  options.reader = ClientOf(topic.client, topic.topic, "consents.client", redirect);
  options.keyspace = topic.keyspace;
  const auto& names = formats::kIdEncodingNames;
  const auto* const name = std::find(names.begin(), names.end(), topic.as);
  if (name != names.end()) options.as = static_cast<formats::IdEncoding>(name - names.begin());
  options.staleAfter = topic.staleAfter;
  return options;
}

kubernetes::ApiServerOptions ApiServerOf(const config::KubernetesConfig& config) {
  return {.address = config.apiServer, .ca = config.ca, .tokenFile = config.tokenFile};
}

}  // namespace kveil::daemon
