#include "postgres_server.h"

#include <glob.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace kveil::keys {
namespace {

// The newest of the versions that are installed.
std::string BinaryFolder() {
  glob_t found;
  std::string folder;
  if (glob("/usr/lib/postgresql/*/bin/initdb", 0, nullptr, &found) == 0) {
    folder = std::filesystem::path(found.gl_pathv[found.gl_pathc - 1]).parent_path();
  }
  globfree(&found);
  if (folder.empty()) throw std::runtime_error("PostgreSQL is not installed; scripts/setup does that");
  return folder;
}

void Run(const std::string& command) {
  if (system((command + " > /dev/null 2>&1").c_str()) != 0) throw std::runtime_error("failed: " + command);
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) throw std::runtime_error("no free port");
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

}  // namespace

PostgresServer& PostgresServer::Running() {
  static PostgresServer server;
  return server;
}

PostgresServer::PostgresServer() {
  char path[] = "/tmp/kveil-postgres-XXXXXX";
  folder_ = mkdtemp(path);
  // It refuses to run as root.
  user_ = getpwnam("postgres") != nullptr ? "postgres" : "nobody";
  port_ = FreePort();
  MakeCertificates();
  Run("chown -R " + user_ + " " + folder_);
  Run("setpriv --reuid=" + user_ + " --clear-groups -- " + BinaryFolder() + "/initdb --no-sync --data-checksums" +
      " --auth=trust --username=kveil --encoding=UTF8 --no-locale --pgdata=" + folder_ + "/data");
  std::ofstream(DataFile("postgresql.conf"), std::ios::app)
      << "listen_addresses = '127.0.0.1'\nport = " << port_ << "\nunix_socket_directories = '" << folder_
      << "'\nfsync = off\nshared_buffers = 16MB\nmax_connections = 60\nssl = on\nssl_cert_file = '" << folder_
      << "/server.crt'\nssl_key_file = '" << folder_ << "/server.key'\n";
  Start();
}

PostgresServer::~PostgresServer() {
  Stop();
  std::filesystem::remove_all(folder_);
}

void PostgresServer::MakeCertificates() {
  const std::string make = "cd " + folder_ + " && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes ";
  for (const char* name : {"ca", "other"}) {
    Run(make + "-x509 -days 2 -subj /CN=" + name + " -keyout " + name + ".key -out " + name + ".crt");
  }
  Run(make + "-x509 -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -CA ca.crt -CAkey ca.key" +
      " -keyout server.key -out server.crt || (openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
      " -subj /CN=localhost -keyout server.key -out server.csr && openssl x509 -req -in server.csr -CA ca.crt"
      " -CAkey ca.key -CAcreateserial -days 2 -out server.crt)");
  Run("chmod 600 " + folder_ + "/server.key");
}

void PostgresServer::Start() {
  const pid_t parent = getpid();
  const std::string program = BinaryFolder() + "/postgres";
  process_ = fork();
  if (process_ == 0) {
    const passwd* user = getpwnam(user_.c_str());
    if (setregid(user->pw_gid, user->pw_gid) != 0 || setreuid(user->pw_uid, user->pw_uid) != 0) _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);  // the tests may end in a crash
    if (getppid() != parent) _exit(0);
    if (freopen((folder_ + "/data/log").c_str(), "a", stderr) == nullptr) _exit(125);
    execl(program.c_str(), program.c_str(), "-D", (folder_ + "/data").c_str(), nullptr);
    _exit(127);
  }
  const std::string connection = "host=" + folder_ + " port=" + std::to_string(port_) + " user=kveil dbname=postgres";
  for (int i = 0; i < 1500; ++i) {
    if (PQping(connection.c_str()) == PQPING_OK) return;
    usleep(20'000);
  }
  throw std::runtime_error("PostgreSQL does not start");
}

void PostgresServer::Stop() {
  if (process_ < 0) return;
  kill(process_, SIGQUIT);
  waitpid(process_, nullptr, 0);
  process_ = -1;
}

const std::string& PostgresServer::DatabaseOf(const std::string& key) {
  const auto [entry, isNew] = databases_.emplace(key, "kveil" + std::to_string(databases_.size()));
  if (isNew) Client(*this, "postgres").Query("CREATE DATABASE " + entry->second);
  return entry->second;
}

RegistryOptions PostgresServer::OptionsFor(const std::string& key) {
  RegistryOptions options;
  options.postgres.emplace();
  options.postgres->servers = {{folder_, "", std::to_string(port_)}};
  options.postgres->parameters = {{"user", "kveil"}, {"dbname", DatabaseOf(key)}};
  return options;
}

RegistryOptions PostgresServer::TlsOptionsFor(const std::string& key) {
  RegistryOptions options = OptionsFor(key);
  options.postgres->servers = {{"localhost", "127.0.0.1", std::to_string(port_)}};
  options.postgres->parameters.emplace_back("sslmode", "verify-full");
  options.postgres->parameters.emplace_back("sslrootcert", certificateAuthority());
  return options;
}

PostgresServer::Client::Client(const PostgresServer& server, const std::string& database)
    : connection_(PQconnectdb(("host=" + server.folder_ + " port=" + std::to_string(server.port_) +
                               " user=kveil application_name=test dbname=" + database)
                                  .c_str())) {
  EXPECT_EQ(PQstatus(connection_), CONNECTION_OK) << PQerrorMessage(connection_);
}

PostgresServer::Client::~Client() { PQfinish(connection_); }

std::vector<std::string> PostgresServer::Client::Query(const std::string& sql) {
  PGresult* result = PQexec(connection_, sql.c_str());
  const ExecStatusType status = PQresultStatus(result);
  EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) << sql << ": " << PQerrorMessage(connection_);
  std::vector<std::string> values;
  for (int i = 0; i < PQntuples(result); ++i) values.emplace_back(PQgetvalue(result, i, 0));
  PQclear(result);
  return values;
}

namespace {

std::string TextOf(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool IsStopped(pid_t pid) {
  const std::string stat = TextOf("/proc/" + std::to_string(pid) + "/stat");
  const size_t name = stat.rfind(')');  // which may hold anything
  return name != std::string::npos && stat.substr(name, 3) == ") T";
}

// By the title that it gives itself: "postgres: USER DATABASE [local] idle".
bool IsIdle(pid_t pid) {
  std::string title = TextOf("/proc/" + std::to_string(pid) + "/cmdline");
  title.erase(title.find_last_not_of(std::string(" \0", 2)) + 1);
  return title.ends_with("] idle") || title.ends_with(") idle");
}

}  // namespace

StoppedBackend::StoppedBackend(pid_t pid) : pid_(pid) {
  for (int attempt = 0; attempt < 5000; ++attempt) {
    EXPECT_EQ(kill(pid_, SIGSTOP), 0);
    for (int looks = 0; looks < 5000 && !IsStopped(pid_); ++looks) usleep(1000);
    if (IsStopped(pid_) && IsIdle(pid_)) return;
    Continue();
    usleep(1000);
  }
  ADD_FAILURE() << "process " << pid << " of the server is never idle";
}

void StoppedBackend::Continue() { kill(pid_, SIGCONT); }

}  // namespace kveil::keys
