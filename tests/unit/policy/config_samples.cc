// Configuration documents, good and bad.
#include "base/text.h"
#include "documents.h"

namespace kveil::policy {
namespace {

const char kTarget[] = R"({"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"})";

// A configuration that is good but for what `members` makes of it.
std::string With(const std::string& members) {
  return StrCat(R"({"intercept": {"targets": [)", kTarget, "]}", members.empty() ? "" : ", ", members, "}");
}
std::string Intercept(const std::string& members) {
  return StrCat(R"({"intercept": {"targets": [)", kTarget, "], ", members, "}}");
}
std::string Targets(const std::string& targets) { return R"({"intercept": {"targets": [)" + targets + "]}}"; }
std::string TargetOf(const std::string& cidr, const std::string& ports) {
  return Targets(R"({"cluster": "main", "cidr": )" + cidr + R"(, "ports": )" + ports + "}");
}
std::string Keys(const std::string& members) { return With(R"("keys": {)" + members + "}"); }
const char kAddress[] = R"("address": "https://vault.example:8200", "key": "k")";
const char kToken[] = R"("tokenFile": "/t")";
std::string Vault(const std::string& members, const std::string& more) {
  return Keys(R"("root": {"vault": {)" + members + (more.empty() ? "" : ", ") + more + "}}");
}
std::string Aws(const std::string& members) { return Keys(R"("root": {"awsKms": {)" + members + "}}"); }
std::string Pkcs11(const std::string& members) {
  return Keys(R"("root": {"pkcs11": {"module": "/m.so", )" + members + "}}");
}
const char kArn[] = "arn:aws:kms:eu-central-1:111122223333:";
const char kKeyId[] = "1234abcd-12ab-34cd-56ef-1234567890ab";
std::string AwsKey(const std::string& key, const std::string& more = "") {
  return Aws(StrCat(R"("key": ")", key, "\"", more.empty() ? "" : ", ", more));
}
std::string Admin(const std::string& members) { return With(R"("admin": {)" + members + "}"); }
std::string Tls(const std::string& members) { return With(R"("clusters": {"main": {"tls": {)" + members + "}}}"); }
std::string Terminate(const std::string& members) {
  return With(R"("clusters": {"main": {"tls": {}, "clientTls": {"terminate": {)" + members + "}}}}");
}
std::string Kubernetes(const std::string& members) {
  return With(R"("kubernetes": {"node": "node1", "apiServer": "https://10.96.0.1:443")" + members + "}");
}
std::string Limits(const std::string& members) { return With(R"("limits": {)" + members + "}"); }

}  // namespace

std::vector<Sample> ConfigSamples() {
  return {
      {"smallest", With(""), ""},
      {"Kubernetes",
       Kubernetes(
           R"(, "ca": "/ca", "tokenFile": "/t", "startupTaint": "kveil.io/agent-not-ready", "identityTimeout": "0s")"),
       ""},
      {"Kubernetes with its defaults", Kubernetes(""), ""},
      {"one address", TargetOf("\"10.1.2.3\"", "\"1-65535\""), ""},
      {"IPv6", TargetOf("\"fd00::/8\"", "\"9092,19092-19094\""), ""},
      {"two targets", Targets(R"({"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"},
                                 {"cluster": "b", "cidr": "10.0.0.0/16", "ports": "1"})"),
       ""},
      {"all of intercept", Intercept(R"("cgroup": "/sys/fs/cgroup/a", "listenPort": 1, "whenDown": "bypass",
          "existing": "reset", "advertised": "report", "accelerate": "off", "pinDirectory": "/sys/fs/bpf/x")"),
       ""},
      {"clusters", With(R"("clusters": {"main": {}, "other": {}})"), ""},
      {"TLS with the system's authorities", Tls(""), ""},
      {"all of TLS", Tls(R"("ca": "/a", "certificate": "/c", "key": "/k", "crl": "/r", "identities": "/i",
          "serverNames": ["b1.example", ".example.org"], "minimumVersion": "1.2")"),
       ""},
      {"applications that speak TLS",
       With(R"("clusters": {"main": {"clientTls": "refuse"}, "b": {"clientTls": "pass"}})"), ""},
      {"applications' TLS ends here", Terminate(R"("certificates": "/front")"), ""},
      {"all of terminate", Terminate(R"("certificates": [{"certificate": "/a.crt", "key": "/a.key"}], "clientCa": "/ca",
          "clientCertificate": "require", "minimumVersion": "1.3")"),
       ""},
      {"all of keys",
       Keys(R"("root": {"file": "/r"}, "registry": {"sqlite": "/d"}, "cacheTtl": "1500ms", "newUsersPerSecond": 1)"),
       ""},
      {"Vault with a token", Vault(kAddress, kToken), ""},
      {"all of Vault",
       Vault(R"("address": "https://[fd00::1]:8200", "key": "kveil_1", "mount": "a/transit", "namespace": "team/a")",
             R"("ca": "/ca", "appRole": {"roleId": "r", "secretIdFile": "/s", "mount": "a/approle"})"),
       ""},
      {"AWS KMS by ARN", AwsKey(StrCat(kArn, "key/", kKeyId)), ""},
      {"AWS KMS by the ARN of a multi-Region key",
       AwsKey("arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"), ""},
      {"AWS KMS by the ARN of an alias", AwsKey(StrCat(kArn, "alias/team/kveil_1")), ""},
      {"AWS KMS by id", AwsKey(kKeyId, R"("region": "eu-central-1")"), ""},
      {"all of AWS KMS", AwsKey("alias/kveil", R"("region": "cn-north-1", "endpoint": "https://vpce-1.kms.example",
          "stsEndpoint": "http://127.0.0.1:5555", "ca": "/ca")"),
       ""},
      {"PKCS#11", Pkcs11(R"("token": "a token", "key": "k", "pinFile": "/p")"), ""},
      {"PKCS#11 by AES Key Wrap", Pkcs11(R"("token": "t", "key": "k", "pinFile": "/p", "mechanism": "AES-KEY-WRAP")"),
       ""},
      {"Vault by Kubernetes on this node",
       Vault(R"("address": "http://127.0.0.1:8200", "key": "k")",
             R"("kubernetes": {"role": "r", "tokenFile": "/t", "mount": "k"})"),
       ""},
      {"Vault on localhost", Vault(R"("address": "http://localhost", "key": "k")", kToken), ""},
      {"PostgreSQL", Keys(R"("registry": {"postgres": "host=a,b port=5433 dbname=d user=u passfile=/p"})"), ""},
      {"PostgreSQL by URI", Keys(R"("registry": {"postgres": "postgresql://u@a,b:5433/d?sslmode=verify-full"})"), ""},
      {"all of admin", Admin(R"("socket": "/s", "metrics": "[::1]:0", "group": "kveil")"), ""},
      {"no metrics", Admin(R"("metrics": "off")"), ""},
      {"all of limits",
       Limits(R"("connections": 5, "receiveBuffers": 16, "requestSize": "2MiB", "responseSize": "2048KiB",
          "batchSize": "1GiB", "batchUsers": 100000, "totalMemory": "1GiB", "connectTimeout": "1s", "keyTimeout": "1s",
          "stallTimeout": "1m", "idleTimeout": "1h", "drainTimeout": "0s")"),
       ""},
      {"rest", With(R"("$schema": "x", "policies": "/p", "workers": 4, "log": {"level": "debug"})"), ""},

      {"unknown clientTls", With(R"("clusters": {"main": {"clientTls": "relay"}})"),
       "/clusters/main/clientTls: expected \"refuse\", \"pass\" or an object with \"terminate\", found \"relay\""},
      {"terminate without TLS to the broker", With(R"("clusters": {"main": {"clientTls": {"terminate": {
          "certificates": "/front"}}}})"),
       "/clusters/main: expected tls beside a clientTls that terminates TLS"},
      {"terminate without certificates", Terminate(R"("minimumVersion": "1.2")"), "expected the key \"certificates\""},
      {"no certificates", Terminate(R"("certificates": [])"), "/certificates: expected from 1 to 256 certificates"},
      {"certificate without its key", Terminate(R"("certificates": [{"certificate": "/a"}])"),
       "/certificates/0: expected the key \"key\""},
      {"certificates as a number", Terminate(R"("certificates": 3)"), "expected a folder, or a list of certificates"},
      {"an authority that nobody is checked by", Terminate(R"("certificates": "/f", "clientCa": "/ca")"),
       "expected clientCa together with clientCertificate"},
      {"certificates that nobody checks", Terminate(R"("certificates": "/f", "clientCertificate": "request")"),
       "expected clientCa together with clientCertificate"},
      {"not an object", "3", "c.json: expected an object, found 3"},
      {"no intercept", "{}", "c.json: expected the key \"intercept\", which is missing"},
      {"no targets", R"({"intercept": {}})", "/intercept: expected the key \"targets\", which is missing"},
      {"empty targets", Targets(""), "/intercept/targets: expected at least one target"},
      {"misspelled", With(R"("polices": "/p")"), "/polices: unknown key \"polices\", did you mean \"policies\"?"},
      {"misspelled inside", Intercept(R"("listenport": 1)"), "did you mean \"listenPort\"?"},
      {"no cluster", Targets(R"({"cidr": "10.0.0.0/8", "ports": "9092"})"), "/targets/0: expected the key \"cluster\""},
      {"cluster with a space", Targets(R"({"cluster": "a b", "cidr": "10.0.0.0/8", "ports": "1"})"),
       "a cluster's name"},
      {"network not text", TargetOf("10", "\"1\""), "/intercept/targets/0/cidr: expected a network such as"},
      {"host name", TargetOf("\"kafka.example.com\"", "\"1\""), "/cidr: expected a network such as"},
      {"ports not text", TargetOf("\"10.0.0.0/8\"", "9092"), "/ports: expected ports such as \"9092\""},
      {"ports with a space", TargetOf("\"10.0.0.0/8\"", "\"9092, 9093\""), "/ports: expected ports such as"},
      {"ports half open", TargetOf("\"10.0.0.0/8\"", "\"9092-\""), "/ports: expected ports such as"},
      {"port 0", Intercept(R"("listenPort": 0)"),
       "/intercept/listenPort: expected a whole number from 1 to 65535, found 0"},
      {"port too high", Intercept(R"("listenPort": 65536)"), "expected a whole number from 1 to 65535, found 65536"},
      {"port not whole", Intercept(R"("listenPort": 1.5)"), "expected a whole number from 1 to 65535, found 1.5"},
      {"port as text", Intercept(R"("listenPort": "15931")"),
       "expected a whole number from 1 to 65535, found \"15931\""},
      {"huge number", With(R"("workers": 18446744073709551615)"), "/workers: expected a whole number from 0 to 1024"},
      {"wrong choice", Intercept(R"("whenDown": "allow")"), "expected one of \"refuse\", \"bypass\", found \"allow\""},
      {"wrong existing", Intercept(R"("existing": "kill")"), "expected one of \"leave\", \"reset\", found \"kill\""},
      {"wrong advertised", Intercept(R"("advertised": true)"), "expected one of \"learn\", \"report\", found true"},
      {"accelerated", Intercept(R"("accelerate": "auto")"),
       "/accelerate: expected \"off\" (the short cut through the kernel "
       "is not supported in this version), found \"auto\""},
      {"relative cgroup", Intercept(R"("cgroup": "sys")"),
       "/intercept/cgroup: expected an absolute path, found \"sys\""},
      {"relative pins", Intercept(R"("pinDirectory": "")"), "/intercept/pinDirectory: expected an absolute path"},
      {"key without certificate", Tls(R"("key": "/k")"), "/clusters/main/tls: expected certificate and key together"},
      {"certificate without key", Tls(R"("certificate": "/c")"), "expected certificate and key together"},
      {"relative ca", Tls(R"("ca": "ca.pem")"), ""},
      {"ca by a variable", Tls(R"("ca": "$HOME/ca.pem")"),
       "/clusters/main/tls/ca: expected a path; of the environment, only ${CREDENTIALS_DIRECTORY}/, found"},
      {"ca that is a credential", Tls(R"("ca": "${CREDENTIALS_DIRECTORY}/ca.pem")"), ""},
      {"server's name", Tls(R"("serverNames": ["a", "b c"])"),
       "/clusters/main/tls/serverNames/1: expected a host name"},
      {"server's name with a star", Tls(R"("serverNames": ["*.a"])"), "/serverNames/0: expected a host name"},
      {"server's name that is an address", Tls(R"("serverNames": ["b", "10.0.0.1"])"),
       "/clusters/main/tls/serverNames/1: expected a host name, or one with a leading dot for every name below it (no "
       "address), found \"10.0.0.1\""},
      {"server's name with an empty label", Tls(R"("serverNames": ["a..b"])"), "/serverNames/0: expected a host name"},
      {"server's name with a dot at its end", Tls(R"("serverNames": ["a."])"), "/serverNames/0: expected a host name"},
      {"no server names", Tls(R"("serverNames": [])"),
       "/clusters/main/tls/serverNames: expected a list of at least one host name"},
      {"server names not a list", Tls(R"("serverNames": "a")"), "/clusters/main/tls/serverNames: expected a list"},
      {"old TLS", Tls(R"("minimumVersion": "1.1")"), "/minimumVersion: expected one of \"1.2\", \"1.3\""},
      {"unknown of TLS", Tls(R"("cert": "/c")"), "/clusters/main/tls/cert: unknown key \"cert\""},
      {"unknown of a cluster", With(R"("clusters": {"main": {"brokers": []}})"),
       "unknown key \"brokers\", expected one of \"tls\", \"clientTls\""},
      {"clusters not an object", With(R"("clusters": [])"), "/clusters: expected an object, found a list"},
      {"cluster's name", With(R"("clusters": {"main": {}, "a/b": {}})"), "/clusters/a~1b: expected a cluster's name"},
      {"nothing of Vault", Keys(R"("root": {"vault": {}})"),
       "/keys/root/vault: expected the key \"address\", which is missing"},
      {"Vault and a file", Keys(R"("root": {"file": "/r", "vault": {}})"), "found \"file\" and \"vault\""},
      {"Vault without a key", Vault(R"("address": "https://v")", kToken), "expected the key \"key\""},
      {"Vault without a login", Vault(kAddress, ""),
       "/keys/root/vault: expected exactly one of \"tokenFile\", \"appRole\", \"kubernetes\", found none"},
      {"Vault with two logins", Vault(kAddress, R"("tokenFile": "/t", "kubernetes": {"role": "r"})"),
       "found \"tokenFile\" and \"kubernetes\""},
      {"Vault over plain HTTP", Vault(R"("address": "http://vault.example:8200", "key": "k")", kToken),
       "/keys/root/vault/address: expected https://"},
      {"Vault over HTTP to another address", Vault(R"("address": "http://10.0.0.1", "key": "k")", kToken),
       "/address: expected https://"},
      {"Vault with a path", Vault(R"("address": "https://vault.example/v1", "key": "k")", kToken),
       "/address: expected an address such as"},
      {"Vault with a user", Vault(R"("address": "https://a@vault.example", "key": "k")", kToken), "/address: expected"},
      {"Vault without a scheme", Vault(R"("address": "vault.example:8200", "key": "k")", kToken), "/address: expected"},
      {"Vault with a bad port", Vault(R"("address": "https://vault.example:", "key": "k")", kToken),
       "/address: expected"},
      {"Vault's key with a slash", Vault(R"("address": "https://v", "key": "a/b")", kToken),
       "/keys/root/vault/key: expected a key's name"},
      {"Vault's mount with a slash at its end", Vault(kAddress, R"("mount": "transit/", "tokenFile": "/t")"),
       "/keys/root/vault/mount: expected a path such as"},
      {"Vault's mount with dots", Vault(kAddress, R"("mount": "../sys", "tokenFile": "/t")"), "/vault/mount: expected"},
      {"token file by a relative path", Vault(kAddress, R"("tokenFile": "t")"), ""},
      {"token file by a misspelled variable", Vault(kAddress, R"("tokenFile": "${CREDENTIAL_DIRECTORY}/t")"),
       "/keys/root/vault/tokenFile: expected a path; of the environment, only ${CREDENTIALS_DIRECTORY}/"},
      {"empty token file", Vault(kAddress, R"("tokenFile": "")"),
       "/keys/root/vault/tokenFile: expected a non-empty string"},
      {"AppRole without a secret id", Vault(kAddress, R"("appRole": {"roleId": "r"})"),
       "/keys/root/vault/appRole: expected the key \"secretIdFile\""},
      {"secret id in the configuration", Vault(kAddress, R"("appRole": {"roleId": "r", "secretId": "s"})"),
       "unknown key \"secretId\""},
      {"Kubernetes without a role", Vault(kAddress, R"("kubernetes": {})"),
       "/keys/root/vault/kubernetes: expected the key \"role\""},
      {"node that is none", With(R"("kubernetes": {"node": "a&b", "apiServer": "https://a"})"),
       "/kubernetes/node: expected the name of a Kubernetes node"},
      {"API server without TLS", With(R"("kubernetes": {"node": "a", "apiServer": "http://10.96.0.1"})"),
       "/kubernetes/apiServer: expected https://"},
      {"API server with a path", With(R"("kubernetes": {"node": "a", "apiServer": "https://a/b"})"),
       "/kubernetes/apiServer: expected an address such as \"https://10.96.0.1:443\", without a path"},
      {"taint that is none", Kubernetes(R"(, "startupTaint": "a b")"),
       "/kubernetes/startupTaint: expected a taint's key"},
      {"token in the configuration", Kubernetes(R"(, "token": "t")"), "/kubernetes/token: unknown key \"token\""},
      {"nothing of AWS KMS", Aws(""), "/keys/root/awsKms: expected the key \"key\", which is missing"},
      {"AWS KMS and Vault", Keys(R"("root": {"awsKms": {}, "vault": {}})"), "found \"vault\" and \"awsKms\""},
      {"AWS KMS by alias without a region", AwsKey("alias/kveil"),
       "/keys/root/awsKms: expected the key \"region\", which is missing"},
      {"AWS KMS with two regions", AwsKey(StrCat(kArn, "key/", kKeyId), R"("region": "eu-central-1")"),
       "/keys/root/awsKms/region: expected no region beside an ARN, which names one"},
      {"AWS KMS in a zone", AwsKey("alias/kveil", R"("region": "eu-central-1a")"),
       "/keys/root/awsKms/region: expected a region such as \"eu-central-1\""},
      {"AWS's own key", AwsKey("alias/aws/s3", R"("region": "eu-central-1")"),
       "/keys/root/awsKms/key: expected the ARN or the id of a key, or \"alias/NAME\" (none of AWS's own aliases)"},
      {"AWS's own key by ARN", AwsKey(StrCat(kArn, "alias/aws/s3")), "/keys/root/awsKms/key: expected an ARN such as"},
      {"key of AWS KMS without \"alias/\"", AwsKey("kveil", R"("region": "eu-central-1")"),
       "/keys/root/awsKms/key: expected the ARN or the id of a key"},
      {"ARN of another service", AwsKey("arn:aws:iam::111122223333:role/kveil"), "/key: expected an ARN such as"},
      {"ARN with a short account", AwsKey(StrCat("arn:aws:kms:eu-central-1:1:key/", kKeyId)), "/key: expected an ARN"},
      {"ARN with a bad key", AwsKey(StrCat(kArn, "key/kveil")), "/key: expected an ARN such as"},
      {"AWS KMS over plain HTTP", AwsKey(StrCat(kArn, "key/", kKeyId), R"("endpoint": "http://kms.example")"),
       "/keys/root/awsKms/endpoint: expected https://"},
      {"AWS KMS with a path", AwsKey(StrCat(kArn, "key/", kKeyId), R"("stsEndpoint": "https://sts.example/x")"),
       "/keys/root/awsKms/stsEndpoint: expected an address such as \"https://sts.eu-central-1.amazonaws.com\""},
      {"access key in the configuration", AwsKey(StrCat(kArn, "key/", kKeyId), R"("accessKeyId": "AKIA")"),
       "unknown key \"accessKeyId\""},
      {"nothing of PKCS#11", Keys(R"("root": {"pkcs11": {}})"),
       "/keys/root/pkcs11: expected the key \"module\", which is missing"},
      {"PKCS#11 without a PIN", Pkcs11(R"("token": "t", "key": "k")"),
       "/keys/root/pkcs11: expected the key \"pinFile\""},
      {"PIN in the configuration", Pkcs11(R"("token": "t", "key": "k", "pinFile": "/p", "pin": "1234")"),
       "unknown key \"pin\""},
      {"long label of a token", Pkcs11(R"("key": "k", "pinFile": "/p", "token": ")" + std::string(33, 't') + "\""),
       "/keys/root/pkcs11/token: expected at most 32 bytes"},
      {"another mechanism", Pkcs11(R"("token": "t", "key": "k", "pinFile": "/p", "mechanism": "AES-CBC")"),
       "/keys/root/pkcs11/mechanism: expected one of \"AES-GCM\", \"AES-KEY-WRAP\""},
      {"two registries", Keys(R"("registry": {"sqlite": "/d", "postgres": "host=x dbname=d user=u"})"),
       "/keys/registry: expected exactly one of \"sqlite\", \"postgres\", found \"sqlite\" and \"postgres\""},
      {"no registry", Keys(R"("registry": {})"), "/keys/registry: expected exactly one of \"sqlite\", \"postgres\""},
      {"PostgreSQL as an object", Keys(R"("registry": {"postgres": {}})"),
       "/keys/registry/postgres: expected a PostgreSQL connection string"},
      {"PostgreSQL without a host", Keys(R"("registry": {"postgres": "dbname=d user=u"})"),
       "/keys/registry/postgres: expected the parameter host"},
      {"PostgreSQL with a password", Keys(R"("registry": {"postgres": "host=x dbname=d user=u password=p"})"),
       "/keys/registry/postgres: password is not allowed here, where others may read it: name a file of mode 0600 by"
       " passfile"},
      {"PostgreSQL URI with a password", Keys(R"("registry": {"postgres": "postgresql://h/d?user=u&password=p"})"),
       "/keys/registry/postgres: password is not allowed here"},
      {"no root", Keys(R"("root": {})"),
       "/keys/root: expected exactly one of \"file\", \"vault\", \"awsKms\", \"pkcs11\", found none"},
      {"root not an object", Keys(R"("root": "/r")"), "/keys/root: expected an object, found \"/r\""},
      {"relative registry", Keys(R"("registry": {"sqlite": "db"})"), ""},
      {"registry by a number", Keys(R"("registry": {"sqlite": 1})"),
       "/keys/registry/sqlite: expected a non-empty string, found 1"},
      {"duration without a unit", Keys(R"("cacheTtl": "60")"), "/keys/cacheTtl: expected a duration with a unit"},
      {"duration as a number", Keys(R"("cacheTtl": 60)"), "/keys/cacheTtl: expected a duration with a unit"},
      {"duration in days", Keys(R"("cacheTtl": "1d")"), "/keys/cacheTtl: expected a duration with a unit"},
      {"duration with a fraction", Keys(R"("cacheTtl": "1.5s")"), "/keys/cacheTtl: expected a duration with a unit"},
      {"metrics without a port", Admin(R"("metrics": "127.0.0.1")"), "/admin/metrics: expected an address and port"},
      {"metrics by name", Admin(R"("metrics": "localhost:9464")"), "/admin/metrics: expected an address and port"},
      {"metrics null", Admin(R"("metrics": null)"), "/admin/metrics: expected an address and port"},
      {"long socket path", Admin(R"("socket": "/)" + std::string(107, 's') + "\""), "a path of at most 107 bytes"},
      {"group that may erase, with a slash", Admin(R"("eraseGroup": "a/b")"),
       "/admin/eraseGroup: expected a group's name"},
      {"group with a slash", Admin(R"("group": "a/b")"), "/admin/group: expected a group's name"},
      {"no group", Admin(R"("group": "")"), "/admin/group: expected a non-empty string"},
      {"no connections", Limits(R"("connections": 0)"),
       "/limits/connections: expected a whole number from 1 to 1000000"},
      {"few buffers", Limits(R"("receiveBuffers": 3)"), "expected a whole number from 4 to 65536, found 3"},
      {"size as a number", Limits(R"("requestSize": 1048576)"), "/limits/requestSize: expected a size with a unit"},
      {"size in megabytes", Limits(R"("requestSize": "1MB")"), "/limits/requestSize: expected a size with a unit"},
      {"format", With(R"("log": {"format": "xml"})"), "/log/format: expected one of \"text\", \"json\""},
      {"level", With(R"("log": {"level": "trace"})"), "/log/level: expected one of \"info\", \"debug\""},
      {"relative policies", With(R"("policies": "policies")"), ""},
      {"policies with a line break", With(R"("policies": "a\nb")"), "/policies: expected a string without control"},
      {"relative socket", Admin(R"("socket": "s")"), "/admin/socket: expected an absolute path"},
  };
}

}  // namespace kveil::policy
