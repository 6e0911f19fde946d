// Where JSON pointers lead, in bytes of any kind, beside another parser.
// The first line is the JSON pointers, with tabs between them; the rest is the text.
#include "formats/json_finder.h"

#include <algorithm>
#include <string>
#include <vector>

#include "../unit/formats/json_oracle.h"
#include "../unit/formats/padded.h"
#include "fuzz.h"

namespace kveil::fuzz {

namespace {

constexpr size_t kMostPointers = 4;

std::vector<formats::JsonPointer> PointersOf(std::string_view line) {
  std::vector<formats::JsonPointer> pointers;
  for (std::string_view rest = line; pointers.size() < kMostPointers;) {
    const size_t end = std::min(rest.find('\t'), rest.size());
    std::string text(rest.substr(0, end));
    if (text.empty() || text[0] != '/') text.insert(0, "/");
    if (auto pointer = formats::JsonPointer::Parse(text); pointer.has_value()) pointers.push_back(*std::move(pointer));
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  return pointers;
}

}  // namespace

void Run(Bytes bytes) {
  static formats::JsonFinder finder;
  Input input(bytes);
  const std::string line(input.Line());
  const std::vector<formats::JsonPointer> pointers = PointersOf(line);
  if (pointers.empty()) return;
  const std::string_view json = AsText(input.rest());
  const ByteBuffer padded = formats::Padded(json);
  const auto find = [&] {
    formats::Verdict verdict;
    std::string_view found;
    verdict.result = finder.Find(Bytes(padded).first(json.size()), pointers, found);
    using formats::JsonResult;
    const bool hasUser = verdict.result == JsonResult::kString || verdict.result == JsonResult::kNumber;
    if (hasUser) verdict.text = std::string(found);
    return verdict;
  };
  const formats::Verdict said = find();
  Check(find() == said, "the same text says the same");
  // The other parser is recursive where it is asked to follow, and folds no case beyond ASCII.
  const bool isAscii = std::all_of(line.begin(), line.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  if (!isAscii || said.text.size() > formats::JsonFinder::kLongest || said.result == formats::JsonResult::kNotJson)
    return;
  const std::string why = formats::WhyWrong(json, pointers, said);
  Check(why.empty(), "no reader finds another user: " + why);
}

}  // namespace kveil::fuzz
