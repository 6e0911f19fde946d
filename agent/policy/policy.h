// What the policies say about each topic: whether and how its records are sealed, and who may read them.
//
//   absl::StatusOr<std::shared_ptr<const Policy>> policy = Policy::Load({"/etc/kveil/policies"});
//   const TopicPolicy* topic = (*policy)->Find("clickstream");   // nullptr: not protected, leave it alone
//
// A Policy never changes; PolicyStore (policy_store.h) holds the one in force. docs/policy.md explains policies to
// users.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bundle/manifest.h"
#include "formats/framing.h"
#include "formats/json_pointer.h"
#include "formats/user_id.h"
#include "identity/claims.h"
#include "identity/workload.h"
#include "policy/kek_rule.h"
#include "policy/record_rules.h"
#include "policy/where.h"

namespace kveil::policy {

// Whose key seals a record.
enum class SealScope : uint8_t { kCluster, kTopic, kUser };

// Where in a record the user's id is.
struct UserSource {
  enum class From : uint8_t { kValue, kKey, kHeader };
  From from = From::kValue;
  // Into the JSON of the value (the first one that names a user counts) or key. None with kKey: the whole key.
  std::vector<formats::JsonPointer> pointers;
  std::string header;  // the header's name, with kHeader
  formats::IdEncoding as = formats::IdEncoding::kText;
  formats::Framing framing = formats::Framing::kNone;  // of the JSON that the pointers lead into
};

// Whether values of compressed batches are compressed before they are sealed. kAuto: where that pays.
enum class CompressValues : uint8_t { kAuto, kAlways, kNever };

struct SealRule {
  SealScope scope = SealScope::kCluster;
  UserSource user;       // only with kUser
  std::string keyspace;  // only with kUser: topics with the same keyspace share a user's key. Default: the selector
  std::optional<KekRule> kek;  // none: the registry's root key alone
  // Only with kUser: whether an erased user's next record has a new key made, once the erasure is over. If not, nobody
  // can open what arrives of the user, until somebody readmits him.
  bool readmits = false;
  CompressValues compress = CompressValues::kAuto;
};

// What a workload does with a topic's records.
enum class Access : uint8_t { kRead, kWrite };

// An entry of `read` or `write`. A workload may read, or write, what any of those that fit it lets it.
struct ReadRule {
  // kPurpose: a workload that has a purpose (`"purpose": true`). When policies are read, it becomes one rule for each
  // workload that has one. It is left only where none has, and fits nobody.
  enum class Kind : uint8_t { kAny, kUnit, kCgroup, kServiceAccount, kNamespace, kPurpose };
  Kind kind = Kind::kAny;
  // The unit's name, the cgroup's path from the root of the hierarchy, the service account as "namespace/name", or the
  // namespace.
  std::string text;
  std::vector<std::pair<std::string, std::string>> labels;  // which a pod has to have, with kNamespace
  std::optional<uint32_t> uid;                              // of the process, as the node sees it
  identity::Claims claimed;                                 // what the client has to claim; empty: it does not matter
  std::optional<Where> where;                               // which records; none: all of them
  size_t position = 0;                                      // of the entry in its list, as the file has it

