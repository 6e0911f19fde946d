// Azure on loopback: a Key Vault or a Managed HSM, Microsoft Entra ID, and a virtual machine's metadata service, all on
// one port. It is strict: whatever the agent should not send is answered with 418 and noted.
#pragma once

#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "fake_http_server.h"
#include "keys/root/azure_options.h"

namespace kveil::keys {

class FakeAzure : public FakeHttpServer {
 public:
  static constexpr char kTenant[] = "tenant.example";
  static constexpr char kClient[] = "11111111-2222-3333-4444-555555555555";
  enum class Kind { kVault, kHsm };

  explicit FakeAzure(Kind kind = Kind::kVault, const io::TestCertificate& certificate = {})
      : FakeHttpServer(certificate), kind_(kind) {
    Start();
  }
  ~FakeAzure() override { Stop(); }

  static Response Error(int status, const std::string& code, const std::string& inner = "",
                        const std::string& message = "A message.") {
    nlohmann::json error = {{"code", code}, {"message", message}};
    if (!inner.empty()) error["innererror"] = {{"code", inner}};
    return {status, nlohmann::json{{"error", error}}.dump()};
  }
  // What a Managed HSM says to a token that it does not take.
  static Response Challenge() {
    return {401, "", "", "WWW-Authenticate: Bearer authorization=\"https://login.microsoftonline.com/t\"\r\n"};
  }
  static Response EntraError(int status, const std::string& error, const std::string& description) {
    return {status,
            nlohmann::json{
                {"error", error}, {"error_description", description}, {"error_codes", {7000215}}, {"trace_id", "t"}}
                .dump()};
  }

  std::string resource() const {
    return kind_ == Kind::kVault ? "https://vault.azure.net" : "https://managedhsm.azure.net";
  }
  // Options for a key here, as the machine's own identity.
  AzureOptions Options(const std::string& key) const {
    AzureOptions options{.vault = address(), .key = key, .resource = resource(), .authority = address()};
    options.metadata = address();
    options.replacePause = std::chrono::milliseconds(0);
    options.leastAge = std::chrono::milliseconds(100);
    return options;
  }

  // A new version of a key, which may be new; returns its version.
  std::string Rotate(const std::string& key) {
    const MutexLock lock(mutex_);
    const std::string version = absl::BytesToHexString(ToAbsl(AsText(crypto::SecretKey::Random().bytes().first(16))));
    Key& versions = keys_[key];
    versions.order.push_back(version);
    versions.states[version] = {};
    return version;
  }
  void Disable(const std::string& key, const std::string& version, bool disabled = true) {
    const MutexLock lock(mutex_);
    keys_[key].states[version].isDisabled = disabled;
  }
  void Delete(const std::string& key) {
    const MutexLock lock(mutex_);
    keys_.erase(key);
  }
  // What the newest version's description says in other words.
  void Describe(const std::string& key, nlohmann::json fields) {
    const MutexLock lock(mutex_);
    keys_[key].fields = std::move(fields);
  }

  void SetClientSecret(const std::string& secret) {
    const MutexLock lock(mutex_);
    clientSecret_ = secret;
  }
  void SetFederatedToken(const std::string& token) {
    const MutexLock lock(mutex_);
    federatedToken_ = token;
  }
  // The user-assigned identities of the machine; "" is the system-assigned one.
  void SetIdentities(const std::set<std::string>& identities) {
    const MutexLock lock(mutex_);
    identities_ = identities;
  }
  void SetLifetime(absl::Duration lifetime) {
    const MutexLock lock(mutex_);
    lifetime_ = lifetime;
  }
  void RevokeTokens() {
    const MutexLock lock(mutex_);
    tokens_.clear();
  }
  void Deny(const std::set<std::string>& operations) {
    const MutexLock lock(mutex_);
    denied_ = operations;
  }

