// What the agent does with applications that speak TLS to a cluster's brokers: `clusters.NAME.clientTls`.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace kveil::config {

// That stand for one cluster's brokers, in a list or in a folder.
inline constexpr size_t kMostCertificates = 256;

struct ClientTlsConfig {
  enum class Mode {
    kRefuse,     // their connections end
    kPass,       // they are relayed as they are: the agent sees no records, and protects none
    kTerminate,  // the agent speaks TLS with them in place of the broker; the rest of this is for that
  };
  struct Files {  // paths of PEM files
    std::string certificate;
    std::string key;
  };
  enum class ClientCertificate { kNone, kRequest, kRequire };  // of applications

  Mode mode = Mode::kRefuse;
  std::string folder;                                              // with NAME.crt and NAME.key; or
  std::vector<Files> certificates;                                 // these
  std::string clientCa;                                            // PEM file; empty: none
  ClientCertificate clientCertificate = ClientCertificate::kNone;  // another one only with clientCa
  bool version12 = true;                                           // TLS 1.2 besides 1.3
};

class JsonValue;

ClientTlsConfig ReadClientTls(const JsonValue& value);

}  // namespace kveil::config
