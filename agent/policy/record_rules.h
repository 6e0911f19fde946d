// The `where` of all entries of a topic's `read`, compiled: which records a reader may have.
//
//   EntrySet readers;                                        // once per response
//   if (ReadableBy(topic, workload, readers) == Readable::kSome) ...
//   EntrySet left = readers;                                 // once per record
//   topic.rules->NarrowByOutside(outside, left, work);       // what anybody sees of it
//   topic.rules->NarrowByUser(user, left);                   // whose it is
//   topic.rules->Narrow(topic.rules->MetBy(facts, now, workload, work), left);  // remembered for the same facts
//   switch (topic.rules->AnswerOf(left)) { ... case Answer::kDependsOnValue: ... }
//   bool may = topic.rules->FitsValue(openedValue, finder, left, work);
//
// A record costs about as much with a thousand entries as with one: the entries are sets of bits, and what a record
// says finds the set of those that it meets by a hash. Only `matches`, `range` and ages are tried one after the other.
// Nothing is allocated, and nothing is locked, except for what RE2 does within `matches`.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "formats/json_finder.h"
#include "identity/workload.h"
#include "policy/where.h"
#include "users/user_facts.h"

namespace kveil::policy {

struct ReadRule;

// Some entries of a `read`, by position.
class EntrySet {
 public:
  void Add(size_t entry) { words_[entry / 64] |= uint64_t{1} << entry % 64; }
  bool Has(size_t entry) const { return (words_[entry / 64] >> entry % 64 & 1) != 0; }
  void AddAll(const EntrySet& entries) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= entries.words_[i];
  }
  // The same bytes for the same entries.
  std::string_view bytes() const { return {reinterpret_cast<const char*>(words_.data()), sizeof(words_)}; }
  bool HasAll(const EntrySet& entries) const {
    uint64_t beyond = 0;
    for (size_t i = 0; i < words_.size(); ++i) beyond |= entries.words_[i] & ~words_[i];
    return beyond == 0;
  }

 private:
  friend class RecordRules;
  std::array<uint64_t, kMostReaders / 64> words_{};
};

class RecordRules {
 public:
  // `entries`: at most kMostReaders, within the bounds of where.h.
  explicit RecordRules(absl::Span<const ReadRule> entries);

  // What anybody sees of a record, whose it is apart.
  struct Outside {
    std::optional<std::chrono::milliseconds> age;  // none: it is not known
    // The value of each of headers(), in order. None: it is not there, null, there twice, or too long.
    std::array<std::optional<std::string_view>, kMostHeaders> headers;
  };

  // Narrows `entries` down to those that the record meets so far. Adds to `work` what that may have taken at most, in
  // nanoseconds or so: a record of anybody's making may cost a thousand times what others do. Of lookups by hash
  // nothing is added.
  void NarrowByOutside(const Outside& outside, EntrySet& entries, uint64_t& work) const;
  // `user`: the number of one of users(); none: anybody else, or nobody.
  void NarrowByUser(std::optional<uint32_t> user, EntrySet& entries) const;
  // The entries that the record's user meets, as far as consents and attributes go. `facts`: nullptr if nothing is
  // known of the user. Depends on nothing else, and takes a lookup by hash for each consent of the user's and each
  // attribute, and one by order for each label. Adds to `work` as NarrowByOutside does, these lookups: if the facts of
  // all users differ, nothing that is remembered helps.
  EntrySet MetBy(const users::UserFacts* facts, absl::Time now, const identity::Workload& reader, uint64_t& work) const;
  void Narrow(const EntrySet& met, EntrySet& entries) const { Intersect(met, entries); }

  enum class Answer : uint8_t { kDenied, kMayRead, kDependsOnValue };
  // When they are narrowed by all but the value.
  Answer AnswerOf(const EntrySet& entries) const;
  // After kDependsOnValue: whether one of the entries that are left lets the record be read. `value` is opened and not
  // compressed, and at least 64 readable bytes follow it.
  bool FitsValue(Bytes value, formats::JsonFinder& finder, EntrySet& entries, uint64_t& work) const;

  // The first entry that lets the record be read: after kMayRead, or kDependsOnValue and FitsValue. nullopt: none.
  std::optional<size_t> FirstOf(const EntrySet& entries, Answer answer) const {
    for (size_t i = 0; i < words_; ++i) {
      const uint64_t most = answer == Answer::kMayRead ? withoutValue_.words_[i] : ~uint64_t{0};
      const uint64_t word = entries.words_[i] & most;
      if (word != 0) return i * 64 + static_cast<size_t>(std::countr_zero(word));
    }
    return std::nullopt;
  }

