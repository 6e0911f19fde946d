// AWS on loopback: KMS, the Security Token Service, an instance's metadata service and a container's credentials
// endpoint, all on one port. It is strict: it checks each signature, and whatever the agent should not send is answered
// with 418 and noted.
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

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/text.h"
#include "crypto/key_wrap.h"
#include "fake_http_server.h"
#include "keys/root/aws_options.h"
#include "keys/root/aws_signature.h"

namespace kveil::keys {

class FakeAws : public FakeHttpServer {
 public:
  static constexpr char kRegion[] = "eu-central-1";
  static constexpr char kAccount[] = "111122223333";

  explicit FakeAws(const io::TestCertificate& certificate = {}) : FakeHttpServer(certificate) { Start(); }
  ~FakeAws() override { Stop(); }

  static Response Error(int status, const std::string& type, const std::string& message = "") {
    return {status, nlohmann::json{{"__type", type}, {"message", message}}.dump()};
  }
  static std::string ArnOf(const std::string& resource, const std::string& region = kRegion) {
    return StrCat("arn:aws:kms:", region, ":", kAccount, ":", resource);
  }

  // Options for a key here, with nothing but `variables` in the environment.
  AwsOptions Options(const std::string& key, std::map<std::string, std::string> variables) const {
    AwsOptions options{.key = key, .region = kRegion, .endpoint = address(), .stsEndpoint = address()};
    auto kept = std::make_shared<std::map<std::string, std::string>>(std::move(variables));
    options.environment = [kept](const char* name) -> const char* {
      const auto found = kept->find(name);
      return found == kept->end() ? nullptr : found->second.c_str();
    };
    options.replacePause = std::chrono::milliseconds(0);
    options.leastAge = std::chrono::milliseconds(100);
    return options;
  }

  // A new key; returns its id.
  std::string MakeKey(bool isMultiRegion = false) {
    const MutexLock lock(mutex_);
    const std::string hex = absl::BytesToHexString(ToAbsl(AsText(crypto::SecretKey::Random().bytes())));
    const std::string id = isMultiRegion ? "mrk-" + hex.substr(0, 32)
                                         : StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                                                  hex.substr(16, 4), "-", hex.substr(20, 12));
    keys_[id] = {crypto::SecretKey::Random(), "Enabled", nlohmann::json::object()};
    return id;
  }
  void SetState(const std::string& id, const std::string& state, nlohmann::json fields = nlohmann::json::object()) {
    const MutexLock lock(mutex_);
    keys_[id].state = state;
    keys_[id].fields = std::move(fields);
  }
  void DeleteKey(const std::string& id) {
    const MutexLock lock(mutex_);
    keys_.erase(id);
  }
  void SetAlias(const std::string& alias, const std::string& id) {
    const MutexLock lock(mutex_);
    aliases_[alias] = id;
  }

  // Who may call, and for how long.
  struct Identity {
    std::string secret;
    std::string token;
    std::optional<absl::Time> endsAt;
    std::set<std::string> denied{};  // operations
  };
  void AddIdentity(const std::string& accessKeyId, Identity identity) {
    const MutexLock lock(mutex_);
    identities_[accessKeyId] = std::move(identity);
  }
  void Deny(const std::string& accessKeyId, const std::set<std::string>& operations) {
    const MutexLock lock(mutex_);
    identities_[accessKeyId].denied = operations;
  }
  // Whoever has got in by a token service is out.
  void RevokeSessions() {
    const MutexLock lock(mutex_);
    std::erase_if(identities_, [](const auto& entry) { return !entry.second.token.empty(); });
  }
  // For how long the services below give credentials; they give others each time.
  void SetLifetime(absl::Duration lifetime) {
    const MutexLock lock(mutex_);
    lifetime_ = lifetime;
  }
  // The services give credentials that AWS has forgotten.
  void SetGivesStale(bool stale) {
    const MutexLock lock(mutex_);
    givesStale_ = stale;
  }
  void AllowWebIdentity(const std::string& role, const std::string& token) {
    const MutexLock lock(mutex_);
    webIdentities_[role] = token;
  }
  void SetInstanceRole(const std::string& role) {  // empty: none
    const MutexLock lock(mutex_);
    instanceRole_ = role;
  }
  void SetContainerToken(const std::string& token) {
    const MutexLock lock(mutex_);
    containerToken_ = token;
  }

