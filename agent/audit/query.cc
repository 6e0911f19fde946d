#include "audit/query.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostDone = 100'000;
constexpr size_t kMostGaps = 1000;

std::string Text(const Json& line, const char* name) {
  const auto found = line.find(name);
  return found != line.end() && found->is_string() ? found->get<std::string>() : "";
}
uint64_t Number(const Json& line, const char* name) {
  const auto found = line.find(name);
  return found != line.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}
bool Flag(const Json& line, const char* name) {
  const auto found = line.find(name);
  return found != line.end() && found->is_boolean() && found->get<bool>();
}
std::optional<absl::Time> TimeOf(const Json& line, const char* name) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, Text(line, name), &time, &error)) return std::nullopt;
  return time;
}

Counts CountsOf(const Json& line) {
  Counts counts;
  counts.records = Number(line, "records");
  counts.leftOut = Number(line, "leftOut");
  counts.erased = Number(line, "erased");
  counts.plaintext = Number(line, "plaintext");
  counts.refused = Number(line, "refused");
  counts.denials = Number(line, "denials");
  counts.withoutUser = Number(line, "withoutUser");
  return counts;
}

// What is not known of one topic, over all lines.
struct Unknown {
  uint64_t records = 0;
  absl::Time from = absl::InfiniteFuture(), to = absl::InfinitePast();
  void Add(uint64_t more, absl::Time begin, absl::Time end) {
    records += more;
    from = std::min(from, begin);
    to = std::max(to, end);
  }
};

class Asking {
 public:
  explicit Asking(const Query& query) : query_(query) {}

  void OnLine(const std::string& text);
  absl::StatusOr<Answer> Finish(Verification verification);

 private:
  using DoneKey =
      std::tuple<std::string, std::string, std::string, std::string, std::string, std::string, uint64_t, uint64_t>;

  bool Overlaps(absl::Time from, absl::Time to) const { return to > query_.since && from < query_.until; }
  // As far as topics are told apart.
  bool IsAsked(const Json& line) const;
  void OnUse(const Json& line, absl::Time from, absl::Time to);
  void OnUsers(const Json& line, absl::Time from, absl::Time to);
  void Add(const Json& line, const Counts& counts, absl::Time from, absl::Time to);
  void Gap(const std::string& sentence) {
    if (answer_.gaps.size() < kMostGaps) answer_.gaps.push_back(sentence);
  }
  void AddUnknown();

  const Query& query_;
  Answer answer_;
  std::map<DoneKey, Answer::Done> done_;
  bool isTooLong_ = false;
  std::optional<absl::Time> firstTime_;
  std::map<std::string, Unknown> tooMany_;    // by topic: records of users for whom there was no room
  std::map<std::string, Unknown> notByUser_;  // by topic: records that the policy does not ask to count by user
  Unknown others_;                            // records of topics that were not told apart
};

bool Asking::IsAsked(const Json& line) const {
  if (query_.topic.has_value() && !Flag(line, "others") && Text(line, "topic") != *query_.topic) return false;
  if (!query_.workload.has_value()) return true;
  for (const char* const name : {"workload", "serviceAccount", "share"}) {
    if (absl::StrContains(Text(line, name), *query_.workload)) return true;
  }
  return Flag(line, "others") && Text(line, "share").empty();  // of several workloads
}

void Asking::OnLine(const std::string& text) {
  const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return;
  const std::string kind = Text(line, "kind");
  const std::optional<absl::Time> time = TimeOf(line, "time");
  const absl::Time from = TimeOf(line, "from").value_or(time.value_or(absl::InfinitePast()));
  const absl::Time to = TimeOf(line, "to").value_or(from);
  if (!firstTime_.has_value() && from != absl::InfinitePast()) firstTime_ = from;
  if (kind == "use" && Overlaps(from, to) && IsAsked(line)) OnUse(line, from, to);
  if (kind == "users" && Overlaps(from, to) && IsAsked(line)) OnUsers(line, from, to);
  const std::optional<absl::Time> unknownSince = TimeOf(line, "unknownSince");
  if (kind == "started" && unknownSince.has_value() && Overlaps(*unknownSince, from)) {
    Gap(StrCat("between ", TextOf(*unknownSince), " and ", TextOf(from),
               " the agent ended without a word: what it had counted since then is lost"));
  }
  if (kind == "lost" && Overlaps(from, to)) {
    Gap(StrCat("between ", TextOf(from), " and ", TextOf(to),
               " the trail could not be written for too long: ", Number(line, "records"), " records are not in it"));
  }
}

