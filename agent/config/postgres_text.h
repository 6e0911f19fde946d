// Parses a PostgreSQL connection string, and refuses what is not safe in one.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "config/keys_config.h"

namespace kveil::config {

// "host=a,b dbname=kveil user=kveil passfile=/etc/kveil/pgpass" or "postgresql://kveil@a,b/kveil": libpq's two forms.
// host, dbname and user must be there. Over a network, the server must prove who it is: sslmode is verify-full, also
// when it is left out. kInvalidArgument says what is wrong, and holds no value of the string.
absl::StatusOr<PostgresConfig> ParsePostgres(const std::string& text);

}  // namespace kveil::config
