// Where signed policies are pulled from: `policies.pull`.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace kveil::config {

struct PullConfig {
  std::string url;          // "https://policies.example/node.bundle"; http only on loopback
  std::string ca;           // path of a PEM file; empty: the authorities of the system
  std::string certificate;  // paths of PEM files, both or none: what the agent shows the server
  std::string key;
  std::string tokenFile;                                          // path of a file with a bearer token; empty: none
  std::chrono::milliseconds interval = std::chrono::seconds(60);  // between questions, at most
  size_t maxSize = size_t{16} << 20;                              // of the bundle, in bytes
};

class JsonValue;

PullConfig ReadPull(const JsonValue& value);

}  // namespace kveil::config