  // What goes wrong with each request until it is set anew. nullopt: nothing.
  using Fault = std::function<std::optional<Response>(const Request&)>;
  void SetFault(Fault fault) {
    const MutexLock lock(mutex_);
    fault_ = std::move(fault);
  }

  // How often something was asked for: "get", "wrapkey", "unwrapkey", "metadata", "entra"; "expired": with a token that
  // had.
  int Count(const std::string& operation) const {
    const MutexLock lock(mutex_);
    return static_cast<int>(std::count(operations_.begin(), operations_.end(), operation));
  }
  std::vector<std::string> complaints() const {
    const MutexLock lock(mutex_);
    return complaints_;
  }

  static std::string Base64Url(Bytes bytes) {
    std::string text;
    absl::WebSafeBase64Escape(ToAbsl(AsText(bytes)), &text);
    return text;
  }

 private:
  struct State {
    bool isDisabled = false;
  };
  struct Key {
    std::vector<std::string> order;
    std::map<std::string, State> states;
    nlohmann::json fields = nlohmann::json::object();
  };

  Response Complain(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    complaints_.push_back(what);
    return Error(418, "Complaint", "", what);
  }

  static std::string OperationOf(const std::string& path) {
    if (path.starts_with("/metadata/")) return "metadata";
    if (!path.starts_with("/keys/")) return "entra";
    const std::vector<std::string> parts = absl::StrSplit(path.substr(0, path.find('?')), '/');
    return parts.size() == 3 ? "get" : parts.back();
  }

  Response Answer(const Request& request) override {
    const MutexLock lock(mutex_);
    operations_.push_back(OperationOf(request.path));
    if (fault_) {
      if (std::optional<Response> response = fault_(request)) return *response;
    }
    if (operations_.back() == "metadata") return Metadata(request);
    if (operations_.back() == "entra") return Entra(request);
    return Vault(request, operations_.back());
  }

  static std::string OtherHeader(const Request& request, std::set<std::string> more) {
    more.insert({"host", "user-agent", "accept"});
    for (const auto& [name, value] : request.headers) {
      if (!more.contains(name)) return name;
    }
    return "";
  }

  // --- Tokens
  Response Give(bool asText) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string token = StrCat("ey.token-", ++given_, ".a_b-c");
    tokens_[token] = absl::Now() + lifetime_;
    const int64_t seconds = absl::ToInt64Seconds(lifetime_);
    nlohmann::json json = {{"token_type", "Bearer"}, {"access_token", token}, {"expires_in", seconds}};
    if (asText) {
      json.update({{"expires_in", std::to_string(seconds)},
                   {"refresh_token", ""},
                   {"resource", resource()},
                   {"expires_on", std::to_string(absl::ToUnixSeconds(tokens_[token]))}});
    }
    return Response::Of(json);
  }
  Response Metadata(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const size_t question = request.path.find('?');
    if (request.method != "GET" || request.path.substr(0, question) != "/metadata/identity/oauth2/token") {
      return Complain(request.method + " " + request.path);
    }
    if (request.Header("metadata") != "true" || !OtherHeader(request, {"metadata"}).empty()) return Complain("headers");
    auto fields = FieldsOf(request.path.substr(question + 1));
    const bool hasClient = fields.contains("client_id");
    if (fields["api-version"] != "2018-02-01" || fields["resource"] != resource() || fields.size() != 2u + hasClient) {
      return Complain(request.path);
    }
    if (!identities_.contains(hasClient ? fields["client_id"] : "")) {
      return EntraError(400, "invalid_request", "Identity not found");
    }
    return Give(/*asText=*/true);
  }
  Response Entra(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.method != "POST") return Complain(request.method);
    if (request.path != StrCat("/", kTenant, "/oauth2/v2.0/token")) {
      return EntraError(400, "invalid_request", "AADSTS90002: Tenant not found.");
    }
    if (request.Header("content-type") != "application/x-www-form-urlencoded") return Complain("content type");
    if (!OtherHeader(request, {"content-type", "content-length"}).empty()) return Complain("headers");
    auto fields = FieldsOf(request.text);
    if (fields["grant_type"] != "client_credentials" || fields["scope"] != resource() + "/.default") {
      return Complain(request.text);
    }
    if (fields["client_id"] != kClient) return EntraError(400, "unauthorized_client", "AADSTS700016: not found");
    if (fields.contains("client_secret")) {
      if (fields.size() != 4) return Complain(request.text);
      if (fields["client_secret"] != clientSecret_) {
        return EntraError(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.");
      }
    } else {
      if (fields.size() != 5 ||
          fields["client_assertion_type"] != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
        return Complain(request.text);
      }
      if (fields["client_assertion"] != federatedToken_) {
        return EntraError(401, "invalid_client", "AADSTS70021: No matching federated identity record found.");
      }
    }
    return Give(/*asText=*/false);
  }

