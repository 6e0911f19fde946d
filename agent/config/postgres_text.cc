// libpq takes the string apart; what it would take from the environment or from other files is left to it, but for
// passwords.
#include "config/postgres_text.h"

#include <libpq-fe.h>
#include <stdlib.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_split.h"
#include "base/text.h"
#include "config/credentials.h"

namespace kveil::config {
namespace {

using Parameters = std::vector<std::pair<std::string, std::string>>;

absl::StatusOr<Parameters> TakeApart(const std::string& text) {
  char* error = nullptr;
  std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(PQconninfoParse(text.c_str(), &error),
                                                                         PQconninfoFree);
  const std::unique_ptr<char, void (*)(void*)> owner(error, PQfreemem);
  if (options == nullptr) {
    // Of libpq's messages, only this one holds nothing but a name.
    const std::string_view message = error == nullptr ? "" : error;
    if (message.starts_with("invalid connection option \"")) {
      const std::string_view rest = message.substr(message.find('"'));
      return absl::InvalidArgumentError(StrCat("unknown parameter ", rest.substr(0, rest.find('"', 1) + 1)));
    }
    return absl::InvalidArgumentError(
        "expected a PostgreSQL connection string such as \"host=db.example dbname=kveil user=kveil\"");
  }
  Parameters parameters;
  for (const PQconninfoOption* each = options.get(); each->keyword != nullptr; ++each) {
    if (each->val != nullptr && each->val[0] != '\0') {
      parameters.emplace_back(each->keyword, ExpandCredentials(each->val));
    }
  }
  return parameters;
}

// Takes a parameter out; empty when it is not there.
std::string Take(Parameters& parameters, std::string_view keyword) {
  const auto found =
      std::find_if(parameters.begin(), parameters.end(), [keyword](const auto& each) { return each.first == keyword; });
  if (found == parameters.end()) return "";
  std::string value = std::move(found->second);
  parameters.erase(found);
  return value;
}

bool IsLocal(const PostgresConfig::Server& server) {
  const std::string& host = server.address.empty() ? server.host : server.address;
  return host.starts_with('/') || host.starts_with('@') || host == "localhost" || host == "::1" ||
         host.starts_with("127.");
}

absl::StatusOr<std::vector<PostgresConfig::Server>> TakeServers(Parameters& parameters) {
  const std::string hosts = Take(parameters, "host");
  const std::string addresses = Take(parameters, "hostaddr");
  const std::string ports = Take(parameters, "port");
  if (hosts.empty()) return absl::InvalidArgumentError("expected the parameter host");
  std::vector<PostgresConfig::Server> servers;
  for (const absl::string_view host : absl::StrSplit(hosts, ',')) {
    if (host.empty()) return absl::InvalidArgumentError("host has an empty name in it");
    servers.push_back({std::string(host), "", "5432"});
  }
  if (!addresses.empty()) {
    const std::vector<std::string> list = absl::StrSplit(addresses, ',');
    if (list.size() != servers.size()) return absl::InvalidArgumentError("expected as many hostaddr as host");
    for (size_t i = 0; i < list.size(); ++i) servers[i].address = list[i];
  }
  if (!ports.empty()) {
    const std::vector<std::string> list = absl::StrSplit(ports, ',');
    if (list.size() != 1 && list.size() != servers.size()) {
      return absl::InvalidArgumentError("expected one port, or as many as hosts");
    }
    for (size_t i = 0; i < servers.size(); ++i) {
      const std::string& port = list[list.size() == 1 ? 0 : i];
      if (!port.empty()) servers[i].port = port;
    }
  }
  return servers;
}

absl::Status CheckPorts(const std::vector<PostgresConfig::Server>& servers) {
  for (const PostgresConfig::Server& server : servers) {
    const bool isNumber =
        std::all_of(server.port.begin(), server.port.end(), [](char c) { return '0' <= c && c <= '9'; });
    const int number = isNumber && server.port.size() <= 5 ? atoi(server.port.c_str()) : 0;
    if (number < 1 || number > 65535) return absl::InvalidArgumentError("expected a port from 1 to 65535");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostgresConfig> ParsePostgres(const std::string& text) {
  absl::StatusOr<Parameters> parsed = TakeApart(text);
  if (!parsed.ok()) return parsed.status();
  PostgresConfig config;
  config.parameters = *std::move(parsed);
  Parameters& parameters = config.parameters;
  const auto has = [&parameters](std::string_view keyword) {
    return std::any_of(parameters.begin(), parameters.end(), [&](const auto& each) { return each.first == keyword; });
  };
  for (const char* secret : {"password", "sslpassword"}) {
    if (has(secret)) {
      return absl::InvalidArgumentError(StrCat(secret,
                                               " is not allowed here, where others may read it: name a file of "
                                               "mode 0600 by passfile, or use a client certificate (sslcert, "
                                               "sslkey)"));
    }
  }
  for (const char* variable : {"PGPASSWORD", "PGSERVICE", "PGHOSTADDR", "PGOPTIONS"}) {
    if (getenv(variable) != nullptr) {
      return absl::InvalidArgumentError(StrCat(variable, " is set in the environment, which libpq would add to this"));
    }
  }
  if (has("service")) return absl::InvalidArgumentError("service is not supported; write out what it stands for");
  absl::StatusOr<std::vector<PostgresConfig::Server>> servers = TakeServers(parameters);
  if (!servers.ok()) return servers.status();
  config.servers = *std::move(servers);
  if (absl::Status status = CheckPorts(config.servers); !status.ok()) return status;
  for (const char* needed : {"dbname", "user"}) {
    if (!has(needed)) return absl::InvalidArgumentError(StrCat("expected the parameter ", needed));
  }
  const std::string session = Take(parameters, "target_session_attrs");
  if (!session.empty() && session != "read-write" && session != "primary") {
    return absl::InvalidArgumentError("target_session_attrs can only be read-write: a registry is written to");
  }
  (void)Take(parameters, "client_encoding");
  if (std::all_of(config.servers.begin(), config.servers.end(), IsLocal)) return config;
  const std::string mode = Take(parameters, "sslmode");
  if (!mode.empty() && mode != "verify-full") {
    return absl::InvalidArgumentError(
        "sslmode must be verify-full (the default here): without it anybody on the way could pass for the server and "
        "bring back erased keys");
  }
  parameters.emplace_back("sslmode", "verify-full");
  return config;
}

}  // namespace kveil::config
