#include "formats/json_finder.h"

#include "formats/json_search.h"
#include "formats/text_masks.h"
#include "formats/utf8.h"

namespace kveil::formats {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// What most records have behind the name: a colon, perhaps a space, a string of at most 15 bytes without escapes, and a
// comma or the end of the object. JsonScanner reads the same out of it, and everything else.
bool IsPlainString(std::string_view text, size_t behindName, std::string_view& found) {
  // The text ends with "}", so that each byte in front of these is in it.
  const char* at = text.data() + behindName;
  if (*at++ != ':') return false;
  if (*at == ' ') ++at;
  if (*at++ != '"') return false;
  const uint32_t specials = StringSpecials(reinterpret_cast<const uint8_t*>(at));
  if (specials == 0) return false;
  const char* const end = at + __builtin_ctz(specials);
  const char* const textEnd = text.data() + text.size();
  if (end + 1 >= textEnd || end[0] != '"' || (end[1] != ',' && end[1] != '}')) return false;
  found = std::string_view(at, static_cast<size_t>(end - at));
  return true;
}

}  // namespace

// FindOnly and Search are parts of Find: most records pass no other function than these three.
[[gnu::always_inline]] inline JsonResult JsonFinder::Search(std::string_view text, const JsonPointer& pointer,
                                                            std::string_view& found) {
  const absl::Span<const JsonStep> steps = pointer.steps();
  if (!steps[0].name.isSearchable()) return FindStrictly(text, pointer, found);
  const Sight sight = FindOnlySight(text, steps[0].name);
  if (sight.kind == Sight::Kind::kNowhere) return JsonResult::kMissing;
  if (sight.kind == Sight::Kind::kUnsure) return FindStrictly(text, pointer, found);
  if (steps.size() == 1 && IsPlainString(text, sight.end, found)) return JsonResult::kString;
  JsonScanner scanner(text, sight.end, name_);
  scanner.SkipSpace();
  if (!scanner.Take(':')) return FindStrictly(text, pointer, found);
  const bool isRead = scanner.ScanValue(steps.subspan(1));
  if (scanner.isAmbiguous()) return JsonResult::kAmbiguous;
  scanner.SkipSpace();
  if (!isRead || (scanner.next() != ',' && scanner.next() != '}')) return FindStrictly(text, pointer, found);
  return ResultOf(scanner, found);
}

[[gnu::always_inline]] inline JsonResult JsonFinder::FindOnly(std::string_view text, const JsonPointer& pointer,
                                                              std::string_view& found) {
  isKnownGood_ = false;
  const JsonResult result = Search(text, pointer, found);
  // The search may have looked at a part of the text only: what is wrong with it is said before what is not in it.
  const bool foundNothing = result == JsonResult::kMissing || result == JsonResult::kOther;
  return foundNothing && !isKnownGood_ ? FindStrictly(text, pointer, found) : result;
}

JsonResult JsonFinder::Find(Bytes json, absl::Span<const JsonPointer> pointers, std::string_view& found) {
  std::string_view text = AsText(json);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (pointers.size() == 1) return FindOnly(text, pointers[0], found);
  // A reader may or may not find what a search finds (json_search.h), and one that does not goes on to the next
  // pointer. So a list is only followed in a text that all readers read alike.
  for (const JsonPointer& pointer : pointers) {
    const JsonResult result = FindStrictly(text, pointer, found);
    if (result != JsonResult::kMissing) return result;
  }
  return JsonResult::kMissing;
}

JsonResult JsonFinder::FindStrictly(std::string_view text, const JsonPointer& pointer, std::string_view& found) {
  if (!IsUtf8(text)) return JsonResult::kNotJson;
  JsonScanner scanner(text, 0, name_);
  const bool isRead = scanner.ScanValue(pointer.steps());
  if (scanner.isAmbiguous()) return JsonResult::kAmbiguous;
  scanner.SkipSpace();
  if (!isRead || !scanner.atEnd()) return JsonResult::kNotJson;
  isKnownGood_ = true;
  return ResultOf(scanner, found);
}

JsonResult JsonFinder::ResultOf(const JsonScanner& scanner, std::string_view& found) {
  const JsonPlace& place = scanner.place();
  found = place.raw;
  switch (place.kind) {
    case JsonPlace::Kind::kMissing:
      return JsonResult::kMissing;
    case JsonPlace::Kind::kOther:
      return JsonResult::kOther;
    case JsonPlace::Kind::kNumber:
      return JsonResult::kNumber;
    case JsonPlace::Kind::kString:
      break;
  }
  if (!place.hasEscapes) return JsonResult::kString;
  if (!Unescape(place.raw, kLongest, unescaped_)) return JsonResult::kNotText;
  found = unescaped_;
  return JsonResult::kString;
}

}  // namespace kveil::formats
