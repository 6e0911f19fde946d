// The small subcommands. Each returns the program's exit status: 0, or 1 after one clear line on stderr (of `erase`,
// also 3 and 4: docs/operations.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kveil::cli {

// What every subcommand takes.
struct CommonOptions {
  std::string configPath;  // empty: the default path, or the defaults themselves when there is no such file
  bool json = false;       // print JSON
};

// What the running agent serves and what is wrong. 0 only when it is ready and nothing is wrong; with `onlyReady`, also
// when something is wrong that does not keep it from being ready.
int RunStatus(const CommonOptions& common, bool onlyReady);

// Which connections.
struct ConnectionsOptions {
  std::optional<std::string> workload;  // a part of its name
  std::optional<std::string> cluster;
  std::optional<uint64_t> most;  // none: as many as are usual
};
// The connections of the running agent, those with the most traffic first. 1 if some are missing.
int RunConnections(const CommonOptions& common, const ConnectionsOptions& options);
// The same each second, with what they do per second, until the user ends it. `isOnce`, or without a terminal: once.
int RunTop(const CommonOptions& common, const ConnectionsOptions& options, bool isOnce);

struct FdstoreOptions {
  std::string path = "/run/kveil/fdstore/socket";
  uint64_t keepForSeconds = 120;  // without an agent
};
// Keeps an agent's listeners while it restarts. Runs until SIGTERM or SIGINT.
int RunFdstore(const FdstoreOptions& options);

// Has the running agent read its configuration again, and says what is in force and what needs a restart.
int RunReload(const CommonOptions& common);

// The configuration with every default, as JSON that is a configuration itself.
int RunConfigShow(const CommonOptions& common);

struct EraseOptions {
  std::string user;                     // either this,
  std::string usersFrom;                // or a file with an id per line
  std::string encoding = "text";        // formats::kIdEncodingNames: how ids are written, as `as` of a policy
  std::optional<std::string> keyspace;  // none: all of them
  std::optional<uint64_t> waitSeconds;  // for the other agents
  std::optional<std::string> reason;    // for the receipt
};
// Destroys the keys of one user or many, and waits until all agents have dropped them.
int RunErase(const CommonOptions& common, const EraseOptions& options);

// Ends the erasure of one user; `usersFrom` and `waitSeconds` are not looked at.
int RunReadmit(const CommonOptions& common, const EraseOptions& options);

// Who is meant, and how long to wait for the other agents.
struct UserOptions {
  std::string user;
  std::string encoding = "text";        // as of EraseOptions
  std::optional<std::string> keyspace;  // none: docs/consent.md
  std::optional<uint64_t> waitSeconds;
};
struct ConsentOptions {
  UserOptions who;
  std::string purpose;
  std::optional<std::string> until;
  bool withHistory = false;
  std::string file;  // to import
};
// Grants a consent or withdraws it, and waits until all agents know. Exits 3 when some may not know yet.
int RunConsentGrant(const CommonOptions& common, const ConsentOptions& options);
int RunConsentWithdraw(const CommonOptions& common, const ConsentOptions& options);
// What a user has consented to.
int RunConsentList(const CommonOptions& common, const ConsentOptions& options);
// Has the topic of a keyspace read from its beginning.
int RunConsentReread(const CommonOptions& common, const ConsentOptions& options);
// Grants and withdraws what the lines of a file say. Nothing is done when a line is wrong.
int RunConsentImport(const CommonOptions& common, const ConsentOptions& options);

struct AttributeOptions {
  UserOptions who;
  std::vector<std::string> set;  // "name=value"
  std::vector<std::string> removed;
};
// Sets and removes attributes of a user, and waits until all agents know. Exits 3 when some may not know yet.
int RunUserSet(const CommonOptions& common, const AttributeOptions& options);
// All that is known of a user.
int RunUserShow(const CommonOptions& common, const AttributeOptions& options);

// The epoch keys, which wrap all others: what there is, and having another take the place of the one in use. With
// `waitSeconds`, until that is done; exits 3 when it is not by then.
int RunEpochsList(const CommonOptions& common);
// A key that its row does not give, and that stops a turn.
struct GiveUpOptions {
  std::string key;  // its id
  std::optional<std::string> reason;
};
int RunEpochsGiveUp(const CommonOptions& common, const GiveUpOptions& options);
int RunEpochsTurn(const CommonOptions& common, std::optional<uint64_t> waitSeconds);

struct ReceiptsOptions {
  std::string folder;     // empty: the configuration's
  std::string publicKey;  // a PEM file; empty: the folder's own key
  uint64_t number = 0;    // 0: all
  // Of RunReceiptsReplay.
  bool isDryRun = false;
  std::optional<uint64_t> waitSeconds;  // as of EraseOptions
};
// The receipts of erasures: one line each; the signed bytes of one; whether one or all are as they were written; the
// public key that verifies them. They read the folder, and need no agent.
int RunReceiptsList(const CommonOptions& common, const ReceiptsOptions& options);
int RunReceiptsShow(const CommonOptions& common, const ReceiptsOptions& options);
int RunReceiptsVerify(const CommonOptions& common, const ReceiptsOptions& options);
int RunReceiptsKey(const CommonOptions& common, const ReceiptsOptions& options);
// Has the running agent repeat the erasures that receipts tell of, where its registry does not know of them, as one
// that was restored from a backup. With `isDryRun`, says how many these are. Exit status as of RunErase.
int RunReceiptsReplay(const CommonOptions& common, const ReceiptsOptions& options);

