#include <chrono>
#include <string>
#include <utility>

#include "base/text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using admin::ConnectionsCommand;

// For every worker to answer. One that works on a large batch takes some milliseconds.
constexpr std::chrono::seconds kPatience{2};
// Of all texts of an answer. As JSON, a byte may become six; `kveil` takes 16 MiB.
constexpr size_t kMostTextBytes = 2 << 20;

std::optional<std::string> IfKnown(std::string text) {
  return text.empty() ? std::nullopt : std::optional<std::string>(std::move(text));
}

size_t TextBytesOf(const proxy::ConnectionReport& report) {
  size_t bytes = 0;
  for (const std::string* text : {&report.workload, &report.share, &report.cluster, &report.client, &report.broker,
                                  &report.clientTls, &report.clientId, &report.principal, &report.certificate}) {
    bytes += text->size();
  }
  return bytes;
}

ConnectionsCommand::Connection ConnectionOf(proxy::ConnectionReport report) {
  ConnectionsCommand::Connection connection;
  connection.id = report.id;
  connection.workload = std::move(report.workload);
  connection.share = std::move(report.share);
  connection.uid = report.uid;
  connection.cluster = std::move(report.cluster);
  connection.broker = std::move(report.broker);
  connection.client = std::move(report.client);
  connection.clientTls = std::move(report.clientTls);
  connection.clientId = IfKnown(std::move(report.clientId));
  connection.principal = IfKnown(std::move(report.principal));
  connection.certificate = IfKnown(std::move(report.certificate));
  connection.ageMilliseconds = static_cast<uint64_t>(report.age.count());
  connection.requestBytes = report.requestBytes;
  connection.responseBytes = report.responseBytes;
  connection.sealed = report.records.sealed;
  connection.opened = report.records.opened;
  connection.denied = report.records.denied;
  connection.refused = report.records.refused;
  return connection;
}

}  // namespace

absl::StatusOr<ConnectionsCommand::Response> Connections(const proxy::Server& server,
                                                         const ConnectionsCommand::Request& request) {
  if (request.most == 0 || request.most > ConnectionsCommand::kMost) {
    return absl::InvalidArgumentError(StrCat("\"most\" is not from 1 to ", ConnectionsCommand::kMost));
  }
  proxy::ConnectionList list = server.ListConnections({.workload = request.workload.value_or(""),
                                                       .cluster = request.cluster.value_or(""),
                                                       .most = request.most,
                                                       .recently = request.recently},
                                                      kPatience);
  ConnectionsCommand::Response response;
  response.total = list.total;
  response.fitting = list.fitting;
  response.silentWorkers = list.silentWorkers;
  size_t bytes = 0;
  for (proxy::ConnectionReport& report : list.connections) {
    bytes += TextBytesOf(report);
    if (bytes > kMostTextBytes) break;
    response.connections.push_back(ConnectionOf(std::move(report)));
  }
  return response;
}

}  // namespace kveil::daemon
