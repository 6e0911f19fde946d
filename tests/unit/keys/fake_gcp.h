// Google Cloud on loopback: KMS, the token endpoint, the Security Token Service, IAM Credentials and the metadata
// server, all on one port. It is strict: it checks each signature, checksum, audience and scope, and whatever the agent
// should not send is answered with 418 and noted.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/crc32c.h"
#include "base/mutex.h"
#include "base/text.h"
#include "crypto/key_wrap.h"
#include "fake_http_server.h"
#include "keys/root/gcp_options.h"

namespace kveil::keys {

class FakeGcp : public FakeHttpServer {
 public:
  static constexpr char kEmail[] = "kveil@project-1.iam.gserviceaccount.com";
  static constexpr char kAudience[] =
      "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider";
  static constexpr char kScope[] = "https://www.googleapis.com/auth/cloudkms";

  explicit FakeGcp(const io::TestCertificate& certificate = {}) : FakeHttpServer(certificate) { Start(); }
  ~FakeGcp() override { Stop(); }

  static Response Error(int status, const std::string& name, const std::string& message = "A message.") {
    return {status, nlohmann::json{{"error", {{"code", status}, {"message", message}, {"status", name}}}}.dump()};
  }
  static Response TokenError(int status, const std::string& error, const std::string& description) {
    return {status, nlohmann::json{{"error", error}, {"error_description", description}}.dump()};
  }
  static std::string NameOf(const std::string& key) {
    return "projects/project-1/locations/europe-west3/keyRings/ring/cryptoKeys/" + key;
  }

  // Options for a key here, by the metadata server.
  GcpOptions Options(const std::string& key) const {
    GcpOptions options{.key = NameOf(key), .endpoint = address(), .credentialsFile = "", .ca = ""};
    options.metadata = address();
    options.replacePause = std::chrono::milliseconds(0);
    options.leastAge = std::chrono::milliseconds(100);
    return options;
  }
  // As `gcloud iam service-accounts keys create` writes it.
  nlohmann::json ServiceAccountFile() const {
    return {{"type", "service_account"},        {"project_id", "project-1"},
            {"private_key_id", "key-id"},       {"private_key", Pem()},
            {"client_email", kEmail},           {"client_id", "1"},
            {"token_uri", address() + "/token"}};
  }
  // As `gcloud iam workload-identity-pools create-cred-config` writes it.
  nlohmann::json ExternalAccountFile(const std::string& tokenFile, bool impersonates) const {
    nlohmann::json json = {{"type", "external_account"},
                           {"audience", kAudience},
                           {"subject_token_type", "urn:ietf:params:oauth:token-type:jwt"},
                           {"token_url", address() + "/sts"},
                           {"credential_source", {{"file", tokenFile}, {"format", {{"type", "text"}}}}}};
    if (impersonates) json["service_account_impersonation_url"] = address() + ImpersonationPath();
    return json;
  }
  static std::string ImpersonationPath() {
    return StrCat("/v1/projects/-/serviceAccounts/", kEmail, ":generateAccessToken");
  }
  void SetFederatedToken(const std::string& token) {
    const MutexLock lock(mutex_);
    federatedToken_ = token;
  }
  void SetHasServiceAccount(bool has) {
    const MutexLock lock(mutex_);
    hasServiceAccount_ = has;
  }

  // A new primary version of a key, which may be new.
  void Rotate(const std::string& key) {
    const MutexLock lock(mutex_);
    keys_[key].versions.push_back({crypto::SecretKey::Random(), "ENABLED"});
  }
  void SetState(const std::string& key, size_t version, const std::string& state) {
    const MutexLock lock(mutex_);
    keys_[key].versions.at(version - 1).state = state;
  }
  void Describe(const std::string& key, nlohmann::json fields) {
    const MutexLock lock(mutex_);
    keys_[key].fields = std::move(fields);
  }
  void Deny(const std::set<std::string>& operations) {
    const MutexLock lock(mutex_);
    denied_ = operations;
  }
  void SetLifetime(absl::Duration lifetime) {
    const MutexLock lock(mutex_);
    lifetime_ = lifetime;
  }
  void RevokeTokens() {
    const MutexLock lock(mutex_);
    tokens_.clear();
  }

  // What goes wrong with each request until it is set anew. nullopt: nothing.
  using Fault = std::function<std::optional<Response>(const Request&)>;
  void SetFault(Fault fault) {
    const MutexLock lock(mutex_);
    fault_ = std::move(fault);
  }
  // Changes what is answered to requests that went well.
  using Change = std::function<void(nlohmann::json&)>;
  void SetChange(Change change) {
    const MutexLock lock(mutex_);
    change_ = std::move(change);
  }