  // What goes wrong with each request until it is set anew. nullopt: nothing.
  using Fault = std::function<std::optional<Response>(const Request&)>;
  void SetFault(Fault fault) {
    const MutexLock lock(mutex_);
    fault_ = std::move(fault);
  }

  // How often an operation was asked for: "Decrypt", "AssumeRoleWithWebIdentity", "instance", "container".
  int Count(const std::string& operation) const {
    const MutexLock lock(mutex_);
    return static_cast<int>(std::count(operations_.begin(), operations_.end(), operation));
  }
  std::vector<std::string> complaints() const {
    const MutexLock lock(mutex_);
    return complaints_;
  }

 private:
  struct Key {
    crypto::SecretKey material;
    std::string state;
    nlohmann::json fields;
  };

  Response Complain(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    complaints_.push_back(what);
    return Error(418, "Complaint", what);
  }

  Response Answer(const Request& request) override {
    const MutexLock lock(mutex_);
    const std::string target = request.Header("x-amz-target");
    const bool isKms = !target.empty();
    operations_.push_back(isKms ? target.substr(target.find('.') + 1)
                          : request.path.starts_with("/latest/meta-data/iam/security-credentials/") ? "instance"
                          : request.path == "/latest/api/token"                                     ? "instance token"
                          : request.path == "/container"                                            ? "container"
                                                         : "AssumeRoleWithWebIdentity");
    if (fault_) {
      if (std::optional<Response> response = fault_(request)) return *response;
    }
    if (isKms) return Kms(request, operations_.back());
    if (request.path == "/latest/api/token") return MetadataToken(request);
    if (request.path.starts_with("/latest/")) return Metadata(request);
    if (request.path == "/container") return Container(request);
    return AssumeRole(request);
  }

  std::string OtherHeaders(const Request& request, const std::set<std::string>& more) const {
    std::set<std::string> known = {"host", "user-agent", "accept", "content-type", "content-length"};
    known.insert(more.begin(), more.end());
    for (const auto& [name, value] : request.headers) {
      if (!known.contains(name)) return name;
    }
    return "";
  }

