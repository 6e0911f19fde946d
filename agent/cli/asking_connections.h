// What `kveil connections` and `kveil top` ask the agent.
#pragma once

#include <string>

#include "admin/connections_command.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/words.h"

namespace kveil::cli {

inline admin::ConnectionsCommand::Request RequestOf(const ConnectionsOptions& options, bool recently) {
  admin::ConnectionsCommand::Request request;
  request.workload = options.workload;
  request.cluster = options.cluster;
  if (options.most.has_value()) request.most = *options.most;
  request.recently = recently;
  return request;
}

// "12 connections, 3 of them fit"
inline std::string SummaryOf(const admin::ConnectionsCommand::Response& response) {
  std::string text = CountText(response.total, "connection");
  if (response.fitting < response.total) StrAppend(&text, ", of which ", response.fitting, " fit");
  if (response.silentWorkers > 0) {
    StrAppend(&text, "; without those of ", response.silentWorkers, " worker thread(s) that did not answer in time");
  }
  return text;
}

}  // namespace kveil::cli
