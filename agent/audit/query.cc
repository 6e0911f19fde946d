#include "audit/query.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "audit/lines.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostDone = 100'000;
constexpr size_t kMostGaps = 1000;
constexpr size_t kMostTopics = 500;  // of which it is said what is not known
constexpr size_t kMostSettings = 1000;

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
std::optional<absl::Time> TimeOf(const Json& line, const char* name) { return TimeIn(Text(line, name)); }

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
  uint64_t denials = 0;  // and refused records
  absl::Time from = absl::InfiniteFuture(), to = absl::InfinitePast();
  void Add(uint64_t more, absl::Time begin, absl::Time end) {
    records += more;
    from = std::min(from, begin);
    to = std::max(to, end);
  }
};

// When the clock was set. What was counted while it was wrong has a wrong time.
class Clock {
 public:
  void Begin(absl::Time time) { begun_ = time; }
  void OnSet(absl::Time before, absl::Time after) {
    if (after < before) {
      // Time goes on there: a step forward before it hid nothing of what comes now.
      for (Step& step : steps_) {
        if (step.isForward && step.from < after) step.to = std::min(step.to, after);
      }
    }
    const Step step = after < before ? Step{std::max(after, begun_), before, false} : Step{before, after, true};
    if (steps_.size() < kMostSettings) {
      steps_.push_back(step);
    } else {
      steps_.back() = {std::min(steps_.back().from, step.from), std::max(steps_.back().to, step.to), false};
    }
    begun_ = after;
  }
  struct Step {
    absl::Time from, to;
    bool isForward = false;
  };
  const std::vector<Step>& steps() const { return steps_; }

 private:
  absl::Time begun_ = absl::InfinitePast();  // since when it ran on
  std::vector<Step> steps_;
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
  void OnStarted(const Json& line, absl::Time from);
  void Gap(const std::string& sentence) {
    if (answer_.gaps.size() < kMostGaps) {
      answer_.gaps.push_back(sentence);
    } else {
      ++moreGaps_;
    }
  }
  // Where there are too many topics, that of all others.
  static Unknown& Of(std::map<std::string, Unknown>& unknown, const std::string& topic) {
    return unknown[unknown.size() < kMostTopics || unknown.contains(topic) ? topic : std::string("(others)")];
  }
  void AddClock();
  void AddEnds(const Verification& verification);
  void AddUnknown();

  const Query& query_;
  Answer answer_;
  std::map<DoneKey, Answer::Done> done_;
  bool isTooLong_ = false;
  uint64_t moreGaps_ = 0;
  std::optional<absl::Time> firstTime_;
  std::optional<absl::Time> stoppedAt_;  // no agent has written since
  Clock clock_;
  std::map<std::string, Unknown> tooMany_;    // by topic: records of users for whom there was no room
  std::map<std::string, Unknown> notByUser_;  // by topic: records that the policy does not ask to count by user
  Unknown foreign_;                           // users of another registry
  Unknown others_;                            // records of topics that were not told apart
};

bool Asking::IsAsked(const Json& line) const {
  if (query_.topic.has_value() && !Flag(line, "others") && Text(line, "topic") != *query_.topic) return false;
  if (!query_.workload.has_value()) return true;
  for (const char* const name : {"workload", "serviceAccount", "share"}) {
    if (absl::StrContains(Text(line, name), *query_.workload)) return true;
  }
  return Flag(line, "others") && Text(line, "workload").empty();  // of several workloads
}

void Asking::OnLine(const std::string& text) {
  const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return;
  const std::string kind = Text(line, "kind");
  const std::optional<absl::Time> time = TimeOf(line, "time");
  const absl::Time from = TimeOf(line, "from").value_or(time.value_or(absl::InfinitePast()));
  const absl::Time to = TimeOf(line, "to").value_or(from);
  if (!firstTime_.has_value() && from != absl::InfinitePast()) clock_.Begin(*(firstTime_ = from));
  if (kind == "use" && Overlaps(from, to) && IsAsked(line)) OnUse(line, from, to);
  if (kind == "users" && Overlaps(from, to) && IsAsked(line)) OnUsers(line, from, to);
  if (kind == "started") OnStarted(line, from);
  if (kind == kKindOfEnd) stoppedAt_ = from;
  if (kind == "clock") {
    const std::optional<absl::Time> before = TimeOf(line, "before"), after = TimeOf(line, "after");
    if (before.has_value() && after.has_value()) clock_.OnSet(*before, *after);
  }
  if (kind == "lost" && Overlaps(from, to)) {
    Gap(StrCat("between ", TextOf(from), " and ", TextOf(to), " the trail could not be written for too long: ",
               Number(line, "records"), " records in ", Number(line, "lines"), " lines are not in it"));
  }
}