  // How often something was asked for: "get", "encrypt", "decrypt", "metadata", "token", "sts", "impersonate";
  // "expired": with a token that had.
  int Count(const std::string& operation) const {
    const MutexLock lock(mutex_);
    return static_cast<int>(std::count(operations_.begin(), operations_.end(), operation));
  }
  std::vector<std::string> complaints() const {
    const MutexLock lock(mutex_);
    return complaints_;
  }

 private:
  struct Version {
    crypto::SecretKey material;
    std::string state;
  };
  struct Key {
    std::vector<Version> versions;
    nlohmann::json fields = nlohmann::json::object();
  };
  struct Token {
    absl::Time endsAt;
    std::string scope;
  };

  static EVP_PKEY* Pair() {
    static EVP_PKEY* const pair = EVP_RSA_gen(2048);
    return pair;
  }
  static std::string Pem() {
    BIO* const bio = BIO_new(BIO_s_mem());
    EXPECT_EQ(PEM_write_bio_PKCS8PrivateKey(bio, Pair(), nullptr, nullptr, 0, nullptr, nullptr), 1);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string pem(data, static_cast<size_t>(size));
    BIO_free(bio);
    return pem;
  }

  Response Complain(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    complaints_.push_back(what);
    return Error(418, "COMPLAINT", what);
  }

  static std::string OperationOf(const std::string& path) {
    if (path.starts_with("/computeMetadata/")) return "metadata";
    if (path == "/token" || path == "/sts") return path.substr(1);
    if (path == ImpersonationPath()) return "impersonate";
    const size_t colon = path.rfind(':');
    return colon == std::string::npos ? "get" : path.substr(colon + 1);
  }

  Response Answer(const Request& request) override {
    const MutexLock lock(mutex_);
    const std::string operation = OperationOf(request.path);
    operations_.push_back(operation);
    if (fault_) {
      if (std::optional<Response> response = fault_(request)) return *response;
    }
    if (operation == "metadata") return Metadata(request);
    if (operation == "token") return ByAssertion(request);
    if (operation == "sts") return Exchange(request);
    if (operation == "impersonate") return Impersonate(request);
    Response response = Kms(request, operation);
    if (response.status != 200 || !change_) return response;
    nlohmann::json json = nlohmann::json::parse(response.body);
    change_(json);
    return Response::Of(json);
  }

  static std::string OtherHeader(const Request& request, std::set<std::string> more) {
    more.insert({"host", "user-agent", "accept"});
    for (const auto& [name, value] : request.headers) {
      if (!more.contains(name)) return name;
    }
    return "";
  }
  // A form that was posted. nullopt: the request is none.
  std::optional<std::map<std::string, std::string>> FormOf(const Request& request) const {
    if (request.method != "POST" || request.Header("content-type") != "application/x-www-form-urlencoded" ||
        !OtherHeader(request, {"content-type", "content-length"}).empty()) {
      return std::nullopt;
    }
    return FieldsOf(request.text);
  }

