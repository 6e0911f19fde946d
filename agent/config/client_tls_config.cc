#include "config/client_tls_config.h"

#include "base/text.h"
#include "config/json_value.h"

namespace kveil::config {
namespace {

using ClientCertificate = ClientTlsConfig::ClientCertificate;

// A folder, or a list of files.
void ReadCertificates(const JsonValue& value, ClientTlsConfig& tls) {
  if (value.isString()) {
    tls.folder = value.FilePath();
    return;
  }
  if (!value.isList()) return value.Expected("a folder, or a list of certificates with their keys");
  const std::vector<JsonValue> items = value.List();
  if (items.empty() || items.size() > kMostCertificates)
    value.Error(StrCat("expected from 1 to ", kMostCertificates, " certificates"));
  for (const JsonValue& item : items) {
    const JsonObject object(item, {"certificate", "key"});
    ClientTlsConfig::Files& files = tls.certificates.emplace_back();
    if (const auto certificate = object.Require("certificate")) files.certificate = certificate->FilePath();
    if (const auto key = object.Require("key")) files.key = key->FilePath();
  }
}

void ReadTerminate(const JsonValue& value, ClientTlsConfig& tls) {
  const JsonObject object(value, {"certificates", "clientCa", "clientCertificate", "minimumVersion"});
  if (const auto certificates = object.Require("certificates")) ReadCertificates(*certificates, tls);
  if (const auto ca = object.Find("clientCa")) tls.clientCa = ca->FilePath();
  if (const auto certificate = object.Find("clientCertificate")) {
    tls.clientCertificate = certificate->OneOf<ClientCertificate>({{"none", ClientCertificate::kNone},
                                                                   {"request", ClientCertificate::kRequest},
                                                                   {"require", ClientCertificate::kRequire}});
  }
  // Whoever names an authority and forgets the rest would take it for checked.
  if ((tls.clientCertificate == ClientCertificate::kNone) != tls.clientCa.empty()) {
    value.Error("expected clientCa together with clientCertificate \"request\" or \"require\"");
  }
  if (const auto version = object.Find("minimumVersion")) {
    tls.version12 = version->OneOf<bool>({{"1.2", true}, {"1.3", false}});
  }
}

}  // namespace

ClientTlsConfig ReadClientTls(const JsonValue& value) {
  using Mode = ClientTlsConfig::Mode;
  ClientTlsConfig tls;
  if (value.isObject()) {
    const JsonObject object(value, {"terminate"});
    tls.mode = Mode::kTerminate;
    if (const auto terminate = object.Require("terminate")) ReadTerminate(*terminate, tls);
  } else if (value.isString() && value.String() == "pass") {
    tls.mode = Mode::kPass;
  } else if (!value.isString() || value.String() != "refuse") {
    value.Expected("\"refuse\", \"pass\" or an object with \"terminate\"");
  }
  return tls;
}

}  // namespace kveil::config