struct AuditOptions {
  std::vector<std::string> trails;      // folders; empty: the agent's, or the configuration's
  std::vector<std::string> publicKeys;  // PEM files, one per folder; empty: the folder's own
  std::optional<std::string> user;      // whose records
  std::string encoding = "text";        // as of EraseOptions
  std::optional<std::string> keyspace;  // none: all of them
  std::optional<std::string> topic;
  std::optional<std::string> workload;  // a part of its name
  std::optional<std::string> since, until;
};
// Who read and wrote what, whether the trail is as it was written, and the public key that verifies it. The query asks
// the agent, where it runs, to write what it has counted.
int RunAuditQuery(const CommonOptions& common, const AuditOptions& options);
int RunAuditVerify(const CommonOptions& common, const AuditOptions& options);
int RunAuditKey(const CommonOptions& common, const AuditOptions& options);
// What is known of a person: consents, attributes, erasures, and who wrote and read their records. With `user`.
int RunSubjectReport(const CommonOptions& common, const AuditOptions& options);

// Reads policy files and folders as the agent would; without any, those of the configuration. With `isStrict`, advice
// is an error.
int RunPolicyCheck(const CommonOptions& common, const std::vector<std::string>& paths, bool isStrict);

struct PolicyExplainOptions {
  std::vector<std::string> policies;  // files and folders; none: the configuration's
  std::string workload;               // "unit=a.service,uid=33"
  std::string topic;
  std::optional<std::string> user;      // of the record
  std::vector<std::string> consents;    // purposes for which the user consents
  std::vector<std::string> attributes;  // of the user, "region=eu"
  bool isErased = false;                // the user
  bool isOfWriting = false;
  std::string record;  // a file with the record as JSON; empty: none
};
// Says what a workload may read (or write) of a topic, or whether it may one record, and which entry decides.
int RunPolicyExplain(const CommonOptions& common, const PolicyExplainOptions& options);

// Compares what policies say with a table of expectations. 1 when they differ.
int RunPolicyTest(const CommonOptions& common, const std::string& file);

// Says who gains and who loses what when the policies `before` (a file or a folder) give way to `after`. 0: nobody
// anything, 1: somebody something, 2: they cannot be read.
int RunPolicyDiff(const CommonOptions& common, const std::string& before, const std::string& after);

struct PolicySignOptions {
  std::string folder;                // of the policies; to verify, empty: the configuration's
  std::string key;                   // a PEM file with the private key
  int64_t version = 0;               // that they are signed as
  std::vector<std::string> trusted;  // PEM files with public keys; empty: the configuration's
};
// Makes a key that signs policies, in `path`, and what agents trust, in `path`.pub. Never replaces a file.
int RunPolicyKeygen(const std::string& path);
// Signs the policies of a folder.
int RunPolicySign(const CommonOptions& common, const PolicySignOptions& options);
struct PolicyPackOptions {
  std::string folder;  // of signed policies
  std::string file;    // to make, or to replace
};
// Makes one file of a folder of signed policies, which agents can pull.
int RunPolicyPack(const PolicyPackOptions& options);
// Whether the policies of a folder are exactly those that a trusted key has signed.
int RunPolicyVerify(const CommonOptions& common, const PolicySignOptions& options);

// Says what the header value of a sealed record holds, from hex or base64.
int RunInspect(const CommonOptions& common, const std::string& text);

// Makes a root key file with a new key. Never replaces a file.
int RunCreateRootKey(const std::string& path);

// Makes a root key file `to` of a later generation of the key in `path`. Never replaces a file.
int RunAdvanceRootKey(const std::string& path, uint64_t generation, const std::string& to);

// Makes the registry that the configuration names, under its root key. Leaves one that is there as it is.
int RunCreateRegistry(const CommonOptions& common);
// Without `kek`, that of the root key.
int RunMakeKeyVersion(const CommonOptions& common, const std::string& kek);

struct KeysOptions {
  std::string from;      // an id, or how it begins; empty: all
  uint64_t most = 1000;  // to list
};
// The keys that the registry has, a line each; what is known of one. Never the keys themselves.
int RunKeysList(const CommonOptions& common, const KeysOptions& options);
int RunKeysShow(const CommonOptions& common, const KeysOptions& options);

struct RotateOptions {
  std::string kek;    // "PROVIDER/KEY", or "PROVIDER" for all of its keys; empty: the root key
  std::string after;  // with `kek`: leaves out those up to this id, as of one that was interrupted
  std::optional<std::string> reason;
};
// Has what the root key or KEKs have wrapped wrapped anew, by their newest versions. 1 also when it was not all.
int RunKeysRotate(const CommonOptions& common, const RotateOptions& options);

struct RegistryCopyOptions {
  std::string from;     // an SQLite file, to go on with its move; empty: the configuration's
  std::string to;       // a PostgreSQL connection string
  bool giveUp = false;  // instead: lets the file be used again
};
// Moves a registry to PostgreSQL, or gives up a move that was begun. No agent may run.
int RunRegistryCopy(const CommonOptions& common, const RegistryCopyOptions& options);

// Takes the pinned BPF links and maps away.
int RunDetach(const CommonOptions& common);

}  // namespace kveil::cli