  // --- Keys
  Response Vault(const Request& request, const std::string& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string suffix = "?api-version=7.4";
    if (!request.path.ends_with(suffix)) return Complain(request.path);
    const std::vector<std::string> parts =
        absl::StrSplit(request.path.substr(0, request.path.size() - suffix.size()), '/');
    const bool isGet = parts.size() == 3;
    if (request.method != (isGet ? "GET" : "POST") || request.text.empty() != isGet) return Complain(request.method);
    if (!OtherHeader(request, {"authorization", "content-type", "content-length"}).empty()) return Complain("headers");
    const std::string bearer = request.Header("authorization");
    const auto token = bearer.starts_with("Bearer ") ? tokens_.find(bearer.substr(7)) : tokens_.end();
    if (token == tokens_.end()) {
      return kind_ == Kind::kHsm ? Challenge() : Error(401, "Unauthorized", "", "AKV10032: Invalid issuer.");
    }
    if (absl::Now() >= token->second) {
      operations_.push_back("expired");
      return Error(401, "Unauthorized", "", "AKV10022: token has expired.");
    }
    if (denied_.contains(operation)) return Error(403, "Forbidden", "ForbiddenByRbac", "Caller is not authorized.");
    const auto key = keys_.find(parts[2]);
    if (key == keys_.end()) return Error(404, "KeyNotFound", "", "A key with (name/id) was not found.");
    if (isGet) return Get(key->first, key->second);
    if (request.Header("content-type") != "application/json") return Complain("content type");
    const auto version = key->second.states.find(parts[3]);
    if (parts.size() != 5 || version == key->second.states.end()) return Error(404, "KeyNotFound");
    if (!HasOnly(request.body, {"alg", "value"})) return Complain(request.text);
    const std::string algorithm = kind_ == Kind::kVault ? "RSA-OAEP-256" : "A256KW";
    if (request.body["alg"] != algorithm) return Complain(request.text);
    const std::string text = request.body["value"];
    std::string value;
    if (text.find_first_of("+/=") != std::string::npos || !absl::WebSafeBase64Unescape(text, &value)) {
      return Complain(text);
    }
    // As Azure does: a disabled key wraps.
    if (operation == "unwrapkey" && version->second.isDisabled) {
      return Error(403, "Forbidden", "KeyDisabled", "Operation unwrapKey is not allowed on a disabled key.");
    }
    const std::string id = StrCat(key->first, "/", version->first);
    const std::optional<std::string> made = Apply(operation, id, value);
    if (!made.has_value()) return Error(400, "BadParameter", "", "The parameter is incorrect.");
    return Response::Of({{"kid", KidOf(id)}, {"value", Base64Url(AsBytes(*made))}});
  }

  // A vault has more than one name.
  std::string KidOf(const std::string& id) const { return "https://kveil.vault.azure.net/keys/" + id; }

