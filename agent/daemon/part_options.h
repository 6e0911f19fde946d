// What the configuration says, as the options of the agent's parts.
#pragma once

#include <string>

#include "config/config.h"
#include "consents/topic_follower.h"
#include "guard/state/shared_state.h"
#include "intercept/kernel/redirect.h"
#include "kafka_client/client.h"
#include "kubernetes/api_server.h"
#include "proxy/server.h"

namespace kveil::daemon {

guard::GuardLimits GuardLimitsOf(const config::AgentConfig& config);
proxy::Server::Options ServerOptionsOf(const config::AgentConfig& config);

// A client of a topic, whose events are called `event`. Its connections go to brokers whose other connections are taken
// over.
kafka_client::Options ClientOf(const config::KafkaClientConfig& connection, const std::string& topic, const char* event,
                               intercept::Redirect& redirect);
consents::TopicFollowerOptions FollowerOptionsOf(const config::ConsentTopicConfig& topic,
                                                 intercept::Redirect& redirect);

kubernetes::ApiServerOptions ApiServerOf(const config::KubernetesConfig& config);

}  // namespace kveil::daemon
