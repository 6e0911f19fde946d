// Whose record it is, out of JSON of any kind.
// The first line is the JSON pointer, the rest the value.
#include "guard/user_finder.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "fuzz.h"
#include "kafka/compression.h"
#include "nlohmann/json.hpp"

namespace kveil::fuzz {
namespace {

using guard::UserFinder;

// Whether a key is in an object twice: which of them counts is each library's own choice.
class TwiceFinder {
 public:
  bool operator()(int, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) found = true;
    if (event == Event::object_end) keys_.pop_back();
    return true;
  }
  bool found = false;

 private:
  std::vector<std::set<std::string>> keys_;
};

// What another JSON library finds there.
void Compare(const std::string& pointer, Bytes value, std::string_view user) {
  TwiceFinder twice;
  const nlohmann::json document = nlohmann::json::parse(value.begin(), value.end(), std::ref(twice), false);
  // The finder reads no further than the user, so it also takes what is no JSON behind it.
  if (document.is_discarded() || twice.found) return;
  const nlohmann::json* found = nullptr;
  try {
    found = &document.at(nlohmann::json::json_pointer(pointer));
  } catch (const nlohmann::json::exception&) {
    Check(false, "a user is where the pointer points");
  }
  Check(found->is_string() || found->is_number_integer(), "a user is a string or a whole number");
  Check(user == (found->is_string() ? found->get<std::string>() : found->dump()), "the user is what is written there");
}

}  // namespace

void Run(Bytes bytes) {
  static UserFinder finder;
  Input input(bytes);
  policy::UserSource source;
  source.pointer = std::string(input.Line());
  if (source.pointer.empty() || source.pointer[0] != '/') source.pointer.insert(0, "/");
  if (source.pointer.find_first_of("\"\\") != std::string::npos) return;  // no policy may have such a pointer
  ByteBuffer padded;
  padded.reserve(input.rest().size() + kafka::kTailPadding);
  padded.assign(input.rest().begin(), input.rest().end());
  kafka::RecordView record;
  record.value = Bytes(padded);
  std::string_view user;
  if (finder.Find(source, record, user) != UserFinder::Result::kFound) return;
  Check(!user.empty(), "a user who is found has a name");
  const std::string first(user);
  std::string_view again;
  Check(finder.Find(source, record, again) == UserFinder::Result::kFound && again == first,
        "the same record is the same user's");
  Compare(source.pointer, padded, first);
}

}  // namespace kveil::fuzz
