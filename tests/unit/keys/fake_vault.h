// A Vault server on loopback, for what the real one cannot be made to do: HTTP or HTTPS, with a Transit engine and
// three ways to log in. It is strict: whatever the agent should not send is answered with 418 and noted.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/mutex.h"
#include "base/text.h"
#include "crypto/key_wrap.h"
#include "fake_http_server.h"

namespace kveil::keys {

class FakeVault : public FakeHttpServer {
 public:
  // Plain HTTP without a certificate.
  explicit FakeVault(const io::TestCertificate& certificate = {}) : FakeHttpServer(certificate) { Start(); }
  ~FakeVault() override { Stop(); }

  // What the server has. Each call takes effect with the next request.
  void MakeKey(const std::string& name, nlohmann::json fields = nlohmann::json::object()) {
    const MutexLock lock(mutex_);
    keys_[name].versions.push_back(crypto::SecretKey::Random());
    keys_[name].fields = std::move(fields);
  }
  void RotateKey(const std::string& name, int minDecryption = 1) {
    const MutexLock lock(mutex_);
    keys_[name].versions.push_back(crypto::SecretKey::Random());
    keys_[name].minDecryption = minDecryption;
  }
  void SetMinDecryption(const std::string& name, int version) {
    const MutexLock lock(mutex_);
    keys_[name].minDecryption = version;
  }
  void DeleteKey(const std::string& name) {
    const MutexLock lock(mutex_);
    keys_.erase(name);
  }
  void AddToken(const std::string& token, int lease = 0, bool isRenewable = false) {
    const MutexLock lock(mutex_);
    tokens_[token] = {Clock::now(), lease, isRenewable};
  }
  void RevokeTokens() {
    const MutexLock lock(mutex_);
    tokens_.clear();
  }
  // What a login needs, and what it gives.
  void AllowLogin(const std::string& path, nlohmann::json body, int lease, bool isRenewable = true) {
    const MutexLock lock(mutex_);
    logins_[path] = {std::move(body), lease, isRenewable};
  }
  void ForbidLogin(const std::string& path) {
    const MutexLock lock(mutex_);
    logins_[path].body = nullptr;
  }
  void Deny(const std::string& path, bool denied = true) {
    const MutexLock lock(mutex_);
    denied ? (void)denied_.insert(path) : (void)denied_.erase(path);
  }
  void ExpectNamespace(const std::string& name) {
    const MutexLock lock(mutex_);
    nameSpace_ = name;
  }

  // What goes wrong with each request until it is set anew. nullopt: nothing, the request is answered as it should be.
  using Fault = std::function<std::optional<Response>(const Request&)>;
  void SetFault(Fault fault) {
    const MutexLock lock(mutex_);
    fault_ = std::move(fault);
  }
  // Each answer, as it is about to be sent.
  void SetChange(std::function<void(const Request&, nlohmann::json&)> change) {
    const MutexLock lock(mutex_);
    change_ = std::move(change);
  }

