// Where a JSON pointer leads, in bytes of any kind, beside another parser.
// The first line is the JSON pointer, the rest the text.
#include "formats/json_finder.h"

#include <optional>
#include <string>

#include "../unit/formats/json_oracle.h"
#include "../unit/formats/padded.h"
#include "fuzz.h"

namespace kveil::fuzz {

void Run(Bytes bytes) {
  static formats::JsonFinder finder;
  Input input(bytes);
  std::string text(input.Line());
  if (text.empty() || text[0] != '/') text.insert(0, "/");
  const std::optional<formats::JsonPointer> pointer = formats::JsonPointer::Parse(text);
  if (!pointer.has_value()) return;
  const std::string_view json = AsText(input.rest());
  const ByteBuffer padded = formats::Padded(json);
  const auto find = [&] {
    formats::Verdict verdict;
    std::string_view found;
    verdict.result = finder.Find(Bytes(padded).first(json.size()), absl::MakeConstSpan(&*pointer, 1), found);
    using formats::JsonResult;
    const bool hasUser = verdict.result == JsonResult::kString || verdict.result == JsonResult::kNumber;
    if (hasUser) verdict.text = std::string(found);
    return verdict;
  };
  const formats::Verdict said = find();
  Check(find() == said, "the same text says the same");
  // The other parser is recursive where it is asked to follow, and folds no case beyond ASCII.
  const bool isAscii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  if (!isAscii || said.text.size() > formats::JsonFinder::kLongest || said.result == formats::JsonResult::kNotJson)
    return;
  const std::string why = formats::WhyWrong(json, *pointer, said);
  Check(why.empty(), "no reader finds another user: " + why);
}

}  // namespace kveil::fuzz