void Asking::OnUse(const Json& line, absl::Time from, absl::Time to) {
  const Counts counts = CountsOf(line);
  if (Flag(line, "others") && (query_.topic.has_value() || query_.pseudonyms.has_value())) {
    return others_.Add(counts.records, from, to);
  }
  if (!query_.pseudonyms.has_value()) return Add(line, counts, from, to);
  if (!Flag(line, "byUser")) {
    if (counts.records > 0) notByUser_[Text(line, "topic")].Add(counts.records, from, to);
  } else if (counts.withoutUser > 0) {
    tooMany_[Text(line, "topic")].Add(counts.withoutUser, from, to);
  }
}

void Asking::OnUsers(const Json& line, absl::Time from, absl::Time to) {
  const auto users = line.find("users");
  if (!query_.pseudonyms.has_value() || users == line.end() || !users->is_object()) return;
  Counts counts;
  for (const std::string& pseudonym : *query_.pseudonyms) counts.records += Number(*users, pseudonym.c_str());
  if (counts.records > 0) Add(line, counts, from, to);
}

void Asking::Add(const Json& line, const Counts& counts, absl::Time from, absl::Time to) {
  DoneKey key{Text(line, "workload"), Text(line, "share"), Text(line, "access"),  Text(line, "cluster"),
              Text(line, "topic"),    Text(line, "file"),  Number(line, "entry"), Number(line, "uid")};
  if (done_.size() >= kMostDone && !done_.contains(key)) {
    isTooLong_ = true;
    return;
  }
  const auto [found, isNew] = done_.try_emplace(std::move(key));
  Answer::Done& done = found->second;
  if (isNew) {
    std::tie(done.workload, done.share, done.access, done.cluster, done.topic, done.file, done.entry, done.uid) =
        found->first;
    done.serviceAccount = Text(line, "serviceAccount");
    done.first = from;
  }
  done.counts.Add(counts);
  done.first = std::min(done.first, from);
  done.last = std::max(isNew ? to : done.last, to);
}

void Asking::AddUnknown() {
  const auto when = [](const Unknown& unknown) {
    return StrCat("between ", TextOf(unknown.from), " and ", TextOf(unknown.to), " ", unknown.records, " records ");
  };
  for (const auto& [topic, unknown] : tooMany_) {
    Gap(StrCat(when(unknown), "of topic ", topic, " were counted, but not for whom"));
  }
  for (const auto& [topic, unknown] : notByUser_) {
    Gap(StrCat(when(unknown), "of topic ", topic,
               " were counted, and no policy asked for whom (\"audit\": {\"users\": true})"));
  }
  if (others_.records > 0) Gap(StrCat(when(others_), "of topics that were not told apart were counted"));
}

absl::StatusOr<Answer> Asking::Finish(Verification verification) {
  if (isTooLong_) {
    return absl::ResourceExhaustedError(
        StrCat("the answer has more than ", kMostDone, " lines: ask for one topic, or a shorter time"));
  }
  AddUnknown();
  answer_.knownFrom = firstTime_.value_or(absl::InfiniteFuture());
  absl::Time until;
  std::string error;
  answer_.knownUntil =
      absl::ParseTime(absl::RFC3339_full, verification.time, &until, &error) ? until : absl::InfinitePast();
  if (query_.since < answer_.knownFrom) {
    Gap(StrCat("nothing is known from before ", TextOf(answer_.knownFrom),
               verification.first > 1 ? ": older lines were removed" : ", when the trail begins"));
  }
  if (query_.until > answer_.knownUntil) Gap(StrCat("nothing is known from after ", TextOf(answer_.knownUntil)));
  for (const std::string& note : verification.notes) Gap(note);
  for (auto& [key, done] : done_) answer_.done.push_back(std::move(done));
  std::stable_sort(answer_.done.begin(), answer_.done.end(),
                   [](const Answer::Done& a, const Answer::Done& b) { return a.first < b.first; });
  answer_.verification = std::move(verification);
  return std::move(answer_);
}

}  // namespace

absl::StatusOr<Answer> Ask(const std::string& folder, const evidence::SigningKey& key, const Query& query) {
  Asking asking(query);
  ASSIGN_OR_RETURN(Verification verification,
                   ReadTrail(folder, key, [&asking](const std::string& line) { asking.OnLine(line); }));
  return asking.Finish(std::move(verification));
}

}  // namespace kveil::audit
