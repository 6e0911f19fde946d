// A PostgreSQL server of the distribution's packages, for as long as the test program runs.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "keys/registry/open_registry.h"

struct pg_conn;

namespace kveil::keys {

class PostgresServer {
 public:
  // Started by whoever asks first.
  static PostgresServer& Running();
  ~PostgresServer();

  // A new database for each `key`, the same one each time. By its Unix socket.
  RegistryOptions OptionsFor(const std::string& key);
  // The same over TLS, which its certificate proves for localhost.
  RegistryOptions TlsOptionsFor(const std::string& key);
  std::string certificateAuthority() const { return folder_ + "/ca.crt"; }
  std::string otherAuthority() const { return folder_ + "/other.crt"; }
  const std::string& folder() const { return folder_; }
  int port() const { return port_; }
  std::string DataFile(const std::string& relativePath) const { return folder_ + "/data/" + relativePath; }

  // Another client of the database, which ends with it.
  class Client {
   public:
    Client(const PostgresServer& server, const std::string& database);
    ~Client();
    // The first column of the rows, as text. A failure fails the test.
    std::vector<std::string> Query(const std::string& sql);

   private:
    pg_conn* connection_;
  };
  const std::string& DatabaseOf(const std::string& key);
  Client ClientOf(const std::string& key) { return {*this, DatabaseOf(key)}; }

  void Stop();  // at once, as in a crash
  void Start();

 private:
  PostgresServer();
  void MakeCertificates();

  std::string folder_;
  std::string user_;
  int port_ = 0;
  pid_t process_ = -1;
  std::map<std::string, std::string> databases_;  // by key
};

// Stops one of the server's processes for connections, at a moment when it does nothing: so it has no lock that others
// would wait for. Goes on at the end.
class StoppedBackend {
 public:
  explicit StoppedBackend(pid_t pid);
  ~StoppedBackend() { Continue(); }
  StoppedBackend(const StoppedBackend&) = delete;
  StoppedBackend& operator=(const StoppedBackend&) = delete;
  void Continue();

 private:
  const pid_t pid_;
};

}  // namespace kveil::keys