  size_t tokens() const {
    const MutexLock lock(mutex_);
    return tokens_.size();
  }
  int Count(const std::string& pathPart) const {
    const MutexLock lock(mutex_);
    return static_cast<int>(std::count_if(paths_.begin(), paths_.end(),
                                          [&](const std::string& path) { return absl::StrContains(path, pathPart); }));
  }
  std::vector<std::string> complaints() const {
    const MutexLock lock(mutex_);
    return complaints_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Key {
    std::vector<crypto::SecretKey> versions;
    int minDecryption = 1;
    nlohmann::json fields;
  };
  struct Token {
    Clock::time_point begun;
    int lease = 0;
    bool isRenewable = false;
  };
  struct Login {
    nlohmann::json body;
    int lease = 0;
    bool isRenewable = false;
  };

  Response Complain(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    complaints_.push_back(what);
    return Response::Error(418, what);
  }

  Response Answer(const Request& request) override {
    const MutexLock lock(mutex_);
    paths_.push_back(request.path);
    if (fault_) {
      if (std::optional<Response> response = fault_(request)) return *response;
    }
    if (std::string wrong = WrongHeaders(request); !wrong.empty()) return Complain(wrong);
    Response response = Route(request);
    if (change_ && response.status == 200) {
      nlohmann::json json = nlohmann::json::parse(response.body);
      change_(request, json);
      response.body = json.dump();
    }
    return response;
  }

  std::string WrongHeaders(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    static const std::set<std::string> kKnown = {"host",
                                                 "user-agent",
                                                 "accept",
                                                 "content-type",
                                                 "content-length",
                                                 "x-vault-request",
                                                 "x-vault-namespace",
                                                 "x-vault-token"};
    for (const auto& [name, value] : request.headers) {
      if (!kKnown.contains(name)) return "header " + name;
    }
    if (request.Header("x-vault-request") != "true") return "no X-Vault-Request";
    if (request.Header("x-vault-namespace") != nameSpace_) return "namespace " + request.Header("x-vault-namespace");
    if (request.method == "POST" && request.Header("content-type") != "application/json")
      return "a body that is not JSON";
    if (request.method == "POST" && !request.body.is_object()) return "a body that is no object";
    if (request.method == "GET" && request.headers.contains("content-length")) return "GET with a body";
    return "";
  }

  Response Route(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto is = [&](const std::string& method, const std::string& prefix) {
      return request.method == method && request.path.starts_with(prefix);
    };
    if (is("POST", "/v1/auth/") && request.path.ends_with("/login")) return LogIn(request);
    const auto header = request.headers.find("x-vault-token");
    if (header == request.headers.end()) return Complain("no token");
    const auto token = tokens_.find(header->second);
    const bool isAlive =
        token != tokens_.end() &&
        (token->second.lease == 0 || Clock::now() < token->second.begun + std::chrono::seconds(token->second.lease));
    // The same for a token that has ended and for a policy that denies.
    if (!isAlive || denied_.contains(request.path)) return Response::Error(403, "permission denied");
    if (is("GET", "/v1/auth/token/lookup-self")) {
      return Response::Of({{"data", {{"ttl", token->second.lease}, {"renewable", token->second.isRenewable}}}});
    }
    if (is("POST", "/v1/auth/token/renew-self")) {
      if (!token->second.isRenewable) return Response::Error(400, "lease is not renewable");
      token->second.begun = Clock::now();
      return Auth(token->first, token->second.lease, true);
    }
    if (is("POST", "/v1/auth/token/revoke-self")) {
      tokens_.erase(token);
      return {204, ""};
    }
    if (is("POST", "/v1/transit/datakey/plaintext/")) return MakeDataKey(request, request.path.substr(30));
    if (is("POST", "/v1/transit/decrypt/")) return Decrypt(request, request.path.substr(20));
    if (is("POST", "/v1/transit/rewrap/")) return Rewrap(request, request.path.substr(19));
    if (is("GET", "/v1/transit/keys/")) return ReadKey(request.path.substr(17));
    return Complain(request.method + " " + request.path);
  }

  static Response Auth(const std::string& token, int lease, bool isRenewable) {
    return Response::Of({{"auth", {{"client_token", token}, {"lease_duration", lease}, {"renewable", isRenewable}}}});
  }

  Response LogIn(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.headers.contains("x-vault-token")) return Complain("a login with a token");
    const auto login = logins_.find(request.path);
    if (login == logins_.end()) return Response::Error(404, "no handler for route");
    if (request.body != login->second.body) return Response::Error(400, "invalid role or secret ID");
    const std::string token = StrCat("hvs.login", ++loginsMade_);
    tokens_[token] = {Clock::now(), login->second.lease, login->second.isRenewable};
    return Auth(token, login->second.lease, login->second.isRenewable);
  }

  Response MakeDataKey(const Request& request, const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(request.body, {})) return Complain("datakey " + request.body.dump());
    const auto key = keys_.find(name);
    if (key == keys_.end()) return Response::Error(400, "encryption key not found");
    const crypto::SecretKey made = crypto::SecretKey::Random();
    const ByteBuffer wrapped = crypto::WrapKey(key->second.versions.back(), made, {});
    return Response::Of({{"data",
                          {{"ciphertext", StrCat("vault:v", key->second.versions.size(), ":", Base64(wrapped))},
                           {"key_version", key->second.versions.size()},
                           {"plaintext", Base64(made.bytes())}}}});
  }