  // --- KMS
  Response Kms(const Request& request, const std::string& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.method != "POST" || request.path != "/") return Complain(request.method + " " + request.path);
    if (request.Header("content-type") != "application/x-amz-json-1.1") return Complain("content type");
    if (request.Header("x-amz-target") != "TrentService." + operation) return Complain("target");
    if (const std::string other =
            OtherHeaders(request, {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-target"});
        !other.empty()) {
      return Complain("header " + other);
    }
    if (std::optional<Response> refused = Authenticate(request, operation)) return *refused;
    if (operation == "GenerateDataKey") return MakeDataKey(request.body);
    if (operation == "Decrypt") return Decrypt(request.body);
    if (operation == "ReEncrypt") return ReEncrypt(request.body);
    if (operation == "DescribeKey") return Describe(request.body);
    return Complain(operation);
  }

  std::optional<Response> Authenticate(const Request& request, const std::string& operation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string given = request.Header("authorization");
    const std::string credential = "Credential=";
    const size_t start = given.find(credential);
    if (start == std::string::npos) return Complain("no credential: " + given);
    const std::string id = given.substr(start + credential.size(), given.find('/') - start - credential.size());
    const auto found = identities_.find(id);
    if (found == identities_.end()) {
      return Error(400, "UnrecognizedClientException", "The security token included in the request is invalid.");
    }
    const Identity& identity = found->second;
    absl::Time time;
    if (!absl::ParseTime("%E4Y%m%dT%H%M%SZ", request.Header("x-amz-date"), &time, nullptr)) return Complain("date");
    if (absl::AbsDuration(absl::Now() - time) > absl::Minutes(5)) return Complain("date of another time");
    if (request.Header("x-amz-security-token") != identity.token) return Complain("session token");
    const AwsCredentials credentials{crypto::MakeSecretText(id), crypto::MakeSecretText(identity.secret),
                                     crypto::MakeSecretText(identity.token), std::nullopt};
    const auto lines = SignAwsRequest(credentials, kRegion, "kms", time,
                                      {{"host", address().substr(address().find("://") + 3)},
                                       {"content-type", request.Header("content-type")},
                                       {"x-amz-target", request.Header("x-amz-target")}},
                                      crypto::MakeSecretText(request.text));
    if (crypto::AsText(lines.back()) != "authorization: " + given) {
      return Error(400, "InvalidSignatureException", "The request signature we calculated does not match");
    }
    if (identity.endsAt.has_value() && absl::Now() >= *identity.endsAt) {
      return Error(400, "ExpiredTokenException", "The security token included in the request is expired");
    }
    if (identity.denied.contains(operation)) {
      return Error(400, "AccessDeniedException", StrCat("User is not authorized to perform: kms:", operation));
    }
    return std::nullopt;
  }

  // Of an id, an alias or the ARN of either. nullptr: there is none.
  const std::pair<const std::string, Key>* Find(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::vector<std::string> parts = absl::StrSplit(name, ':');
    if (parts.size() == 6 && (parts[3] != kRegion || parts[4] != kAccount)) return nullptr;
    std::string id = parts.back();
    if (const auto alias = aliases_.find(id); alias != aliases_.end()) id = alias->second;
    if (id.starts_with("key/")) id = id.substr(4);
    const auto found = keys_.find(id);
    return found == keys_.end() ? nullptr : &*found;
  }

  // An error of the key that `body` names, if it cannot be used.
  std::optional<Response> Unusable(const std::pair<const std::string, Key>* key) const {
    if (key == nullptr) return Error(400, "NotFoundException", "Key does not exist");
    const std::string text = StrCat(ArnOf("key/" + key->first), " is ", key->second.state);
    if (key->second.state == "Disabled") return Error(400, "DisabledException", text);
    if (key->second.state != "Enabled") return Error(400, "KMSInvalidStateException", text);
    return std::nullopt;
  }

  std::string ContextProblem(const nlohmann::json& body) const {
    const nlohmann::json context = body.value("EncryptionContext", nlohmann::json());
    if (!HasOnly(context, {"kveil"}) || !context["kveil"].is_string()) return context.dump();
    const std::string text = context["kveil"];
    return text.starts_with("1.") ? "" : text;
  }

  Response MakeDataKey(const nlohmann::json& body) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(body, {"KeyId", "KeySpec", "EncryptionContext"})) return Complain("data key " + body.dump());
    if (body["KeySpec"] != "AES_256" || !ContextProblem(body).empty()) return Complain("data key " + body.dump());
    const auto* const key = Find(body["KeyId"]);
    if (std::optional<Response> unusable = Unusable(key)) return *unusable;
    const crypto::SecretKey made = crypto::SecretKey::Random();
    const std::string context = body["EncryptionContext"].dump();
    ByteBuffer blob;
    Append(blob, AsBytes(key->first));
    Append(blob, crypto::WrapKey(key->second.material, made, AsBytes(context)));
    return Response::Of({{"CiphertextBlob", Base64(blob)},
                         {"Plaintext", Base64(made.bytes())},
                         {"KeyId", ArnOf("key/" + key->first)},
                         {"KeyMaterialId", std::string(64, '0')}});
  }

  Response Decrypt(const nlohmann::json& body) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(body, {"KeyId", "CiphertextBlob", "EncryptionContext"})) return Complain("decrypt " + body.dump());
    if (!ContextProblem(body).empty()) return Complain("decrypt " + body.dump());
    const auto* const key = Find(body["KeyId"]);
    if (std::optional<Response> unusable = Unusable(key)) return *unusable;
    const std::string blob = FromBase64(body["CiphertextBlob"]);
    if (!blob.starts_with(key->first)) {
      return Error(400, "IncorrectKeyException", "The key ID in the request does not identify the CMK that can do it");
    }
    const std::string context = body["EncryptionContext"].dump();
    const auto unwrapped = crypto::UnwrapKey(
        key->second.material, AsBytes(std::string_view(blob).substr(key->first.size())), AsBytes(context));
    if (!unwrapped.ok()) return Error(400, "InvalidCiphertextException");
    return Response::Of({{"Plaintext", Base64(unwrapped->bytes())},
                         {"KeyId", ArnOf("key/" + key->first)},
                         {"EncryptionAlgorithm", "SYMMETRIC_DEFAULT"}});
  }

  Response ReEncrypt(const nlohmann::json& body) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(body, {"SourceKeyId", "DestinationKeyId", "CiphertextBlob", "SourceEncryptionContext",
                        "DestinationEncryptionContext"})) {
      return Complain("re-encrypt " + body.dump());
    }
    const Response decrypted = Decrypt({{"KeyId", body["SourceKeyId"]},
                                        {"CiphertextBlob", body["CiphertextBlob"]},
                                        {"EncryptionContext", body["SourceEncryptionContext"]}});
    if (decrypted.status != 200) return decrypted;
    const nlohmann::json source = nlohmann::json::parse(decrypted.body);
    const nlohmann::json context = {{"EncryptionContext", body["DestinationEncryptionContext"]}};
    if (!ContextProblem(context).empty()) return Complain("re-encrypt " + body.dump());
    const auto* const key = Find(body["DestinationKeyId"]);
    if (std::optional<Response> unusable = Unusable(key)) return *unusable;
    const std::string plaintext = FromBase64(source["Plaintext"]);
    ByteBuffer blob;
    Append(blob, AsBytes(key->first));
    Append(blob, crypto::WrapKey(key->second.material, *crypto::SecretKey::FromBytes(AsBytes(plaintext)),
                                 AsBytes(body["DestinationEncryptionContext"].dump())));
    return Response::Of({{"CiphertextBlob", Base64(blob)},
                         {"SourceKeyId", source["KeyId"]},
                         {"KeyId", ArnOf("key/" + key->first)},
                         {"SourceEncryptionAlgorithm", "SYMMETRIC_DEFAULT"},
                         {"DestinationEncryptionAlgorithm", "SYMMETRIC_DEFAULT"}});
  }

  Response Describe(const nlohmann::json& body) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasOnly(body, {"KeyId"})) return Complain("describe " + body.dump());
    const auto* const key = Find(body["KeyId"]);
    if (key == nullptr) return Error(400, "NotFoundException", "Key does not exist");
    nlohmann::json data = {{"Arn", ArnOf("key/" + key->first)}, {"KeyId", key->first},
                           {"KeyState", key->second.state},     {"KeyUsage", "ENCRYPT_DECRYPT"},
                           {"KeySpec", "SYMMETRIC_DEFAULT"},    {"Enabled", key->second.state == "Enabled"}};
    data.update(key->second.fields);
    return Response::Of({{"KeyMetadata", data}});
  }

  // --- Credentials
  struct Given {
    std::string id, secret, token, end;
  };
  Given Give() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++given_;
    const absl::Time end = absl::Now() + lifetime_;
    Given given{StrCat("ASIA", given_), StrCat("secret/+", given_), StrCat("token//=+", given_),
                absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", end, absl::UTCTimeZone())};
    if (!givesStale_) identities_[given.id] = {given.secret, given.token, end};
    return given;
  }
  Response GiveJson(nlohmann::json more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Given given = Give();
    nlohmann::json json = {{"AccessKeyId", given.id},
                           {"SecretAccessKey", given.secret},
                           {"Token", given.token},
                           {"Expiration", given.end}};
    json.update(more);
    return Response::Of(json);
  }

  Response MetadataToken(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    long seconds = 0;
    const std::string ttl = request.Header("x-aws-ec2-metadata-token-ttl-seconds");
    if (request.method != "PUT" || !request.text.empty() || !absl::SimpleAtoi(ttl, &seconds) || seconds < 1) {
      return Complain("metadata token");
    }
    return {200, "the-metadata-token==", "text/plain"};
  }
  Response Metadata(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.Header("x-aws-ec2-metadata-token") != "the-metadata-token==") return {401, "", "text/plain"};
    if (request.method != "GET" || !OtherHeaders(request, {"x-aws-ec2-metadata-token"}).empty()) {
      return Complain("metadata");
    }
    const std::string roles = "/latest/meta-data/iam/security-credentials/";
    if (instanceRole_.empty()) return {404, "<html>404</html>", "text/html"};
    if (request.path == roles) return {200, instanceRole_ + "\n", "text/plain"};
    if (request.path == roles + instanceRole_) return GiveJson({{"Code", "Success"}, {"Type", "AWS-HMAC"}});
    return Complain(request.path);
  }
  Response Container(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.method != "GET" || !OtherHeaders(request, {"authorization"}).empty()) return Complain("container");
    if (request.Header("authorization") != containerToken_) return {400, R"({"code":"AccessDenied"})"};
    return GiveJson({{"RoleArn", "arn:aws:iam::111122223333:role/kveil"}});
  }

  static Response Xml(int status, const std::string& body) { return {status, body, "text/xml"}; }
  static Response StsError(int status, const std::string& code, const std::string& message) {
    return Xml(status, StrCat("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n",
                              "    <Type>Sender</Type>\n    <Code>", code, "</Code>\n    <Message>", message,
                              "</Message>\n  </Error>\n  <RequestId>1</RequestId>\n</ErrorResponse>\n"));
  }
  Response AssumeRole(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (request.method != "POST" || request.path != "/" || !OtherHeaders(request, {}).empty()) {
      return Complain(request.method + " " + request.path);
    }
    if (request.Header("content-type") != "application/x-www-form-urlencoded; charset=utf-8" ||
        request.Header("accept") != "text/xml") {
      return Complain("a form and XML");
    }
    std::map<std::string, std::string> form;
    for (const auto field : absl::StrSplit(request.text, '&')) {
      const std::vector<std::string> parts = absl::StrSplit(field, '=');
      form[parts.at(0)] = Decoded(parts.at(1));
    }
    if (form["Action"] != "AssumeRoleWithWebIdentity" || form["Version"] != "2011-06-15" || form.size() != 5) {
      return Complain("STS " + request.text);
    }
    if (form["RoleSessionName"].size() < 2) return Complain("session name");
    const auto identity = webIdentities_.find(form["RoleArn"]);
    if (identity == webIdentities_.end()) {
      return StsError(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    }
    if (form["WebIdentityToken"] != identity->second) {
      return StsError(400, "InvalidIdentityToken", "No OpenIDConnect provider found");
    }
    const Given given = Give();
    return Xml(200, StrCat("<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n",
                           "  <AssumeRoleWithWebIdentityResult>\n    <SubjectFromWebIdentityToken>a",
                           "</SubjectFromWebIdentityToken>\n    <Credentials>\n      <SessionToken>", given.token,
                           "</SessionToken>\n      <SecretAccessKey>", given.secret,
                           "</SecretAccessKey>\n      <Expiration>", given.end, "</Expiration>\n      <AccessKeyId>",
                           given.id, "</AccessKeyId>\n    </Credentials>\n  </AssumeRoleWithWebIdentityResult>\n",
                           "</AssumeRoleWithWebIdentityResponse>\n"));
  }

  static std::string Decoded(const std::string& text) {
    std::string decoded;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        decoded.push_back(text[i]);
      } else {
        decoded.push_back(static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)));
        i += 2;
      }
    }
    return decoded;
  }

  mutable Mutex mutex_;
  std::map<std::string, Key> keys_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> aliases_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Identity> identities_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> webIdentities_ ABSL_GUARDED_BY(mutex_);
  std::string instanceRole_ ABSL_GUARDED_BY(mutex_), containerToken_ ABSL_GUARDED_BY(mutex_);
  absl::Duration lifetime_ ABSL_GUARDED_BY(mutex_) = absl::Hours(1);
  bool givesStale_ ABSL_GUARDED_BY(mutex_) = false;
  int given_ ABSL_GUARDED_BY(mutex_) = 0;
  Fault fault_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> operations_ ABSL_GUARDED_BY(mutex_), complaints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