void Asking::OnStarted(const Json& line, absl::Time from) {
  const absl::Time opened = TimeOf(line, "opened").value_or(from);
  const std::optional<absl::Time> unknownSince = TimeOf(line, "unknownSince");
  const std::optional<absl::Time> last = unknownSince.has_value() ? unknownSince : stoppedAt_;
  stoppedAt_.reset();
  if (!last.has_value()) return;
  // Whoever wrote before has written before this one could.
  if (opened < *last) {
    if (unknownSince.has_value() && query_.since < *unknownSince) {
      Gap(StrCat("the agent before the one of ", TextOf(from), " ended without a word, when the clock said ",
                 TextOf(*unknownSince), " or later: what it had counted last is lost, and the clock was wrong"));
    }
    return clock_.OnSet(*last, from);
  }
  if (unknownSince.has_value() && Overlaps(*unknownSince, opened)) {
    Gap(StrCat("between ", TextOf(*unknownSince), " and ", TextOf(opened),
               " the agent ended without a word: what it had counted since then is lost"));
  }
  if (!unknownSince.has_value() && *last < from && Overlaps(*last, from)) {
    Gap(StrCat("between ", TextOf(*last), " and ", TextOf(from), " no agent wrote this trail"));
  }
}

void Asking::OnUse(const Json& line, absl::Time from, absl::Time to) {
  const Counts counts = CountsOf(line);
  if (Flag(line, "others") &&
      (query_.topic.has_value() || query_.pseudonyms.has_value() || query_.workload.has_value())) {
    others_.Add(counts.records, from, to);
    others_.denials += counts.denials + counts.refused;
    if (query_.topic.has_value() || query_.pseudonyms.has_value()) return;
  }
  if (!query_.pseudonyms.has_value()) return Add(line, counts, from, to);
  if (!Flag(line, "byUser")) {
    if (counts.records > 0) Of(notByUser_, Text(line, "topic")).Add(counts.records, from, to);
  } else if (counts.withoutUser > 0) {
    Of(tooMany_, Text(line, "topic")).Add(counts.withoutUser, from, to);
  }
}

void Asking::OnUsers(const Json& line, absl::Time from, absl::Time to) {
  const auto users = line.find("users");
  if (!query_.pseudonyms.has_value() || users == line.end() || !users->is_object()) return;
  if (query_.registry.has_value() && Text(line, "registry") != *query_.registry) return foreign_.Add(0, from, to);
  Counts counts;
  for (const std::string& pseudonym : *query_.pseudonyms) counts.records += Number(*users, pseudonym.c_str());
  if (counts.records > 0) Add(line, counts, from, to);
}

void Asking::Add(const Json& line, const Counts& counts, absl::Time from, absl::Time to) {
  DoneKey key{Text(line, "workload"), Text(line, "share"), Text(line, "access"),  Text(line, "cluster"),
              Text(line, "topic"),    Text(line, "file"),  Number(line, "entry"), Number(line, "uid")};
  if (done_.size() >= kMostDone && !done_.contains(key)) {
    // So that one who makes up names hides nobody else.
    isTooLong_ = true;
    key = {"", done_.size() < 2 * kMostDone ? Text(line, "share") : "", Text(line, "access"), "", "", "", 0, 0};
  }
  const auto [found, isNew] = done_.try_emplace(std::move(key));
  Answer::Done& done = found->second;
  if (isNew) {
    std::tie(done.workload, done.share, done.access, done.cluster, done.topic, done.file, done.entry, done.uid) =
        found->first;
    if (!done.topic.empty()) done.serviceAccount = Text(line, "serviceAccount");
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
}

void Asking::AddClock() {
  for (const Clock::Step& step : clock_.steps()) {
    if (!Overlaps(step.from, step.to)) continue;
    Gap(StrCat("between ", TextOf(step.from), " and ", TextOf(step.to), " the clock was set ",
               step.isForward ? "forward" : "back", ": what was counted around then may have another time"));
  }
}

void Asking::AddEnds(const Verification& verification) {
  answer_.knownFrom = firstTime_.value_or(absl::InfiniteFuture());
  answer_.knownUntil = TimeIn(verification.time).value_or(absl::InfinitePast());
  if (query_.since < answer_.knownFrom) {
    Gap(StrCat("nothing is known from before ", TextOf(answer_.knownFrom),
               verification.first > 1 ? ": older lines were removed" : ", when the trail begins"));
  }
  if (query_.until > answer_.knownUntil) Gap(StrCat("nothing is known from after ", TextOf(answer_.knownUntil)));
  if (isTooLong_) {
    Gap(StrCat("more than ", kMostDone,
               " different things were done: the rest is summed up by share, without topics; "
               "ask for one topic or workload, or a shorter time"));
  }
  if (foreign_.from <= foreign_.to) {
    Gap(StrCat("between ", TextOf(foreign_.from), " and ", TextOf(foreign_.to),
               " users were counted by the pseudonyms of another registry than the agent's that was asked"));
  }
  if (others_.from < others_.to) {
    Gap(StrCat("between ", TextOf(others_.from), " and ", TextOf(others_.to), " ", others_.records,
               " records of topics that were not told apart were counted, and ", others_.denials,
               " denials and refused records"));
  }
}

absl::StatusOr<Answer> Asking::Finish(Verification verification) {
  // What concerns all comes first.
  std::vector<std::string> ofLines = std::exchange(answer_.gaps, {});
  const uint64_t more = std::exchange(moreGaps_, 0);
  AddEnds(verification);
  AddClock();
  for (const std::string& gap : ofLines) Gap(gap);
  AddUnknown();
  for (const std::string& note : verification.notes) Gap(note);
  moreGaps_ += more;
  if (moreGaps_ > 0) answer_.gaps.push_back(StrCat("and ", moreGaps_, " more such times or topics"));
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