  Response Decrypt(const Request& request, const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(request.body, {"batch_input", "partial_failure_response_code"})) return Complain("decrypt");
    const auto key = keys_.find(name);
    if (key == keys_.end()) return Response::Error(400, "encryption key not found");
    if (request.body["batch_input"].size() > 400) return Complain("a batch of more than 400");
    nlohmann::json results = nlohmann::json::array();
    bool some = false, all = true;
    for (const nlohmann::json& item : request.body["batch_input"]) {
      if (!HasOnly(item, {"ciphertext", "reference"})) return Complain("item " + item.dump());
      nlohmann::json result = DecryptOne(key->second, item);
      result["reference"] = item["reference"];
      some = some || !result.contains("error");
      all = all && !result.contains("error");
      results.push_back(result);
    }
    const nlohmann::json answer = {{"data", {{"batch_results", results}}}};
    return {all || some ? 200 : 400, answer.dump()};
  }

  // Without partial_failure_response_code: rewrap answers with 200 whatever is wrong with an item.
  Response Rewrap(const Request& request, const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(request.body, {"batch_input"})) return Complain("rewrap " + request.body.dump());
    const auto key = keys_.find(name);
    if (key == keys_.end()) return Response::Error(400, "encryption key not found");
    if (request.body["batch_input"].size() > 400) return Complain("a batch of more than 400");
    nlohmann::json results = nlohmann::json::array();
    for (const nlohmann::json& item : request.body["batch_input"]) {
      if (!HasOnly(item, {"ciphertext", "reference"})) return Complain("item " + item.dump());
      nlohmann::json result = DecryptOne(key->second, item);
      if (!result.contains("error")) {
        const std::string plaintext = FromBase64(result["plaintext"]);
        const auto seed = crypto::SecretKey::FromBytes(AsBytes(plaintext));
        const size_t version = key->second.versions.size();
        const ByteBuffer wrapped = crypto::WrapKey(key->second.versions.back(), *seed, {});
        result = {{"ciphertext", StrCat("vault:v", version, ":", Base64(wrapped))}, {"key_version", version}};
      }
      result["reference"] = item["reference"];
      results.push_back(result);
    }
    return Response::Of({{"data", {{"batch_results", results}}}});
  }

  static nlohmann::json DecryptOne(const Key& key, const nlohmann::json& item) {
    const std::string ciphertext = item["ciphertext"];
    const std::vector<std::string> parts = absl::StrSplit(ciphertext, ':');
    const long version = std::stol(parts.at(1).substr(1));
    if (version > static_cast<long>(key.versions.size())) return {{"error", "invalid ciphertext: version is too new"}};
    if (version < key.minDecryption) {
      return {{"error", "ciphertext or signature version is disallowed by policy (too old)"}};
    }
    const std::string bytes = FromBase64(parts.at(2));
    if (bytes.size() < 28) return {{"error", "invalid ciphertext length"}};
    const auto unwrapped = crypto::UnwrapKey(key.versions[static_cast<size_t>(version - 1)], AsBytes(bytes), {});
    if (!unwrapped.ok()) return {{"error", "cipher: message authentication failed"}};
    return {{"plaintext", Base64(unwrapped->bytes())}};
  }

  Response ReadKey(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto key = keys_.find(name);
    if (key == keys_.end()) return {404, R"({"errors":[]})"};
    nlohmann::json data = {{"type", "aes256-gcm96"}, {"derived", false}, {"name", name}};
    data.update(key->second.fields);
    return Response::Of({{"data", data}});
  }

  mutable Mutex mutex_;
  std::map<std::string, Key> keys_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Token> tokens_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Login> logins_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> denied_ ABSL_GUARDED_BY(mutex_);
  std::string nameSpace_ ABSL_GUARDED_BY(mutex_);
  Fault fault_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const Request&, nlohmann::json&)> change_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> paths_ ABSL_GUARDED_BY(mutex_), complaints_ ABSL_GUARDED_BY(mutex_);
  int loginsMade_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kveil::keys
