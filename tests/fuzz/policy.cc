// A policy file of any text: refused in one line, or read into entries that keep what the file format promises.
#include "policy/policy.h"

#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "fuzz.h"

namespace kveil::fuzz {
namespace {

void CheckTopic(const policy::Policy& policy, const policy::TopicPolicy& topic) {
  const bool isOfUnselected = topic.kind == policy::SelectorKind::kUnselected;
  Check(topic.selector.empty() == isOfUnselected, "an entry selects by something");
  if (topic.kind == policy::SelectorKind::kName) {
    Check(policy.Find(topic.selector) == &topic, "a topic that is named is found");
  }
  const policy::TopicPolicy* found = policy.Find(StrCat("__", topic.selector));
  Check(found == nullptr || found->kind == policy::SelectorKind::kName, "an internal topic is found by name only");
  if (topic.seal.has_value() && topic.seal->scope == policy::SealScope::kUser) {
    const policy::UserSource& user = topic.seal->user;
    Check(user.from != policy::UserSource::From::kHeader || !user.header.empty(), "a header with the user has a name");
    Check(user.from != policy::UserSource::From::kValue || !user.pointers.empty(), "a value is looked into");
    for (const formats::JsonPointer& pointer : user.pointers) {
      Check(!pointer.steps().empty(), "a JSON pointer leads into the document");
    }
    Check(!topic.seal->keyspace.empty(), "user keys have a keyspace");
  }
  identity::Workload workload;
  workload.cgroupPath = "/system.slice/x.service";
  workload.unit = "x.service";
  Check(!topic.read.empty() || !policy::MayRead(topic, workload), "a topic without readers is read by nobody");
}

}  // namespace

void Run(Bytes input) {
  const std::vector<std::pair<std::string, std::string>> files = {{"fuzz.json", std::string(AsText(input))}};
  const auto policy = policy::Policy::Parse(files);
  if (!policy.ok()) {
    const std::string_view message = ToStd(policy.status().message());
    Check(absl::IsInvalidArgument(policy.status()), "a policy that is refused is the file's fault");
    Check(message.starts_with("fuzz.json"), "an error names its file");
    Check(message.find('\n') == std::string_view::npos, "an error is one line");
    return;
  }
  for (const policy::TopicPolicy& topic : (*policy)->topics()) CheckTopic(**policy, topic);
  (void)(*policy)->Find(AsText(input));
}

}  // namespace kveil::fuzz