  Response Get(const std::string& name, const Key& key) const {
    nlohmann::json jwk = {{"kid", KidOf(name + "/" + key.order.back())},
                          {"key_ops", {"encrypt", "decrypt", "wrapKey", "unwrapKey"}},
                          {"kty", kind_ == Kind::kVault ? "RSA" : "oct-HSM"}};
    if (kind_ == Kind::kVault) jwk.update({{"n", "AQAB"}, {"e", "AQAB"}});
    nlohmann::json json = {{"key", jwk},
                           {"attributes",
                            {{"enabled", !key.states.at(key.order.back()).isDisabled},
                             {"created", 1'700'000'000},
                             {"recoveryLevel", "Recoverable"}}}};
    json.merge_patch(key.fields);
    return Response::Of(json);
  }

  // One key pair for all, as making them takes long; each version has a label, or a key, of its own.
  std::optional<std::string> Apply(const std::string& operation, const std::string& id,
                                   const std::string& value) const {
    const bool wraps = operation == "wrapkey";
    return kind_ == Kind::kVault ? Oaep(wraps, id, value) : KeyWrap(wraps, id, value);
  }
  static std::optional<std::string> Oaep(bool wraps, const std::string& id, const std::string& value) {
    static EVP_PKEY* const pair = EVP_RSA_gen(2048);
    EVP_PKEY_CTX* const context = EVP_PKEY_CTX_new(pair, nullptr);
    EXPECT_GT(wraps ? EVP_PKEY_encrypt_init(context) : EVP_PKEY_decrypt_init(context), 0);
    EXPECT_GT(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING), 0);
    EXPECT_GT(EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()), 0);
    EXPECT_GT(EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()), 0);
    void* const label = OPENSSL_memdup(id.data(), id.size());
    EXPECT_GT(EVP_PKEY_CTX_set0_rsa_oaep_label(context, label, static_cast<int>(id.size())), 0);
    std::string out(256, '\0');
    size_t size = out.size();
    const int done =
        (wraps ? EVP_PKEY_encrypt : EVP_PKEY_decrypt)(context, reinterpret_cast<uint8_t*>(out.data()), &size,
                                                      reinterpret_cast<const uint8_t*>(value.data()), value.size());
    EVP_PKEY_CTX_free(context);
    out.resize(size);
    return done > 0 ? std::optional<std::string>(out) : std::nullopt;
  }
  static std::optional<std::string> KeyWrap(bool wraps, const std::string& id, const std::string& value) {
    static const crypto::SecretKey secret = crypto::SecretKey::Random();
    std::array<uint8_t, crypto::kHmacSize> key{};
    const Bytes parts[] = {AsBytes(id)};
    crypto::HmacSha256(secret, parts, key.data());
    EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
    EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    std::string out(value.size() + 16, '\0');
    int size = 0;
    int done = EVP_CipherInit_ex(context, EVP_aes_256_wrap(), nullptr, key.data(), nullptr, wraps ? 1 : 0);
    if (done > 0) {
      done = EVP_CipherUpdate(context, reinterpret_cast<uint8_t*>(out.data()), &size,
                              reinterpret_cast<const uint8_t*>(value.data()), static_cast<int>(value.size()));
    }
    EVP_CIPHER_CTX_free(context);
    out.resize(static_cast<size_t>(std::max(size, 0)));
    return done > 0 ? std::optional<std::string>(out) : std::nullopt;
  }

  const Kind kind_;
  mutable Mutex mutex_;
  std::map<std::string, Key> keys_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Time> tokens_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> identities_ ABSL_GUARDED_BY(mutex_) = {""};
  std::set<std::string> denied_ ABSL_GUARDED_BY(mutex_);
  std::string clientSecret_ ABSL_GUARDED_BY(mutex_), federatedToken_ ABSL_GUARDED_BY(mutex_);
  absl::Duration lifetime_ ABSL_GUARDED_BY(mutex_) = absl::Hours(1);
  int given_ ABSL_GUARDED_BY(mutex_) = 0;
  Fault fault_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> operations_ ABSL_GUARDED_BY(mutex_), complaints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