  // Whether it fits nobody but pods of a namespace that it names.
  bool isOfPods() const { return kind == Kind::kServiceAccount || kind == Kind::kNamespace; }
};

// What a reader gets in place of a record that it may not have.
enum class OnHidden : uint8_t {
  kAuto,    // nothing, but for clients that are known not to tolerate that: then as kMask. Of erased users only
  kDrop,    // nothing
  kMask,    // the record with an empty value, or with TopicPolicy::deniedMask or erasedMask for it
  kNull,    // the record with a null value: it looks like a tombstone
  kSealed,  // the record as the broker has it; in clear text, as kMask. Of denied records only
  kError,   // an error, and nothing behind it. Of denied records only
};
// Whether the reader gets the record in some form, so that it can go past it.
inline bool IsKept(OnHidden how) {
  return how == OnHidden::kMask || how == OnHidden::kNull || how == OnHidden::kSealed;
}
enum class PlaintextRule : uint8_t { kPass, kDrop };  // a fetched record without an envelope

enum class SelectorKind : uint8_t { kName, kPrefix, kPattern, kUnselected };

// What happens to records produced to a topic that no entry selects. Internal topics always pass.
enum class Unselected : uint8_t {
  kPass,
  kRefuse,
  kSeal,  // there is an entry of SelectorKind::kUnselected
};

struct TopicPolicy {
  SelectorKind kind = SelectorKind::kName;
  std::string selector;  // the text of name, prefix or pattern; empty with kUnselected
  std::optional<SealRule> seal;
  std::vector<ReadRule> read;  // empty: nobody reads
  // Of `read`, where an entry has a `where`; nullptr: whoever reads reads every record.
  std::shared_ptr<const RecordRules> rules;
  std::optional<std::vector<ReadRule>> write;     // empty: nobody writes; none: everybody does
  std::shared_ptr<const RecordRules> writeRules;  // of `write`, as `rules`; only with `seal`
  OnHidden onDenied = OnHidden::kDrop;            // records that the rules leave out
  std::string deniedMask;                         // JSON in the place of their value, with kMask
  OnHidden onErased = OnHidden::kAuto;            // records of erased users
  std::string erasedMask;                         // as deniedMask
  PlaintextRule plaintext = PlaintextRule::kPass;
  std::string origin;        // the topic that this one mirrors; envelopes are bound to its name; empty: itself
  bool auditsUsers = false;  // the audit trail counts records by user
  std::string file;          // where it was read, for messages
};

class Policy {
 public:
  // kPart: other files may declare the purposes that these name.
  enum class Extent : uint8_t { kWhole, kPart };
  // Reads policy files. A folder stands for its *.json files in the order of their names, without hidden ones and
  // subfolders. kNotFound: no such file or folder, or a folder without a policy. kInvalidArgument: one line "FILE: JSON
  // POINTER: what was expected and what was found".
  static absl::StatusOr<std::shared_ptr<const Policy>> Load(absl::Span<const std::string> paths,
                                                            Extent extent = Extent::kWhole);
  // Reads a folder whose files are exactly those of the manifest, each with its bytes. Nothing else is parsed.
  // kFailedPrecondition: a file is missing, was changed or is not in the manifest; otherwise the errors of Load.
  static absl::StatusOr<std::shared_ptr<const Policy>> LoadSigned(const std::string& folder,
                                                                  const bundle::Manifest& manifest);
  // The same for texts in memory: pairs of a file's name and its text.
  static absl::StatusOr<std::shared_ptr<const Policy>> Parse(
      absl::Span<const std::pair<std::string, std::string>> namesAndTexts, Extent extent = Extent::kWhole);

  ~Policy();
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  // The most specific entry for a topic, or nullptr if the topic is not protected. Names come before prefixes (the
  // longest first), prefixes before patterns (files by name, then position), patterns before the entry for unselected
  // topics. No prefix or pattern fits topics that begin with "__", and only a name fits those that IsInternal.
  // Cost: a hash lookup for a name, otherwise a walk over prefix lengths and, for a name that is not remembered from an
  // earlier search, patterns: a microsecond usually, some hundred milliseconds of long names made for that. Adds what
  // patterns took to `searched`. The pointer lives as long as the Policy. Any thread.
  const TopicPolicy* Find(std::string_view topic, std::chrono::nanoseconds* searched = nullptr) const;

  // Purposes that a user may consent to, in order.
  absl::Span<const std::string> purposes() const;

  Unselected unselected() const;
  // Whether records produced to this topic are refused if it has no entry.
  bool RefusesUnselected(std::string_view topic) const;

  bool empty() const { return size() == 0; }
  size_t size() const;       // entries
  size_t fileCount() const;  // files they come from
  // Of these files and those of users that they name, as PolicyFiles::Digest, and one by one, as PolicyFiles::ByName.
  const std::string& digest() const;
  const std::map<std::string, std::string>& hashes() const;
  int64_t version() const;  // of the manifest; 0 without one
  absl::Span<const TopicPolicy> topics() const;

 private:
  struct Compiled;
  class Collector;
  explicit Policy(std::unique_ptr<const Compiled> compiled);
  std::unique_ptr<const Compiled> compiled_;
};

// Whether this is one of Kafka's own topics, by its whole name. Only a name selects them; "unselected" never applies.
bool IsInternal(std::string_view topic);

// Whether an entry of `read` or `write` is about pods.
bool NamesPods(const TopicPolicy& topic);

// Whether the entry fits the workload, whatever it says of records. `claims`: what its client claims; of what is not
// known, no entry that asks for it fits.
bool Fits(const ReadRule& rule, const identity::Workload& workload, const identity::Claims& claims = {});

// Whether any read rule fits the workload: it may read some records of the topic at least.
bool MayRead(const TopicPolicy& topic, const identity::Workload& workload, const identity::Claims& claims = {});

// The first entry that fits the workload and lets it have every record, as an index. nullopt: none.
std::optional<size_t> EntryForAll(const std::vector<ReadRule>& rules, const identity::Workload& workload,
                                  const identity::Claims& claims);

enum class Readable : uint8_t { kNothing, kSome, kEverything };
// What the workload may read of the topic. With kSome, `entries` are those of `topic.read` that fit the workload, and
// topic.rules says which records they let it read.
Readable ReadableBy(const TopicPolicy& topic, const identity::Workload& workload, EntrySet& entries,
                    const identity::Claims& claims = {});
// The same of what it may write: with kSome, `entries` are those of `*topic.write`, for topic.writeRules.
Readable WritableBy(const TopicPolicy& topic, const identity::Workload& workload, EntrySet& entries,
                    const identity::Claims& claims = {});

}  // namespace kveil::policy