  // --- Tokens
  std::string NewToken(const std::string& scope) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string token = StrCat("ya29.token-", ++given_);
    tokens_[token] = {absl::Now() + lifetime_, scope};
    return token;
  }
  Response Give(const std::string& scope, const std::string& type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    nlohmann::json json = {
        {"access_token", NewToken(scope)}, {"expires_in", absl::ToInt64Seconds(lifetime_)}, {"token_type", "Bearer"}};
    if (!type.empty()) json["issued_token_type"] = type;
    return Response::Of(json);
  }
  Response Metadata(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const size_t question = request.path.find('?');
    if (request.method != "GET" || request.Header("metadata-flavor") != "Google" ||
        !OtherHeader(request, {"metadata-flavor"}).empty() ||
        request.path.substr(0, question) != "/computeMetadata/v1/instance/service-accounts/default/token") {
      return Complain(request.path);
    }
    auto fields = FieldsOf(request.path.substr(question + 1));
    if (fields.size() != 1 || fields["scopes"] != kScope) return Complain(request.path);
    if (!hasServiceAccount_) return {404, "<html>Not Found</html>", "text/html"};
    return Give(kScope, "");
  }
  Response ByAssertion(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto form = FormOf(request);
    if (!form.has_value() || form->size() != 2) return Complain("token " + request.text);
    if ((*form)["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer") return Complain("grant type");
    const std::vector<std::string> parts = absl::StrSplit((*form)["assertion"], '.');
    if (parts.size() != 3) return Complain("assertion");
    const auto decoded = [](const std::string& text) {
      std::string bytes;
      EXPECT_TRUE(text.find('=') == std::string::npos && absl::WebSafeBase64Unescape(text, &bytes)) << text;
      return bytes;
    };
    const auto header = nlohmann::json::parse(decoded(parts[0]), nullptr, false);
    const auto claims = nlohmann::json::parse(decoded(parts[1]), nullptr, false);
    if (header != nlohmann::json{{"alg", "RS256"}, {"typ", "JWT"}, {"kid", "key-id"}}) return Complain(header.dump());
    if (!HasOnly(claims, {"iss", "scope", "aud", "iat", "exp"})) return Complain(claims.dump());
    if (claims["scope"] != kScope || claims["aud"] != address() + "/token") return Complain(claims.dump());
    const int64_t issued = claims["iat"], ends = claims["exp"];
    const int64_t now = absl::ToUnixSeconds(absl::Now());
    if (ends != issued + 3600 || issued > now + 1 || issued < now - 60) return Complain(claims.dump());
    const std::string text = parts[0] + "." + parts[1], signature = decoded(parts[2]);
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    EXPECT_EQ(EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, Pair()), 1);
    const int verified = EVP_DigestVerify(context, reinterpret_cast<const uint8_t*>(signature.data()), signature.size(),
                                          reinterpret_cast<const uint8_t*>(text.data()), text.size());
    EVP_MD_CTX_free(context);
    if (verified != 1) return TokenError(400, "invalid_grant", "Invalid JWT Signature.");
    if (claims["iss"] != kEmail) return TokenError(400, "invalid_grant", "Invalid grant: account not found");
    return Give(kScope, "");
  }
  Response Exchange(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto form = FormOf(request);
    if (!form.has_value() || form->size() != 6) return Complain("sts " + request.text);
    if ((*form)["grant_type"] != "urn:ietf:params:oauth:grant-type:token-exchange" ||
        (*form)["requested_token_type"] != "urn:ietf:params:oauth:token-type:access_token" ||
        (*form)["subject_token_type"] != "urn:ietf:params:oauth:token-type:jwt") {
      return Complain("sts " + request.text);
    }
    if ((*form)["audience"] != kAudience) return TokenError(400, "invalid_target", "The target service is wrong");
    if ((*form)["subject_token"] != federatedToken_) {
      return TokenError(400, "invalid_grant", "The token does not match");
    }
    return Give((*form)["scope"], "urn:ietf:params:oauth:token-type:access_token");
  }
  Response Impersonate(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.method != "POST" || request.Header("content-type") != "application/json" ||
        request.body != nlohmann::json{{"scope", {kScope}}, {"lifetime", "3600s"}}) {
      return Complain("impersonation " + request.text);
    }
    if (std::optional<Response> refused = Authenticate(request, "https://www.googleapis.com/auth/cloud-platform")) {
      return *refused;
    }
    if (denied_.contains("impersonate")) {
      return Error(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied");
    }
    return Response::Of(
        {{"accessToken", NewToken(kScope)},
         {"expireTime", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now() + lifetime_, absl::UTCTimeZone())}});
  }

  std::optional<Response> Authenticate(const Request& request, const std::string& scope)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!OtherHeader(request, {"authorization", "content-type", "content-length"}).empty()) return Complain("headers");
    const std::string bearer = request.Header("authorization");
    const auto token = bearer.starts_with("Bearer ") ? tokens_.find(bearer.substr(7)) : tokens_.end();
    if (token == tokens_.end()) {
      return Error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    }
    if (absl::Now() >= token->second.endsAt) {
      operations_.push_back("expired");
      return Error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    }
    if (token->second.scope != scope) return Complain("scope " + token->second.scope);
    return std::nullopt;
  }

  // --- KMS
  Response Kms(const Request& request, const std::string& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool isGet = operation == "get";
    if (request.method != (isGet ? "GET" : "POST") || request.text.empty() != isGet) return Complain(request.method);
    if (!isGet && request.Header("content-type") != "application/json") return Complain("content type");
    if (std::optional<Response> refused = Authenticate(request, kScope)) return *refused;
    if (denied_.contains(operation)) {
      return Error(403, "PERMISSION_DENIED", StrCat("Permission 'cloudkms.", operation, "' denied on resource"));
    }
    const std::string path = request.path.substr(0, request.path.rfind(':'));
    const std::string prefix = "/v1/" + NameOf("");
    if (!path.starts_with(prefix)) return Error(404, "NOT_FOUND", "CryptoKey not found.");
    const auto key = keys_.find(path.substr(prefix.size()));
    if (key == keys_.end()) return Error(404, "NOT_FOUND", "CryptoKey not found.");
    if (isGet) return Get(key->first, key->second);
    const std::string field = operation == "encrypt" ? "plaintext" : "ciphertext";
    if (operation != "encrypt" && operation != "decrypt") return Complain(operation);
    if (!HasOnly(request.body,
                 {field, field + "Crc32c", "additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c"})) {
      return Complain(request.text);
    }
    const std::string bytes = FromBase64(request.body[field]);
    const std::string context = FromBase64(request.body["additionalAuthenticatedData"]);
    for (const auto& [name, value] :
         {std::pair(field, bytes), std::pair(std::string("additionalAuthenticatedData"), context)}) {
      if (request.body[name + "Crc32c"] != std::to_string(Crc32c(AsBytes(value)))) {
        return Complain("checksum of " + name);
      }
    }
    return operation == "encrypt" ? Encrypt(key->first, key->second, bytes, context)
                                  : Decrypt(key->first, key->second, bytes, context);
  }

  static std::string VersionName(const std::string& name, size_t version) {
    return StrCat(NameOf(name), "/cryptoKeyVersions/", version);
  }
  static std::optional<Response> Unusable(const std::string& name, const Key& key, size_t version) {
    const std::string& state = key.versions.at(version - 1).state;
    if (state == "ENABLED") return std::nullopt;
    return Error(400, "FAILED_PRECONDITION",
                 StrCat(VersionName(name, version), " is not enabled, current state is: ", state, "."));
  }

  static Response Encrypt(const std::string& name, const Key& key, const std::string& bytes,
                          const std::string& context) {
    const size_t version = key.versions.size();
    if (std::optional<Response> unusable = Unusable(name, key, version)) return *unusable;
    const auto plaintext = crypto::SecretKey::FromBytes(AsBytes(bytes));
    EXPECT_TRUE(plaintext.ok()) << plaintext.status();
    ByteBuffer blob = {static_cast<uint8_t>(version)};
    Append(blob, crypto::WrapKey(key.versions.back().material, *plaintext, AsBytes(context)));
    return Response::Of({{"name", VersionName(name, version)},
                         {"ciphertext", Base64(blob)},
                         {"ciphertextCrc32c", std::to_string(Crc32c(blob))},
                         {"verifiedPlaintextCrc32c", true},
                         {"verifiedAdditionalAuthenticatedDataCrc32c", true},
                         {"protectionLevel", "SOFTWARE"}});
  }
  static Response Decrypt(const std::string& name, const Key& key, const std::string& bytes,
                          const std::string& context) {
    const size_t version = static_cast<uint8_t>(bytes.at(0));
    if (version == 0 || version > key.versions.size()) {
      return Error(400, "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.");
    }
    if (std::optional<Response> unusable = Unusable(name, key, version)) return *unusable;
    const auto plaintext = crypto::UnwrapKey(key.versions[version - 1].material,
                                             AsBytes(std::string_view(bytes).substr(1)), AsBytes(context));
    if (!plaintext.ok()) {
      return Error(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.");
    }
    return Response::Of({{"plaintext", Base64(plaintext->bytes())},
                         {"plaintextCrc32c", std::to_string(Crc32c(plaintext->bytes()))},
                         {"usedPrimary", version == key.versions.size()},
                         {"protectionLevel", "SOFTWARE"}});
  }
  static Response Get(const std::string& name, const Key& key) {
    nlohmann::json json = {{"name", NameOf(name)},
                           {"purpose", "ENCRYPT_DECRYPT"},
                           {"createTime", "2026-01-01T00:00:00Z"},
                           {"primary",
                            {{"name", VersionName(name, key.versions.size())},
                             {"state", key.versions.back().state},
                             {"algorithm", "GOOGLE_SYMMETRIC_ENCRYPTION"}}}};
    json.merge_patch(key.fields);
    return Response::Of(json);
  }

  mutable Mutex mutex_;
  std::map<std::string, Key> keys_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Token> tokens_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> denied_ ABSL_GUARDED_BY(mutex_);
  std::string federatedToken_ ABSL_GUARDED_BY(mutex_);
  bool hasServiceAccount_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Duration lifetime_ ABSL_GUARDED_BY(mutex_) = absl::Hours(1);
  int given_ ABSL_GUARDED_BY(mutex_) = 0;
  Fault fault_ ABSL_GUARDED_BY(mutex_);
  Change change_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> operations_ ABSL_GUARDED_BY(mutex_), complaints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
