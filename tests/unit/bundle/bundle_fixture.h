// A folder of signed policies, and what may be done to it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/text.h"
#include "bundle/signature.h"
#include "evidence/small_file.h"

namespace kveil::bundle {

class BundleTest : public ::testing::Test {
 protected:
  BundleTest() {
    std::filesystem::create_directory(folder_);
    trusted_ = {KeyFile("key.pub", key_)};
  }
  ~BundleTest() override { std::filesystem::remove_all(root_); }

  static std::string NewFolder() {
    std::string path = ::testing::TempDir() + "kveil-bundle-XXXXXX";
    return ::mkdtemp(path.data());
  }
  static evidence::SigningKey NewKey() { return *evidence::SigningKey::Make(); }

  std::string KeyFile(const std::string& name, const evidence::SigningKey& key) {
    return WriteTo(root_ + "/" + name, key.PublicPem());
  }
  static std::string WriteTo(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::string Write(const std::string& name, const std::string& text) { return WriteTo(folder_ + "/" + name, text); }
  std::string Read(const std::string& name) {
    std::stringstream text;
    text << std::ifstream(folder_ + "/" + name, std::ios::binary).rdbuf();
    return text.str();
  }

  // Of one file, with these bytes.
  static Manifest Of(int64_t version, const std::string& text = "{}") {
    Manifest manifest;
    manifest.version = version;
    manifest.created = "2026-11-29T20:04:48Z";
    manifest.files["a.json"] = evidence::Sha256Hex(text);
    return manifest;
  }
  void SignAs(int64_t version) { ASSERT_TRUE(Sign(folder_, Of(version), key_).ok()); }
  // What is wrong with the folder, or "".
  std::string Refusal() { return std::string(ReadSigned(folder_, trusted_).status().message()); }

  const std::string root_ = NewFolder();
  const std::string folder_ = root_ + "/policies";
  const evidence::SigningKey key_ = NewKey();
  std::vector<std::string> trusted_;
};

}  // namespace kveil::bundle