  // Every user that an entry names, once.
  const std::vector<std::string>& users() const { return users_; }
  std::optional<uint32_t> NumberOf(std::string_view user) const;
  // Whether one of these entries names this user, by number, or any user at all.
  bool NameUser(const EntrySet& entries, uint32_t user) const { return Meet(userSets_[setOfUser_[user]], entries); }
  bool NameUsers(const EntrySet& entries) const { return !ofAnyUser_.HasAll(entries); }
  // Whether one of these entries asks for consents or attributes.
  bool AskFacts(const EntrySet& entries) const { return !ofAnyFacts_.HasAll(entries); }
  // Every header that an entry names, once.
  const std::vector<std::string>& headers() const { return headerNames_; }
  bool needsAges() const { return !ages_.empty(); }

 private:
  // What entries ask of one text: of a header, or of one place in the value.
  struct Place {
    EntrySet others;  // entries that ask nothing of it
    absl::flat_hash_map<std::string, EntrySet> texts;
    absl::flat_hash_map<double, EntrySet> numbers;
    struct Pattern {
      std::shared_ptr<const re2::RE2> pattern;
      uint64_t steps = 0;  // of its program: RE2 may take as many for each byte
      EntrySet entries;
    };
    std::vector<Pattern> patterns;
    struct Range {
      Test::Range range;
      EntrySet entries;
    };
    std::vector<Range> ranges;
  };
  struct ValuePlace {
    formats::JsonPointer pointer;
    formats::Framing framing;
    Place place;
  };
  struct Attribute {
    std::string name;
    EntrySet others;  // entries that ask nothing of it
    absl::flat_hash_map<std::string, EntrySet> texts;
    std::vector<std::pair<std::string, EntrySet>> labels;  // that it has to be equal to
  };
  struct Age {
    std::chrono::milliseconds bound{0};
    bool isLeast = false;  // olderThan
    EntrySet entries;
  };

  void AddEntry(size_t entry, const Where& where);
  void AddUsers(absl::Span<const ReadRule> entries);
  Place& PlaceOfHeader(const std::string& name);
  Place& PlaceOfValue(const ValueTest& test);
  Attribute& AttributeOf(const std::string& name);
  Age& AgeOf(std::chrono::milliseconds bound, bool isLeast);
  static void AddTest(size_t entry, const Test& test, Place& place);
  static void AddTest(size_t entry, const AttributeTest& test, Attribute& attribute);
  void FillOthers(absl::Span<const ReadRule> entries);

  void NarrowByAge(std::optional<std::chrono::milliseconds> age, EntrySet& entries) const;
  void NarrowByText(const Place& place, std::string_view text, EntrySet& entries, uint64_t& work) const;
  void NarrowByNumber(const Place& place, double number, EntrySet& entries) const;
  void NarrowByValue(const ValuePlace& place, Bytes value, formats::JsonFinder& finder, EntrySet& entries,
                     uint64_t& work) const;

  // For as many words as there are entries.
  void Intersect(const EntrySet& with, EntrySet& entries) const {
    for (size_t i = 0; i < words_; ++i) entries.words_[i] &= with.words_[i];
  }
  void Unite(const EntrySet& with, EntrySet& entries) const {
    for (size_t i = 0; i < words_; ++i) entries.words_[i] |= with.words_[i];
  }
  bool Meet(const EntrySet& a, const EntrySet& b) const {
    uint64_t common = 0;
    for (size_t i = 0; i < words_; ++i) common |= a.words_[i] & b.words_[i];
    return common != 0;
  }

  size_t words_;
  std::vector<std::string> users_;
  absl::flat_hash_map<std::string, uint32_t> numberOf_;
  std::vector<EntrySet> userSets_;                        // entries that name the same users, each once
  std::vector<uint32_t> setOfUser_;                       // the place there of those that name the user
  EntrySet ofAnyUser_;                                    // entries without `users`
  absl::flat_hash_map<std::string, EntrySet> ofPurpose_;  // entries that a consent for the purpose meets
  EntrySet ofAnyConsent_;                                 // entries without `consent`
  std::vector<Attribute> attributes_;
  EntrySet ofAnyFacts_;  // entries without `consent` and `attribute`
  std::vector<std::string> headerNames_;
  std::vector<Place> headers_;  // of the same name
  std::vector<ValuePlace> values_;
  EntrySet withoutValue_;  // entries that ask nothing of the value
  std::vector<Age> ages_;
  EntrySet ofAnyAge_[2];  // entries without `newerThan`; without `olderThan`
};

// Whether the workload's pod has this label with this value.
bool HasLabel(const identity::Workload& workload, std::string_view label, std::string_view value);

// Why a text is no answer to `where`: more than where.h allows of a kind, over all entries; nullopt: it is within
// bounds.
std::optional<std::string> BeyondBounds(absl::Span<const ReadRule> entries);

}  // namespace kveil::policy
